#include "processor_supervisor.hpp"

#include <algorithm>
#include <iterator>

#include "crash.hpp"

namespace sluice {

namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;
using namespace std::chrono_literals;
using fate = processor_work::fate;

constexpr auto commit_interval = 200ms;
// Workers tell what they have done once a work: it takes about this long, so that little waits and little is lost.
constexpr auto work_time = 20ms;
constexpr uint32_t max_share = 4096;
constexpr uint32_t max_asked = 256; // the store is asked for each of them
// A worker that has been at one record for this long gives the others of its work back.
constexpr auto patience = 100ms;
constexpr auto crash_window = 1min;
constexpr auto first_restart_delay = 50ms;
constexpr auto max_restart_delay = 5s;
constexpr size_t max_burials = 1000;
constexpr auto restore_timeout = 1min;

} // namespace

processor_supervisor_state::~processor_supervisor_state() {
  if (counters == nullptr)
    return;
  for (auto& slot : slots)
    if (slot.worker)
      caf::anon_send_exit(slot.worker, caf::exit_reason::user_shutdown);
  for (auto& [id, one] : tenures)
    count_returned(one);
  counters->parked_keys.set(0);
  counters->parked_records.set(0);
}

int64_t processor_supervisor_state::unix_ms(time_point when) const {
  return duration_cast<milliseconds>(when.time_since_epoch()).count() + unix_offset_ms;
}

processor_supervisor_state::tenure* processor_supervisor_state::find(uint64_t id) {
  auto it = tenures.find(id);
  return it == tenures.end() ? nullptr : &it->second;
}

void processor_supervisor_state::count_returned(const tenure& ended) {
  counters->returned.add(ended.ledger.in_flight());
  counters->in_flight.sub(ended.ledger.in_flight());
}

// -- what comes from the consumer -------------------------------------------------------------------------------------

caf::result<partition_list> processor_supervisor_state::assign(const partition_list& partitions) {
  consumer = caf::actor_cast<kafka_consumer_actor>(self->current_sender());
  auto promise = self->make_response_promise<partition_list>(); // which takes the sender away
  self->request(consumer, restore_timeout, atom::restore_v, partitions)
      .then(
          [this, promise, partitions](const partition_list& committed) mutable {
            begin_tenures(committed);
            promise.deliver(partitions);
          },
          [this, promise, partitions](const caf::error& error) mutable {
            log(log_level::warn, name, "the last commits could not be read; what lies beyond them is processed again",
                {{"processor", cfg.name}, {"cause", describe(error)}});
            begin_tenures(partitions);
            promise.deliver(partitions);
          });
  return promise;
}

void processor_supervisor_state::begin_tenures(const partition_list& committed) {
  for (const auto& one : committed) {
    auto& fresh = tenures[next_id++];
    fresh.topic = one.topic;
    fresh.partition = one.partition;
    fresh.ledger.restore(one.offset, one.metadata);
  }
}

void processor_supervisor_state::accept(const batch_ptr& batch) {
  auto found = std::find_if(tenures.begin(), tenures.end(), [&](const auto& entry) {
    const auto& one = entry.second;
    return !one.leaving && one.partition == batch->partition() && one.topic == batch->topic();
  });
  const auto records = batch->records();
  if (found == tenures.end()) { // revoked meanwhile
    owed += static_cast<uint32_t>(records.size());
    give_credit();
    return;
  }
  auto& owner = found->second;
  const auto retries = batch->topic() == retries_topic;
  uint64_t skipped = 0;
  for (uint32_t i = 0; i < records.size(); ++i) {
    const auto done_before = owner.ledger.was_finished(records[i].offset);
    const auto number = owner.ledger.begin(records[i].offset);
    if (done_before) {
      owner.ledger.finish(number);
      ++skipped;
      continue;
    }
    item one;
    one.batch = batch;
    one.index = i;
    one.tenure = found->first;
    one.number = number;
    if (!retries || !take_up(owner, one))
      dispatch(owner, std::move(one));
  }
  if (skipped > 0) {
    counters->skipped.add(skipped);
    owed += static_cast<uint32_t>(skipped);
    schedule_commit(owner);
  }
  counters->in.add(records.size() - skipped);
  counters->in_flight.add(records.size() - skipped);
  go_on();
}

