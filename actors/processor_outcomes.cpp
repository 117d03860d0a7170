// What becomes of the records that the supervisor of a processor has: done, tried again, buried, remembered.
#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>

#include "crash.hpp"
#include "dead_letter.hpp"
#include "processor_supervisor.hpp"

namespace sluice {

namespace {

using std::chrono::milliseconds;
using namespace std::chrono_literals;

constexpr auto burial_timeout = 30min;
constexpr auto publish_timeout = 2min; // the producer answers within its delivery timeout
constexpr auto store_timeout = 10s;
constexpr auto busy_delay = 1s;   // until an event is claimed again that somebody else is at
constexpr auto lease_spare = 10s; // beyond the attempt and the wait for the next one
const std::string retry_header = "sluice-retry";
constexpr auto first_repeat_delay = 200ms;
constexpr auto max_repeat_delay = 10s;

/// Where a record comes from that was set aside, and what was before.
struct retry_note {
  std::string topic;
  int32_t partition = -1;
  int64_t offset = -1;
  int64_t timestamp_ms = -1;    ///< The copy has the time it was made: retention goes by it.
  int64_t due_ms = 0;           ///< Unix time.
  int64_t first_failure_ms = 0; ///< Unix time.
  uint32_t attempt = 1;         ///< The next one.

  /// "partition offset timestamp due first-failure attempt topic".
  std::string text() const {
    return std::to_string(partition) + " " + std::to_string(offset) + " " + std::to_string(timestamp_ms) + " " +
           std::to_string(due_ms) + " " + std::to_string(first_failure_ms) + " " + std::to_string(attempt) + " " +
           topic;
  }
  static std::optional<retry_note> read(std::string_view text) {
    retry_note note;
    auto take = [&text](auto& number) {
      auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
      if (error != std::errc{} || end == text.data() + text.size() || *end != ' ')
        return false;
      text.remove_prefix(static_cast<size_t>(end - text.data()) + 1);
      return true;
    };
    if (!take(note.partition) || !take(note.offset) || !take(note.timestamp_ms) || !take(note.due_ms) ||
        !take(note.first_failure_ms) || !take(note.attempt) || text.empty() || note.attempt == 0 || note.due_ms < 0)
      return std::nullopt;
    note.topic = text;
    return note;
  }
};

std::string place_in(const record_batch& batch, size_t index) {
  return batch.topic() + "/" + std::to_string(batch.partition()) + "/" + std::to_string(batch.records()[index].offset);
}

/// A parked record, copied: a batch with thousands of others must not wait with it.
class single_record : public record_batch {
public:
  /// As it was before it was set aside.
  single_record(const record_batch& from, size_t index, const retry_note& note, std::vector<record_header> headers)
      : single_record(from, index) {
    copied_from_ = place_in(from, index);
    topic_ = note.topic;
    partition_ = note.partition;
    view_.offset = note.offset;
    view_.timestamp_ms = note.timestamp_ms;
    headers_ = std::move(headers);
  }
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
  /// Of the copy that it was read from, where it was set aside; empty else.
  const std::string& copied_from() const noexcept { return copied_from_; }

private:
  std::string topic_;
  int32_t partition_;
  record_view view_;
  std::string key_, value_;
  std::vector<record_header> headers_;
  std::string copied_from_;
};

std::string event_id_of(const processor_work::item& what) {
  return event_id_of(what.batch->headers(what.index), what.record().value, what.batch->topic(), what.batch->partition(),
                     what.record().offset);
}

/// Who claims an event: a place in the log, so that the next member to have the partition has the claim at once. A copy
/// has its own: the original may be read again while the copy is processed.
std::string place_of(const processor_work::item& what) {
  const auto* copy = dynamic_cast<const single_record*>(what.batch.get());
  return copy != nullptr && !copy->copied_from().empty() ? copy->copied_from() : place_in(*what.batch, what.index);
}

/// Trouble that is over some time: the records are worth another try, the processor need not run again.
bool is_passing(ec code) {
  return code == ec::queue_full || code == ec::delivery_timeout || code == ec::kafka_unreachable ||
         code == ec::shutting_down;
}

} // namespace

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
    bury(what, error, what.attempt);
    return;
  }
  if (auto deadline = deadline_of(what.batch->headers(what.index)); deadline && *deadline <= next_ms) {
    bury(what,
         make_failure(ec::expired, "its deadline comes before its next attempt; the last one: " + describe(error)),
         what.attempt);
    return;
  }
  log(told ? log_level::debug : log_level::info, name, "an attempt failed, trying again",
      {{"processor", cfg.name},
       {"topic", owner.topic},
       {"partition", std::to_string(owner.partition)},
       {"offset", std::to_string(what.record().offset)},
       {"attempt", std::to_string(what.attempt)},
       {"delayMs", std::to_string(delay.count())},
       {"cause", describe(error)}});
  if (!told)
    ++what.attempt;
  if (cfg.set_aside.count() > 0 && delay >= cfg.set_aside) {
    set_aside(what, at + delay);
    return;
  }
  --owner.at_work;
  park(owner, std::move(what), at + delay);
}

