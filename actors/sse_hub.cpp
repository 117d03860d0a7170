#include "sse_hub.hpp"

#include <algorithm>

#include "sluice/json_text.hpp"
#include "sluice/sse_format.hpp"

#include "crash.hpp"

namespace sluice {

namespace {

constexpr std::chrono::milliseconds snapshot_timeout{500};
constexpr std::chrono::milliseconds drain_step{50};

// +-20 %, so that clients that were dropped together do not come back together.
uint64_t jittered(std::chrono::milliseconds delay, std::minstd_rand& random) {
  return static_cast<uint64_t>(delay.count()) * (80 + random() % 41) / 100;
}

frame make_frame(std::string text) {
  return std::make_shared<const std::string>(std::move(text));
}

} // namespace

std::string sse_hub_state::cursor() const {
  // Version 1: the next offset of each partition, partitions in order, topics in alphabetical order.
  std::string text = "1:";
  const std::string* topic = nullptr;
  for (const auto& [where, next] : positions) {
    if (topic)
      text += *topic == where.first ? '.' : ',';
    topic = &where.first;
    text += std::to_string(next);
  }
  return text;
}

void sse_hub_state::show(const record_batch& batch) {
  auto& position = positions[{batch.topic(), batch.partition()}];
  bool summaries = cfg.summary_topics.contains(batch.topic());
  auto block = std::make_shared<live_block>();
  std::string wrapped;
  uint32_t shown = 0;
  for (const auto& record : batch.records()) {
    position = record.offset + 1;
    if (streams.empty())
      continue;
    if (!record.has_value || !reader.valid(record.value)) {
      counters->events_skipped.add();
      continue;
    }
    auto data = record.value;
    if (summaries) {
      wrapped.assign("{\"type\":\"summary\",\"data\":").append(record.value).append("}");
      data = wrapped;
    }
    if (auto text = encode_event(data, {}, cursor())) {
      block->events.push_back({.number = shown++,
                               .sse_begin = static_cast<uint32_t>(block->sse.size()),
                               .sse_size = static_cast<uint32_t>(text->size())});
      block->sse += *text;
    }
  }
  if (shown == 0)
    return;
  counters->frames.add(shown);
  live->publish(std::move(block));
}

caf::result<atom::done> sse_hub_state::join(event_stream_ptr stream) {
  if (draining)
    return make_failure(ec::shutting_down, "the server is stopping");
  auto session = self->current_sender(); // a promise takes it away
  auto promise = self->make_response_promise<atom::done>();
  self->monitor(session);
  streams.emplace(caf::actor_cast<caf::actor_addr>(session), stream);
  joiners.push_back({std::move(stream), promise});
  if (awaited == 0) // else the question is on its way, and its answer is fresh enough
    ask_for_snapshots();
  return promise;
}

void sse_hub_state::ask_for_snapshots() {
  awaited = cfg.aggregators.size();
  auto answered = [this] {
    if (--awaited == 0)
      greet();
  };
  for (const auto& aggregator : cfg.aggregators) {
    auto whom = aggregator->get();
    if (!whom) {
      answered();
      continue;
    }
    self->request(whom, snapshot_timeout, atom::state_v)
        .then(
            [this, answered](const aggregation_view& view) {
              snapshots[view.name] = view.json;
              answered();
            },
            // An aggregator that starts anew has nothing to show; the next summary shows that it is back.
            [answered](const caf::error&) { answered(); });
  }
  if (cfg.aggregators.empty())
    greet();
}

void sse_hub_state::greet() {
  std::string snapshot = "{\"type\":\"snapshot\",\"aggregations\":{";
  const char* comma = "";
  for (const auto& [which, json] : snapshots) {
    snapshot += comma;
    append_string(snapshot, which);
    snapshot += ":" + json;
    comma = ",";
  }
  snapshot += "}}";
  auto greeting = encode_event(snapshot, "snapshot", cursor()).value_or("");
  for (auto& one : std::exchange(joiners, {})) {
    one.stream->send(make_frame(encode_retry(jittered(cfg.retry, random)) + greeting), 0);
    one.stream->subscribe({{0}, slow_policy::disconnect});
    one.promise.deliver(atom::done_v);
  }
}

void sse_hub_state::drain_some() {
  auto last = streams.begin();
  for (size_t i = 0; i < drain_slice && last != streams.end(); ++i, ++last)
    last->second->finish(make_frame(encode_retry(jittered(cfg.retry, random))));
  streams.erase(streams.begin(), last);
  if (!streams.empty()) {
    self->delayed_send(self, drain_step, atom::tick_v);
    return;
  }
  for (auto& promise : drains)
    promise.deliver(atom::done_v);
  drains.clear();
}

void sse_hub_state::gone(const caf::actor_addr& session) {
  streams.erase(session);
}

sse_hub_actor::behavior_type sse_hub(sse_hub_state::self_pointer self, sse_hub_config cfg, fan_out* live,
                                     stats* counters) {
  auto& st = self->state;
  st.cfg = std::move(cfg);
  st.live = live;
  st.counters = counters;
  log_crashes(self, st.name);
  self->set_down_handler([self](const caf::down_msg& down) { self->state.gone(down.source); });
  return {
      [self](const batch_ptr& batch) {
        self->state.show(*batch);
        auto consumer = caf::actor_cast<kafka_consumer_actor>(self->current_sender());
        self->send(consumer, atom::credit_v, static_cast<uint32_t>(batch->records().size()));
      },
      [self](atom::assigned, const partition_list& partitions) -> caf::result<partition_list> {
        for (const auto& where : partitions)
          self->state.positions[{where.topic, where.partition}] = std::max<int64_t>(where.offset, 0);
        self->state.counters->live_feed.set(1);
        return partitions;
      },
      [self](atom::revoked, const partition_list& partitions, bool) -> caf::result<atom::done> {
        for (const auto& where : partitions)
          self->state.positions.erase({where.topic, where.partition});
        return atom::done_v;
      },
      [self](atom::join, const event_stream_ptr& stream) { return self->state.join(stream); },
      [self](atom::drain, uint32_t milliseconds) -> caf::result<atom::done> {
        auto& st = self->state;
        auto promise = self->make_response_promise<atom::done>();
        st.drains.push_back(promise);
        st.draining = true;
        auto steps = std::max<size_t>(milliseconds / static_cast<uint32_t>(drain_step.count()), 1);
        st.drain_slice = st.streams.size() / steps + 1;
        st.drain_some();
        return promise;
      },
      [self](atom::tick) { self->state.drain_some(); },
  };
}

} // namespace sluice