void processor_supervisor_state::revoke(const partition_list& partitions, bool lost,
                                        caf::typed_response_promise<atom::done> promise) {
  revocation what{{}, std::move(promise)};
  for (auto& [id, one] : tenures) {
    if (one.leaving || std::none_of(partitions.begin(), partitions.end(), [&one = one](const auto& p) {
          return p.topic == one.topic && p.partition == one.partition;
        }))
      continue;
    one.leaving = true;
    one.parked_keys.clear();
    what.tenures.push_back(id);
  }
  // Nothing that waits begins any more; what is at work comes to its end.
  auto goes = [&what](const item& one) {
    return std::find(what.tenures.begin(), what.tenures.end(), one.tenure) != what.tenures.end();
  };
  for (auto it = parked.begin(); it != parked.end();) {
    auto& one = it->second;
    if (!goes(one.records.front())) {
      ++it;
      continue;
    }
    parked_records -= one.records.size();
    // The first record, if it is at work, is dropped or finished when it comes back.
    for (size_t i = one.is_waiting ? 0 : 1; i < one.records.size(); ++i)
      drop(one.records[i]);
    if (one.is_waiting)
      due.erase({one.due, it->first});
    it = parked.erase(it);
  }
  lanes.erase_if([&](const item& one) {
    if (!goes(one))
      return false;
    drop(one);
    return true;
  });
  for (auto& slot : slots)
    if (slot.current && std::any_of(slot.current->items.begin(), slot.current->items.end(), goes)) {
      slot.current->cancelled = true;
      slot.current->stop();
    }
  for (auto& [id, one] : inquiries)
    if (one.is_waiting)
      drop_leaving(one.items, true);
  for (auto& [id, one] : remembrances)
    if (one.is_waiting)
      drop_leaving(one.items, false);
  if (lost) // someone else has them: nothing may be committed, nothing is waited for
    for (auto id : what.tenures) {
      count_returned(tenures.at(id));
      tenures.erase(id);
    }
  revocations.push_back(std::move(what));
  go_on();
}

void processor_supervisor_state::finish_revocations() {
  for (auto it = revocations.begin(); it != revocations.end();) {
    auto busy = std::any_of(it->tenures.begin(), it->tenures.end(), [this](uint64_t id) {
      auto* one = find(id);
      return one != nullptr && one->at_work > 0;
    });
    if (busy) {
      ++it;
      continue;
    }
    commit(); // before the answer, after which the partitions are no longer ours
    for (auto id : it->tenures)
      if (auto* one = find(id)) {
        count_returned(*one);
        tenures.erase(id);
      }
    it->promise.deliver(atom::done_v);
    it = revocations.erase(it);
    give_credit();
  }
}

// -- the workers ------------------------------------------------------------------------------------------------------

void processor_supervisor_state::start_worker(uint32_t index) {
  auto& slot = slots[index];
  slot.worker = make_worker(processor_supervisor_actor{self});
  running[slot.worker.address()] = index;
  self->monitor(slot.worker);
  if (!slot.asking)
    idle.push_back(index);
}

std::optional<uint64_t> processor_supervisor_state::parked_before(const tenure& owner, const item& what) const {
  if (owner.parked_keys.empty() || what.parked != 0 || !what.record().has_key)
    return std::nullopt;
  auto it = owner.parked_keys.find(std::string{what.record().key});
  return it == owner.parked_keys.end() ? std::nullopt : std::optional{it->second};
}

void processor_supervisor_state::dispatch(const tenure& owner, item what) {
  if (auto first = parked_before(owner, what))
    park_behind(*first, std::move(what));
  else
    lanes.push(std::move(what));
}

void processor_supervisor_state::feed() {
  for (size_t i = idle.size(); i-- > 0;)
    if (give_work(idle[i]))
      idle.erase(idle.begin() + static_cast<std::ptrdiff_t>(i));
}

