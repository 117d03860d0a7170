/// A cluster's records for those who read dead letters, in memory.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sluice/dead_letters.hpp"
#include "sluice/ports.hpp"

#include "dead_letter.hpp"

namespace sluice::testing {

struct log_fake {
  std::map<std::pair<std::string, int32_t>, std::vector<outgoing_record>> partitions;
  std::map<std::pair<std::string, int32_t>, int64_t> first; ///< Where retention has come to; 0 else.
  bool away = false;
  bool silent = false; ///< Nothing comes, as from a broker that hangs.
  int starts = 0;
  size_t batch_size = 1000;

  void add_partition(const std::string& topic, int32_t partition = 0) { partitions[{topic, partition}]; }
  int64_t append(const outgoing_record& record, int32_t partition = 0) {
    auto& log = partitions[{record.topic, partition}];
    log.push_back(record);
    return static_cast<int64_t>(log.size()) - 1;
  }
};

class log_batch : public record_batch {
public:
  log_batch(std::string topic, int32_t partition, int64_t first, std::vector<outgoing_record> records)
      : topic_(std::move(topic)), partition_(partition), records_(std::move(records)) {
    for (const auto& one : records_) {
      record_view view;
      view.has_key = one.key.has_value();
      view.has_value = one.value.has_value();
      view.key = one.key ? std::string_view{*one.key} : std::string_view{};
      view.value = one.value ? std::string_view{*one.value} : std::string_view{};
      view.offset = first++;
      view.timestamp_ms = one.timestamp_ms;
      views_.push_back(view);
    }
  }
  const std::string& topic() const noexcept override { return topic_; }
  int32_t partition() const noexcept override { return partition_; }
  std::span<const record_view> records() const noexcept override { return views_; }
  std::vector<record_header> headers(std::size_t index) const override { return records_.at(index).headers; }

private:
  std::string topic_;
  int32_t partition_;
  std::vector<outgoing_record> records_;
  std::vector<record_view> views_;
};

class log_source : public replay_source {
public:
  explicit log_source(std::shared_ptr<log_fake> log) : log_(std::move(log)) {}
  caf::expected<std::vector<partition_bounds>> bounds(const std::vector<std::string>& topics) override {
    if (log_->away)
      return make_failure(ec::kafka_unreachable, "away");
    std::vector<partition_bounds> result;
    for (const auto& topic : topics)
      for (const auto& [where, records] : log_->partitions)
        if (where.first == topic)
          result.push_back({topic, where.second, log_->first[where], static_cast<int64_t>(records.size())});
    return result;
  }
  caf::expected<std::vector<topic_partition>> at_time(const std::vector<std::string>& topics,
                                                      int64_t unix_ms) override {
    std::vector<topic_partition> result;
    for (const auto& [where, records] : log_->partitions) {
      if (where.first != topics.front())
        continue;
      int64_t offset = -1;
      for (size_t i = 0; i < records.size() && offset < 0; ++i)
        if (records[i].timestamp_ms >= unix_ms)
          offset = static_cast<int64_t>(i);
      result.push_back({where.first, where.second, offset});
    }
    return result;
  }
  void start(const std::vector<topic_partition>& from) override {
    ++log_->starts;
    events_.clear();
    for (const auto& one : from) {
      const auto& records = log_->partitions.at({one.topic, one.partition});
      for (auto at = static_cast<size_t>(one.offset); at < records.size(); at += log_->batch_size) {
        std::vector<outgoing_record> some(
            records.begin() + static_cast<std::ptrdiff_t>(at),
            records.begin() + static_cast<std::ptrdiff_t>(std::min(at + log_->batch_size, records.size())));
        events_.push_back(batch_ptr{
            std::make_shared<log_batch>(one.topic, one.partition, static_cast<int64_t>(at), std::move(some))});
      }
      events_.push_back(topic_partition{one.topic, one.partition, static_cast<int64_t>(records.size())});
    }
  }
  event next(std::chrono::milliseconds) override {
    if (log_->silent || events_.empty())
      return std::monostate{};
    auto result = std::move(events_.front());
    events_.pop_front();
    return result;
  }

private:
  std::shared_ptr<log_fake> log_;
  std::deque<event> events_;
};

/// A letter of "orders".
inline outgoing_record letter(const std::string& value, ec error = ec::rejected, int64_t timestamp_ms = 1000,
                              std::vector<record_header> headers = {{"sluice-event-id", "e"}}) {
  failed_record failed;
  failed.topic = "orders";
  failed.partition = 2;
  failed.offset = 70;
  failed.timestamp_ms = 500;
  failed.key = "k";
  failed.value = value;
  failed.headers = std::move(headers);
  failed.processor = "price";
  failed.error = error;
  failed.reason = "because";
  failed.attempts = 3;
  failed.first_failure_ms = 600;
  failed.last_failure_ms = 700;
  auto record = make_dead_letter(failed);
  record.timestamp_ms = timestamp_ms;
  return record;
}

} // namespace sluice::testing
