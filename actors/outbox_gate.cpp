#include "outbox_gate.hpp"

#include <algorithm>

namespace sluice {

namespace {

uint64_t size_of(const outgoing_record& record) {
  constexpr uint64_t overhead = 64;
  auto size = overhead + record.topic.size() + (record.key ? record.key->size() : 0) +
              (record.value ? record.value->size() : 0);
  for (const auto& header : record.headers)
    size += header.name.size() + header.value.size();
  return size;
}

void take_away(std::unordered_map<std::string, uint64_t>& from, const std::string& topic, uint64_t records) {
  auto it = from.find(topic);
  if (it == from.end())
    return;
  it->second -= std::min(it->second, records);
  if (it->second == 0)
    from.erase(it);
}

} // namespace

outbox_gate::ticket& outbox_gate::ticket::operator=(ticket&& other) noexcept {
  std::swap(gate_, other.gate_);
  std::swap(records_, other.records_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

outbox_gate::ticket::~ticket() {
  if (gate_ != nullptr)
    gate_->leave(*this);
}

bool outbox_gate::holds(const std::vector<outgoing_record>& records) const {
  if (waiting_.load(std::memory_order_acquire) == 0)
    return false;
  std::lock_guard guard{mutex_};
  return std::any_of(records.begin(), records.end(), [this](const outgoing_record& one) {
    return stored_.contains(one.topic) || coming_.contains(one.topic);
  });
}

caf::expected<outbox_gate::ticket> outbox_gate::enter(const std::vector<outgoing_record>& records) {
  ticket place;
  for (const auto& one : records) {
    ++place.records_[one.topic];
    place.bytes_ += size_of(one);
  }
  std::lock_guard guard{mutex_};
  if (stored_bytes_ + coming_bytes_ + place.bytes_ > max_bytes_)
    return make_failure(ec::storage_full, "Kafka is away and the outbox is full: " + std::to_string(stored_bytes_) +
                                              " bytes wait of " + std::to_string(max_bytes_) +
                                              " (outbox.maxBytes); try again when Kafka is back, or raise the bound");
  for (const auto& [topic, count] : place.records_)
    coming_[topic] += count;
  coming_bytes_ += place.bytes_;
  waiting_.fetch_add(records.size(), std::memory_order_release);
  place.gate_ = this;
  return place;
}

void outbox_gate::leave(const ticket& what) {
  std::lock_guard guard{mutex_};
  for (const auto& [topic, count] : what.records_) {
    take_away(coming_, topic, count);
    waiting_.fetch_sub(count, std::memory_order_release);
  }
  coming_bytes_ -= what.bytes_;
}

void outbox_gate::reset(const std::map<std::string, outbox_log::usage>& contents) {
  std::lock_guard guard{mutex_};
  for (const auto& [topic, count] : std::exchange(stored_, {}))
    waiting_.fetch_sub(count, std::memory_order_release);
  stored_bytes_ = 0;
  for (const auto& [topic, usage] : contents) {
    stored_bytes_ += usage.bytes;
    if (topic.empty())
      continue;
    stored_[topic] = usage.records;
    waiting_.fetch_add(usage.records, std::memory_order_release);
  }
}

void outbox_gate::came(const std::string& topic, uint64_t bytes) {
  std::lock_guard guard{mutex_};
  ++stored_[topic];
  stored_bytes_ += bytes;
  waiting_.fetch_add(1, std::memory_order_release);
}

void outbox_gate::went(const std::string& topic, uint64_t bytes) {
  std::lock_guard guard{mutex_};
  take_away(stored_, topic, 1);
  stored_bytes_ -= std::min(stored_bytes_, bytes);
  waiting_.fetch_sub(1, std::memory_order_release);
}

} // namespace sluice
