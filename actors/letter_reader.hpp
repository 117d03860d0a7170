/// Reads dead-letter topics and what was sent back of them.
#pragma once

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "sluice/dead_letters.hpp"
#include "sluice/ports.hpp"

namespace sluice {

/// When a task has to come to an end, and what it may read until then.
class read_budget {
public:
  using clock = std::chrono::steady_clock;
  read_budget(std::chrono::milliseconds time, uint64_t bytes) : end_(clock::now() + time), bytes_(bytes) {}
  void spend(uint64_t bytes) { bytes_ -= std::min(bytes, bytes_); }
  bool spent() const { return bytes_ == 0 || clock::now() >= end_; }

private:
  clock::time_point end_;
  uint64_t bytes_;
};

/// Offsets of one partition: from `begin` up to and without `end`.
struct offset_range {
  int32_t partition = -1;
  int64_t begin = 0;
  int64_t end = 0;
};

/// Reads ranges of one topic, one after the other. Blocks, as its source does.
class range_reader {
public:
  /// `source` must outlive it.
  range_reader(replay_source& source, std::string topic, std::vector<offset_range> ranges)
      : source_(source), topic_(std::move(topic)), ranges_(std::move(ranges)) {
    skip_empty();
  }
  bool finished() const { return at_ == ranges_.size(); }
  /// Calls `take(batch, index)` for what comes within `wait`. Once that returns false there must be no further step:
  /// the rest of the batch is gone.
  template <class Take>
  caf::error step(std::chrono::milliseconds wait, Take take) {
    begin_range();
    auto got = source_.next(wait);
    if (auto* error = std::get_if<caf::error>(&got))
      return *error;
    if (auto* where = std::get_if<topic_partition>(&got))
      reached(*where);
    else if (auto* batch = std::get_if<batch_ptr>(&got); batch != nullptr && is_mine(**batch))
      for (size_t i = 0; i < (*batch)->records().size() && is_mine(**batch); ++i)
        if (advance_to((*batch)->records()[i].offset) && !take(**batch, i))
          break;
    return {};
  }

private:
  void begin_range();
  bool is_mine(const record_batch& batch) const;
  void reached(const topic_partition& where);
  /// False for records outside the range. Moves behind those inside.
  bool advance_to(int64_t offset);
  void skip_empty();

  replay_source& source_;
  std::string topic_;
  std::vector<offset_range> ranges_;
  size_t at_ = 0;
  std::optional<size_t> started_;
};

/// The letters of a topic that were sent back.
using redrive_marks = std::map<letter_id, redrive_mark>;

struct known_marks {
  std::map<std::string, redrive_marks> by_topic;
  bool complete = true; ///< The budget was enough for all of them.
};

/// The marks for letters of `topics` in `marks_topic`.
caf::expected<known_marks> read_marks(replay_source& source, const std::string& marks_topic,
                                      const std::vector<replay_source::partition_bounds>& bounds,
                                      const std::set<std::string, std::less<>>& topics, read_budget budget);
/// The record that keeps a mark; without one, the record that removes it.
outgoing_record mark_record(const std::string& marks_topic, const std::string& topic, letter_id id,
                            const std::optional<redrive_mark>& mark);

/// Where a reader of letters has to look.
std::vector<offset_range> ranges_of(const dlq_query& query, const std::vector<replay_source::partition_bounds>& bounds,
                                    const std::vector<topic_partition>& since);

/// Of all partitions those of one topic.
std::vector<replay_source::partition_bounds> bounds_of(const std::vector<replay_source::partition_bounds>& all,
                                                       const std::string& topic);

} // namespace sluice
