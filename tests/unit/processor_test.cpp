// Processors from functions and actors, through the harness that users get.
#define CAF_SUITE processor

#include "sluice/testing.hpp"

#include <stdexcept>
#include <thread>

#include <caf/test/dsl.hpp>

#include "fixture.hpp"

using namespace sluice;
using namespace std::chrono_literals;

namespace {

record order(std::string value, std::vector<record_header> headers = {}) {
  return {"orders", 1, 7, "key", std::move(value), std::move(headers)};
}

} // namespace

CAF_TEST(a function that returns nothing is a processor) {
  testing::processor_harness shout{
      make_processor([](const record& in, context& out) { out.emit({.topic = "loud", .value = in.value + "!"}); })};
  auto result = shout.push(order("hello"));
  CAF_REQUIRE(result);
  CAF_REQUIRE_EQUAL(result.emitted.size(), 1u);
  CAF_CHECK(result.emitted[0].value == "hello!");
}

CAF_TEST(the record arrives whole) {
  std::string seen;
  testing::processor_harness name{make_processor([&seen](const record& in, context& out) {
    seen = in.topic + "/" + std::to_string(in.partition) + "/" + std::to_string(in.offset) + " " + in.key + "=" +
           in.value + " " + in.headers.at(0).value + " " + out.event_id() + " " + std::to_string(out.attempt());
  })};
  CAF_REQUIRE(name.push({"orders", 3, int64_t{1} << 40, std::string("a\0b", 3), "v", {{"x", "y"}}}, 2));
  CAF_CHECK_EQUAL(seen, "orders/3/1099511627776 " + std::string("a\0b", 3) + "=v y orders/3/1099511627776 2");
}

CAF_TEST(an error that the function returns is the answer and nothing is emitted) {
  testing::processor_harness picky{make_processor([](const record& in, context& out) -> caf::error {
    out.emit({.topic = "t", .value = "v"});
    if (in.value.empty())
      return make_failure(ec::rejected, "no value");
    return {};
  })};
  auto failed = picky.push(order(""));
  CAF_REQUIRE(!failed);
  CAF_CHECK_EQUAL(describe(failed.error), "rejected: no value");
  CAF_CHECK(failed.emitted.empty());
  auto good = picky.push(order("x"));
  CAF_CHECK(good);
  CAF_CHECK_EQUAL(good.emitted.size(), 1u);
}

CAF_TEST(an event is told apart by its header then by its envelope then by its place) {
  auto id = [](const std::string& value, const std::vector<record_header>& headers = {}) {
    return event_id_of(headers, value, "orders", 2, 7);
  };
  const auto* envelope = R"({"type":"X","data":{"metadata":{"eventId":"no"}},"metadata":{"eventId":"e-1"}})";
  CAF_CHECK_EQUAL(id(envelope, {{"sluice-event-id", "h"}}), "h");
  CAF_CHECK_EQUAL(id(envelope), "e-1");
  const auto place = "orders/2/7";
  for (const std::string value :
       {"", "text", R"("eventId")", R"({"metadata":{"eventId":7}})", R"({"metadata":{"eventId":""}})",
        R"({"metadata":["eventId"]})", R"({"data":{"eventId":"e"}})", R"({"metadata":{"eventId":"e"})"})
    CAF_CHECK_EQUAL(id(value), place);
  CAF_CHECK_EQUAL(id(R"({"metadata":{"eventId":")" + std::string(201, 'x') + R"("}})"), place);
  CAF_CHECK_EQUAL(id(R"({"metadata":{"eventId":"e"},"data":)" + std::string(100000, '[') + "}"), place);
}

CAF_TEST(each record of a context has its own id) {
  context job{"p"};
  job.begin({"orders", 0, 7, "", R"({"metadata":{"eventId":"e-1"}})"}, 1);
  CAF_CHECK_EQUAL(job.event_id(), "e-1");
  job.emit({.topic = "t"});
  job.begin({"orders", 0, 8, "", "text"}, 1);
  CAF_CHECK_EQUAL(job.event_id(), "orders/0/8");
}

