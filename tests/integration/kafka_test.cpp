// The Kafka adapters against a real broker (SLUICE_TEST_KAFKA=host:port) and against the embedded one.
#define CAF_SUITE kafka

#include "integration/kafka_harness.hpp"

#include <caf/test/unit_test_impl.hpp>

using namespace sluice;
using namespace sluice::kafka;
using namespace sluice::kafka::testing;

CAF_TEST_FIXTURE_SCOPE(real_broker, fixture)

CAF_TEST(records arrive with key and value and headers as they were written) {
  if (skipped())
    return;
  auto t = topic(1);
  auto first = record(t, "k", "v");
  first.headers = {{"a", "1"}, {"b", std::string{"\0x", 2}}, {"a", "2"}};
  first.timestamp_ms = 1234567890123;
  outgoing_record keyless;
  keyless.topic = t;
  keyless.value = "";
  auto tombstone = record(t, "", "");
  tombstone.value.reset();
  auto outcomes = write({first, keyless, tombstone});
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    CAF_CHECK_EQUAL(outcomes[i].error, ec::no_error);
    CAF_CHECK_EQUAL(outcomes[i].topic, t);
    CAF_CHECK_EQUAL(outcomes[i].partition, 0);
    CAF_CHECK_EQUAL(outcomes[i].offset, static_cast<int64_t>(i));
  }
  reader all{member(fresh("g"), t)};
  CAF_REQUIRE(eventually([&] { return all.count() == 3; }));
  std::vector<record_view> views;
  auto batches = all.batches();
  for (const auto& batch : batches) {
    CAF_CHECK_EQUAL(batch->topic(), t);
    CAF_CHECK_EQUAL(batch->partition(), 0);
    views.insert(views.end(), batch->records().begin(), batch->records().end());
  }
  CAF_CHECK_EQUAL(views[0].key, "k");
  CAF_CHECK_EQUAL(views[0].value, "v");
  CAF_CHECK_EQUAL(views[0].timestamp_ms, 1234567890123);
  auto headers = batches[0]->headers(0);
  CAF_REQUIRE_EQUAL(headers.size(), 3u);
  CAF_CHECK_EQUAL(headers[1].value, (std::string{"\0x", 2}));
  CAF_CHECK_EQUAL(headers[2].name + headers[2].value, "a2");
  CAF_CHECK(!views[1].has_key && views[1].has_value && views[1].value.empty());
  CAF_CHECK(views[2].has_key && views[2].key.empty() && !views[2].has_value);
  CAF_CHECK_EQUAL(views[2].offset, 2);
}

CAF_TEST(a batch may be read after its source is gone) {
  if (skipped())
    return;
  auto t = topic(1);
  write({record(t, "k", "still here")});
  std::vector<batch_ptr> batches;
  {
    reader all{member(fresh("g"), t)};
    CAF_REQUIRE(eventually([&] { return all.count() == 1; }));
    batches = all.batches();
  }
  CAF_CHECK_EQUAL(batches[0]->records()[0].value, "still here");
}

CAF_TEST(records wait while none are wanted and the member stays in its group) {
  if (skipped())
    return;
  auto t = topic(2);
  cfg.properties["max.poll.interval.ms"] = "6000";
  auto group = fresh("g");
  reader idle{member(group, t), false};
  CAF_REQUIRE(eventually([&] { return idle.owned().size() == 2; }));
  std::vector<outgoing_record> records;
  for (int i = 0; i < 5000; ++i)
    records.push_back(record(t, "", std::to_string(i), i % 2));
  write(records);
  // Polled as the kafka_consumer's tick does, beyond max.poll.interval.ms.
  for (int i = 0; i < 9; ++i) {
    std::this_thread::sleep_for(1s);
    idle.want(false);
  }
  CAF_CHECK_EQUAL(idle.count(), 0u);
  CAF_CHECK_EQUAL(idle.owned().size(), 2u);
  CAF_CHECK_EQUAL(idle.assignments.load(), 1);
  idle.want(true);
  CAF_CHECK(eventually([&] { return idle.count() == 5000; }));
  // In order per partition, from the first record on, nothing twice.
  int64_t next[2] = {0, 0};
  bool in_order = true;
  for (const auto& batch : idle.batches())
    for (const auto& view : batch->records())
      in_order = in_order && view.offset == next[batch->partition()]++;
  CAF_CHECK(in_order);
}

