#define CAF_SUITE aggregator

#include "aggregator.hpp"

#include "fixture.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

/// Transactions are kept and answered only when told to.
struct transactions_state {
  std::vector<transaction_ptr> seen;
  std::vector<caf::typed_response_promise<atom::done>> waiting;
  bool opened = false;
};
/// Promises may only be kept from inside their actor: tests ask for it by message.
using steered_transactor =
    transactor_actor::extend<caf::reacts_to<atom::retry, uint64_t>, caf::reacts_to<uint64_t, caf::error>>;
steered_transactor::behavior_type transactions_fake(steered_transactor::stateful_pointer<transactions_state> self) {
  return {
      [self](const transaction_ptr& what) -> caf::result<atom::done> {
        self->state.seen.push_back(what);
        self->state.waiting.push_back(self->make_response_promise<atom::done>());
        return self->state.waiting.back();
      },
      [self](atom::start) {
        self->state.opened = true;
        return atom::done_v;
      },
      [](atom::restore, const std::string&, int32_t) {
        return outgoing_ptr{std::make_shared<std::vector<outgoing_record>>()};
      },
      [self](atom::retry, uint64_t index) { self->state.waiting.at(index).deliver(atom::done_v); },
      [self](uint64_t index, const caf::error& error) { self->state.waiting.at(index).deliver(error); },
  };
}

struct letters_state {
  std::vector<failed_ptr> seen;
  std::vector<caf::typed_response_promise<atom::done>> waiting;
};
dead_letter_actor::behavior_type letters_fake(dead_letter_actor::stateful_pointer<letters_state> self) {
  return {
      [self](const failed_ptr& failed) -> caf::result<atom::done> {
        self->state.seen.push_back(failed);
        self->state.waiting.push_back(self->make_response_promise<atom::done>());
        return self->state.waiting.back();
      },
      [self](atom::retry, uint64_t index) { self->state.waiting.at(index).deliver(atom::done_v); },
  };
}

/// Sends batches and counts the credits that come back.
struct consumer_state {
  uint32_t credit = 0;
};
kafka_consumer_actor::behavior_type consumer_fake(kafka_consumer_actor::stateful_pointer<consumer_state> self) {
  return {
      [self](atom::credit, uint32_t n) { self->state.credit += n; },
      [](atom::commit, const partition_list&) {},
      [](atom::restore, const partition_list& partitions) { return partitions; },
      [](atom::drain) { return atom::done_v; },
      [](atom::wake) {},
      [](atom::tick) {},
  };
}

struct fixture : actor_fixture {
  aggregation_config cfg;
  steered_transactor transactions;
  std::shared_ptr<role<dead_letter_actor>> letters = std::make_shared<role<dead_letter_actor>>();
  kafka_consumer_actor consumer;
  aggregator_actor sut;

  fixture() {
    cfg.batch_size = 3;
    cfg.interval = 30s;
    cfg.commit_interval = 100ms;
  }
  void start() {
    transactions = keep(sys.spawn(transactions_fake));
    letters->set(keep(sys.spawn(letters_fake)));
    consumer = keep(sys.spawn(consumer_fake));
    sut = keep(sys.spawn(aggregator, cfg, transactor_actor{transactions}, letters, &counters));
    auto assigned = self->request(sut, caf::infinite, atom::assigned_v, partition_list{{"events", 0}});
    consume_messages();
    assigned.receive([](const partition_list&) {}, [&](caf::error& err) { CAF_FAIL(describe(err)); });
  }
  void feed(batch_ptr what) {
    caf::send_as(caf::actor_cast<caf::actor>(consumer), sut, std::move(what));
    consume_messages();
  }
  transactions_state& committed() {
    return deref<stateful<steered_transactor, transactions_state>>(transactions).state;
  }
  letters_state& buried() { return deref<stateful<dead_letter_actor, letters_state>>(letters->get()).state; }
  void acknowledge(uint64_t index) {
    self->send(transactions, atom::retry_v, index);
    consume_messages();
  }
  consumer_state& reader() { return deref<stateful<kafka_consumer_actor, consumer_state>>(consumer).state; }
};

} // namespace

CAF_TEST_FIXTURE_SCOPE(aggregator_tests, fixture)

