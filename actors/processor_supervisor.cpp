#include "processor_supervisor.hpp"

#include <algorithm>
#include <iterator>

#include "crash.hpp"
#include "dead_letter.hpp"

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
constexpr auto burial_timeout = 30min;
constexpr auto publish_timeout = 2min; // the producer answers within its delivery timeout
constexpr auto restore_timeout = 1min;
constexpr auto store_timeout = 10s;
constexpr auto busy_delay = 1s;   // until an event is claimed again that somebody else is at
constexpr auto lease_spare = 10s; // beyond the attempt and the wait for the next one
constexpr auto first_repeat_delay = 200ms;
constexpr auto max_repeat_delay = 10s;

/// A parked record, copied: a batch with thousands of others must not wait with it.
class single_record : public record_batch {
public:
  single_record(const record_batch& from, size_t index)
      : topic_(from.topic()), partition_(from.partition()), view_(from.records()[index]), key_(view_.key),
        value_(view_.value), headers_(from.headers(index)) {
    view_.key = key_;
    view_.value = value_;
  }
  const std::string& topic() const noexcept override { return topic_; }
  int32_t partition() const noexcept override { return partition_; }
  std::span<const record_view> records() const noexcept override { return {&view_, 1}; }
  std::vector<record_header> headers(size_t) const override { return headers_; }

private:
  std::string topic_;
  int32_t partition_;
  record_view view_;
  std::string key_, value_;
  std::vector<record_header> headers_;
};

const record_view& record_of(const processor_work::item& what) {
  return what.batch->records()[what.index];
}

std::string event_id_of(const processor_work::item& what) {
  return event_id_of(what.batch->headers(what.index), what.batch->topic(), what.batch->partition(),
                     record_of(what).offset);
}

/// Who claims an event: a place in the log, so that the next member to have the partition has the claim at once.
std::string place_of(const processor_work::item& what) {
  return what.batch->topic() + "/" + std::to_string(what.batch->partition()) + "/" +
         std::to_string(record_of(what).offset);
}

/// Trouble that is over some time: the records are worth another try, the processor need not run again.
bool is_passing(ec code) {
  return code == ec::queue_full || code == ec::delivery_timeout || code == ec::kafka_unreachable ||
         code == ec::shutting_down;
}

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
  if (owner.parked_keys.empty() || what.parked != 0 || !record_of(what).has_key)
    return std::nullopt;
  auto it = owner.parked_keys.find(std::string{record_of(what).key});
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
      bury(one, make_failure(ec::expired, "its deadline has passed"));
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

// -- what becomes of a record -----------------------------------------------------------------------------------------

void processor_supervisor_state::end(const item& what) {
  auto& owner = tenures.at(what.tenure);
  --owner.at_work;
  owner.ledger.finish(what.number);
  counters->in_flight.sub();
  if (!what.credited)
    ++owed;
  schedule_commit(owner);
  if (what.parked != 0)
    release(what.parked);
}

void processor_supervisor_state::finish(std::vector<item> done) {
  if (asks_store()) {
    remember(std::move(done));
    return;
  }
  counters->done.add(done.size());
  for (const auto& one : done)
    end(one);
}

void processor_supervisor_state::drop(const item& what) {
  // It stays unfinished in the ledger, and is counted as returned with the tenure.
  if (!what.credited)
    ++owed;
}

bool processor_supervisor_state::is_ours(const item& what) {
  if (find(what.tenure) != nullptr)
    return true;
  drop(what);
  return false;
}