CAF_TEST(every arrival wakes a source that had nothing left) {
  if (skipped())
    return;
  auto t = topic(4);
  reader all{member(fresh("g"), t)};
  CAF_REQUIRE(eventually([&] { return all.owned().size() == 4; }));
  // The reader's own keep-alive is a minute away: one lost wake-up and this takes as long.
  for (std::size_t i = 1; i <= 200; ++i) {
    write({record(t, "", "x", static_cast<int32_t>(i % 4))});
    CAF_REQUIRE(eventually([&] { return all.count() == i; }, 5s));
  }
}

CAF_TEST(a second member gets its share and everything when the first leaves) {
  if (skipped())
    return;
  auto t = topic(4);
  auto group = fresh("g");
  auto first = std::make_unique<reader>(member(group, t));
  CAF_REQUIRE(eventually([&] { return first->owned().size() == 4; }));
  reader second{member(group, t)};
  CAF_REQUIRE(eventually([&] { return first->owned().size() == 2 && second.owned().size() == 2; }, 30s));
  for (int32_t p = 0; p < 4; ++p)
    write({record(t, "", std::to_string(p), p)});
  CAF_CHECK(eventually([&] { return first->count() + second.count() == 4; }));
  const auto start = clock::now();
  first.reset();
  const auto left = clock::now() - start;
  CAF_CHECK(left < 3s);
  CAF_CHECK(eventually([&] { return second.owned().size() == 4; }, 30s));
}

CAF_TEST(a new member begins at the offsets that were committed) {
  if (skipped())
    return;
  auto t = topic(1);
  auto group = fresh("g");
  write({record(t, "", "0"), record(t, "", "1"), record(t, "", "2")});
  {
    auto source = member(group, t);
    reader first{source};
    CAF_REQUIRE(eventually([&] { return first.count() == 3; }));
    source->commit({{t, 0, 2}});
    source.reset();
    std::this_thread::sleep_for(500ms);
  }
  reader second{member(group, t)};
  CAF_REQUIRE(eventually([&] { return second.count() > 0; }));
  CAF_CHECK(second.values() == std::vector<std::string>{"2"});
}

CAF_TEST(a topic that is created later is found within seconds and asked for by name) {
  if (skipped())
    return;
  auto t = fresh("late");
  reader early{member(fresh("g"), t)};
  CAF_CHECK(eventually([&] { return book().contains("\"" + t + "\" does not exist"); }));
  CAF_REQUIRE(!admin->create({{t, 2, false}}));
  const auto start = clock::now();
  CAF_CHECK(eventually([&] { return early.owned().size() == 2; }));
  CAF_MESSAGE("found after " << std::chrono::duration_cast<std::chrono::milliseconds>(clock::now() - start).count()
                             << " ms");
  write({record(t, "", "x")});
  CAF_CHECK(eventually([&] { return early.count() == 1; }));
  CAF_CHECK(!early.failed);
}

CAF_TEST(a record for a topic that does not exist fails soon) {
  if (skipped())
    return;
  const auto start = clock::now();
  auto outcomes = write({record(fresh("none"), "k", "v")});
  CAF_CHECK_EQUAL(outcomes[0].error, ec::unknown_topic);
  CAF_CHECK(clock::now() - start < 5s);
  CAF_MESSAGE(outcomes[0].reason);
}

CAF_TEST(a record that is too large is refused and the limit is named) {
  if (skipped())
    return;
  auto t = topic(1);
  auto outcomes = write({record(t, "k", std::string(3000000, 'x')), record(t, "k", "small")});
  CAF_CHECK_EQUAL(outcomes[0].error, ec::too_large);
  CAF_CHECK(outcomes[0].reason.find("max.message.bytes") != std::string::npos);
  CAF_CHECK_EQUAL(outcomes[1].error, ec::no_error);
}

