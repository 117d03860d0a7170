// Records that wait for workers: order per key, and no key with two workers at a time.
#define CAF_SUITE key_lanes

#include "key_lanes.hpp"

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>

#include <caf/test/unit_test.hpp>

using namespace sluice;

namespace {

/// One record; a key of "" is none.
class single : public record_batch {
public:
  single(std::string key, int64_t offset) : key_(std::move(key)) {
    view_.key = key_;
    view_.has_key = !key_.empty();
    view_.offset = offset;
  }
  const std::string& topic() const noexcept override { return key_; }
  int32_t partition() const noexcept override { return 0; }
  std::span<const record_view> records() const noexcept override { return {&view_, 1}; }
  std::vector<record_header> headers(std::size_t) const override { return {}; }

private:
  std::string key_;
  record_view view_;
};

key_lanes::item make(const std::string& key, uint64_t number) {
  key_lanes::item one;
  one.batch = std::make_shared<single>(key, static_cast<int64_t>(number));
  one.number = number;
  return one;
}

std::string key_of(const key_lanes::item& one) {
  return std::string{one.batch->records()[0].key};
}

std::vector<uint64_t> numbers(const std::vector<key_lanes::item>& items) {
  std::vector<uint64_t> all;
  for (const auto& one : items)
    all.push_back(one.number);
  return all;
}

using list = std::vector<uint64_t>;

} // namespace

CAF_TEST(a key is with one taker at a time) {
  key_lanes lanes;
  for (uint64_t i = 0; i < 3; ++i)
    lanes.push(make("a", i));
  auto first = lanes.take(2, 9);
  CAF_CHECK_EQUAL(numbers(first), (list{0, 1}));
  CAF_CHECK_EQUAL(lanes.ready(), 0u);
  lanes.push(make("a", 3));
  CAF_CHECK_EQUAL(lanes.ready(), 0u);
  lanes.done(first[0]);
  CAF_CHECK_EQUAL(lanes.ready(), 0u);
  lanes.done(first[1]);
  CAF_CHECK_EQUAL(lanes.ready(), 1u);
  CAF_CHECK_EQUAL(numbers(lanes.take(9, 9)), (list{2, 3}));
}

CAF_TEST(keys are taken in turn and no more of them than asked for) {
  key_lanes lanes;
  for (uint64_t i = 0; i < 6; ++i)
    lanes.push(make(std::string(1, static_cast<char>('a' + i % 3)), i));
  CAF_CHECK_EQUAL(lanes.ready(), 3u);
  CAF_CHECK_EQUAL(numbers(lanes.take(9, 2)), (list{0, 3, 1, 4}));
  CAF_CHECK_EQUAL(numbers(lanes.take(1, 2)), (list{2}));
  CAF_CHECK(lanes.take(9, 9).empty());
}

CAF_TEST(what is put back comes before what waits) {
  key_lanes lanes;
  for (uint64_t i = 0; i < 4; ++i)
    lanes.push(make("a", i));
  auto taken = lanes.take(3, 1);
  lanes.put_back(taken[2]);
  lanes.put_back(taken[1]);
  CAF_CHECK_EQUAL(lanes.ready(), 0u);
  lanes.done(taken[0]);
  CAF_CHECK_EQUAL(numbers(lanes.take(9, 9)), (list{1, 2, 3}));
}

CAF_TEST(records without a key do not wait for one another) {
  key_lanes lanes;
  for (uint64_t i = 0; i < 3; ++i)
    lanes.push(make("", i));
  CAF_CHECK_EQUAL(lanes.ready(), 3u);
}

CAF_TEST(a key stays in its queue) {
  key_lanes lanes{3};
  std::map<std::string, size_t> queue_of;
  for (uint64_t i = 0; i < 300; ++i)
    lanes.push(make("k" + std::to_string(i % 60), i));
  for (int round = 0; round < 2; ++round)
    for (size_t queue = 0; queue < lanes.queues(); ++queue)
      for (const auto& one : lanes.take(round == 0 ? 50 : 300, 300, queue)) {
        CAF_CHECK_EQUAL(queue_of.emplace(key_of(one), queue).first->second, queue);
        lanes.done(one);
      }
  CAF_CHECK_EQUAL(queue_of.size(), 60u);
  for (size_t queue = 0; queue < lanes.queues(); ++queue)
    CAF_CHECK_EQUAL(lanes.ready(queue), 0u);
}

CAF_TEST(what is erased is asked for once and never taken) {
  key_lanes lanes;
  for (uint64_t i = 0; i < 6; ++i)
    lanes.push(make(i < 4 ? "a" : "b", i));
  list asked;
  lanes.erase_if([&](const auto& one) {
    asked.push_back(one.number);
    return one.number >= 3;
  });
  std::sort(asked.begin(), asked.end());
  CAF_CHECK_EQUAL(asked, (list{0, 1, 2, 3, 4, 5}));
  CAF_CHECK_EQUAL(lanes.ready(), 1u);
  lanes.push(make("a", 6));
  lanes.push(make("b", 7));
  CAF_CHECK_EQUAL(numbers(lanes.take(9, 9)), (list{0, 1, 2, 6, 7}));
}

CAF_TEST(whatever takers do each key comes out in order and once) {
  std::minstd_rand random{7};
  key_lanes lanes;
  std::vector<std::vector<key_lanes::item>> takers(5);
  std::map<std::string, uint64_t> last;
  uint64_t pushed = 0, ended = 0;
  constexpr uint64_t total = 20000;
  while (ended < total) {
    for (auto n = random() % 20; n > 0 && pushed < total; --n)
      lanes.push(make("k" + std::to_string(random() % 50), ++pushed));
    auto& mine = takers[random() % takers.size()];
    if (mine.empty()) {
      mine = lanes.take(1 + random() % 8, 1 + random() % 4);
      std::set<std::string> elsewhere;
      for (const auto& other : takers)
        if (&other != &mine)
          for (const auto& one : other)
            elsewhere.insert(key_of(one));
      CAF_REQUIRE(std::none_of(mine.begin(), mine.end(), [&](const auto& x) { return elsewhere.contains(key_of(x)); }));
      continue;
    }
    const auto ends = random() % (mine.size() + 1);
    for (size_t i = mine.size(); i > ends; --i)
      lanes.put_back(mine[i - 1]);
    for (size_t i = 0; i < ends; ++i, ++ended) {
      auto& before = last[key_of(mine[i])];
      CAF_REQUIRE_LESS(before, mine[i].number);
      before = mine[i].number;
      lanes.done(mine[i]);
    }
    mine.clear();
  }
  CAF_CHECK_EQUAL(lanes.ready(), 0u);
  CAF_CHECK_EQUAL(last.size(), 50u);
}