bool processor_supervisor_state::give_work(uint32_t index) {
  auto& slot = slots[index];
  const size_t queue = keys_stay ? index : 0;
  const size_t takers = keys_stay ? 1 : slots.size();
  std::vector<item> batch;
  while (batch.empty() && lanes.ready(queue) > 0) {
    // A fair part of the lanes at most, so that the others are not left without.
    for (auto& one : lanes.take(slot.share, (lanes.ready(queue) + takers - 1) / takers, queue)) {
      auto& owner = tenures.at(one.tenure);
      if (auto first = parked_before(owner, one)) { // it waited while an earlier record of its key failed
        lanes.done(one);
        park_behind(*first, std::move(one));
        continue;
      }
      ++owner.at_work;
      batch.push_back(std::move(one));
    }
  }
  if (batch.empty())
    return false;
  if (asks_store()) {
    slot.asking = true;
    auto id = next_id++;
    inquiries[id] = {index, std::move(batch)};
    ask(id);
  } else {
    send_work(index, std::move(batch));
  }
  return true;
}

void processor_supervisor_state::send_work(uint32_t index, std::vector<item> what) {
  auto& slot = slots[index];
  slot.current = std::make_shared<processor_work>(std::move(what));
  slot.current->slot = index;
  slot.current->unix_offset_ms = unix_offset_ms;
  slot.kept = static_cast<uint32_t>(slot.current->items.size());
  slot.seen = 0;
  slot.sent = slot.since = now();
  self->send(slot.worker, slot.current);
  arm(slot.sent + look_interval());
}

void processor_supervisor_state::worked(const processor_work_ptr& work, uint32_t count) {
  auto& slot = slots[work->slot];
  if (slot.current != work)
    return; // of a worker that was given up
  slot.current.reset();
  idle.push_back(work->slot);
  if (count > 0) {
    const auto each = std::max<clock::duration>((now() - slot.sent) / count, 1ns);
    slot.share = static_cast<uint32_t>(std::clamp<int64_t>(work_time / each, 1, asks_store() ? max_asked : max_share));
  }
  settle(slot, work, count, {});
  go_on();
}

void processor_supervisor_state::settle(worker_slot& slot, const processor_work_ptr& work, uint32_t count,
                                        const caf::error& broken) {
  publication emitted;
  std::vector<outgoing_record> records;
  std::vector<item> left, done;
  for (uint32_t i = 0; i < slot.kept; ++i) {
    const auto& one = work->items[i];
    auto what = i < count ? work->outcomes[i].what : i == count && broken ? fate::failed : fate::none;
    if (what == fate::none || what == fate::held) {
      left.push_back(one);
      continue;
    }
    lanes.done(one);
    if (!is_ours(one))
      continue;
    switch (what) {
    case fate::done: {
      auto& more = work->outcomes[i].emitted;
      if (more.empty()) {
        done.push_back(one);
        break;
      }
      emitted.source_of.insert(emitted.source_of.end(), more.size(), static_cast<uint32_t>(emitted.sources.size()));
      emitted.sources.push_back({one, static_cast<uint32_t>(more.size()), {}});
      std::move(more.begin(), more.end(), std::back_inserter(records));
      break;
    }
    case fate::expired:
      bury(one, make_failure(ec::expired, "its deadline has passed"), one.attempt - 1); // this one was not begun
      break;
    default:
      fail(one, i < count ? work->outcomes[i].error : broken);
    }
  }
  finish(std::move(done));
  take_back(std::move(left));
  if (!emitted.sources.empty()) {
    auto id = next_id++;
    emitted.records = std::make_shared<const std::vector<outgoing_record>>(std::move(records));
    publications[id] = std::move(emitted);
    publish(id);
  }
}

void processor_supervisor_state::take_back(std::vector<item> left) {
  while (!left.empty()) {
    auto one = std::move(left.back());
    left.pop_back();
    auto* owner = find(one.tenure);
    if (owner != nullptr)
      --owner->at_work;
    if (owner != nullptr && !owner->leaving) {
      lanes.put_back(std::move(one)); // where its key has been parked meanwhile, `feed` sees it
    } else {
      lanes.done(one);
      drop(one);
    }
  }
}

void processor_supervisor_state::relieve(worker_slot& slot) {
  const auto& items = slot.current->items;
  const auto begun = slot.current->stop();
  if (begun >= slot.kept)
    return; // it is at the last one
  take_back({items.begin() + begun, items.begin() + slot.kept});
  slot.kept = begun;
}