void processor_supervisor_state::fail(item what, const caf::error& error) {
  auto& owner = tenures.at(what.tenure);
  if (owner.leaving) { // the next owner's attempts begin anew
    --owner.at_work;
    drop(what);
    return;
  }
  const auto at = now();
  auto it = parked.find(what.parked);
  const auto first_failure = it == parked.end() ? unix_ms(at) : it->second.first_failure_ms;
  milliseconds delay = cfg.retry_initial;
  for (uint32_t i = 1; i < what.attempt && delay < cfg.retry_max; ++i)
    delay *= cfg.retry_multiplier;
  delay = std::min(delay, cfg.retry_max) * static_cast<int>(80 + random() % 41) / 100;
  const auto told = retry_after_of(error); // it was not tried at all: only the budget bounds that
  if (told)
    delay = std::max(*told, milliseconds{1});
  const auto next_ms = unix_ms(at + delay);
  if (!is_retryable(code_of(error)) || (!told && what.attempt >= cfg.max_attempts) ||
      next_ms > first_failure + cfg.retry_budget.count()) {
    bury(what, error);
    return;
  }
  if (auto deadline = deadline_of(what.batch->headers(what.index)); deadline && *deadline <= next_ms) {
    bury(what,
         make_failure(ec::expired, "its deadline comes before its next attempt; the last one: " + describe(error)));
    return;
  }
  log(told ? log_level::debug : log_level::info, name, "an attempt failed, trying again",
      {{"processor", cfg.name},
       {"topic", owner.topic},
       {"partition", std::to_string(owner.partition)},
       {"offset", std::to_string(record_of(what).offset)},
       {"attempt", std::to_string(what.attempt)},
       {"delayMs", std::to_string(delay.count())},
       {"cause", describe(error)}});
  --owner.at_work;
  if (!told)
    ++what.attempt;
  park(owner, std::move(what), at + delay);
}

void processor_supervisor_state::bury(const item& what, const caf::error& error) {
  auto it = parked.find(what.parked);
  auto letter = std::make_shared<failed_record>(failed_record_of(*what.batch, what.index));
  letter->processor = cfg.name;
  letter->error = code_of(error) == ec::no_error ? ec::processor_failed : code_of(error);
  letter->reason = code_of(error) == ec::no_error ? describe(error) : text_of(error);
  letter->attempts = what.attempt;
  letter->last_failure_ms = unix_ms(now());
  letter->first_failure_ms = it == parked.end() ? letter->last_failure_ms : it->second.first_failure_ms;
  auto id = next_id++;
  burials[id] = {what, std::move(letter)};
  hand_over(id);
}

void processor_supervisor_state::hand_over(uint64_t id) {
  self->request(dead_letters->get(), burial_timeout, burials.at(id).letter)
      .then([this, id](atom::done) { buried(id); },
            [this, id](const caf::error& error) { // the office is being restarted
              log(log_level::warn, name, "a dead letter was not taken, trying again",
                  {{"processor", cfg.name}, {"cause", describe(error)}});
              self->delayed_send(self, max_repeat_delay / 10, atom::retry_v, id);
            });
}

void processor_supervisor_state::buried(uint64_t id) {
  auto one = std::move(burials.at(id));
  burials.erase(id);
  if (asks_store())
    forget(one.what);
  if (is_ours(one.what)) {
    counters->dead_lettered.add();
    if (one.letter->error == ec::expired)
      counters->expired.add();
    end(one.what);
  }
  go_on();
}

void processor_supervisor_state::publish(uint64_t id) {
  auto& what = publications.at(id);
  ++what.tries;
  self->request(producer->get(), publish_timeout, what.records)
      .then([this, id](const deliveries& results) { published(id, results); },
            [this, id](const caf::error& error) { publish_again(id, describe(error)); });
}

void processor_supervisor_state::published(uint64_t id, const deliveries& results) {
  auto& what = publications.at(id);
  std::vector<outgoing_record> again;
  std::vector<uint32_t> again_of;
  std::vector<item> done;
  std::string reason;
  for (size_t i = 0; i < results->size(); ++i) {
    const auto& result = (*results)[i];
    auto& source = what.sources[what.source_of[i]];
    if (is_passing(result.error)) {
      reason = to_string(result.error) + ": " + result.reason;
      again.push_back((*what.records)[i]);
      again_of.push_back(what.source_of[i]);
      continue;
    }
    --source.open;
    if (result.error == ec::no_error)
      counters->emitted.add();
    else
      source.error = make_failure(result.error, "what it emitted was not taken: " + result.reason);
    if (source.open > 0)
      continue;
    if (!is_ours(source.from))
      continue;
    if (source.error)
      fail(source.from, source.error);
    else
      done.push_back(source.from);
  }
  finish(std::move(done));
  if (again.empty()) {
    publications.erase(id);
  } else {
    what.records = std::make_shared<const std::vector<outgoing_record>>(std::move(again));
    what.source_of = std::move(again_of);
    publish_again(id, reason);
  }
  go_on();
}

