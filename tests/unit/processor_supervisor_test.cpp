// Processors under supervision, in virtual time.
#define CAF_SUITE processor_supervisor

#include "processor_supervisor.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <stdexcept>
#include <utility>

#include "fixture.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

/// Records with keys and headers; a key of "" is none.
class keyed_batch : public record_batch {
public:
  struct entry {
    std::string key, value;
    std::vector<record_header> headers{};
  };
  keyed_batch(int32_t partition, int64_t first, std::vector<entry> entries)
      : partition_(partition), entries_(std::move(entries)) {
    for (const auto& one : entries_) {
      record_view view;
      view.key = one.key;
      view.value = one.value;
      view.has_key = !one.key.empty();
      view.has_value = true;
      view.offset = first++;
      view.timestamp_ms = 1000;
      views_.push_back(view);
    }
  }
  const std::string& topic() const noexcept override { return topic_; }
  int32_t partition() const noexcept override { return partition_; }
  std::span<const record_view> records() const noexcept override { return views_; }
  std::vector<record_header> headers(size_t index) const override { return entries_[index].headers; }

private:
  std::string topic_ = "orders";
  int32_t partition_;
  std::vector<entry> entries_;
  std::vector<record_view> views_;
};
using entry = keyed_batch::entry;

batch_ptr keyed(int64_t first, std::vector<entry> entries, int32_t partition = 0) {
  return std::make_shared<keyed_batch>(partition, first, std::move(entries));
}

/// A record of the event `id`.
entry of_event(const std::string& id, const std::string& key, const std::string& value) {
  return {key, value, {{"sluice-event-id", id}}};
}

struct consumer_state {
  uint32_t credit = 0;
  partition_list committed; ///< The last commit of each.
  partition_list before;    ///< What `restore` answers.
  size_t commits = 0;
};
using steered_consumer = kafka_consumer_actor::extend<caf::reacts_to<partition_list>>;
steered_consumer::behavior_type consumer_fake(steered_consumer::stateful_pointer<consumer_state> self) {
  return {
      [self](atom::credit, uint32_t n) { self->state.credit += n; },
      [self](atom::commit, const partition_list& next) {
        ++self->state.commits;
        for (const auto& one : next) {
          std::erase_if(self->state.committed, [&](const auto& x) { return x.partition == one.partition; });
          self->state.committed.push_back(one);
        }
      },
      [self](atom::restore, const partition_list& asked) {
        return self->state.before.empty() ? asked : self->state.before;
      },
      [](atom::drain) { return atom::done_v; },
      [](atom::wake) {},
      [](atom::tick) {},
      [](const partition_list&) {}, // the answer to `assigned`
  };
}

/// Answers at once, or, on `hold`, only when told to; `error` is the next answer's.
struct producer_state {
  std::vector<outgoing_ptr> seen;
  std::vector<caf::typed_response_promise<deliveries>> waiting;
  bool hold = false;
  ec error = ec::no_error;
};
using steered_producer = kafka_producer_actor::extend<caf::reacts_to<atom::retry, uint64_t>>;
deliveries outcomes(const outgoing_ptr& of, ec error) {
  auto all = std::make_shared<std::vector<delivery>>(of->size());
  for (auto& one : *all)
    one.error = error;
  return all;
}
steered_producer::behavior_type producer_fake(steered_producer::stateful_pointer<producer_state> self) {
  return {
      [self](const outgoing_ptr& records) -> caf::result<deliveries> {
        auto& st = self->state;
        st.seen.push_back(records);
        if (!st.hold)
          return outcomes(records, std::exchange(st.error, ec::no_error));
        st.waiting.push_back(self->make_response_promise<deliveries>());
        return st.waiting.back();
      },
      [](const publications&) {},
      [](atom::drain) { return atom::done_v; },
      [](atom::wake) {},
      [](atom::tick) {},
      [self](atom::retry, uint64_t index) {
        auto& st = self->state;
        st.waiting.at(index).deliver(outcomes(st.seen.at(index), std::exchange(st.error, ec::no_error)));
      },
  };
}

struct letters_state {
  std::vector<failed_ptr> seen;
};
dead_letter_actor::behavior_type letters_fake(dead_letter_actor::stateful_pointer<letters_state> self) {
  return {
      [self](const failed_ptr& failed) -> caf::result<atom::done> {
        self->state.seen.push_back(failed);
        return atom::done_v;
      },
      [](atom::retry, uint64_t) {},
  };
}

/// A store that knows by scope and id who is at an event, or has done it.
struct claims_state {
  struct entry {
    std::string owner;
    bool done = false;
  };
  std::map<std::string, entry> known;
  bool away = false;
};
idempotency_actor::behavior_type claims_fake(idempotency_actor::stateful_pointer<claims_state> self) {
  const auto gone = make_failure(ec::store_unavailable, "gone");
  return {
      [self, gone](const claims_ptr& all) -> caf::result<standings_ptr> {
        auto& st = self->state;
        if (st.away)
          return gone;
        auto found = std::make_shared<std::vector<standing>>();
        for (const auto& one : *all) {
          auto& known =
              st.known.try_emplace(one.scope + ":" + one.id, claims_state::entry{one.owner, false}).first->second;
          standing answer;
          answer.what = known.done                 ? standing::state::done
                        : known.owner != one.owner ? standing::state::busy
                                                   : standing::state::granted;
          found->push_back(answer);
        }
        return standings_ptr{found};
      },
      [self, gone](const settlements_ptr& all) -> caf::result<atom::done> {
        auto& st = self->state;
        if (st.away)
          return gone;
        for (const auto& one : *all)
          if (auto it = st.known.find(one.scope + ":" + one.id);
              it != st.known.end() && it->second.owner == one.owner) {
            if (one.done)
              it->second.done = true;
            else
              st.known.erase(it);
          }
        return atom::done_v;
      },
      [](atom::commit) {},
      [](atom::tick) {},
  };
}

struct fixture : actor_fixture {
  config whole;
  processor_config cfg;
  processor_stats numbers;
  steered_consumer consumer;
  steered_producer producer;
  std::shared_ptr<role<kafka_producer_actor>> producer_role = std::make_shared<role<kafka_producer_actor>>();
  std::shared_ptr<role<dead_letter_actor>> letters = std::make_shared<role<dead_letter_actor>>();
  std::shared_ptr<role<idempotency_actor>> claims = std::make_shared<role<idempotency_actor>>();
  processor_supervisor_actor sut;
  partition_list before;
  bool keys_stay = false;
  std::vector<std::string> trace; ///< "value" of each attempt, in the order they were made.