milliseconds processor_supervisor_state::look_interval() const {
  return std::clamp<milliseconds>(cfg.timeout / 8, 1ms, patience);
}

void processor_supervisor_state::watch() {
  if (timer && now() < *timer)
    return; // another one has been armed since, which is enough
  timer.reset();
  retry_due();
  const auto at = now();
  auto next = time_point::max();
  for (auto& slot : slots) {
    if (!slot.current)
      continue;
    if (auto begun = slot.current->begun(); begun != slot.seen) {
      slot.seen = begun;
      slot.since = at;
    } else if (begun > 0 && at - slot.since >= cfg.timeout) {
      abandon(slot);
      continue;
    } else if (begun > 0 && at - slot.since >= patience) {
      relieve(slot);
    }
    // An attempt is known to have begun by the first look after it: it is given up a quarter of its time late at most.
    next = std::min(next, at + look_interval());
  }
  if (!due.empty())
    next = std::min(next, due.begin()->first);
  if (next != time_point::max())
    arm(next);
  go_on();
}

void processor_supervisor_state::abandon(worker_slot& slot) {
  const auto work = slot.current;
  const auto begun = work->stop();
  if (begun != slot.seen || begun > work->items.size())
    return; // it has moved at the last moment, and will report
  work->cancelled = true;
  counters->timeouts.add();
  stuck.insert(slot.worker.address());
  running.erase(slot.worker.address());
  caf::anon_send_exit(slot.worker, caf::exit_reason::user_shutdown);
  slot.worker = nullptr;
  slot.current.reset();
  settle(slot, work, begun - 1,
         make_failure(ec::attempt_timeout, "not done within " + std::to_string(cfg.timeout.count()) + " ms"));
  if (stuck.size() > slots.size()) {
    log(log_level::error, name, "too many attempts hang and hold their threads, starting anew",
        {{"processor", cfg.name}, {"hanging", std::to_string(stuck.size())}});
    self->quit(make_failure(ec::attempt_timeout, "more than " + std::to_string(slots.size()) +
                                                     " attempts of processor " + cfg.name +
                                                     " hang; let it look at context::cancelled"));
    return;
  }
  start_worker(work->slot);
}

void processor_supervisor_state::worker_ended(const caf::down_msg& down) {
  if (stuck.erase(down.source) > 0)
    return;
  auto it = running.find(down.source);
  if (it == running.end())
    return;
  const auto index = it->second;
  running.erase(it);
  auto& slot = slots[index];
  slot.worker = nullptr;
  std::erase(idle, index);
  auto cause = describe(down.reason);
  if (auto work = std::exchange(slot.current, nullptr)) {
    const auto begun = work->stop();
    const auto ended = begun == 0 ? 0 : begun - 1;
    // A request that came too late for the processor's actor: an earlier record ended it, this one is not to blame.
    const auto broken =
        begun > 0 && begun <= work->items.size() && down.reason != caf::make_error(caf::sec::request_receiver_down);
    settle(slot, work, ended, broken ? make_failure(ec::processor_failed, "its worker ended: " + cause) : caf::error{});
  }
  const auto at = now();
  crashes.push_back(at);
  while (crashes.front() + crash_window < at)
    crashes.pop_front();
  log(log_level::warn, name, "a worker ended, starting it again", {{"processor", cfg.name}, {"cause", cause}});
  if (crashes.size() > cfg.max_restarts) {
    self->quit(make_failure(ec::processor_failed, "the workers of processor " + cfg.name + " ended more than " +
                                                      std::to_string(cfg.max_restarts) +
                                                      " times in a minute: " + cause));
    return;
  }
  counters->restarts.add();
  auto delay = backoff_delay<milliseconds>(first_restart_delay, max_restart_delay,
                                           static_cast<uint32_t>(crashes.size()), random);
  self->delayed_send(self, delay, atom::start_v, uint64_t{index});
  go_on();
}

// -- bounds, commits, timers ------------------------------------------------------------------------------------------

