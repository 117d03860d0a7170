#define CAF_SUITE sse_hub

#include "sse_hub.hpp"

#include <algorithm>

#include "live_cursor.hpp"
#include "sse_session.hpp"

#include "fixture.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

struct stream_fake : event_stream {
  explicit stream_fake(uint64_t id) : id_(id) {}
  uint64_t id() const noexcept override { return id_; }
  stream_protocol protocol() const noexcept override { return stream_protocol::sse; }
  void send(frame bytes, uint32_t) override { text += *bytes; }
  void subscribe(stream_subscription what) override { subscription = std::move(what); }
  void when_sent(std::function<void()> sent) override { sent(); }
  void finish(frame last) override {
    farewell = last ? *last : "";
    finished = true;
  }
  void on_closed(std::function<void(stream_end)> closed) override { leave = std::move(closed); }
  void on_message(std::function<void(std::string)>) override {}
  stream_usage usage() const override { return {}; }
  /// What came since the last call.
  std::string take() { return std::exchange(text, {}); }
  uint64_t id_;
  std::string text, farewell;
  std::optional<stream_subscription> subscription;
  bool finished = false;
  std::function<void(stream_end)> leave;
};

/// Delivers blocks as the shards do.
struct live_fake : fan_out {
  void publish(live_block_ptr block) override {
    ++blocks;
    for (auto& one : streams) {
      int64_t last = -1;
      for (const auto& event : block->events) {
        if (!one->subscription || one->finished || last == event.number)
          continue;
        const auto& routes = one->subscription->routes;
        if (std::binary_search(routes.begin(), routes.end(), event.route)) {
          one->text += block->sse.substr(event.sse_begin, event.sse_size);
          last = event.number;
        }
      }
    }
  }
  std::vector<std::shared_ptr<stream_fake>> streams;
  int blocks = 0;
};

aggregator_actor::behavior_type aggregator_fake() {
  return {
      [](const batch_ptr&) {},
      [](atom::assigned, const partition_list& partitions) { return partitions; },
      [](atom::revoked, const partition_list&, bool) { return atom::done_v; },
      [](atom::reached, const topic_partition&) {},
      [](atom::state) {
        return aggregation_view{"default", "{\"currentBuffer\":5}"};
      },
      [](atom::tick) {},
      [](atom::commit) {},
  };
}

/// What Kafka would have: batches from given bounds.
struct kafka_fake {
  std::vector<replay_source::partition_bounds> bounds;
  std::vector<batch_ptr> batches;
  bool away = false;
};

struct replay_fake : replay_source {
  explicit replay_fake(std::shared_ptr<kafka_fake> log) : log(std::move(log)) {}
  caf::expected<std::vector<partition_bounds>> bounds(const std::vector<std::string>& topics) override {
    if (log->away)
      return make_failure(ec::kafka_unreachable, "away");
    auto result = log->bounds;
    std::erase_if(result,
                  [&](const auto& x) { return std::find(topics.begin(), topics.end(), x.topic) == topics.end(); });
    return result;
  }
  caf::expected<std::vector<topic_partition>> at_time(const std::vector<std::string>&, int64_t) override {
    std::vector<topic_partition> result;
    for (const auto& x : log->bounds)
      result.push_back({x.topic, x.partition, x.first + 1});
    return result;
  }
  void start(const std::vector<topic_partition>& from) override {
    for (const auto& x : from)
      ends.push_back({x.topic, x.partition, 0});
  }
  event next(std::chrono::milliseconds) override {
    if (read < log->batches.size())
      return log->batches[read++];
    if (ends.empty())
      return std::monostate{};
    auto where = ends.back();
    ends.pop_back();
    for (const auto& x : log->bounds)
      if (x.topic == where.topic && x.partition == where.partition)
        where.offset = x.end;
    return where;
  }
  std::shared_ptr<kafka_fake> log;
  std::vector<topic_partition> ends;
  size_t read = 0;
};