  fixture() {
    cfg.name = "test";
    cfg.topics = {"orders"};
    cfg.concurrency = 2;
    cfg.in_flight_records = 4;
  }
  /// A function that notes each attempt and then does `what`.
  processor noting(processor_function what = [](const record&, context&) { return caf::error{}; }) {
    return make_processor([this, what = std::move(what)](const record& in, context& out) {
      trace.push_back(in.value);
      return what(in, out);
    });
  }
  void start(processor what) {
    consumer = keep(sys.spawn(consumer_fake));
    consume_messages(); // it has its state now
    deref<stateful<steered_consumer, consumer_state>>(consumer).state.before = before;
    producer = keep(sys.spawn(producer_fake));
    producer_role->set(producer);
    letters->set(keep(sys.spawn(letters_fake)));
    claims->set(keep(sys.spawn(claims_fake)));
    auto make = [this, what = std::move(what)](const processor_supervisor_actor& whose) {
      return keep(sys.spawn(processor_worker, std::string{"test"}, what, whose));
    };
    sut = keep(sys.spawn(processor_supervisor, effective(whole, cfg, {}), worker_maker{make}, keys_stay, producer_role,
                         letters, claims, &numbers));
    consume_messages();
    assign({{"orders", 0}});
  }
  void assign(partition_list what) {
    caf::send_as(caf::actor_cast<caf::actor>(consumer), sut, atom::assigned_v, std::move(what));
    consume_messages();
  }
  void feed(batch_ptr what) {
    caf::send_as(caf::actor_cast<caf::actor>(consumer), sut, std::move(what));
    consume_messages();
  }
  consumer_state& reader() { return deref<stateful<steered_consumer, consumer_state>>(consumer).state; }
  producer_state& published() { return deref<stateful<steered_producer, producer_state>>(producer).state; }
  std::vector<failed_ptr>& buried() {
    return deref<stateful<dead_letter_actor, letters_state>>(letters->get()).state.seen;
  }
  claims_state& store() { return deref<stateful<idempotency_actor, claims_state>>(claims->get()).state; }
  processor_supervisor_state& inner() {
    return deref<stateful<processor_supervisor_actor, processor_supervisor_state>>(sut).state;
  }
  int64_t committed(int32_t partition = 0) {
    for (const auto& one : reader().committed)
      if (one.partition == partition)
        return one.offset;
    return -1;
  }
  void check_sum() {
    CAF_CHECK_EQUAL(numbers.in.get(), numbers.done.get() + numbers.dead_lettered.get() + numbers.returned.get() +
                                          numbers.in_flight.get());
  }
  std::vector<std::string> attempts_of(const std::string& prefix) {
    std::vector<std::string> found;
    std::copy_if(trace.begin(), trace.end(), std::back_inserter(found),
                 [&](const auto& one) { return one.starts_with(prefix); });
    return found;
  }
};

using texts = std::vector<std::string>;

caf::error failing_once(const std::string& wanted, const record& in, const context& out) {
  return in.value == wanted && out.attempt() == 1 ? make_failure(ec::processor_failed, "not yet") : caf::error{};
}

} // namespace

CAF_TEST_FIXTURE_SCOPE(processor_supervisor_tests, fixture)

CAF_TEST(what is done is committed) {
  start(noting());
  feed(keyed(0, {{"a", "a1"}, {"b", "b1"}, {"", "none"}}));
  CAF_CHECK_EQUAL(trace.size(), 3u);
  pass(300ms);
  CAF_CHECK_EQUAL(committed(), 3);
  CAF_CHECK_EQUAL(numbers.done.get(), 3u);
  CAF_CHECK_EQUAL(numbers.in_flight.get(), 0u);
  check_sum();
}

CAF_TEST(each key is processed in order by many workers) {
  cfg.concurrency = 7;
  cfg.in_flight_records = 10000;
  start(noting());
  std::vector<entry> all;
  for (int i = 0; i < 300; ++i) {
    auto key = std::to_string(i % 13);
    all.push_back({key, key + "/" + std::to_string(1000 + i)});
  }
  feed(keyed(0, {all.begin(), all.begin() + 150}));
  feed(keyed(150, {all.begin() + 150, all.end()}));
  CAF_CHECK_EQUAL(trace.size(), 300u);
  for (int key = 0; key < 13; ++key) {
    auto seen = attempts_of(std::to_string(key) + "/");
    CAF_CHECK(std::is_sorted(seen.begin(), seen.end()));
  }
}

CAF_TEST(a failing key parks alone and in order while others flow) {
  start(noting([](const record& in, context& out) { return failing_once("a1", in, out); }));
  feed(keyed(0, {{"a", "a1"}, {"b", "b1"}, {"a", "a2"}, {"b", "b2"}}));
  feed(keyed(4, {{"a", "a3"}, {"b", "b3"}}));
  CAF_CHECK_EQUAL(attempts_of("b"), (texts{"b1", "b2", "b3"}));
  CAF_CHECK_EQUAL(attempts_of("a"), (texts{"a1"}));
  CAF_CHECK_EQUAL(numbers.parked_keys.get(), 1u);
  CAF_CHECK_EQUAL(numbers.parked_records.get(), 3u);
  pass(200ms);
  CAF_CHECK_EQUAL(attempts_of("a"), (texts{"a1"})); // 300 ms, less 20 % at most
  pass(200ms);
  CAF_CHECK_EQUAL(attempts_of("a"), (texts{"a1", "a1", "a2", "a3"}));
  CAF_CHECK_EQUAL(numbers.parked_keys.get(), 0u);
  CAF_CHECK_EQUAL(numbers.parked_records.get(), 0u);
  CAF_CHECK_EQUAL(numbers.retried.get(), 1u);
  pass(300ms);
  CAF_CHECK_EQUAL(committed(), 6);
  check_sum();
}

CAF_TEST(records without a key do not wait for one another) {
  start(noting([](const record& in, context& out) { return failing_once("1", in, out); }));
  feed(keyed(0, {{"", "1"}, {"", "2"}, {"", "3"}}));
  CAF_CHECK_EQUAL(trace, (texts{"1", "2", "3"}));
  pass(500ms);
  CAF_CHECK_EQUAL(trace, (texts{"1", "2", "3", "1"}));
}

