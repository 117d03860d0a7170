#define CAF_SUITE live_history

#include "live_history.hpp"

#include "fixture.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

using standing = live_history::standing;

const std::vector<std::string> both{"a", "b"};

live_cursor at(std::vector<int64_t> a, std::vector<int64_t> b) {
  live_cursor cursor;
  cursor.next[topic_hash("a")] = std::move(a);
  cursor.next[topic_hash("b")] = std::move(b);
  return cursor;
}

/// Two topics, a with two partitions; nothing known from before.
live_history fresh(uint64_t bytes = 1000000) {
  live_history history{bytes};
  history.begin({"a", 0, 10}, 10);
  history.begin({"a", 1, 20}, 20);
  history.begin({"b", 0, 5}, 5);
  return history;
}

std::vector<std::string> texts(const std::vector<live_history::kept_record>& records) {
  std::vector<std::string> result;
  for (const auto& [batch, index] : records)
    result.emplace_back(batch->records()[index].value);
  return result;
}

} // namespace

CAF_TEST(what a client has missed comes in the order it came here) {
  auto history = fresh();
  history.add(batch("a", 0, 10, {"1", "2"}));
  history.add(batch("b", 0, 5, {"3"}));
  history.add(batch("a", 1, 20, {"4"}));
  history.add(batch("a", 0, 12, {"5"}));
  CAF_CHECK_EQUAL(history.judge(at({11, 20}, {5}), both), standing::recent);
  CAF_CHECK_EQUAL(texts(history.missed(at({11, 20}, {5}), both)), (std::vector<std::string>{"2", "3", "4", "5"}));
  CAF_CHECK_EQUAL(texts(history.missed(at({13, 21}, {6}), both)), std::vector<std::string>{});
}

CAF_TEST(cursors are judged by what is kept) {
  auto history = fresh();
  history.add(batch("a", 0, 10, {"1"}));
  CAF_CHECK_EQUAL(history.judge(at({11, 20}, {5}), both), standing::recent);
  CAF_CHECK_EQUAL(history.judge(at({9, 20}, {5}), both), standing::older);
  CAF_CHECK_EQUAL(history.judge(at({12, 20}, {5}), both), standing::ahead);
  CAF_CHECK_EQUAL(history.judge(at({11, 20, 3}, {5}), both), standing::ahead);
  CAF_CHECK_EQUAL(history.judge(live_cursor{{{topic_hash("other"), {1}}}}, both), standing::foreign);
}

CAF_TEST(the oldest batches go when there are too many bytes) {
  auto history = fresh(400);
  history.add(batch("a", 0, 10, {"1"}));
  history.add(batch("b", 0, 5, {"2"}));
  CAF_CHECK_EQUAL(history.judge(at({10, 20}, {5}), both), standing::recent);
  history.add(batch("a", 0, 11, {"3"}));
  CAF_CHECK_EQUAL(history.judge(at({10, 20}, {5}), both), standing::older);
  CAF_CHECK_EQUAL(history.judge(at({11, 20}, {5}), both), standing::recent);
  CAF_CHECK_EQUAL(texts(history.missed(at({11, 20}, {5}), both)), (std::vector<std::string>{"2", "3"}));
}

CAF_TEST(it is warm when every partition has come to where its end was) {
  live_history history{1000000};
  history.begin({"a", 0, 10}, 7);
  history.begin({"b", 0, 5}, 3);
  CAF_CHECK(!history.is_warm());
  history.add(batch("a", 0, 7, {"1", "2", "3"}));
  CAF_CHECK(!history.is_warm());
  history.add(batch("b", 0, 3, {"4"}));
  CAF_CHECK(!history.is_warm());
  history.reached({"b", 0, 5}); // the last one is a transaction's marker
  CAF_CHECK(history.is_warm());
  CAF_CHECK_EQUAL(history.judge(at({7}, {3}), both), standing::recent);
  CAF_CHECK_EQUAL(history.judge(at({10}, {5}), both), standing::recent);
  CAF_CHECK_EQUAL(history.live_from("a", 0), 10);
}

CAF_TEST(records deleted before the first that came are not claimed to be kept) {
  live_history history{1000000};
  history.begin({"a", 0, 10}, 2);
  history.add(batch("a", 0, 6, {"1", "2", "3", "4"}));
  CAF_CHECK_EQUAL(history.judge(live_cursor{{{topic_hash("a"), {4}}}}, {"a"}), standing::older);
  CAF_CHECK_EQUAL(history.judge(live_cursor{{{topic_hash("a"), {6}}}}, {"a"}), standing::recent);
}

CAF_TEST(a marker at the end moves the place on) {
  auto history = fresh();
  history.add(batch("a", 0, 10, {"1"}));
  history.reached({"a", 0, 12});
  CAF_CHECK_EQUAL(history.judge(at({12, 20}, {5}), both), standing::recent);
  auto place = history.place_in({"a"});
  CAF_CHECK_EQUAL(place.next.at(topic_hash("a")), (std::vector<int64_t>{12, 20}));
}

CAF_TEST(a cursor is completed with what it does not know) {
  auto history = fresh();
  history.add(batch("a", 0, 10, {"1"}));
  auto whole = history.completed(live_cursor{{{topic_hash("a"), {10}}}}, both);
  CAF_CHECK_EQUAL(whole.next.at(topic_hash("a")), (std::vector<int64_t>{10, 0})); // a partition made later: all of it
  CAF_CHECK_EQUAL(whole.next.at(topic_hash("b")), (std::vector<int64_t>{5}));     // a topic added later: from now on
}

CAF_TEST(a partition that is forgotten takes its batches along) {
  auto history = fresh();
  history.add(batch("a", 0, 10, {"1"}));
  history.add(batch("b", 0, 5, {"2"}));
  history.forget({"a", 0, 0});
  CAF_CHECK_EQUAL(texts(history.missed(at({10, 20}, {5}), both)), (std::vector<std::string>{"2"}));
  history.begin({"a", 0, 11}, 11);
  history.add(batch("a", 0, 11, {"3"}));
  CAF_CHECK_EQUAL(texts(history.missed(at({11, 20}, {6}), both)), (std::vector<std::string>{"3"}));
}

CAF_TEST(a client from before a topic was made misses nothing of it) {
  live_history history{1000000};
  history.foresee("a");
  auto before = history.place_in({"a"});
  history.begin({"a", 0, 0}, 0);
  history.add(batch("a", 0, 0, {"1"}));
  CAF_CHECK_EQUAL(history.judge(before, {"a"}), standing::recent);
  CAF_CHECK_EQUAL(texts(history.missed(history.completed(before, {"a"}), {"a"})), std::vector<std::string>{"1"});
}
