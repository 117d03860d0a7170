#define CAF_SUITE sse_hub

#include "sse_hub.hpp"

#include "sse_session.hpp"

#include "fixture.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

struct stream_fake : event_stream {
  explicit stream_fake(uint64_t id) : id_(id) {}
  uint64_t id() const noexcept override { return id_; }
  stream_protocol protocol() const noexcept override { return stream_protocol::sse; }
  void send(frame bytes, uint32_t) override { greeting += *bytes; }
  void subscribe(stream_subscription) override {}
  void when_sent(std::function<void()> sent) override { sent(); }
  void on_message(std::function<void(std::string)>) override {}
  stream_usage usage() const override { return {}; }
  void finish(frame last) override { farewell = *last; }
  void on_closed(std::function<void(stream_end)> closed) override { leave = std::move(closed); }
  uint64_t id_;
  std::string greeting, farewell;
  std::function<void(stream_end)> leave;
};

struct live_fake : fan_out {
  void publish(live_block_ptr block) override {
    text += block->sse;
    count += static_cast<uint32_t>(block->events.size());
  }
  std::string text;
  uint32_t count = 0;
};

aggregator_actor::behavior_type aggregator_fake() {
  return {
      [](const batch_ptr&) {},
      [](atom::assigned, const partition_list& partitions) { return partitions; },
      [](atom::revoked, const partition_list&, bool) { return atom::done_v; },
      [](atom::state) {
        return aggregation_view{"default", "{\"currentBuffer\":5}"};
      },
      [](atom::tick) {},
      [](atom::commit) {},
  };
}

struct fixture : actor_fixture {
  live_fake live;
  sse_hub_actor sut;
  std::shared_ptr<role<aggregator_actor>> aggregator = std::make_shared<role<aggregator_actor>>();

  fixture() {
    aggregator->set(keep(sys.spawn(aggregator_fake)));
    sse_hub_config cfg;
    cfg.retry = 3000ms;
    cfg.summary_topics = {"sums"};
    cfg.aggregators = {aggregator};
    sut = keep(sys.spawn(sse_hub, cfg, &live, &counters));
    self->send(sut, atom::assigned_v, partition_list{{"events", 0, 10}, {"events", 1, 20}, {"sums", 0, 5}});
    consume_messages();
  }
  std::shared_ptr<stream_fake> open(uint64_t id = 1) {
    auto stream = std::make_shared<stream_fake>(id);
    keep(sys.spawn(sse_session, event_stream_ptr{stream}, sut, 3000ms));
    consume_messages();
    return stream;
  }
  void feed(batch_ptr what) {
    self->send(sut, std::move(what));
    consume_messages();
    self->receive([](atom::credit, uint32_t) {}, caf::after(0s) >> [] { CAF_FAIL("no credit came back"); });
  }
};

} // namespace

CAF_TEST_FIXTURE_SCOPE(sse_hub_tests, fixture)

CAF_TEST(a client is greeted with its retry time and the current aggregation) {
  auto client = open();
  CAF_CHECK(client->greeting.starts_with("retry: "));
  CAF_CHECK(client->greeting.find("event: snapshot\n") != std::string::npos);
  CAF_CHECK(client->greeting.find(R"(data: {"type":"snapshot","aggregations":{"default":{"currentBuffer":5}}})") !=
            std::string::npos);
  CAF_CHECK(client->greeting.find("id: 1:10.20,5\n") != std::string::npos);
}

CAF_TEST(events go out as they are and summaries in their wrapping with the cursor behind them) {
  auto client = open();
  feed(batch("events", 1, 20, {R"({"a":1})"}));
  CAF_CHECK_EQUAL(live.text, "id: 1:10.21,5\ndata: {\"a\":1}\n\n");
  live.text.clear();
  feed(batch("sums", 0, 5, {R"({"id":"summary-1"})"}));
  CAF_CHECK_EQUAL(live.text, "id: 1:10.21,6\ndata: {\"type\":\"summary\",\"data\":{\"id\":\"summary-1\"}}\n\n");
}

CAF_TEST(a batch goes out as one block) {
  auto client = open();
  feed(batch("events", 0, 10, {"1", "2", "3"}));
  CAF_CHECK_EQUAL(live.count, 3u);
}

CAF_TEST(what is not JSON is not shown but counted) {
  auto client = open();
  feed(batch("events", 0, 10, {"not json"}));
  CAF_CHECK(live.text.empty());
  CAF_CHECK_EQUAL(counters.events_skipped.get(), 1u);
}

CAF_TEST(without clients nothing is encoded) {
  feed(batch("events", 0, 10, {"1"}));
  CAF_CHECK(live.text.empty());
  CAF_CHECK_EQUAL(open()->greeting.find("id: 1:11.20,5\n") != std::string::npos, true);
}

CAF_TEST(a client that has left is forgotten) {
  auto client = open();
  client->leave(stream_end::client_left);
  consume_messages();
  feed(batch("events", 0, 10, {"1"}));
  CAF_CHECK(live.text.empty());
}

CAF_TEST(draining ends every stream and takes no more) {
  auto a = open(1);
  auto b = open(2);
  auto drained = self->request(sut, caf::infinite, atom::drain_v, uint32_t{1000});
  pass(2s);
  drained.receive([](atom::done) {}, [&](caf::error& err) { CAF_FAIL(describe(err)); });
  CAF_CHECK(a->farewell.starts_with("retry: "));
  CAF_CHECK(b->farewell.starts_with("retry: "));
  auto late = open(3);
  CAF_CHECK(late->greeting.empty());
  CAF_CHECK(late->farewell.starts_with("retry: "));
}

CAF_TEST(when the hub is gone its clients are told to come back) {
  auto client = open();
  caf::anon_send_exit(sut, caf::exit_reason::kill);
  consume_messages();
  CAF_CHECK(client->farewell.starts_with("retry: "));
}

CAF_TEST_FIXTURE_SCOPE_END()
