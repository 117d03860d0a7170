#include "kafka_producer.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include "crash.hpp"

namespace sluice {

namespace {

// A tag is a job's id and a record's place in it: 2^20 records a message are more than the queue holds.
constexpr unsigned place_bits = 20;
constexpr uint64_t place_mask = (uint64_t{1} << place_bits) - 1;

/// What waits is handed over after this, whatever is on its way.
constexpr std::chrono::milliseconds patience{2};
/// After so many at a time the next ones wait until this time has passed: a few large batches cost everyone, the broker
/// above all, much less than many small ones.
constexpr size_t busy = 8;
constexpr std::chrono::microseconds pace{400};

void answer(kafka_producer_state::asker& to, caf::expected<std::vector<delivery>> what) {
  if (auto* outside = std::get_if<publication>(&to)) {
    outside->answer(std::move(what));
    return;
  }
  auto& promise = std::get<kafka_producer_state::request>(to).promise;
  if (what)
    promise.deliver(deliveries{std::make_shared<std::vector<delivery>>(std::move(*what))});
  else
    promise.deliver(std::move(what.error()));
}

const std::vector<outgoing_record>& records_of(const kafka_producer_state::asker& from) {
  const auto* outside = std::get_if<publication>(&from);
  return outside != nullptr ? outside->records : *std::get<kafka_producer_state::request>(from).records;
}

/// The library has copied them.
void let_go_of_records(kafka_producer_state::asker& from) {
  if (auto* outside = std::get_if<publication>(&from)) {
    if (!outside->keeps_records())
      std::vector<outgoing_record>{}.swap(outside->records);
  } else {
    std::get<kafka_producer_state::request>(from).records.reset();
  }
}

} // namespace

caf::error kafka_producer_state::refusal(size_t records) const {
  if (draining)
    return make_failure(ec::shutting_down,
                        "the server is stopping; send the records to another node or try again later");
  if (records > place_mask)
    return make_failure(ec::queue_full, "more than 1,048,575 records in one message; send fewer");
  return {};
}

caf::result<deliveries> kafka_producer_state::accept(const outgoing_ptr& records) {
  if (auto error = refusal(records->size()))
    return error;
  auto promise = self->make_response_promise<deliveries>();
  gather(request{promise, records});
  hand_over_when_due();
  return promise;
}

void kafka_producer_state::accept(const publications& all) {
  for (auto& one : *all) {
    if (auto error = refusal(one.records.size()))
      one.answer(std::move(error));
    else
      gather(std::move(one));
  }
  hand_over_when_due();
}

void kafka_producer_state::gather(asker from) {
  if (waiting.empty())
    waiting_since = self->clock().now();
  waiting.push_back(std::move(from));
}

// librdkafka has one batch of a partition on its way at a time and keeps a core busy while a second one is due. So what
// comes meanwhile waits here. Not for long: a partition without a leader must not hold up the others.
void kafka_producer_state::hand_over_when_due() {
  if (waiting.empty())
    return;
  auto now = self->clock().now();
  auto due = now;
  if (in_flight > 0)
    due = waiting_since + patience;
  else if (last_batch >= busy)
    due = handed_over + pace;
  if (due <= now) {
    hand_over();
  } else if (next_tick <= now || due < next_tick) {
    next_tick = due;
    self->delayed_send(self, due - now, atom::tick_v);
  }
}

void kafka_producer_state::hand_over() {
  auto all = std::exchange(waiting, {});
  handed_over = self->clock().now();
  last_batch = all.size();
  for (auto& one : all)
    write(std::move(one));
}

void kafka_producer_state::write(asker from) {
  auto id = next_id++;
  auto& what = jobs.try_emplace(id, std::move(from)).first->second;
  const auto& records = records_of(what.from);
  what.results.resize(records.size());
  for (size_t place = 0; place < records.size(); ++place) {
    const auto& record = records[place];
    if (auto error = sink->send(record, (id << place_bits) | place)) {
      what.results[place].topic = record.topic;
      what.results[place].error = code_of(error);
      what.results[place].reason = text_of(error);
      counters->records_failed.add();
    } else {
      ++what.open;
    }
  }
  let_go_of_records(what.from);
  in_flight += what.open;
  counters->records_queued.add(what.open);
  if (what.open == 0)
    finish(id);
}

void kafka_producer_state::collect() {
  auto outcomes = sink->poll();
  in_flight -= std::min(in_flight, outcomes.size());
  if (in_flight == 0)
    hand_over_when_due(); // before the answers: the broker need not wait for them
  for (auto& outcome : outcomes) {
    auto it = jobs.find(outcome.tag >> place_bits);
    if (it == jobs.end())
      continue;
    counters->records_queued.sub();
    (outcome.result.error == ec::no_error ? counters->records_sent : counters->records_failed).add();
    it->second.results[outcome.tag & place_mask] = std::move(outcome.result);
    if (--it->second.open == 0)
      finish(it->first);
  }
  if (auto error = sink->fatal()) {
    log(log_level::error, name, "the producer cannot go on", {{"cause", describe(error)}});
    fail_all(code_of(error), text_of(error));
    self->quit(error);
  }
}

void kafka_producer_state::finish(uint64_t id) {
  auto it = jobs.find(id);
  answer(it->second.from, std::move(it->second.results));
  jobs.erase(it);
  if (idle()) {
    for (auto& promise : drains)
      promise.deliver(atom::done_v);
    drains.clear();
  }
}

void kafka_producer_state::fail_waiting(ec code, const std::string& reason) {
  for (auto& one : std::exchange(waiting, {}))
    answer(one, make_failure(code, reason));
}

void kafka_producer_state::fail_all(ec code, const std::string& reason) {
  fail_waiting(code, reason);
  for (auto& [id, what] : jobs) {
    counters->records_queued.sub(what.open);
    answer(what.from, make_failure(code, reason));
  }
  jobs.clear();
}

kafka_producer_actor::behavior_type kafka_producer(kafka_producer_state::self_pointer self,
                                                   std::shared_ptr<record_sink> sink, stats* counters) {
  auto& st = self->state;
  st.sink = std::move(sink);
  st.counters = counters;
  log_crashes(self, st.name);
  st.sink->on_ready([me = kafka_producer_actor{self}] { caf::anon_send(me, atom::wake_v); });
  self->set_exit_handler([self](const caf::exit_msg& exit) { // 0.17 breaks no promise by itself
    constexpr auto reason = "the producer is stopping; try again";
    self->state.fail_waiting(ec::shutting_down, reason); // so that nothing more is handed over
    self->state.collect();
    self->state.fail_all(ec::shutting_down, reason);
    self->quit(exit.reason);
  });
  return {
      [self](const outgoing_ptr& records) { return self->state.accept(records); },
      [self](const publications& all) { self->state.accept(all); },
      [self](atom::drain) -> caf::result<atom::done> {
        self->state.draining = true;
        self->state.hand_over();
        if (self->state.idle())
          return atom::done_v;
        auto promise = self->make_response_promise<atom::done>();
        self->state.drains.push_back(promise);
        return promise;
      },
      [self](atom::wake) { self->state.collect(); },
      [self](atom::tick) { self->state.hand_over_when_due(); },
  };
}

} // namespace sluice