CAF_TEST(the admin creates what is missing and sees it) {
  if (skipped())
    return;
  auto t = fresh("made");
  CAF_REQUIRE_EQUAL(describe(admin->create({{t, 3, false}, {t + "-default", -1, true}})), "no error");
  CAF_CHECK_EQUAL(describe(admin->create({{t, 5, false}})), "no error");
  auto view = admin->probe();
  CAF_CHECK(view.connected);
  CAF_CHECK_EQUAL(view.error, "");
  int seen = 0;
  for (const auto& x : view.topics)
    if (x.name == t || x.name == t + "-default") {
      ++seen;
      CAF_CHECK(x.name != t || x.partitions == 3);
      CAF_CHECK(x.partitions > 0);
    }
  CAF_CHECK_EQUAL(seen, 2);
  CAF_CHECK_EQUAL(code_of(admin->create({{"bad name!", 1, false}})), ec::kafka_refused);
}

CAF_TEST(a tail source begins at the end and finds what is created later) {
  if (skipped())
    return;
  auto t = topic(2);
  auto late = fresh("late");
  write({record(t, "", "old", 0), record(t, "", "old", 1)});
  reader tail{make_tail_source(cfg, {t, late}, book().sink())};
  CAF_REQUIRE(eventually([&] { return tail.assignments == 1; }));
  write({record(t, "", "new 0", 0), record(t, "", "new 1", 1)});
  CAF_CHECK(eventually([&] { return tail.count() == 2; }));
  CAF_CHECK(sorted(tail.values()) == std::vector<std::string>({"new 0", "new 1"}));
  CAF_REQUIRE(!admin->create({{late, 1, false}}));
  write({record(late, "", "first")});
  CAF_CHECK(eventually([&] { return tail.count() == 3; }));
  CAF_CHECK(tail.values().back() == "first");
  CAF_CHECK_EQUAL(tail.assignments.load(), 2);
}

CAF_TEST_FIXTURE_SCOPE_END()

CAF_TEST(without a broker everything says so and ends soon) {
  auto cfg = config_for("127.0.0.1:1");
  cfg.delivery_timeout = 1500ms;
  cfg.request_timeout = 3s;
  auto start = clock::now();
  auto view = make_admin(cfg, book().sink())->probe();
  CAF_CHECK(!view.connected);
  CAF_CHECK(view.error.find("Connection refused") != std::string::npos);
  CAF_CHECK(clock::now() - start < 4s);
  {
    auto sink = make_sink(cfg, book().sink());
    sink->on_ready([] {});
    auto outcomes = write(*sink, {record("t", "k", "v")});
    CAF_CHECK_EQUAL(outcomes[0].error, ec::delivery_timeout);
    CAF_CHECK(outcomes[0].reason.find("Connection refused") != std::string::npos);
  }
  {
    std::shared_ptr<record_source> source = make_group_source(cfg, "g", {"t"}, book().sink());
    auto log = make_transaction_log(cfg, "tx", source, book().sink());
    reader all{std::move(source)};
    const auto end = clock::now() + 1s;
    auto error = log->open([end] { return clock::now() < end; });
    CAF_CHECK_EQUAL(code_of(error), ec::kafka_unreachable);
    CAF_MESSAGE(describe(error));
    reader tail{make_tail_source(cfg, {"t"}, book().sink())};
    std::this_thread::sleep_for(300ms);
    start = clock::now();
  }
  CAF_CHECK(clock::now() - start < 8s);
  CAF_MESSAGE("ended after " << std::chrono::duration_cast<std::chrono::milliseconds>(clock::now() - start).count()
                             << " ms");
}

