// Which offsets may be committed when records finish out of order.
#define CAF_SUITE offset_ledger

#include "kafka/offset_ledger.hpp"

#include <random>

#include <caf/test/unit_test.hpp>

using namespace sluice;
using sluice::kafka::offset_ledger;
using partitions = std::vector<topic_partition>;

CAF_TEST(nothing is to be committed before something has finished) {
  offset_ledger ledger;
  ledger.begin("t", 0, 5);
  CAF_CHECK(ledger.next().empty());
  CAF_CHECK_EQUAL(ledger.in_flight(), 1u);
}

CAF_TEST(a record that finishes early waits for those before it) {
  offset_ledger ledger;
  for (auto offset : {5, 6, 7})
    ledger.begin("t", 0, offset);
  ledger.finish("t", 0, 7);
  ledger.finish("t", 0, 6);
  CAF_CHECK(ledger.next().empty());
  ledger.finish("t", 0, 5);
  CAF_CHECK(ledger.next() == partitions({{"t", 0, 8}}));
  CAF_CHECK_EQUAL(ledger.in_flight(), 0u);
}

CAF_TEST(a position is told once) {
  offset_ledger ledger;
  ledger.begin("t", 0, 0);
  ledger.finish("t", 0, 0);
  CAF_CHECK(ledger.next() == partitions({{"t", 0, 1}}));
  CAF_CHECK(ledger.next().empty());
}

CAF_TEST(holes between offsets do not hold the prefix up) {
  offset_ledger ledger;
  ledger.begin("t", 0, 10);
  ledger.begin("t", 0, 20);
  ledger.finish("t", 0, 10);
  CAF_CHECK(ledger.next() == partitions({{"t", 0, 11}}));
  ledger.finish("t", 0, 20);
  CAF_CHECK(ledger.next() == partitions({{"t", 0, 21}}));
}

CAF_TEST(partitions do not wait for one another) {
  offset_ledger ledger;
  ledger.begin("t", 0, 0);
  ledger.begin("t", 1, 0);
  ledger.begin("u", 0, 0);
  ledger.finish("t", 1, 0);
  ledger.finish("u", 0, 0);
  CAF_CHECK(ledger.next() == partitions({{"t", 1, 1}, {"u", 0, 1}}));
  CAF_CHECK_EQUAL(ledger.in_flight("t", 0), 1u);
  CAF_CHECK_EQUAL(ledger.in_flight("t", 1), 0u);
}

CAF_TEST(what finishes of a dropped partition is ignored) {
  offset_ledger ledger;
  ledger.begin("t", 0, 0);
  ledger.drop("t", 0);
  ledger.finish("t", 0, 0);
  CAF_CHECK(ledger.next().empty());
  CAF_CHECK_EQUAL(ledger.in_flight(), 0u);
}

CAF_TEST(a dropped partition may begin again at an earlier offset) {
  offset_ledger ledger;
  ledger.begin("t", 0, 9);
  ledger.drop("t", 0);
  ledger.begin("t", 0, 3);
  ledger.finish("t", 0, 3);
  CAF_CHECK(ledger.next() == partitions({{"t", 0, 4}}));
}

CAF_TEST(records that begin or finish twice count once) {
  offset_ledger ledger;
  ledger.begin("t", 0, 1);
  ledger.begin("t", 0, 1);
  ledger.begin("t", 0, 0);
  CAF_CHECK_EQUAL(ledger.in_flight(), 1u);
  ledger.finish("t", 0, 1);
  ledger.finish("t", 0, 1);
  CAF_CHECK_EQUAL(ledger.in_flight(), 0u);
  CAF_CHECK(ledger.next() == partitions({{"t", 0, 2}}));
}

CAF_TEST(in any order of finishing the position is the first unfinished record) {
  std::mt19937 random{7};
  for (int round = 0; round < 50; ++round) {
    offset_ledger ledger;
    std::vector<int64_t> offsets;
    int64_t last = 0;
    for (int i = 0; i < 100; ++i)
      offsets.push_back(last += 1 + static_cast<int64_t>(random() % 3));
    for (auto offset : offsets)
      ledger.begin("t", 0, offset);
    auto order = offsets;
    std::shuffle(order.begin(), order.end(), random);
    std::vector<bool> finished(static_cast<std::size_t>(last) + 1);
    int64_t told = -1;
    for (auto offset : order) {
      ledger.finish("t", 0, offset);
      finished[static_cast<std::size_t>(offset)] = true;
      int64_t expected = -1;
      for (auto candidate : offsets) {
        if (!finished[static_cast<std::size_t>(candidate)])
          break;
        expected = candidate + 1;
      }
      for (const auto& moved : ledger.next())
        told = moved.offset;
      CAF_REQUIRE_EQUAL(told, expected);
    }
  }
}
