/// The windows of one aggregation and the bookkeeping that makes them exact. No actor, no clock, no I/O: the aggregator
/// actor calls it, from its thread only.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "sluice/config.hpp"
#include "sluice/record.hpp"

#include "event_reader.hpp"

namespace sluice {

/// Sums over events. `sum` is exact while it stays an integer below 2^53.
struct event_sums {
  uint64_t count = 0;
  double sum = 0;
  double min = 0;
  double max = 0;
  void add(double value) noexcept;
  void add(const event_sums& other) noexcept;
};

/// Counts events into windows and says, at any moment, which summaries are due and which offsets they allow to commit.
///
/// What makes it exact: an offset is committable only when its event is in a closed window (or is a dead letter that
/// the broker has), so what is committed together with the summaries is covered by them, and the open windows are
/// rebuilt by reading on from there. With a key pointer windows close in any order; an event behind the committable
/// offset may then be covered already. For those, marks ("of this key all up to offset n is covered") go into a
/// compacted topic, in the same transaction, and are read back before a partition is read again.
class aggregation {
public:
  using time_point = std::chrono::steady_clock::time_point;
  struct moment {
    time_point now;      ///< For intervals.
    int64_t unix_ms = 0; ///< For texts.
  };
  explicit aggregation(const aggregation_config& cfg);

  // -- in
  // ---------------------------------------------------------------------------------------------------------------

  /// A partition comes; `marks` are the covered topic's records (of all partitions; others are ignored).
  void assign(const topic_partition& partition, const std::vector<outgoing_record>& marks);
  /// A partition goes: its share of the open windows goes with it (its next owner reads it anew).
  void revoke(const topic_partition& partition);
  /// Counts a batch; returns the indexes of the records that cannot be read and why. Such a record holds its offset
  /// back until `dead_letter_kept`.
  struct failure {
    size_t index = 0;
    std::string reason;
  };
  std::vector<failure> add(const record_batch& batch, const moment& at);
  /// The dead-letter topic has the record at this offset.
  void dead_letter_kept(const topic_partition& where);
  /// Closes all windows that are due.
  void close_due(const moment& at);

  // -- out
  // --------------------------------------------------------------------------------------------------------------

  /// When the oldest window is due.
  std::optional<time_point> next_due() const;
  /// Summaries waiting for their transaction.
  size_t pending() const noexcept { return pending_.size(); }
  /// Whether a transaction would move anything forward.
  bool worth_committing() const;
  /// What a transaction would commit now; takes the pending summaries.
  struct commitment {
    std::vector<outgoing_record> records;
    std::vector<topic_partition> next_offsets;
    size_t summaries = 0;
  };
  commitment take();
  size_t open_windows() const noexcept { return windows_.size(); }
  uint64_t evicted() const noexcept { return evicted_; }
  uint64_t counted() const noexcept { return counted_; }
  /// The reference's `currentAggregation`: `{"currentBuffer":…,"stats":{…}}`, over all open windows.
  std::string view() const;

private:
  struct mark {
    int64_t last = -1;    ///< Covered up to and including this offset.
    bool written = false; ///< In the covered topic.
    bool dirty = false;   ///< Changed since it was written.
  };
  struct source {
    std::string topic;
    int32_t partition = -1;
    bool active = false;
    int64_t position = -1;  ///< Next offset to count.
    int64_t committed = -1; ///< Last one taken into a commitment.
    std::set<int64_t> dead; ///< Unreadable records the dead-letter topic does not have yet.
    std::unordered_map<std::string, mark> covered;
  };
  struct share {
    size_t source = 0;
    event_sums sums;
    int64_t first = 0, last = 0; ///< Offsets.
  };
  struct sample {
    size_t source = 0;
    std::string event;
  };
  struct window {
    std::string key;
    uint64_t count = 0;
    time_point due;
    int64_t opened_ms = 0;
    std::vector<share> shares; ///< One a partition.
    std::deque<sample> samples;
  };
  using window_iterator = std::list<window>::iterator;

  size_t find(const std::string& topic, int32_t partition) const;
  window_iterator window_of(std::string_view key, const moment& at);
  void remember(window& where, size_t source, std::string_view event);
  void close(window_iterator which, const moment& at);
  int64_t committable(size_t index) const;
  std::string summary(const window& which, const event_sums& total, const moment& at);

  aggregation_config cfg_;
  event_reader reader_;
  std::vector<source> sources_;
  std::list<window> windows_;                               ///< Oldest first.
  std::unordered_map<std::string, window_iterator> by_key_; ///< With a key pointer.
  std::vector<outgoing_record> pending_;
  std::string last_key_;       ///< Scratch.
  std::vector<size_t> recent_; ///< Scratch: places of the last events in the batch at hand, in a ring.
  int64_t last_summary_ms_ = 0;
  uint64_t summaries_in_ms_ = 0;
  uint64_t evicted_ = 0;
  uint64_t counted_ = 0;
};

} // namespace sluice