struct fixture : actor_fixture {
  live_fake live;
  sse_hub_actor sut;
  std::shared_ptr<kafka_fake> log = std::make_shared<kafka_fake>();
  std::shared_ptr<role<aggregator_actor>> aggregator = std::make_shared<role<aggregator_actor>>();
  uint64_t next_id = 1;

  fixture() {
    aggregator->set(keep(sys.spawn(aggregator_fake)));
    config cfg;
    cfg.aggregations[0].topics = {"events"};
    cfg.aggregations[0].sink = "sums";
    sse_hub_config hub;
    hub.sse = cfg.sse;
    hub.sse.replay_warmup = 0;
    hub.sse.max_channels = 3;
    hub.rules = make_channel_rules(cfg);
    hub.aggregators = {aggregator};
    hub.make_replay_source = [log = log] { return std::make_unique<replay_fake>(log); };
    hub.detached_replays = false;
    sut = keep(sys.spawn(sse_hub, hub, &live, &counters));
    self->send(sut, atom::assigned_v,
               partition_list{{"events", 0, 10}, {"events", 1, 20}, {"sums", 0, 5}, {"sluice-broadcast", 0, 100}});
    consume_messages();
  }
  std::shared_ptr<stream_fake> join(live_request wish) {
    auto stream = std::make_shared<stream_fake>(next_id++);
    wish.stream = stream;
    if (wish.client.empty())
      wish.client = "client-" + std::to_string(stream->id());
    live.streams.push_back(stream);
    keep(sys.spawn(sse_session, std::make_shared<const live_request>(wish), sut, session_limits{}));
    consume_messages();
    return stream;
  }
  /// GET /events
  std::shared_ptr<stream_fake> open(const std::string& cursor = "") {
    live_request wish;
    wish.channels = {"events"};
    wish.cursor = cursor;
    wish.snapshot = true;
    return join(wish);
  }
  /// GET /kafka/events
  std::shared_ptr<stream_fake> listen(channel_names channels, const std::string& cursor = "",
                                      const std::string& from = "") {
    live_request wish;
    wish.channels = std::move(channels);
    wish.cursor = cursor;
    wish.from = from;
    return join(wish);
  }
  void feed(batch_ptr what) {
    self->send(sut, std::move(what));
    consume_messages();
    self->receive([](atom::credit, uint32_t) {}, caf::after(0s) >> [] { CAF_FAIL("no credit came back"); });
  }
  static std::string cursor_at(int64_t events0, int64_t events1, int64_t sums) {
    live_cursor cursor;
    cursor.next[topic_hash("events")] = {events0, events1};
    cursor.next[topic_hash("sums")] = {sums};
    cursor.next[topic_hash("sluice-broadcast")] = {100};
    return encode_cursor_text(cursor);
  }
};

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// The data lines of a stream's text, one after the other.
std::string data_of(const std::string& text) {
  std::string result;
  for (size_t at = 0; (at = text.find("data: ", at)) != std::string::npos; at += 6)
    result += text.substr(at + 6, text.find('\n', at) - at - 6) + " ";
  return result;
}

} // namespace

CAF_TEST_FIXTURE_SCOPE(sse_hub_tests, fixture)

CAF_TEST(a client of events is greeted with its retry time the aggregations and a cursor) {
  auto client = open();
  auto text = client->take();
  CAF_CHECK(text.starts_with("retry: "));
  CAF_CHECK(has(text, "event: snapshot\n"));
  CAF_CHECK(has(text, R"(data: {"type":"snapshot","aggregations":{"default":{"currentBuffer":5}}})"));
  CAF_CHECK(has(text, "id: " + cursor_at(10, 20, 5) + "\nevent: snapshot\n"));
}

