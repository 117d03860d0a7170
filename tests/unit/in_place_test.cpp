#define CAF_SUITE in_place

#include "in_place.hpp"

#include "fixture.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

using texts = std::vector<std::string>;

struct handler_state {
  texts seen; ///< "topic/value" of each record.
  std::vector<int64_t> offsets;
  size_t batches = 0;
  partition_list assigned, revoked;
};
record_handler_actor::behavior_type handler_fake(record_handler_actor::stateful_pointer<handler_state> self) {
  return {
      [self](const batch_ptr& batch) {
        ++self->state.batches;
        for (const auto& one : batch->records()) {
          self->state.seen.push_back(batch->topic() + "/" + std::string{one.value});
          self->state.offsets.push_back(one.offset);
        }
      },
      [self](atom::assigned, const partition_list& partitions) {
        self->state.assigned = partitions;
        return partitions;
      },
      [self](atom::revoked, const partition_list& partitions, bool) {
        self->state.revoked = partitions;
        return atom::done_v;
      },
      [](atom::reached, const topic_partition&) {},
  };
}

outgoing_record kept(const std::string& value, const std::string& topic = "a") {
  outgoing_record one;
  one.topic = topic;
  one.value = value;
  one.headers = {{"sluice-event-id", value}};
  return one;
}

struct fixture : actor_fixture {
  void start(uint32_t credit) {
    handler = keep(sys.spawn(handler_fake));
    sut = keep(sys.spawn(in_place, handler, texts{"a", "b"}, credit, int64_t{1000}));
    consume_messages();
  }
  void put(std::vector<outgoing_record> records, bool alone = false) {
    anon_send(sut, outgoing_ptr{std::make_shared<std::vector<outgoing_record>>(std::move(records))}, alone);
    consume_messages();
  }
  handler_state& got() { return deref<stateful<record_handler_actor, handler_state>>(handler).state; }

  record_handler_actor handler;
  in_place_actor sut;
};

} // namespace

CAF_TEST_FIXTURE_SCOPE(in_place_tests, fixture)

CAF_TEST(what is kept goes to the processor in order as far as there is credit) {
  start(3);
  CAF_CHECK_EQUAL(got().assigned.size(), 2u);
  put({kept("1"), kept("2"), kept("3", "b"), kept("4", "b")}, true);
  CAF_CHECK_EQUAL(got().seen, (texts{"a/1", "a/2", "b/3"}));
  CAF_CHECK_EQUAL(got().batches, 2u);
  anon_send(sut, atom::credit_v, 2u);
  consume_messages();
  CAF_CHECK_EQUAL(got().seen.back(), "b/4");
  CAF_CHECK_EQUAL(got().offsets, (std::vector<int64_t>{1000, 1001, 1002, 1003}));
}

CAF_TEST(nothing overtakes what waits on disk) {
  start(10);
  put({kept("1")}, false); // something older, of another process, waits
  CAF_CHECK(got().seen.empty());
  put({kept("2")}, true);
  CAF_CHECK_EQUAL(got().seen, (texts{"a/2"}));
  auto nameless = kept("3");
  nameless.headers.clear();
  put({nameless, kept("4")});
  put({kept("5")});
  CAF_CHECK_EQUAL(got().seen, (texts{"a/2"}));
}

CAF_TEST(an event of other topics alone says that nothing older waits) {
  start(10);
  put({}, true);
  put({kept("1")}, false);
  CAF_CHECK_EQUAL(got().seen, (texts{"a/1"}));
}

CAF_TEST(what is too much is left for Kafka) {
  start(1);
  std::vector<outgoing_record> many;
  for (int i = 0; i < 10001; ++i)
    many.push_back(kept(std::to_string(i)));
  put(many, true);
  put({kept("late")});
  anon_send(sut, atom::credit_v, 20000u);
  consume_messages();
  CAF_CHECK_EQUAL(got().seen.size(), 10000u);
  put({kept("fresh")}, true);
  CAF_CHECK_EQUAL(got().seen.back(), "a/fresh");
}

CAF_TEST(a drain hands over what is at work and begins nothing) {
  start(10);
  auto asked = self->request(sut, caf::infinite, atom::drain_v);
  consume_messages();
  asked.receive([](atom::done) {}, [](caf::error& error) { CAF_FAIL(describe(error)); });
  CAF_CHECK_EQUAL(got().revoked.size(), 2u);
  put({kept("1")}, true);
  CAF_CHECK(got().seen.empty());
}

CAF_TEST(what is emitted in place is answered when it is on disk or in Kafka) {
  std::vector<std::function<void(caf::expected<std::vector<delivery>>)>> asked;
  auto producer = keep(sys.spawn(in_place_producer, [&asked](const std::vector<outgoing_record>&, auto answer) {
    asked.push_back(std::move(answer));
  }));
  auto ask = [&] {
    return self->request(kafka_producer_actor{producer}, caf::infinite,
                         outgoing_ptr{std::make_shared<std::vector<outgoing_record>>(1, kept("x"))});
  };
  auto one = ask();
  auto two = ask();
  consume_messages();
  CAF_REQUIRE_EQUAL(asked.size(), 2u);
  std::vector<delivery> taken(1);
  taken[0].queued = true;
  asked[1](taken);
  asked[0](make_failure(ec::storage_full, "full"));
  consume_messages();
  two.receive([](const deliveries& all) { CAF_CHECK(all->front().queued); },
              [](caf::error& error) { CAF_FAIL(describe(error)); });
  one.receive([](const deliveries& all) { CAF_CHECK_EQUAL(all->front().error, ec::storage_full); },
              [](caf::error& error) { CAF_FAIL(describe(error)); });
}

CAF_TEST_FIXTURE_SCOPE_END()