void processor_supervisor_state::publish_again(uint64_t id, const std::string& reason) {
  const auto tries = publications.at(id).tries;
  log(log_level::warn, name, "emitted records were not taken, trying again",
      {{"processor", cfg.name}, {"tries", std::to_string(tries)}, {"cause", reason}});
  self->delayed_send(self, backoff_delay<milliseconds>(first_repeat_delay, max_repeat_delay, tries, random),
                     atom::retry_v, id);
}

// -- what the store knows ---------------------------------------------------------------------------------------------

void processor_supervisor_state::ask(uint64_t id) {
  auto& what = inquiries.at(id);
  if (what.items.empty()) {
    answered(id, {});
    return;
  }
  ++what.tries;
  what.is_waiting = false;
  auto wishes = std::make_shared<std::vector<claim>>();
  for (const auto& one : what.items)
    wishes->push_back(
        {scope(), event_id_of(one), place_of(one), {}, cfg.timeout + cfg.retry_max + milliseconds{lease_spare}});
  self->request(claims->get(), store_timeout, claims_ptr{std::move(wishes)})
      .then([this, id](const standings_ptr& found) { answered(id, *found); },
            [this, id](const caf::error& error) { not_answered(id, error); });
}

void processor_supervisor_state::answered(uint64_t id, const std::vector<standing>& found) {
  auto what = std::move(inquiries.at(id));
  inquiries.erase(id);
  std::vector<item> granted;
  uint64_t known = 0;
  for (size_t i = 0; i < what.items.size(); ++i) {
    auto& one = what.items[i];
    auto* owner = find(one.tenure);
    if (owner != nullptr && !owner->leaving && found[i].what == standing::state::granted &&
        !parked_before(*owner, one)) {
      granted.push_back(std::move(one));
      continue;
    }
    lanes.done(one);
    if (owner == nullptr || owner->leaving) {
      if (owner != nullptr)
        --owner->at_work;
      drop(one);
    } else if (auto first = parked_before(*owner, one)) { // one before it in this very work has just been parked
      --owner->at_work;
      park_behind(*first, std::move(one));
    } else if (found[i].what == standing::state::done) {
      ++known;
      end(one);
    } else {
      fail(one, try_later("the event " + event_id_of(one) + " is being processed at another place", busy_delay));
    }
  }
  counters->duplicates.add(known);
  counters->done.add(known);
  auto& slot = slots[what.slot];
  slot.asking = false;
  if (!slot.worker) // it is being restarted
    take_back(std::move(granted));
  else if (granted.empty())
    idle.push_back(what.slot);
  else
    send_work(what.slot, std::move(granted));
  go_on();
}

void processor_supervisor_state::not_answered(uint64_t id, const caf::error& error) {
  auto& what = inquiries.at(id);
  what.is_waiting = true;
  drop_leaving(what.items, true);
  log(log_level::warn, name, "the store was not asked what is done already, trying again",
      {{"processor", cfg.name}, {"tries", std::to_string(what.tries)}, {"cause", describe(error)}});
  self->delayed_send(self, backoff_delay<milliseconds>(first_repeat_delay, max_repeat_delay, what.tries, random),
                     atom::retry_v, id);
  go_on();
}

void processor_supervisor_state::remember(std::vector<item> done) {
  if (done.empty())
    return;
  auto all = std::make_shared<std::vector<settlement>>();
  for (const auto& one : done)
    all->push_back({scope(), event_id_of(one), place_of(one), true, {}, cfg.remember});
  auto id = next_id++;
  remembrances[id] = {std::move(done), std::move(all)};
  note(id);
}

void processor_supervisor_state::note(uint64_t id) {
  auto& what = remembrances.at(id);
  if (what.items.empty()) {
    remembrances.erase(id);
    return;
  }
  ++what.tries;
  what.is_waiting = false;
  self->request(claims->get(), store_timeout, what.what)
      .then([this, id](atom::done) { noted(id); }, [this, id](const caf::error& error) { not_noted(id, error); });
}