CAF_TEST(a client of channels is told its id and its channels) {
  auto client = listen({"alerts", "prices"});
  CAF_CHECK(has(client->take(),
                "event: connected\ndata: {\"clientId\":\"client-1\",\"channels\":[\"alerts\",\"prices\"]}\n"));
}

CAF_TEST(events go out as they are and summaries in their wrapping with the cursor behind them) {
  auto client = open();
  client->take();
  feed(batch("events", 1, 20, {R"({"a":1})"}));
  CAF_CHECK_EQUAL(client->take(), "id: " + cursor_at(10, 21, 5) + "\ndata: {\"a\":1}\n\n");
  feed(batch("sums", 0, 5, {R"({"id":"summary-1"})"}));
  CAF_CHECK_EQUAL(client->take(),
                  "id: " + cursor_at(10, 21, 6) + "\ndata: {\"type\":\"summary\",\"data\":{\"id\":\"summary-1\"}}\n\n");
}

CAF_TEST(a batch goes out as one block) {
  auto client = open();
  client->take();
  feed(batch("events", 0, 10, {"1", "2", "3"}));
  CAF_CHECK_EQUAL(data_of(client->take()), "1 2 3 ");
  CAF_CHECK_EQUAL(live.blocks, 1);
}

CAF_TEST(what is not JSON is not shown but counted) {
  auto client = open();
  client->take();
  feed(batch("events", 0, 10, {"not json"}));
  CAF_CHECK(client->take().empty());
  CAF_CHECK_EQUAL(counters.events_skipped.get(), 1u);
}

CAF_TEST(a client gets its own channels only) {
  auto events = open();
  auto other = listen({"other"});
  events->take();
  other->take();
  feed(batch("events", 0, 10, {"1"}));
  CAF_CHECK_EQUAL(data_of(events->take()), "1 ");
  CAF_CHECK(other->take().empty());
}

CAF_TEST(a client that comes back gets what it has missed once and in order) {
  open();
  feed(batch("events", 0, 10, {"1", "2"}));
  feed(batch("events", 1, 20, {"3"}));
  auto back = open(cursor_at(11, 20, 5));
  auto text = back->take();
  CAF_CHECK(has(text, "id: " + cursor_at(12, 20, 5) + "\ndata: 2\n\nid: " + cursor_at(12, 21, 5) + "\ndata: 3\n\n"));
  CAF_CHECK(!has(text, "data: 1\n"));
  feed(batch("events", 1, 21, {"4"}));
  CAF_CHECK_EQUAL(back->take(), "id: " + cursor_at(12, 22, 5) + "\ndata: 4\n\n");
}

CAF_TEST(a cursor that is none becomes a gap and then live) {
  for (const auto* wrong : {"garbage", "1AAAA", "17"}) {
    auto client = open(wrong);
    auto text = client->take();
    CAF_CHECK(has(text, "event: gap\ndata: {\"reason\":\"unknown\",\"missed\":null}\n"));
    feed(batch("events", 0, 10, {"7"}));
    CAF_CHECK_EQUAL(data_of(client->take()), "7 ");
    client->leave(stream_end::client_left);
    consume_messages();
  }
}

CAF_TEST(a cursor that is ahead waits for the hub) {
  auto client = open(cursor_at(12, 20, 5));
  CAF_CHECK(!client->subscription);
  feed(batch("events", 0, 10, {"1"}));
  CAF_CHECK(!client->subscription);
  feed(batch("events", 0, 11, {"2"}));
  CAF_CHECK(client->subscription.has_value());
  feed(batch("events", 0, 12, {"3"}));
  auto text = client->take();
  CAF_CHECK(!has(text, "data: 1\n"));
  CAF_CHECK(!has(text, "data: 2\n"));
  CAF_CHECK(has(text, "data: 3\n"));
  CAF_CHECK(!has(text, "gap"));
}