void processor_supervisor_state::give_credit() {
  // A quarter at a time: the consumer has the rest meanwhile, and is not woken for every batch.
  if (owed == 0 || uint64_t{owed} * 4 < cfg.in_flight_records || parked.size() >= cfg.max_parked_keys ||
      parked_records >= cfg.max_parked_records || burials.size() >= max_burials)
    return;
  size_t ahead = 0;
  for (const auto& [id, one] : tenures)
    ahead += one.ledger.span();
  if (ahead >= cfg.max_ahead)
    return;
  self->send(consumer, atom::credit_v, owed);
  owed = 0;
}

void processor_supervisor_state::go_on() {
  feed();
  give_credit();
  finish_revocations();
  counters->parked_keys.set(parked.size());
  counters->parked_records.set(parked_records);
}

void processor_supervisor_state::schedule_commit(tenure& changed) {
  changed.changed = true;
  if (commit_armed)
    return;
  commit_armed = true;
  self->delayed_send(self, commit_interval, atom::commit_v);
}

void processor_supervisor_state::commit() {
  partition_list next;
  for (auto& [id, one] : tenures)
    if (std::exchange(one.changed, false))
      next.push_back({one.topic, one.partition, one.ledger.next(), one.ledger.metadata()});
  if (!next.empty())
    self->send(consumer, atom::commit_v, std::move(next));
}

void processor_supervisor_state::arm(time_point when) {
  if (timer && *timer <= when)
    return;
  timer = when;
  const auto delay = std::max(when - now(), time_point::duration{0});
  self->delayed_send(self, std::chrono::ceil<milliseconds>(delay), atom::tick_v);
}

processor_supervisor_actor::behavior_type
processor_supervisor(processor_supervisor_state::self_pointer self, processor_config cfg, worker_maker make_worker,
                     bool keys_stay, std::shared_ptr<role<kafka_producer_actor>> producer,
                     std::shared_ptr<role<dead_letter_actor>> dead_letters,
                     std::shared_ptr<role<idempotency_actor>> claims, processor_stats* counters) {
  auto& st = self->state;
  st.cfg = std::move(cfg);
  st.retries_topic = retries_topic_of(st.cfg);
  st.make_worker = std::move(make_worker);
  st.producer = std::move(producer);
  st.dead_letters = std::move(dead_letters);
  st.claims = std::move(claims);
  st.counters = counters;
  const auto unix_now = std::chrono::system_clock::now().time_since_epoch();
  st.unix_offset_ms =
      duration_cast<milliseconds>(unix_now).count() - duration_cast<milliseconds>(st.now().time_since_epoch()).count();
  log_crashes(self, st.name);
  self->set_down_handler([self](const caf::down_msg& down) { self->state.worker_ended(down); });
  st.slots.resize(st.cfg.concurrency);
  st.keys_stay = keys_stay;
  if (keys_stay)
    st.lanes = key_lanes{st.cfg.concurrency};
  for (uint32_t i = 0; i < st.cfg.concurrency; ++i)
    st.start_worker(i);
  return {
      [self](const batch_ptr& batch) {
        self->state.consumer = caf::actor_cast<kafka_consumer_actor>(self->current_sender());
        self->state.accept(batch);
      },
      [self](atom::assigned, const partition_list& partitions) { return self->state.assign(partitions); },
      [self](atom::revoked, const partition_list& partitions, bool lost) -> caf::result<atom::done> {
        auto promise = self->make_response_promise<atom::done>();
        self->state.revoke(partitions, lost, promise);
        return promise;
      },
      [](atom::reached, const topic_partition&) {}, // commits are about records, not about places
      [self](atom::done, const processor_work_ptr& work, uint32_t count) { self->state.worked(work, count); },
      [self](atom::tick) { self->state.watch(); },
      [self](atom::commit) {
        self->state.commit_armed = false;
        self->state.commit();
      },
      [self](atom::start, uint64_t slot) {
        self->state.start_worker(static_cast<uint32_t>(slot));
        self->state.go_on();
      },
      [self](atom::retry, uint64_t id) {
        auto& st = self->state;
        if (st.publications.contains(id))
          st.publish(id);
        else if (st.burials.contains(id))
          st.hand_over(id);
        else if (st.inquiries.contains(id))
          st.ask(id);
        else if (st.remembrances.contains(id))
          st.note(id);
      },
  };
}

} // namespace sluice