CAF_TEST(settings that librdkafka does not take are named with their key) {
  auto failing = [](auto change) {
    kafka_config cfg;
    change(cfg);
    auto error = validate(cfg);
    CAF_CHECK_EQUAL(code_of(error), ec::invalid_config);
    CAF_MESSAGE(text_of(error));
    return text_of(error).substr(0, text_of(error).find(": "));
  };
  CAF_CHECK_EQUAL(describe(validate({})), "no error");
  CAF_CHECK_EQUAL(failing([](auto& x) { x.brokers = ""; }), "kafka.brokers");
  CAF_CHECK_EQUAL(failing([](auto& x) { x.brokers = "host:port"; }), "kafka.brokers");
  CAF_CHECK_EQUAL(failing([](auto& x) { x.security_protocol = "TLS"; }), "kafka.securityProtocol");
  CAF_CHECK_EQUAL(failing([](auto& x) { x.request_timeout = 1ms; }), "kafka.requestTimeout");
  CAF_CHECK_EQUAL(failing([](auto& x) { x.delivery_timeout = 0ms; }), "kafka.deliveryTimeout");
  CAF_CHECK_EQUAL(failing([](auto& x) {
                    x.security_protocol = "SASL_SSL";
                    x.sasl_mechanism = "MAGIC";
                  }),
                  "kafka.saslMechanism");
  CAF_CHECK_EQUAL(failing([](auto& x) { x.security_protocol = "SASL_SSL"; }), "kafka.saslUsername");
  CAF_CHECK_EQUAL(failing([](auto& x) {
                    x.security_protocol = "SSL";
                    x.ssl_ca = "/nowhere/ca.pem";
                  }),
                  "kafka.sslCa");
  CAF_CHECK_EQUAL(failing([](auto& x) { x.properties["no.such"] = "1"; }), "kafka.properties.no.such");
  CAF_CHECK_EQUAL(failing([](auto& x) { x.properties["linger.ms"] = "soon"; }), "kafka.properties.linger.ms");
  CAF_CHECK_EQUAL(failing([](auto& x) { x.properties["group.id"] = "x"; }), "kafka.properties.group.id");
  CAF_CHECK_EQUAL(failing([](auto& x) { x.properties["acks"] = "1"; }), "kafka.properties.acks");
  kafka_config azure;
  azure.brokers = "x.servicebus.windows.net:9093";
  azure.security_protocol = "SASL_SSL";
  azure.sasl_username = "$ConnectionString";
  azure.sasl_password = "Endpoint=sb://x.servicebus.windows.net/;SharedAccessKeyName=k;SharedAccessKey=s=";
  azure.properties["socket.timeout.ms"] = "60000"; // as its documentation advises; longer than our transactions
  CAF_CHECK_EQUAL(describe(validate(azure)), "no error");
}

CAF_TEST(the embedded broker carries transactions and groups) {
  embedded_broker broker{{"in", "out"}, 2};
  auto cfg = config_for(broker.bootstrap());
  cfg.properties = embedded_broker::client_properties();
  auto admin = make_admin(cfg, book().sink());
  CAF_CHECK(!admin->create({{"in", -1, false}, {"out", -1, false}}));
  CAF_CHECK(admin->probe().connected);
  auto sink = make_sink(cfg, book().sink());
  sink->on_ready([] {});
  reader tail{make_tail_source(cfg, {"in", "out"}, book().sink())};
  CAF_REQUIRE(eventually([&] { return tail.assignments == 1; }));
  write(*sink, {record("in", "", "0", 0), record("in", "", "1", 0), record("in", "", "2", 1)});
  {
    std::shared_ptr<record_source> source = make_group_source(cfg, "g", {"in"}, book().sink());
    auto log = make_transaction_log(cfg, "tx", source, book().sink());
    reader first{source};
    CAF_REQUIRE_EQUAL(describe(log->open(always)), "no error");
    CAF_REQUIRE(eventually([&] { return first.count() == 3; }));
    auto error = log->commit({record("out", "a", "summary", 0)}, {{"in", 0, 1}, {"in", 1, 1}}, always);
    CAF_REQUIRE_EQUAL(describe(error), "no error");
    auto rows = log->read_compacted("out", 0);
    CAF_REQUIRE(rows);
    CAF_CHECK_EQUAL(rows->size(), 1u);
    // librdkafka 2.0.2's mock cluster takes a transaction's offsets and forgets them; plain commits it keeps.
    source->commit({{"in", 0, 1}, {"in", 1, 1}});
    source.reset();
    std::this_thread::sleep_for(500ms);
  }
  CAF_CHECK(eventually([&] { return tail.count() == 4; }));
  reader second{make_group_source(cfg, "g", {"in"}, book().sink())};
  CAF_CHECK(eventually([&] { return second.count() == 1; }, 20s));
  CAF_CHECK(second.values() == std::vector<std::string>{"1"});
}
