// Which offset may be committed when records finish out of order, and what the metadata remembers.
#define CAF_SUITE offset_ledger

#include "offset_ledger.hpp"

#include <algorithm>
#include <random>
#include <set>

#include <caf/test/unit_test.hpp>

using namespace sluice;

CAF_TEST(nothing is to be committed before something has begun) {
  offset_ledger ledger;
  CAF_CHECK_EQUAL(ledger.next(), -1);
  ledger.begin(5);
  CAF_CHECK_EQUAL(ledger.next(), 5);
  CAF_CHECK_EQUAL(ledger.in_flight(), 1u);
}

CAF_TEST(a record that finishes early waits for those before it) {
  offset_ledger ledger;
  auto first = ledger.begin(5), second = ledger.begin(6), third = ledger.begin(7);
  ledger.finish(third);
  ledger.finish(second);
  CAF_CHECK_EQUAL(ledger.next(), 5);
  CAF_CHECK_EQUAL(ledger.span(), 3u);
  ledger.finish(first);
  CAF_CHECK_EQUAL(ledger.next(), 8);
  CAF_CHECK_EQUAL(ledger.in_flight(), 0u);
  CAF_CHECK_EQUAL(ledger.span(), 0u);
}

CAF_TEST(holes between offsets do not hold the prefix up) {
  offset_ledger ledger;
  auto first = ledger.begin(10), second = ledger.begin(20);
  ledger.finish(first);
  CAF_CHECK_EQUAL(ledger.next(), 11);
  ledger.finish(second);
  CAF_CHECK_EQUAL(ledger.next(), 21);
}

CAF_TEST(without anything beyond the prefix there is no metadata) {
  offset_ledger ledger;
  ledger.finish(ledger.begin(0));
  ledger.begin(1);
  CAF_CHECK(ledger.metadata().empty());
}

CAF_TEST(metadata of others is ignored) {
  for (const auto* text : {"", "s1", "s1:", "s1:A", "s1:!!", "hello", "s1:AA", "s2:AB"}) {
    offset_ledger ledger;
    ledger.restore(0, text);
    CAF_CHECK(!ledger.was_finished(0));
    CAF_CHECK(!ledger.was_finished(1));
  }
}

CAF_TEST(what has not been read again yet stays in the metadata) {
  offset_ledger former;
  former.begin(0);
  auto second = former.begin(1);
  former.begin(2);
  auto fourth = former.begin(3);
  former.finish(second);
  former.finish(fourth);
  offset_ledger ledger;
  ledger.restore(former.next(), former.metadata());
  ledger.begin(0); // and crashes here
  offset_ledger next;
  next.restore(ledger.next(), ledger.metadata());
  CAF_CHECK(!next.was_finished(0));
  CAF_CHECK(next.was_finished(1));
  CAF_CHECK(!next.was_finished(2));
  CAF_CHECK(next.was_finished(3));
}

CAF_TEST(in any order of finishing the position is the first unfinished record and the metadata names the others) {
  std::mt19937 random{7};
  for (int round = 0; round < 50; ++round) {
    offset_ledger ledger;
    std::vector<std::pair<int64_t, uint64_t>> begun;
    int64_t last = static_cast<int64_t>(random() % 1000000000);
    for (int i = 0; i < 100; ++i) {
      last += 1 + static_cast<int64_t>(random() % 3);
      begun.emplace_back(last, ledger.begin(last));
    }
    auto order = begun;
    std::shuffle(order.begin(), order.end(), random);
    std::set<int64_t> finished;
    for (const auto& [offset, number] : order) {
      ledger.finish(number);
      finished.insert(offset);
      auto expected = begun.back().first + 1;
      for (const auto& one : begun)
        if (!finished.contains(one.first)) {
          expected = one.first;
          break;
        }
      // Where a hole lies before the first unfinished record, the position is right behind the last finished one.
      CAF_REQUIRE(ledger.next() <= expected);
      CAF_REQUIRE(std::none_of(begun.begin(), begun.end(),
                               [&](const auto& one) { return one.first >= ledger.next() && one.first < expected; }));
      offset_ledger next;
      next.restore(ledger.next(), ledger.metadata());
      for (const auto& one : begun)
        if (one.first >= ledger.next())
          CAF_REQUIRE_EQUAL(next.was_finished(one.first), finished.contains(one.first));
    }
  }
}

CAF_TEST(metadata is bounded and remembers the nearest) {
  offset_ledger ledger;
  for (int64_t offset = 0; offset < 100000; ++offset) {
    auto number = ledger.begin(offset);
    if (offset % 2 == 1)
      ledger.finish(number);
  }
  auto text = ledger.metadata();
  CAF_CHECK_LESS_OR_EQUAL(text.size(), offset_ledger::max_metadata);
  CAF_CHECK_GREATER(text.size(), offset_ledger::max_metadata - 10);
  offset_ledger next;
  next.restore(ledger.next(), text);
  CAF_CHECK(next.was_finished(1));
  CAF_CHECK(!next.was_finished(2));
  CAF_CHECK(next.was_finished(1001));
  CAF_CHECK(!next.was_finished(99999));
}