CAF_TEST(the transactional id is taken over before anything is read) {
  start();
  CAF_CHECK(committed().opened);
}

CAF_TEST(summaries due within the commit interval share one transaction) {
  start();
  feed(batch("events", 0, 0, {event(1), event(2), event(3)}));
  feed(batch("events", 0, 3, {event(1), event(2), event(3)}));
  CAF_CHECK(committed().seen.empty());
  pass(100ms);
  CAF_REQUIRE_EQUAL(committed().seen.size(), 1u);
  CAF_CHECK_EQUAL(committed().seen[0]->records.size(), 2u);
  CAF_CHECK_EQUAL(committed().seen[0]->next_offsets.at(0).offset, 6);
}

CAF_TEST(what comes due during a transaction waits for the next) {
  start();
  feed(batch("events", 0, 0, {event(1), event(2), event(3)}));
  pass(100ms);
  feed(batch("events", 0, 3, {event(1), event(2), event(3)}));
  pass(300ms);
  CAF_CHECK_EQUAL(committed().seen.size(), 1u);
  acknowledge(0);
  pass(100ms);
  CAF_CHECK_EQUAL(committed().seen.size(), 2u);
  CAF_CHECK_EQUAL(counters.summaries.get(), 1u);
}

CAF_TEST(a lone event is summarised after the interval) {
  start();
  feed(batch("events", 0, 0, {event(1)}));
  pass(29s);
  CAF_CHECK(committed().seen.empty());
  pass(2s);
  CAF_CHECK_EQUAL(committed().seen.size(), 1u);
}

CAF_TEST(every record gives its credit back and a quarter of them at a time) {
  cfg.in_flight_records = 8;
  start();
  feed(batch("events", 0, 0, {event(1)}));
  CAF_CHECK_EQUAL(reader().credit, 0u);
  feed(batch("events", 0, 1, {"poison", event(1)}));
  CAF_CHECK_EQUAL(reader().credit, 3u);
}

CAF_TEST(a poison record goes to the dead letters with its headers and its offset waits for it) {
  start();
  feed(batch("events", 0, 0, {"poison"}));
  CAF_REQUIRE_EQUAL(buried().seen.size(), 1u);
  const auto& letter = *buried().seen[0];
  CAF_CHECK_EQUAL(letter.offset, 0);
  CAF_CHECK(letter.value == "poison");
  CAF_CHECK_EQUAL(letter.headers.size(), 1u);
  CAF_CHECK_EQUAL(letter.processor, "aggregator/default");
  pass(1s);
  for (const auto& one : committed().seen)
    for (const auto& next : one->next_offsets)
      CAF_CHECK_EQUAL(next.offset, 0);
  for (uint64_t i = 0; i < committed().waiting.size(); ++i)
    acknowledge(i);
  self->send(letters->get(), atom::retry_v, uint64_t{0});
  pass(1s);
  CAF_CHECK_EQUAL(committed().seen.back()->next_offsets.at(0).offset, 1);
}

CAF_TEST(a revoked partition is handed over once its summaries are committed) {
  start();
  feed(batch("events", 0, 0, {event(1), event(2), event(3), event(4)}));
  auto revoked = self->request(sut, caf::infinite, atom::revoked_v, partition_list{{"events", 0}}, false);
  consume_messages();
  CAF_REQUIRE_EQUAL(committed().seen.size(), 1u);
  CAF_CHECK_EQUAL(committed().seen[0]->next_offsets.at(0).offset, 3);
  acknowledge(0);
  revoked.receive([](atom::done) {}, [&](caf::error& err) { CAF_FAIL(describe(err)); });
}

CAF_TEST(a failed transaction ends the aggregator so that it begins at its last commit) {
  start();
  self->monitor(sut);
  feed(batch("events", 0, 0, {event(1), event(2), event(3)}));
  pass(100ms);
  self->send(transactions, uint64_t{0}, make_failure(ec::fenced, "someone else"));
  consume_messages();
  self->receive([](const caf::down_msg& down) { CAF_CHECK_EQUAL(code_of(down.reason), ec::fenced); });
}

CAF_TEST_FIXTURE_SCOPE_END()
