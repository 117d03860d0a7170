// Processors from plain functions, through the harness that users get.
#define CAF_SUITE processor

#include "sluice/testing.hpp"

#include <stdexcept>
#include <thread>

#include <caf/test/dsl.hpp>

#include "fixture.hpp"

using namespace sluice;
using namespace std::chrono_literals;

namespace {

record order(std::string value) {
  return {"orders", 1, 7, "key", std::move(value)};
}

} // namespace

CAF_TEST(a function that returns a string is a processor) {
  testing::processor_harness shout{make_processor([](const record& x) { return x.value + "!"; })};
  auto result = shout.push(order("hello"));
  CAF_REQUIRE(result);
  CAF_CHECK_EQUAL(*result, "hello!");
}

CAF_TEST(the record arrives whole) {
  testing::processor_harness name{make_processor([](const record& x) {
    return x.topic + "/" + std::to_string(x.partition) + "/" + std::to_string(x.offset) + " " + x.key + "=" + x.value;
  })};
  auto result = name.push({"orders", 3, int64_t{1} << 40, std::string("a\0b", 3), "v"});
  CAF_REQUIRE(result);
  CAF_CHECK_EQUAL(*result, "orders/3/1099511627776 " + std::string("a\0b", 3) + "=v");
}

CAF_TEST(an error that the function returns is the answer) {
  testing::processor_harness picky{make_processor([](const record& x) -> caf::expected<std::string> {
    if (x.value.empty())
      return make_failure(ec::malformed_record, "no value");
    return x.value;
  })};
  auto failed = picky.push(order(""));
  CAF_REQUIRE(!failed);
  CAF_CHECK_EQUAL(describe(failed.error()), "malformed_record: no value");
  CAF_CHECK(picky.push(order("x")));
}

CAF_TEST(an exception fails its record and the processor lives on) {
  testing::processor_harness fragile{make_processor([](const record& x) -> caf::expected<std::string> {
    if (x.value == "bad")
      throw std::runtime_error("cannot read it");
    if (x.value == "worse")
      throw 42;
    return x.value;
  })};
  auto failed = fragile.push(order("bad"));
  CAF_REQUIRE(!failed);
  CAF_CHECK_EQUAL(describe(failed.error()), "processor_failed: cannot read it");
  CAF_CHECK(!fragile.push(order("worse")));
  auto result = fragile.push(order("good"));
  CAF_REQUIRE(result);
  CAF_CHECK_EQUAL(*result, "good");
}

CAF_TEST(a result that is late is an error) {
  testing::processor_harness slow{make_processor([](const record& x) {
    std::this_thread::sleep_for(200ms);
    return x.value;
  })};
  auto late = slow.push(order("x"), 20ms);
  CAF_REQUIRE(!late);
  CAF_CHECK(late.error() == caf::sec::request_timeout);
}

CAF_TEST(an actor of ones own is a processor too) {
  processor_factory counting = [](caf::actor_system& system) -> processor_actor {
    return system.spawn([](processor_actor::pointer self) -> processor_actor::behavior_type {
      return {[self, seen = 0](const record&) mutable -> std::string {
        if (++seen == 3)
          self->quit(caf::exit_reason::user_shutdown);
        return std::to_string(seen);
      }};
    });
  };
  testing::processor_harness counter{counting};
  CAF_CHECK_EQUAL(std::string{*counter.push(order("a"))}, "1");
  CAF_CHECK_EQUAL(std::string{*counter.push(order("b"))}, "2");
  CAF_CHECK_EQUAL(std::string{*counter.push(order("c"))}, "3");
  auto gone = counter.push(order("d"));
  CAF_REQUIRE(!gone);
  CAF_CHECK(gone.error() == caf::sec::request_receiver_down);
}