CAF_TEST(a cursor that stays ahead becomes a gap) {
  auto client = open(cursor_at(1000, 20, 5));
  pass(3s);
  CAF_CHECK(has(client->take(), "event: gap\ndata: {\"reason\":\"future\",\"missed\":null}\n"));
  CAF_CHECK(client->subscription.has_value());
}

CAF_TEST(what memory has no longer comes from Kafka and live events follow) {
  log->bounds = {{"events", 0, 2, 10}, {"events", 1, 0, 20}, {"sums", 0, 0, 5}};
  log->batches = {batch("events", 0, 8, {"8", "9"})};
  auto client = open(cursor_at(8, 20, 5));
  CAF_CHECK(client->subscription.has_value());
  auto text = client->take();
  CAF_CHECK(has(text, "id: " + cursor_at(9, 20, 5) + "\ndata: 8\n\nid: " + cursor_at(10, 20, 5) + "\ndata: 9\n\n"));
  feed(batch("events", 0, 10, {"10"}));
  CAF_CHECK_EQUAL(data_of(client->take()), "10 ");
  CAF_CHECK_EQUAL(counters.replays.get(), 1u);
}

CAF_TEST(what Kafka has no longer becomes a gap that says how much) {
  log->bounds = {{"events", 0, 8, 10}, {"events", 1, 0, 20}, {"sums", 0, 0, 5}};
  log->batches = {batch("events", 0, 8, {"8", "9"})};
  auto text = open(cursor_at(3, 20, 5))->take();
  CAF_CHECK(has(text, "event: gap\ndata: {\"reason\":\"expired\",\"missed\":5}\n"));
  CAF_CHECK_LESS(text.find("event: gap"), text.find("data: 8\n"));
  CAF_CHECK(has(text, "data: 9\n"));
}

CAF_TEST(a new client may begin with the earliest record or at a time) {
  log->bounds = {{"events", 0, 8, 10}, {"events", 1, 20, 20}, {"sums", 0, 5, 5}};
  log->batches = {batch("events", 0, 8, {"8", "9"})};
  auto earliest = listen({"events"}, "", "earliest")->take();
  CAF_CHECK(has(earliest, "data: 8\n") && has(earliest, "data: 9\n") && !has(earliest, "gap"));
  auto since = listen({"events"}, "", "1700000000000")->take();
  CAF_CHECK(!has(since, "data: 8\n") && has(since, "data: 9\n"));
}

CAF_TEST(when Kafka cannot be asked the client is told to come back) {
  log->away = true;
  auto client = open(cursor_at(8, 20, 5));
  CAF_CHECK(client->farewell.starts_with("retry: "));
}

CAF_TEST(channels may be changed while the stream is open) {
  auto client = listen({"a"});
  client->take();
  auto changed =
      self->request(sut, caf::infinite, atom::subscribe_v, std::string{"client-1"}, channel_names{"b"}, true);
  consume_messages();
  changed.receive(
      [](const channel_names& now) {
        CAF_CHECK_EQUAL(now, (channel_names{"a", "b"}));
      },
      [&](caf::error& err) { CAF_FAIL(describe(err)); });
  CAF_CHECK_EQUAL(client->subscription->routes.size(), 3u);
  auto removed =
      self->request(sut, caf::infinite, atom::subscribe_v, std::string{"client-1"}, channel_names{"a"}, false);
  consume_messages();
  removed.receive([](const channel_names& now) { CAF_CHECK_EQUAL(now, channel_names{"b"}); },
                  [&](caf::error& err) { CAF_FAIL(describe(err)); });
  auto many =
      self->request(sut, caf::infinite, atom::subscribe_v, std::string{"client-1"}, channel_names{"c", "d", "e"}, true);
  consume_messages();
  many.receive([](const channel_names&) { CAF_FAIL("too many channels were taken"); },
               [&](caf::error& err) { CAF_CHECK(code_of(err) == ec::queue_full); });
}