CAF_TEST(the commit stays before the first unfinished record and remembers what lies beyond) {
  start(noting([](const record& in, context&) {
    return in.value == "bad" ? make_failure(ec::processor_failed, "never") : caf::error{};
  }));
  feed(keyed(10, {{"a", "ok"}, {"b", "bad"}, {"c", "ok"}, {"d", "ok"}}));
  pass(250ms);
  CAF_REQUIRE_EQUAL(committed(), 11);
  offset_ledger next;
  next.restore(11, reader().committed.front().metadata);
  CAF_CHECK(!next.was_finished(11));
  CAF_CHECK(next.was_finished(12));
  CAF_CHECK(next.was_finished(13));
  CAF_CHECK(!next.was_finished(14));
}

CAF_TEST(what an earlier owner finished is not processed again) {
  offset_ledger former;
  std::vector<uint64_t> numbers_of;
  for (int64_t offset = 11; offset < 16; ++offset)
    numbers_of.push_back(former.begin(offset));
  former.finish(numbers_of[1]);
  former.finish(numbers_of[3]);
  before = {{"orders", 0, former.next(), former.metadata()}};
  start(noting());
  feed(keyed(11, {{"a", "11"}, {"a", "12"}, {"a", "13"}, {"a", "14"}, {"a", "15"}}));
  CAF_CHECK_EQUAL(trace, (texts{"11", "13", "15"}));
  CAF_CHECK_EQUAL(numbers.skipped.get(), 2u);
  pass(300ms);
  CAF_CHECK_EQUAL(committed(), 16);
  check_sum();
}

CAF_TEST(after all attempts a record becomes a dead letter that says all) {
  cfg.max_attempts = 3;
  start(noting([](const record& in, context&) {
    return in.value == "a1" ? make_failure(ec::kafka_unreachable, "no luck") : caf::error{};
  }));
  feed(keyed(5, {{"a", "a1", {{"x", "y"}}}, {"a", "a2"}}));
  pass(3s);
  CAF_CHECK_EQUAL(trace, (texts{"a1", "a1", "a1", "a2"}));
  CAF_REQUIRE_EQUAL(buried().size(), 1u);
  const auto& letter = *buried().front();
  CAF_CHECK_EQUAL(letter.topic, "orders");
  CAF_CHECK_EQUAL(letter.offset, 5);
  CAF_CHECK_EQUAL(letter.attempts, 3u);
  CAF_CHECK_EQUAL(letter.error, ec::kafka_unreachable);
  CAF_CHECK_EQUAL(letter.reason, "no luck");
  CAF_CHECK_EQUAL(letter.processor, "test");
  CAF_CHECK(letter.key == "a" && letter.value == "a1");
  CAF_CHECK_EQUAL(letter.headers.size(), 1u);
  CAF_CHECK_EQUAL(letter.timestamp_ms, 1000);
  CAF_CHECK_GREATER(letter.last_failure_ms, letter.first_failure_ms + 600); // 300 and 600 ms, less 20 %
  CAF_CHECK_EQUAL(committed(), 7);
  CAF_CHECK_EQUAL(numbers.dead_lettered.get(), 1u);
  check_sum();
}

CAF_TEST(an error that cannot be mended is not tried again) {
  start(noting([](const record&, context&) { return make_failure(ec::rejected, "no"); }));
  feed(keyed(0, {{"a", "a1"}, {"a", "a2"}}));
  pass(5s);
  CAF_CHECK_EQUAL(trace, (texts{"a1", "a2"}));
  CAF_CHECK_EQUAL(buried().size(), 2u);
}

CAF_TEST(an exception is a failed attempt with its text) {
  cfg.max_attempts = 1;
  start(make_processor([](const record&, context&) { throw std::runtime_error("oh dear"); }));
  feed(keyed(0, {{"a", "a1"}}));
  CAF_REQUIRE_EQUAL(buried().size(), 1u);
  CAF_CHECK_EQUAL(buried().front()->error, ec::processor_failed);
  CAF_CHECK_EQUAL(buried().front()->reason, "oh dear");
}

CAF_TEST(the budget ends the retries before the attempts are used up) {
  cfg.max_attempts = 100;
  cfg.retry_budget = 1600ms;
  start(noting([](const record&, context&) { return make_failure(ec::processor_failed, "no"); }));
  feed(keyed(0, {{"a", "a1"}}));
  pass(10s);
  CAF_CHECK_EQUAL(trace.size(), 3u); // at 0, 0.3 and 0.9 s; the next would be at 2.1 s, 1.68 s at the earliest
  CAF_CHECK_EQUAL(buried().size(), 1u);
}

CAF_TEST(waits are spread by a fifth so that keys do not come back together) {
  cfg.max_attempts = 2;
  cfg.retry_initial = 1s;
  start(noting([](const record&, context&) { return make_failure(ec::processor_failed, "no"); }));
  std::vector<entry> all;
  for (int i = 0; i < 50; ++i)
    all.push_back({"k" + std::to_string(i), "v" + std::to_string(i)});
  feed(keyed(0, all));
  CAF_CHECK_EQUAL(trace.size(), 50u);
  pass(750ms);
  CAF_CHECK_EQUAL(trace.size(), 50u);
  pass(250ms);
  CAF_CHECK(trace.size() > 50 && trace.size() < 100);
  pass(300ms);
  CAF_CHECK_EQUAL(trace.size(), 100u);
}

CAF_TEST(waits grow by the multiplier up to their bound) {
  cfg.max_attempts = 6;
  cfg.retry_initial = 100ms;
  cfg.retry_multiplier = 10;
  cfg.retry_max = 2s;
  start(noting([](const record&, context&) { return make_failure(ec::processor_failed, "no"); }));
  feed(keyed(0, {{"a", "a1"}}));
  pass(150ms);
  CAF_CHECK_EQUAL(trace.size(), 2u);
  pass(500ms);
  CAF_CHECK_EQUAL(trace.size(), 2u);
  pass(800ms);
  CAF_CHECK_EQUAL(trace.size(), 3u);
  pass(10s); // three more of 2 s
  CAF_CHECK_EQUAL(trace.size(), 6u);
  CAF_CHECK_EQUAL(buried().size(), 1u);
}

