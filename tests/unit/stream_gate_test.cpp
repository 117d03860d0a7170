#define CAF_SUITE stream_gate

#include "http/stream_gate.hpp"

#include <string>
#include <vector>

#include "sluice/caf.hpp"

#include <caf/test/unit_test.hpp>

using namespace sluice;
using namespace sluice::http;
using namespace std::chrono_literals;

namespace {

using refusal = stream_gate::refusal;

const auto start = stream_gate::clock::time_point{} + 1h;

sse_config limits(uint32_t streams, uint32_t an_address, uint32_t a_second) {
  sse_config cfg;
  cfg.max_streams = streams;
  cfg.max_streams_per_address = an_address;
  cfg.max_opens_per_second = a_second;
  return cfg;
}

} // namespace

CAF_TEST(without limits everyone may come) {
  stream_gate gate{limits(0, 0, 0)};
  for (int i = 0; i < 1000; ++i)
    CAF_REQUIRE(gate.admit("10.0.0.1", "", start).second == refusal::none);
}

CAF_TEST(there are as many streams as allowed and a place that is left is free again) {
  stream_gate gate{limits(2, 0, 0)};
  auto a = gate.admit("10.0.0.1").first;
  auto b = gate.admit("10.0.0.2").first;
  CAF_CHECK(gate.admit("10.0.0.3").second == refusal::streams);
  a = {};
  auto [c, why] = gate.admit("10.0.0.3");
  CAF_CHECK(why == refusal::none);
  CAF_CHECK(gate.admit("10.0.0.1").second == refusal::streams);
}

CAF_TEST(an address has its own limit) {
  stream_gate gate{limits(0, 2, 0)};
  auto a = gate.admit("10.0.0.1").first;
  auto b = gate.admit("10.0.0.1").first;
  CAF_CHECK(gate.admit("10.0.0.1").second == refusal::address);
  CAF_CHECK(gate.admit("::ffff:10.0.0.1").second == refusal::address);
  CAF_CHECK(gate.admit("10.0.0.2").second == refusal::none);
  b = {};
  CAF_CHECK(gate.admit("10.0.0.1").second == refusal::none);
}

CAF_TEST(a user has a limit of its own wherever it comes from) {
  auto cfg = limits(0, 0, 0);
  cfg.max_streams_per_user = 2;
  stream_gate gate{cfg};
  auto a = gate.admit("10.0.0.1", "ann").first;
  auto b = gate.admit("10.0.0.2", "ann").first;
  CAF_CHECK(gate.admit("10.0.0.3", "ann").second == refusal::user);
  CAF_CHECK(gate.admit("10.0.0.1", "bob").second == refusal::none);
  std::vector<stream_pass> nobodys;
  for (int i = 0; i < 3; ++i)
    nobodys.push_back(gate.admit("10.0.0.1", "").first);
  CAF_CHECK(nobodys.back());
  b = {};
  CAF_CHECK(gate.admit("10.0.0.3", "ann").second == refusal::none);
}

CAF_TEST(a network of IPv6 counts as one address) {
  stream_gate gate{limits(0, 1, 0)};
  auto a = gate.admit("2001:db8:0:1::1").first;
  CAF_CHECK(gate.admit("2001:db8:0:1:ffff::2").second == refusal::address);
  CAF_CHECK(gate.admit("2001:db8:0:2::1").second == refusal::none);
}

CAF_TEST(an address opens only so many streams a second) {
  stream_gate gate{limits(0, 0, 3)};
  for (int i = 0; i < 3; ++i)
    CAF_CHECK(gate.admit("10.0.0.1", "", start).second == refusal::none);
  CAF_CHECK(gate.admit("10.0.0.1", "", start).second == refusal::rate);
  CAF_CHECK(gate.admit("10.0.0.2", "", start).second == refusal::none);
  CAF_CHECK(gate.admit("10.0.0.1", "", start + 300ms).second == refusal::rate);
  CAF_CHECK(gate.admit("10.0.0.1", "", start + 400ms).second == refusal::none);
  CAF_CHECK(gate.admit("10.0.0.1", "", start + 400ms).second == refusal::rate);
  for (int i = 0; i < 3; ++i)
    CAF_CHECK(gate.admit("10.0.0.1", "", start + 1h).second == refusal::none);
  CAF_CHECK(gate.admit("10.0.0.1", "", start + 1h).second == refusal::rate);
}

CAF_TEST(many addresses do not confuse it) {
  stream_gate gate{limits(0, 1, 1)};
  std::vector<stream_pass> kept;
  auto now = start;
  auto address = [](int i) {
    return "10." + std::to_string(i >> 16) + "." + std::to_string(i >> 8 & 255) + "." + std::to_string(i & 255);
  };
  for (int i = 0; i < 200000; ++i) {
    now += 1ms;
    auto [pass, why] = gate.admit(address(i), "", now);
    CAF_REQUIRE(why == refusal::none);
    if (i % 1000 == 0)
      kept.push_back(std::move(pass));
  }
  CAF_CHECK(gate.admit(address(1000), "", now).second == refusal::address);
  CAF_CHECK(gate.admit(address(199999), "", now).second == refusal::rate);
  kept.clear();
  CAF_CHECK(gate.admit(address(1000), "", now).second == refusal::none);
}
