#include "live_history.hpp"

#include <algorithm>

namespace sluice {

namespace {

/// What a kept record costs besides its bytes.
constexpr uint64_t record_overhead = 160;

int64_t last_offset(const record_batch& batch) {
  return batch.records().back().offset;
}

} // namespace

void live_history::begin(const topic_partition& where, int64_t from) {
  forget(where);
  auto& all = topics_[where.topic];
  auto index = static_cast<size_t>(where.partition);
  if (all.size() <= index)
    all.resize(index + 1);
  auto& one = all[index];
  one.known = true;
  one.live = std::max<int64_t>(where.offset, 0);
  one.next = one.first = std::clamp<int64_t>(from, 0, one.live);
  if (one.next < one.live)
    ++cold_;
}

void live_history::move(partition& which, int64_t next) {
  bool was_cold = which.next < which.live;
  which.next = std::max(which.next, next);
  if (was_cold && which.next >= which.live)
    --cold_;
}

void live_history::reached(const topic_partition& where) {
  auto* one = find(where);
  if (one == nullptr || !one->known)
    return;
  if (std::exchange(one->fresh, false))
    one->first = where.offset;
  // An end before the one that was known at first would be another log's.
  move(*one, std::max(where.offset, one->live));
}

int64_t live_history::live_from(const std::string& topic, int32_t partition) const {
  const auto* one = find(topic, static_cast<size_t>(partition));
  return one == nullptr ? 0 : one->live;
}

void live_history::forget(const topic_partition& where) {
  auto* one = find(where);
  if (one == nullptr || !one->known)
    return;
  if (one->next < one->live)
    --cold_;
  for (const auto& x : one->batches)
    bytes_ -= x.bytes;
  *one = {};
  std::erase(order_, std::pair{where.topic, static_cast<size_t>(where.partition)});
}

void live_history::add(batch_ptr batch) {
  auto* one = find({batch->topic(), batch->partition(), 0});
  if (one == nullptr || !one->known)
    return;
  // What lies before the first record that came may have been deleted; that is for Kafka to say.
  if (std::exchange(one->fresh, false))
    one->first = std::max(one->first, batch->records().front().offset);
  move(*one, last_offset(*batch) + 1);
  uint64_t size = 0;
  for (const auto& record : batch->records())
    size += record.value.size() + record.key.size() + record_overhead;
  bytes_ += size;
  order_.emplace_back(batch->topic(), static_cast<size_t>(batch->partition()));
  one->batches.push_back({std::move(batch), serial_++, size});
  shrink();
}

void live_history::shrink() {
  while (bytes_ > max_bytes_ && !order_.empty()) {
    auto [topic, index] = std::move(order_.front());
    order_.pop_front();
    auto& one = topics_[topic][index];
    auto& oldest = one.batches.front();
    bytes_ -= oldest.bytes;
    one.first = std::max(one.first, last_offset(*oldest.batch) + 1);
    one.batches.pop_front();
  }
}

std::vector<std::string> live_history::topics() const {
  std::vector<std::string> names;
  for (const auto& [name, ignored] : topics_)
    names.push_back(name);
  return names;
}

live_cursor live_history::place_in(const std::vector<std::string>& topics) const {
  live_cursor place;
  for (const auto& topic : topics) {
    auto found = topics_.find(topic);
    if (found == topics_.end())
      continue;
    auto& next = place.next[topic_hash(topic)];
    for (const auto& one : found->second)
      next.push_back(one.known ? one.next : -1);
  }
  return place;
}

const live_history::partition* live_history::find(const std::string& topic, size_t index) const {
  auto found = topics_.find(topic);
  return found == topics_.end() || found->second.size() <= index ? nullptr : &found->second[index];
}

live_history::partition* live_history::find(const topic_partition& where) {
  auto found = topics_.find(where.topic);
  auto index = static_cast<size_t>(where.partition);
  return found == topics_.end() || found->second.size() <= index ? nullptr : &found->second[index];
}

live_cursor live_history::completed(const live_cursor& cursor, const std::vector<std::string>& topics) const {
  auto whole = place_in(topics);
  for (auto& [hash, next] : whole.next) {
    auto known = cursor.next.find(hash);
    if (known == cursor.next.end())
      continue;
    for (size_t i = 0; i < next.size(); ++i)
      if (i >= known->second.size())
        next[i] = 0;
      else if (known->second[i] >= 0)
        next[i] = known->second[i];
  }
  return whole;
}

live_history::standing live_history::judge(const live_cursor& cursor, const std::vector<std::string>& topics) const {
  auto result = standing::recent;
  bool any = topics.empty();
  for (const auto& topic : topics) {
    auto known = cursor.next.find(topic_hash(topic));
    if (known == cursor.next.end())
      continue;
    any = true;
    for (size_t i = 0; i < known->second.size(); ++i) {
      auto next = known->second[i];
      const auto* here = find(topic, i);
      if (next < 0)
        continue;
      if (here == nullptr || !here->known || next > here->next)
        return standing::ahead;
      if (next < here->first)
        result = standing::older;
    }
    auto found = topics_.find(topic);
    for (size_t i = known->second.size(); found != topics_.end() && i < found->second.size(); ++i)
      if (found->second[i].first > 0)
        result = standing::older;
  }
  return any ? result : standing::foreign;
}

std::vector<live_history::kept_record> live_history::missed(const live_cursor& cursor,
                                                            const std::vector<std::string>& topics) const {
  std::vector<std::pair<uint64_t, kept_record>> found;
  for (const auto& topic : topics) {
    auto at = topics_.find(topic);
    auto from = cursor.next.find(topic_hash(topic));
    if (at == topics_.end() || from == cursor.next.end())
      continue;
    for (size_t i = 0; i < at->second.size() && i < from->second.size(); ++i) {
      auto next = from->second[i];
      const auto& batches = at->second[i].batches;
      if (next < 0)
        continue;
      auto first = std::partition_point(batches.begin(), batches.end(),
                                        [next](const kept& x) { return last_offset(*x.batch) < next; });
      for (; first != batches.end(); ++first) {
        auto records = first->batch->records();
        auto begin = std::partition_point(records.begin(), records.end(),
                                          [next](const record_view& x) { return x.offset < next; });
        for (auto record = begin; record != records.end(); ++record)
          found.push_back({first->serial, {first->batch, static_cast<size_t>(record - records.begin())}});
      }
    }
  }
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<kept_record> result;
  result.reserve(found.size());
  for (auto& [serial, record] : found)
    result.push_back(std::move(record));
  return result;
}

} // namespace sluice