CAF_TEST(a processor that says when to come back is asked then and no attempt is counted) {
  cfg.max_attempts = 2;
  cfg.retry_budget = 60s;
  uint32_t last_attempt = 0;
  start(noting([&](const record& in, context& out) {
    last_attempt = out.attempt();
    return in.value == "a1" && trace.size() < 6 ? try_later("full", 5s) : caf::error{};
  }));
  feed(keyed(0, {{"a", "a1"}, {"a", "a2"}, {"b", "b1"}}));
  CAF_CHECK_EQUAL(trace, (texts{"a1", "b1"})); // its key waits, the other does not
  pass(4s);
  CAF_CHECK_EQUAL(trace.size(), 2u);
  pass(2s);
  CAF_CHECK_EQUAL(trace.size(), 3u);
  pass(30s);
  CAF_CHECK_EQUAL(trace, (texts{"a1", "b1", "a1", "a1", "a1", "a1", "a2"}));
  CAF_CHECK_EQUAL(last_attempt, 1u);
  CAF_CHECK(buried().empty());
  check_sum();
}

CAF_TEST(the budget bounds how long a processor may say to come back) {
  cfg.retry_budget = 12s;
  start(noting([](const record&, context&) { return try_later("full", 5s); }));
  feed(keyed(0, {{"a", "a1"}}));
  pass(1min);
  CAF_CHECK_EQUAL(trace.size(), 3u); // at 0, 5 and 10 s
  CAF_REQUIRE_EQUAL(buried().size(), 1u);
  CAF_CHECK_EQUAL(buried().front()->error, ec::rate_limited);
  CAF_CHECK_EQUAL(buried().front()->reason, "full");
  check_sum();
}

CAF_TEST(a record past its deadline is not processed but buried and counted) {
  start(noting());
  feed(keyed(0,
             {{"a", "late", {{"sluice-deadline", "1000"}}}, {"a", "timely", {{"sluice-deadline", "9999999999999"}}}}));
  CAF_CHECK_EQUAL(trace, (texts{"timely"}));
  CAF_REQUIRE_EQUAL(buried().size(), 1u);
  CAF_CHECK_EQUAL(buried().front()->error, ec::expired);
  CAF_CHECK_EQUAL(buried().front()->attempts, 0u);
  CAF_CHECK_EQUAL(numbers.expired.get(), 1u);
  check_sum();
}

CAF_TEST(a retry that would come after the deadline is not waited for) {
  start(noting([](const record&, context&) { return make_failure(ec::processor_failed, "no"); }));
  auto soon = inner().unix_ms(inner().now()) + 100;
  feed(keyed(0, {{"a", "a1", {{"sluice-deadline", std::to_string(soon)}}}}));
  CAF_CHECK_EQUAL(trace.size(), 1u);
  CAF_REQUIRE_EQUAL(buried().size(), 1u);
  CAF_CHECK_EQUAL(buried().front()->error, ec::expired);
  CAF_CHECK_EQUAL(buried().front()->attempts, 1u);
}

CAF_TEST(an input is done once the broker has what it emitted) {
  start(noting([](const record& in, context& out) {
    out.emit({.topic = "out", .key = in.key, .value = in.value + "!"});
    return caf::error{};
  }));
  published().hold = true;
  feed(keyed(0, {{"a", "a1", {{"traceparent", "00-1"}, {"sluice-event-id", "e1"}}}}));
  pass(500ms);
  CAF_REQUIRE_EQUAL(published().seen.size(), 1u);
  const auto& sent = published().seen[0]->front();
  CAF_CHECK(sent.value == "a1!");
  CAF_REQUIRE(find_header(sent.headers, "traceparent") != nullptr);
  CAF_REQUIRE(find_header(sent.headers, "sluice-event-id") != nullptr);
  CAF_CHECK_EQUAL(*find_header(sent.headers, "sluice-event-id"), "e1/1");
  CAF_CHECK_EQUAL(numbers.done.get(), 0u);
  CAF_CHECK_EQUAL(committed(), -1);
  self->send(producer, atom::retry_v, uint64_t{0});
  pass(500ms);
  CAF_CHECK_EQUAL(numbers.done.get(), 1u);
  CAF_CHECK_EQUAL(committed(), 1);
}

CAF_TEST(nothing of a failed attempt is published) {
  start(noting([](const record& in, context& out) {
    out.emit({.topic = "out", .key = in.key, .value = std::to_string(out.attempt())});
    return failing_once("a1", in, out);
  }));
  feed(keyed(0, {{"a", "a1"}}));
  CAF_CHECK(published().seen.empty());
  pass(500ms);
  CAF_REQUIRE_EQUAL(published().seen.size(), 1u);
  CAF_CHECK(published().seen[0]->front().value == "2");
}

CAF_TEST(emitted records that Kafka does not take for the moment are sent again without another attempt) {
  start(noting([](const record&, context& out) {
    out.emit({.topic = "out", .value = "x"});
    return caf::error{};
  }));
  published().error = ec::queue_full;
  feed(keyed(0, {{"a", "a1"}}));
  CAF_CHECK_EQUAL(numbers.done.get(), 0u);
  pass(500ms);
  CAF_CHECK_EQUAL(published().seen.size(), 2u);
  CAF_CHECK_EQUAL(trace.size(), 1u);
  CAF_CHECK_EQUAL(numbers.done.get(), 1u);
}

CAF_TEST(emitting to a topic that is not there fails the attempt) {
  cfg.max_attempts = 1;
  start(noting([](const record&, context& out) {
    out.emit({.topic = "missing", .value = "x"});
    return caf::error{};
  }));
  published().error = ec::unknown_topic;
  feed(keyed(0, {{"a", "a1"}}));
  CAF_REQUIRE_EQUAL(buried().size(), 1u);
  CAF_CHECK_EQUAL(buried().front()->error, ec::unknown_topic);
  check_sum();
}

CAF_TEST(too many emitted records fail the attempt) {
  cfg.max_attempts = 1;
  start(noting([](const record&, context& out) {
    for (size_t i = 0; i <= context::max_emitted; ++i)
      out.emit({.topic = "out", .value = "x"});
    return caf::error{};
  }));
  feed(keyed(0, {{"a", "a1"}}));
  CAF_CHECK(published().seen.empty());
  CAF_REQUIRE_EQUAL(buried().size(), 1u);
}

CAF_TEST_FIXTURE_SCOPE_END()