void processor_supervisor_state::noted(uint64_t id) {
  auto what = std::move(remembrances.at(id));
  remembrances.erase(id);
  for (const auto& one : what.items)
    if (is_ours(one)) {
      counters->done.add();
      end(one);
    }
  go_on();
}

void processor_supervisor_state::not_noted(uint64_t id, const caf::error& error) {
  auto& what = remembrances.at(id);
  what.is_waiting = true;
  // Who gets the partition asks the store himself, and does again what it does not know.
  drop_leaving(what.items, false);
  log(log_level::warn, name, "the store did not remember what is done, trying again",
      {{"processor", cfg.name}, {"tries", std::to_string(what.tries)}, {"cause", describe(error)}});
  self->delayed_send(self, backoff_delay<milliseconds>(first_repeat_delay, max_repeat_delay, what.tries, random),
                     atom::retry_v, id);
  go_on();
}

void processor_supervisor_state::drop_leaving(std::vector<item>& items, bool in_lanes) {
  std::erase_if(items, [this, in_lanes](const item& one) {
    auto* owner = find(one.tenure);
    if (owner != nullptr && !owner->leaving)
      return false;
    if (in_lanes)
      lanes.done(one);
    if (owner != nullptr)
      --owner->at_work;
    drop(one);
    return true;
  });
}

void processor_supervisor_state::forget(const item& what) {
  auto one = std::make_shared<std::vector<settlement>>();
  one->push_back({scope(), event_id_of(what), place_of(what), false, {}, cfg.remember});
  self->request(claims->get(), store_timeout, settlements_ptr{std::move(one)})
      .then([](atom::done) {},
            [this](const caf::error& error) { // its lease ends some time
              log(log_level::warn, name, "the store still holds the event of a dead letter, for a while",
                  {{"processor", cfg.name}, {"cause", describe(error)}});
            });
}

// -- parked keys ------------------------------------------------------------------------------------------------------

void processor_supervisor_state::park(tenure& owner, item what, time_point when) {
  auto id = what.parked;
  auto it = parked.find(id);
  if (it == parked.end()) {
    id = next_id++;
    it = parked.emplace(id, parked_key{}).first;
    it->second.first_failure_ms = unix_ms(now());
    // Of one key two can fail at a time where what the first one emitted is refused: it parks alone then.
    if (const auto& record = record_of(what); record.has_key && !owner.parked_keys.contains(std::string{record.key})) {
      it->second.key = std::string{record.key};
      owner.parked_keys[*it->second.key] = id;
    }
    what.parked = id;
    park_behind(id, std::move(what));
  } else {
    it->second.records.front().attempt = what.attempt;
  }
  it->second.due = when;
  it->second.is_waiting = true;
  due.insert({when, id});
  arm(when);
}

void processor_supervisor_state::park_behind(uint64_t id, item what) {
  if (!what.credited) {
    what.credited = true;
    ++owed;
    what.batch = std::make_shared<single_record>(*what.batch, what.index);
    what.index = 0;
  }
  auto& records = parked.at(id).records;
  // By place: what a worker left alone comes later than what has been read since.
  auto where = std::upper_bound(records.begin(), records.end(), what.number,
                                [](uint64_t number, const item& other) { return number < other.number; });
  records.insert(where, std::move(what));
  ++parked_records;
}

void processor_supervisor_state::release(uint64_t id) {
  auto it = parked.find(id);
  if (it == parked.end())
    return; // went with its partition
  auto one = std::move(it->second);
  parked.erase(it);
  auto& owner = tenures.at(one.records.front().tenure);
  if (one.key)
    owner.parked_keys.erase(*one.key);
  parked_records -= one.records.size();
  one.records.pop_front();
  for (auto& record : one.records)
    dispatch(owner, std::move(record));
}

void processor_supervisor_state::retry_due() {
  const auto at = now();
  while (!due.empty() && due.begin()->first <= at) {
    auto& one = parked.at(due.begin()->second);
    due.erase(due.begin());
    one.is_waiting = false;
    counters->retried.add();
    auto& first = one.records.front();
    dispatch(tenures.at(first.tenure), first);
  }
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