CAF_TEST(an exception fails its record and the processor lives on) {
  testing::processor_harness fragile{make_processor([](const record& in, context&) {
    if (in.value == "bad")
      throw std::runtime_error("cannot read it");
    if (in.value == "worse")
      throw 42;
  })};
  auto failed = fragile.push(order("bad"));
  CAF_REQUIRE(!failed);
  CAF_CHECK_EQUAL(describe(failed.error), "processor_failed: cannot read it");
  CAF_CHECK(!fragile.push(order("worse")));
  CAF_CHECK(fragile.push(order("good")));
}

CAF_TEST(an end that is late is an error and cancels the attempt) {
  std::atomic<bool> cancelled{false};
  {
    testing::processor_harness slow{make_processor([&cancelled](const record&, context& out) {
      while (!out.cancelled())
        std::this_thread::yield();
      cancelled = true;
    })};
    auto late = slow.push(order("x"), 1, 20ms);
    CAF_REQUIRE(!late);
    CAF_CHECK(code_of(late.error) == ec::attempt_timeout);
  }
  CAF_CHECK(cancelled.load());
}

CAF_TEST(a record past its deadline is not processed) {
  testing::processor_harness any{make_processor([](const record&, context& out) {
    if (out.deadline_ms() != 9999999999999)
      throw std::runtime_error("wrong deadline");
  })};
  auto late = any.push(order("x", {{"sluice-deadline", "1"}}));
  CAF_CHECK_EQUAL(code_of(late.error), ec::expired);
  CAF_CHECK(any.push(order("x", {{"sluice-deadline", "9999999999999"}})));
}

CAF_TEST(what is emitted takes over what goes from hop to hop) {
  testing::processor_harness relay{make_processor([](const record& in, context& out) {
    out.emit({.topic = "a", .value = in.value});
    out.emit({.topic = "b", .value = in.value, .headers = {{"traceparent", "mine"}, {"sluice-event-id", "own"}}});
  })};
  auto result = relay.push(order("x", {{"traceparent", "tp"}, {"sluice-correlation-id", "c"}, {"other", "o"}}));
  CAF_REQUIRE_EQUAL(result.emitted.size(), 2u);
  auto value = [&](size_t i, const char* name) {
    const auto* found = find_header(result.emitted[i].headers, name);
    return found == nullptr ? std::string{"none"} : *found;
  };
  CAF_CHECK_EQUAL(value(0, "traceparent"), "tp");
  CAF_CHECK_EQUAL(value(0, "sluice-correlation-id"), "c");
  CAF_CHECK_EQUAL(value(0, "sluice-event-id"), "orders/1/7/1");
  CAF_CHECK_EQUAL(value(0, "other"), "none");
  CAF_CHECK_EQUAL(value(1, "traceparent"), "mine");
  CAF_CHECK_EQUAL(value(1, "sluice-event-id"), "own");
}

CAF_TEST(an actor of ones own is a processor too) {
  auto counting = make_processor([](caf::actor_system& system) -> processor_actor {
    return system.spawn([](processor_actor::pointer self) -> processor_actor::behavior_type {
      return {[self, seen = 0](const context_ptr& job) mutable {
        if (++seen == 3)
          self->quit(caf::exit_reason::user_shutdown);
        job->emit({.topic = "numbers", .value = std::to_string(seen)});
        return atom::done_v;
      }};
    });
  });
  testing::processor_harness counter{counting};
  for (const auto* expected : {"1", "2", "3"}) {
    auto result = counter.push(order("a"));
    CAF_REQUIRE(result);
    CAF_CHECK(result.emitted.at(0).value == expected);
  }
  auto gone = counter.push(order("d"));
  CAF_REQUIRE(!gone);
  CAF_CHECK(code_of(gone.error) == ec::processor_failed);
}