// -- actors -----------------------------------------------------------------------------------------------------------

namespace {

/// An actor that does not answer to "hang", ends at "crash", and is content with all else.
struct moody_state {
  std::vector<caf::typed_response_promise<atom::done>> kept;
  std::vector<context_ptr> hanging;
};
processor_actor::behavior_type moody(processor_actor::stateful_pointer<moody_state> self, texts* trace,
                                     std::vector<context_ptr>* hanging) {
  return {[self, trace, hanging](const context_ptr& job) -> caf::result<atom::done> {
    trace->push_back(job->input().value);
    if (job->input().value == "throw")
      throw std::runtime_error("thrown");
    if (job->input().value == "crash") {
      self->quit(make_failure(ec::processor_failed, "crashed"));
      return self->make_response_promise<atom::done>(); // which nobody will deliver
    }
    if (job->input().value == "hang") {
      self->state.kept.push_back(self->make_response_promise<atom::done>());
      hanging->push_back(job);
      return self->state.kept.back();
    }
    return atom::done_v;
  }};
}

struct actor_processor_fixture : fixture {
  std::vector<context_ptr> hanging;
  processor moody_processor() {
    return make_processor([this](caf::actor_system& system) { return keep(system.spawn(moody, &trace, &hanging)); });
  }
};

} // namespace

CAF_TEST_FIXTURE_SCOPE(actor_processor_tests, actor_processor_fixture)

CAF_TEST(an actor processes one record after the other) {
  start(moody_processor());
  feed(keyed(0, {{"a", "1"}, {"a", "2"}, {"a", "3"}}));
  CAF_CHECK_EQUAL(trace, (texts{"1", "2", "3"}));
  CAF_CHECK_EQUAL(numbers.done.get(), 3u);
}

CAF_TEST(an attempt that hangs is given up and cancelled and the rest goes on) {
  cfg.timeout = 1s;
  cfg.max_attempts = 2;
  cfg.concurrency = 1;
  start(moody_processor());
  feed(keyed(0, {{"a", "hang"}, {"b", "b1"}}));
  CAF_CHECK_EQUAL(trace, (texts{"hang"}));
  pass(900ms);
  CAF_REQUIRE_EQUAL(hanging.size(), 1u);
  CAF_CHECK(!hanging[0]->cancelled());
  CAF_CHECK_EQUAL(numbers.timeouts.get(), 0u);
  pass(400ms);
  CAF_CHECK(hanging[0]->cancelled());
  CAF_CHECK_EQUAL(numbers.timeouts.get(), 1u);
  CAF_CHECK_EQUAL(trace, (texts{"hang", "b1"}));
  pass(5s);
  CAF_CHECK_EQUAL(trace, (texts{"hang", "b1", "hang"}));
  CAF_REQUIRE_EQUAL(buried().size(), 1u);
  CAF_CHECK_EQUAL(buried().front()->error, ec::attempt_timeout);
  CAF_CHECK_EQUAL(committed(), 2);
  check_sum();
}

CAF_TEST(a key stays with its actor where it is to) {
  cfg.concurrency = 4;
  cfg.in_flight_records = 1000;
  keys_stay = true;
  std::map<std::string, std::set<caf::actor_id>> seen;
  start(make_processor([&](caf::actor_system& system) {
    return keep(system.spawn([&seen](processor_actor::pointer self) -> processor_actor::behavior_type {
      return {[self, &seen](const context_ptr& job) {
        seen[job->input().key].insert(self->id());
        return atom::done_v;
      }};
    }));
  }));
  std::set<caf::actor_id> all;
  for (int64_t first = 0; first < 300; first += 30) {
    std::vector<entry> entries;
    for (int64_t i = 0; i < 30; ++i)
      entries.push_back({std::to_string((first + i * i) % 40), "x"});
    feed(keyed(first, std::move(entries)));
  }
  CAF_CHECK_EQUAL(numbers.done.get(), 300u);
  for (const auto& [key, actors] : seen) {
    CAF_CHECK_EQUAL(actors.size(), 1u);
    all.insert(actors.begin(), actors.end());
  }
  CAF_CHECK_EQUAL(all.size(), 4u);
}

CAF_TEST(a slow record holds up its own key only) {
  start(moody_processor());
  feed(keyed(0, {{"a", "hang"}, {"b", "b1"}, {"a", "a2"}, {"c", "c1"}, {"d", "d1"}, {"", "e1"}}));
  pass(500ms);
  feed(keyed(6, {{"b", "b2"}, {"c", "c2"}, {"a", "a3"}}));
  CAF_CHECK_EQUAL(attempts_of("b"), (texts{"b1", "b2"}));
  CAF_CHECK_EQUAL(attempts_of("c"), (texts{"c1", "c2"}));
  CAF_CHECK_EQUAL(attempts_of("d"), (texts{"d1"}));
  CAF_CHECK_EQUAL(attempts_of("e"), (texts{"e1"}));
  CAF_CHECK(attempts_of("a").empty());
  CAF_CHECK_EQUAL(numbers.timeouts.get(), 0u);
  CAF_CHECK_EQUAL(numbers.in_flight.get(), 3u);
  check_sum();
}

CAF_TEST(a worker that crashes is started again and its record is tried again) {
  cfg.max_attempts = 3;
  start(moody_processor());
  feed(keyed(0, {{"a", "a1"}, {"a", "crash"}, {"a", "a2"}}));
  pass(5s);
  CAF_CHECK_EQUAL(trace, (texts{"a1", "crash", "crash", "crash", "a2"}));
  CAF_CHECK_EQUAL(numbers.restarts.get(), 3u);
  CAF_REQUIRE_EQUAL(buried().size(), 1u);
  CAF_CHECK_EQUAL(buried().front()->error, ec::processor_failed);
  CAF_CHECK_EQUAL(committed(), 3);
  check_sum();
}

CAF_TEST(a record that ends its processor takes no other with it) {
  for (const auto* value : {"throw", "crash"}) {
    cfg.max_attempts = 1;
    cfg.concurrency = 1; // so that they share a work
    auto before = numbers.done.get();
    start(moody_processor());
    feed(keyed(0, {{"a", value}, {"b", "b1"}, {"c", "c1"}}));
    pass(5s);
    CAF_REQUIRE_EQUAL(buried().size(), 1u);
    CAF_CHECK_EQUAL(buried().front()->value.value_or(""), value);
    CAF_CHECK_EQUAL(numbers.done.get(), before + 2);
    CAF_CHECK_EQUAL(committed(), 3);
    check_sum();
  }
}