void processor_supervisor_state::bury(const item& what, const caf::error& error, uint32_t attempts) {
  auto it = parked.find(what.parked);
  auto letter = std::make_shared<failed_record>(failed_record_of(*what.batch, what.index));
  letter->processor = cfg.name;
  letter->error = code_of(error) == ec::no_error ? ec::processor_failed : code_of(error);
  letter->reason = code_of(error) == ec::no_error ? describe(error) : text_of(error);
  letter->attempts = attempts;
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
  const auto aside = what.due;
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
      (aside ? counters->set_aside : counters->emitted).add();
    else
      source.error = make_failure(result.error, "what it emitted was not taken: " + result.reason);
    if (source.open > 0)
      continue;
    if (!is_ours(source.from))
      continue;
    if (aside && source.error) {
      log(log_level::error, name, "a record could not be set aside, it waits in memory",
          {{"processor", cfg.name}, {"topic", retries_topic}, {"cause", describe(source.error)}});
      auto& owner = tenures.at(source.from.tenure);
      --owner.at_work;
      if (owner.leaving)
        drop(source.from);
      else
        park(owner, source.from, *aside);
    } else if (aside) {
      if (asks_store())
        forget(source.from); // the copy claims it anew
      end(source.from);
    } else if (source.error) {
      fail(source.from, source.error);
    } else {
      done.push_back(source.from);
    }
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
              log(log_level::warn, name, "the store still holds an event that is given up or set aside, for a while",
                  {{"processor", cfg.name}, {"cause", describe(error)}});
            });
}

// -- set aside --------------------------------------------------------------------------------------------------------

void processor_supervisor_state::set_aside(const item& what, time_point when) {
  const auto& record = what.record();
  auto it = parked.find(what.parked);
  outgoing_record copy;
  copy.topic = retries_topic;
  if (record.has_key)
    copy.key = std::string{record.key};
  if (record.has_value)
    copy.value = std::string{record.value};
  copy.headers = what.batch->headers(what.index);
  std::erase_if(copy.headers, [](const auto& one) { return one.name == retry_header; }); // somebody else's
  const retry_note note{what.batch->topic(), what.batch->partition(),
                        record.offset,       record.timestamp_ms,
                        unix_ms(when),       it == parked.end() ? unix_ms(now()) : it->second.first_failure_ms,
                        what.attempt};
  copy.headers.push_back({retry_header, note.text()});
  publication one;
  one.records = std::make_shared<const std::vector<outgoing_record>>(1, std::move(copy));
  one.source_of = {0};
  one.sources.push_back({what, 1, {}});
  one.due = when;
  auto id = next_id++;
  publications[id] = std::move(one);
  publish(id);
}

bool processor_supervisor_state::take_up(tenure& owner, const item& what) {
  auto headers = what.batch->headers(what.index);
  const auto* text = find_header(headers, retry_header);
  auto note = text == nullptr ? std::nullopt : retry_note::read(*text);
  if (!note) {
    log(log_level::warn, name, "a record among those set aside does not say where it comes from",
        {{"processor", cfg.name}, {"topic", retries_topic}, {"offset", std::to_string(what.record().offset)}});
    return false;
  }
  std::erase_if(headers, [](const auto& one) { return one.name == retry_header; });
  auto one = what;
  one.batch = std::make_shared<single_record>(*what.batch, what.index, *note, std::move(headers));
  one.index = 0;
  one.attempt = note->attempt;
  one.credited = true;
  ++owed;
  // Alone, not with its key: that has gone on.
  const auto wait = std::clamp(milliseconds{note->due_ms - unix_ms(now())}, 0ms, cfg.retry_budget);
  auto id = next_id++;
  auto& place = parked.emplace(id, parked_key{}).first->second;
  place.first_failure_ms = note->first_failure_ms;
  one.parked = id;
  park_behind(id, std::move(one));
  park(owner, parked.at(id).records.front(), now() + wait);
  return true;
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
    if (const auto& record = what.record(); record.has_key && !owner.parked_keys.contains(std::string{record.key})) {
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

} // namespace sluice
