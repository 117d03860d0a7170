#include "aggregator.hpp"

#include <algorithm>

#include "crash.hpp"
#include "dead_letter.hpp"

namespace sluice {

namespace {

// Summaries waiting for Kafka: at the first bound they go at once, at the second the consumer must wait.
constexpr size_t commit_at_once = 10000;
constexpr size_t stop_reading_at = 40000;
constexpr size_t max_burials = 1000;
// The transactor repeats through outages by itself; past this the role starts anew from the last commit.
constexpr std::chrono::minutes transaction_timeout{5};
constexpr std::chrono::minutes burial_timeout{30};

} // namespace

aggregation::moment aggregator_state::now() const {
  auto now = self->clock().now();
  auto since = std::chrono::duration_cast<std::chrono::milliseconds>(now - started);
  return {now, started_unix_ms + since.count()};
}

void aggregator_state::count(const batch_ptr& batch) {
  consumer = caf::actor_cast<kafka_consumer_actor>(self->current_sender());
  auto before = windows->counted();
  auto evicted = windows->evicted();
  auto failures = windows->add(*batch, now());
  counters->events_aggregated.add(windows->counted() - before);
  counters->windows_evicted.add(windows->evicted() - evicted);
  counters->windows_open.set(windows->open_windows());
  for (const auto& failure : failures)
    bury(batch, failure);
  owed += static_cast<uint32_t>(batch->records().size());
  give_credit();
  schedule();
  arm_due_timer();
}

void aggregator_state::bury(const batch_ptr& batch, const aggregation::failure& what) {
  auto letter = std::make_shared<failed_record>(failed_record_of(*batch, what.index));
  letter->processor = std::string{name} + "/" + cfg.name;
  letter->error = ec::malformed_record;
  letter->reason = what.reason;
  letter->first_failure_ms = letter->last_failure_ms = now().unix_ms;
  ++burials;
  self->request(dead_letters->get(), burial_timeout, failed_ptr{letter})
      .then(
          [this, where = topic_partition{letter->topic, letter->partition, letter->offset}](atom::done) {
            --burials;
            windows->dead_letter_kept(where);
            give_credit();
            schedule();
          },
          [this](const caf::error& error) { fail(error); });
}

caf::result<partition_list> aggregator_state::assign(const partition_list& partitions) {
  auto promise = self->make_response_promise<partition_list>();
  auto failed = [this](const caf::error& error) { fail(error); };
  self->request(transactions, transaction_timeout, atom::start_v)
      .then(
          [this, promise, partitions, failed](atom::done) mutable {
            if (cfg.key_pointer.empty()) {
              begin(partitions, {});
              promise.deliver(partitions);
              return;
            }
            self->request(transactions, transaction_timeout, atom::restore_v, covered_topic_of(cfg), int32_t{0})
                .then(
                    [this, promise, partitions](const outgoing_ptr& marks) mutable {
                      begin(partitions, *marks);
                      promise.deliver(partitions);
                    },
                    failed);
          },
          failed);
  return promise;
}

void aggregator_state::begin(const partition_list& partitions, const std::vector<outgoing_record>& marks) {
  for (const auto& partition : partitions)
    windows->assign(partition, marks);
}

void aggregator_state::revoke(revocation what) {
  // Partitions that are lost may be read by someone else already: what is not committed by now must not be any more.
  if (what.lost && (committing || windows->pending() > 0)) {
    fail(make_failure(ec::fenced, "partitions were lost with summaries not committed"));
    return;
  }
  if (what.lost) {
    for (const auto& partition : what.partitions)
      windows->revoke(partition);
    what.promise.deliver(atom::done_v);
    return;
  }
  revocations.push_back(std::move(what));
  commit();
}

void aggregator_state::schedule() {
  if (!windows->worth_committing())
    return;
  if (windows->pending() >= commit_at_once) {
    commit();
  } else if (!commit_armed) {
    commit_armed = true;
    self->delayed_send(self, cfg.commit_interval, atom::commit_v);
  }
}

void aggregator_state::commit() {
  if (committing)
    return;
  if (!windows->worth_committing()) {
    committed();
    return;
  }
  auto all = windows->take();
  committing = true;
  auto what = std::make_shared<transaction>();
  what->records = std::move(all.records);
  what->next_offsets = std::move(all.next_offsets);
  self->request(transactions, transaction_timeout, transaction_ptr{std::move(what)})
      .then(
          [this, summaries = all.summaries](atom::done) {
            committing = false;
            counters->transactions.add();
            counters->summaries.add(summaries);
            committed();
          },
          [this](const caf::error& error) { fail(error); });
}

void aggregator_state::committed() {
  if (!revocations.empty()) {
    if (windows->worth_committing()) { // more came due meanwhile
      commit();
      return;
    }
    for (auto& what : revocations) {
      for (const auto& partition : what.partitions)
        windows->revoke(partition);
      what.promise.deliver(atom::done_v);
    }
    revocations.clear();
  }
  give_credit();
  schedule();
}

void aggregator_state::give_credit() {
  // A quarter at a time: the consumer has the rest meanwhile, and is not woken for every batch.
  bool few = uint64_t{owed} * 4 < cfg.in_flight_records;
  if (owed == 0 || few || windows->pending() > stop_reading_at || burials > max_burials)
    return;
  self->send(consumer, atom::credit_v, owed);
  owed = 0;
}

void aggregator_state::arm_due_timer() {
  auto due = windows->next_due();
  if (!due || (timer && *timer <= *due))
    return;
  timer = due;
  auto delay = std::max(*due - self->clock().now(), aggregation::time_point::duration{0});
  self->delayed_send(self, std::chrono::ceil<std::chrono::milliseconds>(delay), atom::tick_v);
}

void aggregator_state::fail(const caf::error& error) {
  log(log_level::error, name, "starts anew from its last commit",
      {{"aggregation", cfg.name}, {"cause", describe(error)}});
  self->quit(error);
}

aggregator_actor::behavior_type aggregator(aggregator_state::self_pointer self, aggregation_config cfg,
                                           transactor_actor transactions,
                                           std::shared_ptr<role<dead_letter_actor>> dead_letters, stats* counters) {
  auto& st = self->state;
  st.cfg = std::move(cfg);
  st.windows.emplace(st.cfg);
  st.transactions = std::move(transactions);
  st.dead_letters = std::move(dead_letters);
  st.counters = counters;
  st.started = self->clock().now();
  st.started_unix_ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count();
  log_crashes(self, st.name);
  self->link_to(st.transactions);
  return {
      [self](const batch_ptr& batch) { self->state.count(batch); },
      [self](atom::assigned, const partition_list& partitions) { return self->state.assign(partitions); },
      [self](atom::revoked, const partition_list& partitions, bool lost) -> caf::result<atom::done> {
        auto promise = self->make_response_promise<atom::done>();
        self->state.revoke({partitions, lost, promise});
        return promise;
      },
      [](atom::reached, const topic_partition&) {}, // summaries are about records, not about places
      [self](atom::state) {
        return aggregation_view{self->state.cfg.name, self->state.windows->view()};
      },
      [self](atom::tick) {
        auto& st = self->state;
        st.timer.reset();
        st.windows->close_due(st.now());
        st.counters->windows_open.set(st.windows->open_windows());
        st.schedule();
        st.arm_due_timer();
      },
      [self](atom::commit) {
        self->state.commit_armed = false;
        self->state.commit();
      },
  };
}

} // namespace sluice