CAF_TEST(too many crashes end the supervisor with their cause) {
  cfg.max_restarts = 2;
  cfg.max_attempts = 100;
  start(moody_processor());
  self->monitor(sut);
  feed(keyed(0, {{"a", "crash"}}));
  pass(10s);
  self->receive([](const caf::down_msg& down) { CAF_CHECK_EQUAL(code_of(down.reason), ec::processor_failed); });
  CAF_CHECK_EQUAL(numbers.restarts.get(), 2u);
  check_sum();
}

CAF_TEST(a revoked partition is answered once nothing of it is at work) {
  start(moody_processor());
  feed(keyed(0, {{"a", "a1"}, {"a", "hang"}, {"a", "a2"}}));
  CAF_CHECK_EQUAL(trace, (texts{"a1", "hang"}));
  bool answered = false;
  auto asked = self->request(sut, caf::infinite, atom::revoked_v, partition_list{{"orders", 0}}, false);
  consume_messages();
  CAF_CHECK(hanging[0]->cancelled());
  CAF_CHECK(inner().tenures.size() == 1);
  pass(40s); // its timeout
  asked.receive([&](atom::done) { answered = true; }, [&](caf::error& err) { CAF_FAIL(describe(err)); });
  CAF_CHECK(answered);
  CAF_CHECK_EQUAL(committed(), 1);
  CAF_CHECK_EQUAL(numbers.returned.get(), 2u);
  CAF_CHECK_EQUAL(numbers.in_flight.get(), 0u);
  check_sum();
}

CAF_TEST_FIXTURE_SCOPE_END()
CAF_TEST_FIXTURE_SCOPE(processor_bounds_tests, fixture)

CAF_TEST(a partition with parked keys is handed over with its commit and without its retries) {
  start(noting([](const record& in, context&) {
    return in.value == "bad" ? make_failure(ec::processor_failed, "no") : caf::error{};
  }));
  assign({{"orders", 1}});
  feed(keyed(0, {{"a", "bad"}, {"b", "b1"}, {"a", "a2"}}));
  feed(keyed(0, {{"a", "bad"}}, 1));
  auto asked = self->request(sut, caf::infinite, atom::revoked_v, partition_list{{"orders", 0}}, false);
  consume_messages();
  asked.receive([](atom::done) {}, [&](caf::error& err) { CAF_FAIL(describe(err)); });
  CAF_CHECK_EQUAL(committed(0), 0);
  offset_ledger next;
  next.restore(0, reader().committed.front().metadata);
  CAF_CHECK(!next.was_finished(0));
  CAF_CHECK(next.was_finished(1));
  CAF_CHECK(!next.was_finished(2));
  CAF_CHECK_EQUAL(numbers.parked_keys.get(), 1u);
  CAF_CHECK_EQUAL(numbers.returned.get(), 2u);
  trace.clear();
  pass(500ms);
  CAF_CHECK_EQUAL(trace, (texts{"bad"})); // the other partition's
  check_sum();
}

CAF_TEST(a lost partition is neither committed nor waited for) {
  start(noting());
  feed(keyed(0, {{"a", "a1"}}));
  auto asked = self->request(sut, caf::infinite, atom::revoked_v, partition_list{{"orders", 0}}, true);
  consume_messages();
  asked.receive([](atom::done) {}, [&](caf::error& err) { CAF_FAIL(describe(err)); });
  pass(1s);
  CAF_CHECK_EQUAL(reader().commits, 0u);
  check_sum();
}

CAF_TEST(a partition that comes back begins anew) {
  start(noting([](const record& in, context& out) { return failing_once("a1", in, out); }));
  feed(keyed(0, {{"a", "a1"}}));
  self->send(sut, atom::revoked_v, partition_list{{"orders", 0}}, false);
  consume_messages();
  assign({{"orders", 0}});
  feed(keyed(0, {{"a", "a1"}, {"a", "a2"}}));
  pass(1s);
  CAF_CHECK_EQUAL(trace, (texts{"a1", "a1", "a1", "a2"}));
  CAF_CHECK_EQUAL(committed(), 2);
  check_sum();
}

CAF_TEST(every record gives its credit back) {
  start(noting());
  for (int i = 0; i < 10; ++i)
    feed(keyed(i * 4, {{"a", "1"}, {"b", "2"}, {"c", "3"}, {"", "4"}}));
  CAF_CHECK_EQUAL(reader().credit, 40u);
}

CAF_TEST(parked records give their credit back until there are too many) {
  cfg.max_parked_keys = 2;
  cfg.max_attempts = 2;
  start(noting([](const record&, context&) { return make_failure(ec::processor_failed, "no"); }));
  feed(keyed(0, {{"a", "1"}}));
  CAF_CHECK_EQUAL(reader().credit, 1u);
  feed(keyed(1, {{"b", "2"}, {"c", "3"}}));
  CAF_CHECK_EQUAL(reader().credit, 1u);
  pass(5s); // dead letters by now
  CAF_CHECK_EQUAL(reader().credit, 3u);
}

CAF_TEST(parked records are bounded too) {
  cfg.max_parked_records = 3;
  start(noting([](const record& in, context&) {
    return in.key == "a" ? make_failure(ec::processor_failed, "no") : caf::error{};
  }));
  feed(keyed(0, {{"a", "1"}, {"a", "2"}}));
  CAF_CHECK_EQUAL(reader().credit, 2u);
  feed(keyed(2, {{"a", "3"}, {"b", "4"}}));
  CAF_CHECK_EQUAL(reader().credit, 2u);
}

CAF_TEST(nothing is read too far ahead of an unfinished record) {
  cfg.max_ahead = 5;
  start(noting([](const record& in, context&) {
    return in.key == "a" ? make_failure(ec::processor_failed, "no") : caf::error{};
  }));
  feed(keyed(0, {{"a", "1"}, {"b", "2"}, {"b", "3"}, {"b", "4"}}));
  CAF_CHECK_EQUAL(reader().credit, 4u);
  feed(keyed(4, {{"b", "5"}, {"b", "6"}}));
  CAF_CHECK_EQUAL(reader().credit, 4u);
}

CAF_TEST_FIXTURE_SCOPE_END()
CAF_TEST_FIXTURE_SCOPE(remembering_tests, fixture)

