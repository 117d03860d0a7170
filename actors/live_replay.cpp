#include "live_replay.hpp"

#include <algorithm>
#include <charconv>

#include "sluice/live_format.hpp"

#include "crash.hpp"

namespace sluice {

namespace {

constexpr std::chrono::milliseconds read_wait{100};
/// Given to a client before it has to take some: bounds what one slow client holds.
constexpr uint64_t max_unsent_bytes = 262144;

int64_t unix_ms() {
  auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

} // namespace

int64_t* replay_writer::next_of(const std::string& topic, int32_t partition) {
  auto found = cursor_.next.find(topic_hash(topic));
  auto index = static_cast<size_t>(partition);
  return found == cursor_.next.end() || found->second.size() <= index ? nullptr : &found->second[index];
}

void replay_writer::add(std::string& out, channel_finder& finder, const record_batch& batch, size_t index) {
  const auto& record = batch.records()[index];
  auto* next = next_of(batch.topic(), batch.partition());
  if (next == nullptr || record.offset < *next)
    return;
  *next = record.offset + 1;
  bool skipped = false;
  for (const auto& place : finder.find(batch, index, skipped)) {
    if (!channels_.contains(place.channel))
      continue;
    if (place.retention.count() > 0 && record.timestamp_ms >= 0 &&
        record.timestamp_ms < now_ms_ - place.retention.count()) {
      ++expired_;
      continue;
    }
    append_live_event(out, protocol_, place.channel, place.event, cursor_text(), place.data);
    ++events_;
    if (protocol_ == stream_protocol::sse)
      break; // one event, however many of its channels the client has
  }
}

void replay_writer::reached(const topic_partition& where) {
  if (auto* next = next_of(where.topic, where.partition))
    *next = std::max(*next, where.offset);
}

void replay_writer::put_gap(std::string& out, std::string_view reason, int64_t missed) const {
  auto data =
      "{\"reason\":\"" + std::string{reason} + "\",\"missed\":" + (missed < 0 ? "null" : std::to_string(missed)) + "}";
  append_notice(out, protocol_, "gap", cursor_text(), data);
}

bool live_replay_state::begin() {
  source = make_source();
  auto bounds = source->bounds(topics);
  if (!bounds) {
    log(log_level::warn, name, "cannot replay now", {{"cause", describe(bounds.error())}});
    return false;
  }
  if (!cursor) {
    cursor.emplace();
    partition_list starts;
    if (request->from != "earliest") {
      int64_t since = 0;
      std::from_chars(request->from.data(), request->from.data() + request->from.size(), since);
      auto found = source->at_time(topics, since);
      if (!found) {
        log(log_level::warn, name, "cannot replay now", {{"cause", describe(found.error())}});
        return false;
      }
      starts = std::move(*found);
    }
    for (const auto& one : *bounds) {
      auto& next = cursor->next[topic_hash(one.topic)];
      next.resize(std::max(next.size(), static_cast<size_t>(one.partition) + 1), -1);
      auto at = std::find_if(starts.begin(), starts.end(), [&one](const topic_partition& x) {
        return x.topic == one.topic && x.partition == one.partition;
      });
      next[static_cast<size_t>(one.partition)] = at != starts.end() && at->offset >= 0 ? at->offset : one.first;
      if (at != starts.end() && at->offset < 0) // nothing that late: from its end
        next[static_cast<size_t>(one.partition)] = one.end;
    }
  }
  int64_t missed = 0;
  partition_list starts;
  for (const auto& one : *bounds) {
    auto known = cursor->next.find(topic_hash(one.topic));
    auto index = static_cast<size_t>(one.partition);
    if (known == cursor->next.end() || known->second.size() <= index || known->second[index] < 0)
      continue;
    auto& next = known->second[index];
    if (next < one.first) {
      missed += one.first - next;
      next = one.first;
    }
    if (next < one.end) {
      starts.push_back({one.topic, one.partition, next});
      behind.emplace(one.topic, one.partition);
    }
  }
  writer.emplace(request->stream->protocol(), request->channels, *cursor, unix_ms());
  if (missed > 0) {
    std::string text;
    writer->put_gap(text, "expired", missed);
    counters->gaps.add();
    give(std::move(text), 1);
  }
  if (!starts.empty())
    source->start(starts);
  return true;
}

void live_replay_state::give(std::string text, uint32_t events) {
  if (text.empty())
    return;
  unsent += text.size();
  request->stream->send(std::make_shared<const std::string>(std::move(text)), events);
}

void live_replay_state::step() {
  if (!source && !begin()) {
    end("");
    return;
  }
  if (behind.empty()) {
    end(writer->cursor_text());
    return;
  }
  auto got = source->next(read_wait);
  if (auto* error = std::get_if<caf::error>(&got)) {
    log(log_level::warn, name, "replay ended early", {{"cause", describe(*error)}});
    end("");
    return;
  }
  if (auto* where = std::get_if<topic_partition>(&got)) {
    writer->reached(*where);
    behind.erase({where->topic, where->partition});
  } else if (auto* batch = std::get_if<batch_ptr>(&got)) {
    std::string text;
    for (size_t i = 0; i < (*batch)->records().size(); ++i)
      writer->add(text, *finder, **batch, i);
    if (auto expired = writer->take_expired(); expired > 0) {
      std::string gap;
      writer->put_gap(gap, "expired", expired);
      counters->gaps.add();
      text.insert(0, gap);
    }
    if (text.empty()) // so that a client that is cut off now need not have all this searched once more
      append_cursor(text, request->stream->protocol(), writer->cursor_text());
    auto events = writer->take_events();
    counters->replayed.add(events);
    give(std::move(text), events);
  }
  if (unsent < max_unsent_bytes) {
    self->send(self, atom::tick_v);
    return;
  }
  request->stream->when_sent([me = live_replay_actor{self}] { caf::anon_send(me, atom::tick_v); });
  unsent = 0;
}

void live_replay_state::end(const std::string& cursor) {
  self->send(hub, atom::resume_v, request->stream->id(), cursor);
  source.reset();
  self->quit();
}

live_replay_actor::behavior_type live_replay(live_replay_state::self_pointer self, live_request_ptr request,
                                             std::optional<live_cursor> cursor, std::vector<std::string> topics,
                                             channel_rules rules, replay_source_factory make_source,
                                             const caf::actor_addr& session, sse_hub_actor hub, stats* counters) {
  auto& st = self->state;
  st.request = std::move(request);
  st.cursor = std::move(cursor);
  st.topics = std::move(topics);
  st.finder.emplace(std::move(rules));
  st.make_source = std::move(make_source);
  st.hub = std::move(hub);
  st.counters = counters;
  log_crashes(self, st.name);
  self->set_down_handler([self](const caf::down_msg&) { self->quit(); });
  self->monitor(session);
  self->monitor(st.hub);
  self->send(self, atom::tick_v);
  return {
      [self](atom::tick) { self->state.step(); },
  };
}

} // namespace sluice
