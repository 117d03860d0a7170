#include "outbox.hpp"

#include <algorithm>
#include <iterator>

#include "sluice/processor.hpp"

#include "crash.hpp"

namespace sluice {

namespace {

/// Records that are read, on their way, or not noted yet, at most.
constexpr size_t window = 2000;
constexpr size_t read_bytes = 4 * 1024 * 1024;
constexpr std::chrono::seconds pause{1};
/// A topic that Kafka does not know may be about to be created; after so many tries its records are set aside.
constexpr uint32_t max_missing = 3;

int64_t now_ms() {
  return std::chrono::duration_cast<milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

} // namespace

void outbox_job::answer(const caf::error& error) {
  if (error && so_far.empty()) {
    what.answer(error);
    return;
  }
  auto all = so_far.empty();
  so_far.resize(what.records.size());
  for (size_t i = 0; i < so_far.size(); ++i)
    if (all || publication::away(so_far[i])) {
      so_far[i].topic = what.records[i].topic;
      so_far[i].error = error ? code_of(error) : ec::no_error;
      so_far[i].reason = error ? text_of(error) : std::string{};
      so_far[i].queued = !error;
    }
  what.answer(std::move(so_far));
}

void outbox_state::take(outbox_job_ptr job) {
  if (draining) {
    job->answer(make_failure(ec::shutting_down, "the server is stopping; try again, another node may answer"));
    return;
  }
  waiting.push_back(std::move(job));
  arm_commit();
}

// By a message to itself: all that is in the mailbox before it shares the transaction.
void outbox_state::arm_commit() {
  if (!std::exchange(armed, true))
    self->send(self, atom::commit_v);
}

bool outbox_state::commit() {
  armed = false;
  auto jobs = std::exchange(waiting, {});
  if (lost)
    if (auto error = begin_anew()) {
      fail(jobs, error);
      return false;
    }
  if (jobs.empty() && written.empty() && refused.empty())
    return true;
  std::vector<const outgoing_record*> fresh;
  for (auto& job : jobs)
    for (size_t i = 0; i < job->what.records.size(); ++i)
      if (job->wants(i)) {
        auto& record = job->what.records[i];
        if (record.timestamp_ms == 0)
          record.timestamp_ms = now_ms(); // when it happened, not when Kafka was back
        fresh.push_back(&record);
      }
  std::vector<int64_t> gone;
  for (const auto& [id, what] : written)
    gone.push_back(id);
  auto sizes = log_file->commit(fresh, gone, reasons);
  if (!sizes) {
    fail(jobs, sizes.error());
    // After anything else there may be another file, with other events of the same ids.
    lost = code_of(sizes.error()) != ec::storage_full;
    return false;
  }
  if (std::exchange(failing, false))
    log(log_level::info, name, "events can be kept on disk again");
  counters->outbox_commits.add();
  counters->outbox_taken.add(fresh.size());
  counters->outbox_replayed.add(written.size());
  counters->outbox_refused.add(refused.size());
  stored += fresh.size();
  for (size_t i = 0; i < fresh.size(); ++i) {
    gate->came(fresh[i]->topic, (*sizes)[i]);
    counters->outbox_bytes.add((*sizes)[i]);
  }
  for (const auto& [id, what] : std::exchange(written, {})) {
    --stored;
    gate->went(what.topic, what.bytes);
    counters->outbox_bytes.sub(what.bytes);
  }
  for (const auto& [id, what] : std::exchange(refused, {})) {
    --stored;
    gate->went(what.topic, 0);
  }
  reasons.clear();
  counters->outbox_records.set(stored);
  if (!fresh.empty())
    kept(fresh, stored == fresh.size());
  for (auto& job : jobs)
    job->answer({});
  if (stored == 0) {
    if (std::exchange(sink, nullptr))
      log(log_level::info, name, "all events that waited are in Kafka");
    last_read = 0;
  }
  return true;
}

void outbox_state::fail(const std::vector<outbox_job_ptr>& jobs, const caf::error& error) {
  counters->store_errors.add();
  if (!std::exchange(failing, true))
    log(log_level::error, name, "events cannot be kept on disk", {{"cause", describe(error)}});
  for (const auto& job : jobs)
    job->answer(error);
  retry_later();
}

caf::error outbox_state::begin_anew() {
  auto contents = log_file->contents();
  if (!contents)
    return contents.error();
  sink.reset();
  in_flight.clear();
  written.clear();
  refused.clear();
  reasons.clear();
  ahead.clear();
  last_read = 0;
  rewinding = false;
  lost = false;
  gate->reset(*contents);
  count(*contents);
  return {};
}

void outbox_state::count(const std::map<std::string, outbox_log::usage>& contents) {
  uint64_t bytes = 0, aside = 0;
  stored = 0;
  for (const auto& [topic, usage] : contents) {
    bytes += usage.bytes;
    (topic.empty() ? aside : stored) += usage.records;
  }
  counters->outbox_records.set(stored);
  counters->outbox_bytes.set(bytes);
  counters->outbox_refused.set(aside);
}

bool outbox_state::read_ahead() {
  auto known = in_flight.size() + written.size() + refused.size();
  if (stored <= known)
    return false;
  auto entries = log_file->read(last_read, window - known, read_bytes);
  if (!entries) {
    counters->store_errors.add();
    log(log_level::error, name, "events that wait cannot be read", {{"cause", describe(entries.error())}});
    retry_later();
    return false;
  }
  for (auto& one : *entries)
    ahead.push_back(std::move(one));
  if (!ahead.empty())
    last_read = ahead.back().id;
  return !ahead.empty();
}

void outbox_state::send_more() {
  while (!draining && !rewinding && !ticking && in_flight.size() + written.size() + refused.size() < window &&
         (!ahead.empty() || read_ahead())) {
    if (!sink) {
      sink = make_sink();
      sink->on_ready([me = outbox_actor{self}] { caf::anon_send(me, atom::wake_v); });
      log(log_level::warn, name, "events wait for Kafka", {{"events", std::to_string(stored)}});
    }
    auto& next = ahead.front();
    if (auto error = sink->send(next.record, static_cast<uint64_t>(next.id))) {
      if (code_of(error) == ec::queue_full) {
        if (in_flight.empty())
          retry_later();
        return; // the next outcome makes room
      }
      delivery result;
      result.topic = next.record.topic;
      result.error = code_of(error);
      result.reason = text_of(error);
      in_flight[next.id] = {next.record.topic, next.bytes};
      settle(next.id, result);
      if (rewinding)
        return;
    } else {
      if (const auto* id = find_header(next.record.headers, event_id_header); id && log_enabled(log_level::debug))
        log(log_level::debug, name, "event goes to Kafka", {{"eventId", *id}, {"topic", next.record.topic}});
      in_flight[next.id] = {next.record.topic, next.bytes};
    }
    ahead.pop_front();
  }
}

void outbox_state::settle(int64_t id, const delivery& result) {
  auto it = in_flight.find(id);
  if (it == in_flight.end())
    return;
  auto what = std::move(it->second);
  in_flight.erase(it);
  switch (result.error) {
  case ec::no_error:
    missing.erase(what.topic);
    written.emplace(id, std::move(what));
    arm_commit();
    break;
  case ec::unknown_topic:
    if (auto& tries = missing[what.topic]; tries < max_missing) {
      tries += rewinding ? 0 : 1; // once for all its records
      rewind(result.reason);
    } else {
      set_aside(id, std::move(what), result.reason);
    }
    break;
  case ec::kafka_refused:
  case ec::too_large:
    set_aside(id, std::move(what), result.reason);
    break;
  default:
    rewind(to_string(result.error) + ": " + result.reason);
  }
}

void outbox_state::set_aside(int64_t id, sent what, const std::string& reason) {
  log(log_level::error, name,
      "Kafka does not take an event that waited: it stays on disk and is tried again at the next start",
      {{"topic", what.topic}, {"id", std::to_string(id)}, {"cause", reason}});
  reasons.push_back({id, reason});
  refused.emplace(id, std::move(what));
  arm_commit();
}

void outbox_state::rewind(const std::string& reason) {
  if (!std::exchange(rewinding, true))
    log(log_level::warn, name, "Kafka did not take events that wait, trying again", {{"cause", reason}});
  retry_later();
}

void outbox_state::collect() {
  if (!sink)
    return;
  for (auto& outcome : sink->poll())
    settle(static_cast<int64_t>(outcome.tag), outcome.result);
  if (auto error = sink->fatal()) {
    in_flight.clear();
    sink.reset();
    rewind(describe(error));
  }
  if (draining)
    finish_drain();
  else
    send_more();
}

void outbox_state::retry_later() {
  if (!std::exchange(ticking, true))
    self->delayed_send(self, pause, atom::tick_v);
}

void outbox_state::on_tick() {
  ticking = false;
  if (!commit()) // what Kafka has must not be read again
    return;
  if (rewinding) {
    if (!in_flight.empty()) {
      retry_later();
      return;
    }
    rewinding = false;
    ahead.clear();
    last_read = 0;
  }
  send_more();
}

void outbox_state::finish_drain() {
  if (!in_flight.empty() && !ticking)
    return;
  commit();
  for (auto& promise : std::exchange(drains, {}))
    promise.deliver(atom::done_v);
}

outbox_actor::behavior_type outbox(outbox_state::self_pointer self, std::shared_ptr<outbox_log> log_file,
                                   const std::map<std::string, outbox_log::usage>& contents,
                                   std::function<std::shared_ptr<record_sink>()> make_sink,
                                   std::shared_ptr<outbox_gate> gate, kept_function kept, stats* counters) {
  auto& st = self->state;
  st.log_file = std::move(log_file);
  st.make_sink = std::move(make_sink);
  st.gate = std::move(gate);
  st.kept = std::move(kept);
  st.counters = counters;
  st.count(contents);
  log_crashes(self, st.name);
  self->set_exit_handler([self](const caf::exit_msg& exit) {
    for (auto& job : std::exchange(self->state.waiting, {}))
      job->answer(make_failure(ec::shutting_down, "the server is stopping; try again"));
    self->quit(exit.reason);
  });
  self->send(self, atom::tick_v);
  st.ticking = true;
  return {
      [self](outbox_job_ptr& job) { self->state.take(std::move(job)); },
      [self](atom::drain) -> caf::result<atom::done> {
        auto& st = self->state;
        st.draining = true;
        st.commit();
        if (st.in_flight.empty() || st.counters->kafka_away.get() != 0)
          return atom::done_v;
        auto promise = self->make_response_promise<atom::done>();
        st.drains.push_back(promise); // a moment for what Kafka is about to acknowledge, so that it comes once
        self->delayed_send(self, pause, atom::tick_v);
        return promise;
      },
      [self](atom::commit) {
        if (self->state.commit() && !self->state.draining)
          self->state.send_more();
      },
      [self](atom::wake) { self->state.collect(); },
      [self](atom::tick) {
        if (self->state.draining) {
          self->state.ticking = true; // no more waiting
          self->state.finish_drain();
        } else {
          self->state.on_tick();
        }
      },
  };
}

} // namespace sluice