CAF_TEST(an event that is done is not processed again wherever it comes from) {
  cfg.remember = 1h;
  cfg.in_flight_records = 100;
  start(noting());
  feed(keyed(0, {of_event("e1", "a", "first"), of_event("e2", "b", "other"), of_event("e1", "c", "again")}));
  pass(2s);
  feed(keyed(3, {of_event("e1", "a", "later")}));
  pass(2s);
  CAF_CHECK_EQUAL(trace.size(), 2u);
  CAF_CHECK_EQUAL(attempts_of("again"), texts{});
  CAF_CHECK_EQUAL(numbers.done.get(), 4u);
  CAF_CHECK_EQUAL(numbers.duplicates.get(), 2u);
  CAF_CHECK_EQUAL(committed(), 4);
  check_sum();
}

CAF_TEST(without remembering the store is not asked) {
  start(noting());
  feed(keyed(0, {of_event("e1", "a", "first"), of_event("e1", "a", "again")}));
  CAF_CHECK_EQUAL(trace.size(), 2u);
  CAF_CHECK(store().known.empty());
}

CAF_TEST(an event that somebody else is at waits with its key and costs no attempt) {
  cfg.remember = 1h;
  cfg.in_flight_records = 100;
  cfg.max_attempts = 1;
  start(noting());
  store().known[inner().scope() + ":e1"] = {"elsewhere", false};
  feed(keyed(0, {of_event("e1", "a", "a1"), of_event("e2", "a", "a2"), of_event("e3", "b", "b1")}));
  CAF_CHECK_EQUAL(trace, (texts{"b1"}));
  pass(3s);
  CAF_CHECK_EQUAL(trace, (texts{"b1"}));
  store().known.clear();
  pass(2s);
  CAF_CHECK_EQUAL(trace, (texts{"b1", "a1", "a2"}));
  pass(300ms);
  CAF_CHECK_EQUAL(committed(), 3);
  check_sum();
}

CAF_TEST(a retry has the claim of its first attempt) {
  cfg.remember = 1h;
  start(noting([](const record& in, context& out) { return failing_once("a1", in, out); }));
  feed(keyed(0, {of_event("e1", "a", "a1")}));
  pass(1s);
  CAF_CHECK_EQUAL(trace, (texts{"a1", "a1"}));
  CAF_CHECK_EQUAL(numbers.done.get(), 1u);
}

CAF_TEST(while the store is away records wait and nothing is done twice) {
  cfg.remember = 1h;
  cfg.in_flight_records = 100;
  start(noting());
  store().away = true;
  feed(keyed(0, {of_event("e1", "a", "a1"), of_event("e2", "b", "b1")}));
  pass(1min);
  CAF_CHECK(trace.empty());
  CAF_CHECK_EQUAL(buried().size(), 0u);
  store().away = false;
  pass(15s);
  CAF_CHECK_EQUAL(trace.size(), 2u);
  CAF_CHECK_EQUAL(committed(), 2);
  check_sum();
}

CAF_TEST(an event is committed once the store remembers it) {
  cfg.remember = 1h;
  start(noting([this](const record&, context&) {
    store().away = true;
    return caf::error{};
  }));
  feed(keyed(0, {of_event("e1", "a", "a1")}));
  pass(20s);
  CAF_CHECK_EQUAL(trace, (texts{"a1"}));
  CAF_CHECK_EQUAL(committed(), -1);
  CAF_CHECK_EQUAL(numbers.in_flight.get(), 1u);
  store().away = false;
  pass(15s);
  CAF_CHECK_EQUAL(trace, (texts{"a1"}));
  CAF_CHECK_EQUAL(committed(), 1);
  CAF_CHECK_EQUAL(numbers.done.get(), 1u);
}

CAF_TEST(what emits is remembered once the broker has what it emitted) {
  cfg.remember = 1h;
  start(noting([](const record&, context& out) {
    out.emit({.topic = "out", .value = "x"});
    return caf::error{};
  }));
  published().hold = true;
  feed(keyed(0, {of_event("e1", "a", "a1")}));
  CAF_CHECK(!store().known.at(inner().scope() + ":e1").done);
  self->send(producer, atom::retry_v, uint64_t{0});
  consume_messages();
  CAF_CHECK(store().known.at(inner().scope() + ":e1").done);
  CAF_CHECK_EQUAL(numbers.done.get(), 1u);
}

CAF_TEST(the event of a dead letter may be done when it is sent back) {
  cfg.remember = 1h;
  start(noting(
      [](const record& in, context&) { return in.value == "bad" ? make_failure(ec::rejected, "no") : caf::error{}; }));
  feed(keyed(0, {of_event("e1", "a", "bad")}));
  CAF_CHECK_EQUAL(buried().size(), 1u);
  feed(keyed(1, {of_event("e1", "a", "mended")}));
  pass(2s);
  CAF_CHECK_EQUAL(trace, (texts{"bad", "mended"}));
  CAF_CHECK_EQUAL(numbers.done.get(), 1u);
  check_sum();
}

CAF_TEST(a partition goes though the store is away) {
  cfg.remember = 1h;
  cfg.in_flight_records = 100;
  start(noting());
  store().away = true;
  feed(keyed(0, {of_event("e1", "a", "a1"), of_event("e2", "b", "b1")}));
  self->send(sut, atom::revoked_v, partition_list{{"orders", 0}}, false);
  consume_messages();
  CAF_CHECK(inner().tenures.empty());
  CAF_CHECK_EQUAL(numbers.returned.get(), 2u);
  store().away = false;
  pass(15s);
  CAF_CHECK(trace.empty());
  CAF_CHECK_EQUAL(inner().idle.size(), 2u);
  assign({{"orders", 0}});
  feed(keyed(0, {of_event("e1", "a", "a1")}));
  CAF_CHECK_EQUAL(trace, (texts{"a1"}));
  check_sum();
}

CAF_TEST_FIXTURE_SCOPE_END()
CAF_TEST_FIXTURE_SCOPE(set_aside_tests, fixture)

/// The record that was set aside, as the topic for retries has it, at offset 0 of partition 0.
batch_ptr aside(const outgoing_record& from) {
  class batch : public keyed_batch {
  public:
    batch(std::string topic, entry what) : keyed_batch(0, 0, {std::move(what)}), topic_(std::move(topic)) {}
    const std::string& topic() const noexcept override { return topic_; }

  private:
    std::string topic_;
  };
  return std::make_shared<batch>(from.topic, entry{from.key.value_or(""), from.value.value_or(""), from.headers});
}

