// The whole server as a library, in this process: what only a program that embeds it meets. With a real broker
// (SLUICE_TEST_KAFKA=host:port), where one is needed.
#define CAF_SUITE server

#include "integration/kafka_harness.hpp"

#include <atomic>
#include <cstdlib>
#include <future>
#include <stdexcept>

#include <caf/test/unit_test.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "sluice/server.hpp"

using namespace sluice;
using kafka::testing::eventually;
using kafka::testing::fresh;

namespace {

config settings(const std::string& brokers) {
  config cfg;
  cfg.node = fresh("node");
  cfg.http.port = 0;
  cfg.store.url = "sqlite::memory:";
  cfg.outbox.enabled = false;
  cfg.aggregations.clear();
  cfg.kafka.brokers = brokers;
  cfg.kafka.group_id = fresh("group");
  cfg.kafka.properties["session.timeout.ms"] = "6000";
  return cfg;
}

processor_actor::behavior_type idle(processor_actor::pointer) {
  return {[](const context_ptr&) { return atom::done_v; }};
}

processor actors() {
  return make_processor([](caf::actor_system& system) { return system.spawn(idle); });
}

processor nothing() {
  return make_processor([](const record&, context&) {});
}

processor_config named(const std::string& name, const std::string& group = {}) {
  processor_config one{.name = name, .topics = {"orders"}, .group = group};
  one.set_aside = milliseconds{60000};
  return one;
}

/// What `start` says of a server with these; nothing listens at the brokers' address.
std::string refusal(const std::vector<std::pair<processor_config, processor>>& all,
                    std::vector<processor_config> changes = {}) {
  auto cfg = settings("127.0.0.1:1");
  cfg.processors = std::move(changes);
  server one{std::move(cfg)};
  for (const auto& [how, what] : all)
    one.add_processor(how, what);
  auto error = one.start();
  CAF_CHECK(code_of(error) == ec::invalid_config);
  return text_of(error);
}

template <class F>
bool is_too_late(F act) {
  try {
    act();
    return false;
  } catch (const std::logic_error&) {
    return true;
  }
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

} // namespace

CAF_TEST(processors that cannot run as told are refused by name at the start) {
  CAF_CHECK(contains(refusal({{named("a"), actors()}}), "processor \"a\" is an actor"));
  auto shared = refusal({{named("a", "g"), nothing()}, {named("b", "g"), nothing()}});
  CAF_CHECK(contains(shared, "processor \"b\" shares its group \"g\""));
  CAF_CHECK(contains(refusal({{processor_config{.name = "a"}, nothing()}}), "processor \"a\" reads no topic"));
  CAF_CHECK(contains(refusal({{named("a"), processor{}}}), "processor \"a\" does nothing"));
  CAF_CHECK(contains(refusal({{named("a"), nothing()}}, {processor_config{.name = "c"}}),
                     "processors[0].name: this program has no processor \"c\"; it has a"));
}

CAF_TEST(what a program publishes its handlers get and it stops in order) {
  const char* brokers = std::getenv("SLUICE_TEST_KAFKA");
  if (brokers == nullptr) {
    CAF_MESSAGE("SKIPPED: no SLUICE_TEST_KAFKA");
    return;
  }
  const auto topic = fresh("orders");
  std::promise<event> seen;
  std::atomic<int> calls = 0;
  server one{settings(brokers)};
  CAF_CHECK(!one.health_check().connected);
  one.subscribe(topic, "billing", [&](const event& what, context&) {
    if (++calls == 1)
      seen.set_value(what);
  });
  CAF_REQUIRE(!one.start());
  CAF_CHECK_NOT_EQUAL(one.port(), 0);
  CAF_CHECK(eventually([&] { return one.health_check().connected; }));
  CAF_CHECK_EQUAL(one.health_check().consumers, 1u);
  CAF_CHECK(is_too_late([&] { one.subscribe(topic, "late", [](const event&, context&) {}); }));
  CAF_CHECK(is_too_late([&] { one.add_processor(named("late"), nothing()); }));

  auto written = one.publish(topic, create_event("ORDER_CREATED", R"({"total":7})"), "k").get();
  CAF_REQUIRE(written);
  CAF_CHECK_EQUAL(written->topic, topic);
  auto wrong = one.publish(topic, event{.type = "ORDER_CREATED", .data = "{", .metadata = {}}).get();
  CAF_CHECK(!wrong && code_of(wrong.error()) == ec::malformed_record);
  auto got = seen.get_future();
  CAF_REQUIRE(got.wait_for(std::chrono::seconds{30}) == std::future_status::ready);
  auto first = got.get();
  CAF_CHECK_EQUAL(first.type, "ORDER_CREATED");
  CAF_CHECK_EQUAL(first.data, R"({"total":7})");
  const auto& numbers = one.counters().processors.at("billing." + topic);
  CAF_CHECK(eventually([&] { return numbers.done.get() == 1 && numbers.in_flight.get() == 0; }));

  CAF_CHECK(one.stop());
  CAF_CHECK_EQUAL(numbers.in.get(), numbers.done.get() + numbers.dead_lettered.get());
  CAF_CHECK_EQUAL(calls.load(), 1);
  CAF_CHECK_EQUAL(one.health_check().error, "the server is stopping");
}