CAF_TEST(a second stream of the same client ends the first) {
  live_request wish;
  wish.client = "me";
  wish.channels = {"a"};
  auto first = join(wish);
  auto second = join(wish);
  CAF_CHECK(first->finished);
  CAF_CHECK(!second->finished);
  first->leave(stream_end::finished);
  consume_messages();
  auto all = self->request(sut, caf::infinite, atom::clients_v);
  consume_messages();
  all.receive([](const live_clients& clients) { CAF_CHECK_EQUAL(clients->size(), 1u); },
              [&](caf::error& err) { CAF_FAIL(describe(err)); });
}

CAF_TEST(a client id does not let one user end the stream of another) {
  live_request wish;
  wish.client = "me";
  wish.user = "ann";
  wish.channels = {"a"};
  auto ann = join(wish);
  wish.user = "bob";
  auto bob = join(wish);
  CAF_CHECK(!ann->finished);
  CAF_CHECK(bob->finished && bob->farewell.starts_with("retry: "));
}

CAF_TEST(a client can be ended with a reason) {
  auto client = listen({"a"});
  auto ended = self->request(sut, caf::infinite, atom::leave_v, std::string{"client-1"}, std::string{"go \"home\""});
  consume_messages();
  ended.receive([](atom::done) {}, [&](caf::error& err) { CAF_FAIL(describe(err)); });
  CAF_CHECK(has(client->farewell, "event: closed\ndata: {\"reason\":\"go \\\"home\\\"\"}\n"));
  auto unknown = self->request(sut, caf::infinite, atom::leave_v, std::string{"nobody"}, std::string{});
  consume_messages();
  unknown.receive([](atom::done) { CAF_FAIL("nobody was ended"); },
                  [&](caf::error& err) { CAF_CHECK(code_of(err) == ec::unknown_client); });
}

CAF_TEST(quiet clients have their cursor moved on) {
  auto other = listen({"other"});
  other->take();
  feed(batch("sluice-broadcast", 0, 100, {"1"})); // no key: for nobody
  pass(11s);
  CAF_CHECK(has(other->take(), "id: "));
  pass(11s);
  CAF_CHECK(other->take().empty());
}

CAF_TEST(a client that has left is forgotten) {
  auto client = open();
  client->take();
  client->leave(stream_end::client_left);
  consume_messages();
  live.blocks = 0;
  feed(batch("events", 0, 10, {"1"}));
  CAF_CHECK_EQUAL(live.blocks, 0);
}

CAF_TEST(draining ends every stream and takes no more) {
  auto a = open();
  auto b = listen({"x"});
  auto drained = self->request(sut, caf::infinite, atom::drain_v, uint32_t{1000});
  pass(2s);
  drained.receive([](atom::done) {}, [&](caf::error& err) { CAF_FAIL(describe(err)); });
  CAF_CHECK(a->farewell.starts_with("retry: "));
  CAF_CHECK(b->farewell.starts_with("retry: "));
  auto late = open();
  CAF_CHECK(late->text.empty());
  CAF_CHECK(late->farewell.starts_with("retry: "));
}

CAF_TEST(when the hub is gone its clients are told to come back) {
  auto client = open();
  caf::anon_send_exit(sut, caf::exit_reason::kill);
  consume_messages();
  CAF_CHECK(client->farewell.starts_with("retry: "));
}

CAF_TEST(a stream ends when its lifetime or its credentials do) {
  auto stream = std::make_shared<stream_fake>(50);
  live_request wish;
  wish.stream = stream;
  wish.client = "me";
  wish.channels = {"a"};
  session_limits limits;
  limits.lifetime = 1000s;
  limits.credentials_left = 5s;
  keep(sys.spawn(sse_session, std::make_shared<const live_request>(wish), sut, limits));
  pass(4s);
  CAF_CHECK(!stream->finished);
  pass(2s);
  CAF_CHECK(stream->finished);
}

CAF_TEST_FIXTURE_SCOPE_END()
