#define CAF_SUITE circuit_breaker

#include "sluice/circuit_breaker.hpp"

#include <stdexcept>

#include <caf/test/unit_test.hpp>

#include "sluice/error.hpp"

using namespace sluice;
using namespace std::chrono_literals;

namespace {

struct fixture {
  circuit_breaker sut{{.failures = 3, .first_wait = 100ms, .max_wait = 350ms}};
  circuit_breaker::clock::time_point now{1h};

  void fail(int times = 1) {
    for (int i = 0; i < times; ++i)
      sut.report("bank", false, now);
  }
  std::chrono::milliseconds admit(const std::string& system = "bank") { return sut.admit(system, now); }
};

caf::error gone() {
  return make_failure(ec::target_unavailable, "gone");
}

} // namespace

CAF_TEST_FIXTURE_SCOPE(circuit_breaker_tests, fixture)

CAF_TEST(a system is spared once it has failed often enough in a row) {
  fail(2);
  CAF_CHECK_EQUAL(admit(), 0ms);
  sut.report("bank", true, now);
  fail(2);
  CAF_CHECK_EQUAL(admit(), 0ms);
  fail();
  CAF_CHECK_EQUAL(admit(), 100ms);
  CAF_CHECK_EQUAL(admit("other"), 0ms);
  now += 60ms;
  CAF_CHECK_EQUAL(admit(), 40ms);
}

CAF_TEST(one call tries and the others go on waiting) {
  fail(3);
  now += 100ms;
  CAF_CHECK_EQUAL(admit(), 0ms);
  CAF_CHECK_EQUAL(admit(), 100ms);
  sut.report("bank", true, now);
  CAF_CHECK_EQUAL(admit(), 0ms);
  fail(2);
  CAF_CHECK_EQUAL(admit(), 0ms); // counted anew
}

CAF_TEST(the wait doubles up to its bound while trials fail) {
  fail(3);
  for (auto wait : {200ms, 350ms, 350ms}) {
    now += admit();
    CAF_CHECK_EQUAL(admit(), 0ms);
    fail();
    CAF_CHECK_EQUAL(admit(), wait);
  }
}

CAF_TEST(what began before the circuit opened does not make the wait longer) {
  fail(3);
  fail(5);
  CAF_CHECK_EQUAL(admit(), 100ms);
}

CAF_TEST(a trial that nobody tells of is followed by another) {
  fail(3);
  now += 100ms;
  CAF_CHECK_EQUAL(admit(), 0ms);
  now += 350ms;
  CAF_CHECK_EQUAL(admit(), 0ms);
}

CAF_TEST(calls are not made while the circuit is open) {
  int calls = 0;
  auto call = [&](const caf::error& outcome) {
    return sut.call("bank", [&] {
      ++calls;
      return outcome;
    });
  };
  for (int i = 0; i < 2; ++i)
    CAF_CHECK_EQUAL(code_of(call(gone())), ec::target_unavailable);
  CAF_CHECK_EQUAL(code_of(call(make_failure(ec::rejected, "no"))), ec::rejected); // it answers
  for (int i = 0; i < 2; ++i)
    CAF_CHECK_EQUAL(code_of(call(gone())), ec::target_unavailable);
  auto thrown = false;
  try {
    static_cast<void>(sut.call("bank", [&]() -> caf::error {
      ++calls;
      throw std::runtime_error("gone");
    }));
  } catch (const std::runtime_error&) {
    thrown = true;
  }
  CAF_CHECK(thrown);
  CAF_CHECK_EQUAL(calls, 6);
  auto error = call({});
  CAF_CHECK(retry_after_of(error));
  CAF_CHECK_EQUAL(calls, 6);
}

CAF_TEST(there is a bound to the systems that are watched) {
  for (size_t i = 0; i < circuit_breaker::max_systems + 10; ++i)
    for (int j = 0; j < 3; ++j)
      sut.report("host-" + std::to_string(i), false, now);
  CAF_CHECK_GREATER(admit("host-0"), 0ms);
  CAF_CHECK_EQUAL(admit("host-" + std::to_string(circuit_breaker::max_systems + 1)), 0ms);
}

CAF_TEST_FIXTURE_SCOPE_END()