CAF_TEST(a long wait is spent in the topic for retries and holds nothing up) {
  cfg.set_aside = 200ms;
  cfg.in_flight_records = 100;
  start(noting([](const record& in, context&) {
    return in.value == "a1" ? make_failure(ec::processor_failed, "no") : caf::error{};
  }));
  feed(keyed(7, {of_event("e1", "a", "a1"), of_event("e2", "a", "a2")}));
  pass(300ms);
  CAF_CHECK_EQUAL(trace, (texts{"a1", "a2"}));
  CAF_CHECK_EQUAL(committed(), 9);
  CAF_CHECK_EQUAL(numbers.set_aside.get(), 1u);
  CAF_CHECK_EQUAL(numbers.done.get(), 1u);
  CAF_CHECK_EQUAL(numbers.in.get(), numbers.done.get() + numbers.set_aside.get());
  CAF_CHECK_EQUAL(numbers.in_flight.get(), 0u);
  CAF_CHECK_EQUAL(numbers.parked_keys.get(), 0u);
  const auto& copy = published().seen.front()->front();
  CAF_CHECK_EQUAL(copy.topic, retries_topic_of(inner().cfg));
  CAF_CHECK_EQUAL(copy.key.value_or(""), "a");
  CAF_CHECK_EQUAL(copy.value.value_or(""), "a1");
}

CAF_TEST(a record that was set aside is tried when it is due as what it was) {
  cfg.set_aside = 200ms;
  cfg.max_attempts = 2;
  std::string place;
  uint32_t attempt = 0;
  start(noting([&](const record& in, context& out) {
    place = in.topic + "/" + std::to_string(in.partition) + "/" + std::to_string(in.offset) + " " + out.event_id();
    attempt = out.attempt();
    return make_failure(ec::processor_failed, "no");
  }));
  feed(keyed(7, {of_event("e1", "a", "a1")}));
  const auto copy = published().seen.front()->front();
  const auto first_failure = inner().unix_ms(inner().now());
  assign({{copy.topic, 0}});
  feed(aside(copy));
  CAF_CHECK_EQUAL(trace.size(), 1u);
  CAF_CHECK_EQUAL(numbers.parked_records.get(), 1u);
  pass(1s);
  CAF_CHECK_EQUAL(trace.size(), 2u);
  CAF_CHECK_EQUAL(place, "orders/0/7 e1");
  CAF_CHECK_EQUAL(attempt, 2u);
  CAF_REQUIRE_EQUAL(buried().size(), 1u);
  const auto& letter = *buried().front();
  CAF_CHECK_EQUAL(letter.topic, "orders");
  CAF_CHECK_EQUAL(letter.offset, 7);
  CAF_CHECK_EQUAL(letter.attempts, 2u);
  CAF_CHECK_EQUAL(letter.first_failure_ms, first_failure);
  CAF_CHECK_EQUAL(letter.headers.size(), 1u); // nothing of ours is left
}

CAF_TEST(what cannot be set aside waits in memory) {
  cfg.set_aside = 200ms;
  start(noting([](const record& in, context& out) { return failing_once("a1", in, out); }));
  published().error = ec::unknown_topic;
  feed(keyed(0, {{"a", "a1"}}));
  CAF_CHECK_EQUAL(numbers.parked_keys.get(), 1u);
  pass(1s);
  CAF_CHECK_EQUAL(trace, (texts{"a1", "a1"}));
  CAF_CHECK_EQUAL(numbers.set_aside.get(), 0u);
  CAF_CHECK_EQUAL(numbers.done.get(), 1u);
  check_sum();
}

CAF_TEST(what cannot be set aside leaves with its partition) {
  cfg.set_aside = 200ms;
  start(noting([](const record& in, context& out) { return failing_once("a1", in, out); }));
  published().hold = true;
  published().error = ec::unknown_topic;
  feed(keyed(0, {{"a", "a1"}}));
  auto revoked = self->request(sut, caf::infinite, atom::revoked_v, partition_list{{"orders", 0}}, false);
  consume_messages();
  self->send(producer, atom::retry_v, uint64_t{0});
  consume_messages();
  revoked.receive([](atom::done) {}, [&](caf::error& error) { CAF_FAIL(describe(error)); });
  pass(2s);
  CAF_CHECK_EQUAL(trace, (texts{"a1"}));
  CAF_CHECK_EQUAL(numbers.parked_records.get(), 0u);
  CAF_CHECK_EQUAL(numbers.returned.get(), 1u);
}

CAF_TEST(a copy has a time and a claim of its own and no note of somebody else) {
  cfg.set_aside = 200ms;
  cfg.remember = 1h;
  start(noting([](const record& in, context& out) { return failing_once("a1", in, out); }));
  auto event = of_event("e1", "a", "a1");
  event.headers.push_back({"sluice-retry", "1 2 3 9000000000000000 5 6 elsewhere"});
  feed(keyed(7, {event}));
  const auto copy = published().seen.front()->front();
  CAF_CHECK_EQUAL(copy.timestamp_ms, 0); // now, by which retention goes
  CAF_CHECK_EQUAL(std::count_if(copy.headers.begin(), copy.headers.end(),
                                [](const auto& one) { return one.name == "sluice-retry"; }),
                  1);
  CAF_CHECK(store().known.empty());
  assign({{copy.topic, 0}});
  feed(aside(copy));
  pass(1s);
  CAF_CHECK_EQUAL(trace.size(), 2u);
  CAF_CHECK_EQUAL(numbers.done.get(), 1u);
  CAF_CHECK_EQUAL(store().known.at(inner().scope() + ":e1").owner, copy.topic + "/0/0"); // not the original's
}

CAF_TEST(a record among those set aside that says nothing is processed as it is) {
  cfg.set_aside = 200ms;
  start(noting());
  auto topic = retries_topic_of(inner().cfg);
  assign({{topic, 0}});
  outgoing_record strange;
  strange.topic = topic;
  strange.value = "strange";
  strange.headers = {{"sluice-retry", "1 2 3"}};
  feed(aside(strange));
  CAF_CHECK_EQUAL(trace, (texts{"strange"}));
}

CAF_TEST_FIXTURE_SCOPE_END()
