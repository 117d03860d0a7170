#include "kafka_producer.hpp"

#include "crash.hpp"

namespace sluice {

namespace {

// A tag is a job's id and a record's place in it: 2^20 records a message are more than the queue holds.
constexpr unsigned place_bits = 20;
constexpr uint64_t place_mask = (uint64_t{1} << place_bits) - 1;

} // namespace

caf::result<deliveries> kafka_producer_state::accept(const outgoing_ptr& records) {
  if (draining)
    return make_failure(ec::shutting_down,
                        "the server is stopping; send the records to another node or try again later");
  if (records->size() > place_mask)
    return make_failure(ec::queue_full, "more than 1,048,575 records in one message; send fewer");
  auto id = next_id++;
  auto& what = jobs[id];
  what.promise = self->make_response_promise<deliveries>();
  what.results.resize(records->size());
  for (size_t place = 0; place < records->size(); ++place) {
    const auto& record = (*records)[place];
    what.results[place].topic = record.topic;
    if (auto error = sink->send(record, (id << place_bits) | place)) {
      what.results[place].error = code_of(error);
      what.results[place].reason = text_of(error);
      counters->records_failed.add();
    } else {
      ++what.open;
    }
  }
  counters->records_queued.add(what.open);
  auto promise = what.promise;
  if (what.open == 0)
    finish(id);
  return promise;
}

void kafka_producer_state::collect() {
  for (auto& outcome : sink->poll()) {
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
  it->second.promise.deliver(deliveries{std::make_shared<std::vector<delivery>>(std::move(it->second.results))});
  jobs.erase(it);
  if (jobs.empty()) {
    for (auto& promise : drains)
      promise.deliver(atom::done_v);
    drains.clear();
  }
}

void kafka_producer_state::fail_all(ec code, const std::string& reason) {
  for (auto& [id, what] : jobs) {
    counters->records_queued.sub(what.open);
    what.promise.deliver(make_failure(code, reason));
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
    self->state.collect();
    self->state.fail_all(ec::shutting_down, "the producer is stopping; try again");
    self->quit(exit.reason);
  });
  return {
      [self](const outgoing_ptr& records) { return self->state.accept(records); },
      [self](atom::drain) -> caf::result<atom::done> {
        self->state.draining = true;
        if (self->state.jobs.empty())
          return atom::done_v;
        auto promise = self->make_response_promise<atom::done>();
        self->state.drains.push_back(promise);
        return promise;
      },
      [self](atom::wake) { self->state.collect(); },
  };
}

} // namespace sluice
