/// What the hub remembers of the topics: how far each partition has been shown, and the last records.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sluice/record.hpp"

#include "live_cursor.hpp"

namespace sluice {

/// Places and recent batches of some topics' partitions. Pure; one actor.
class live_history {
public:
  /// Batches are kept up to `max_bytes` in all, the oldest go first.
  explicit live_history(uint64_t max_bytes) : max_bytes_(max_bytes) {}

  /// This topic may come into being: a cursor from before that knows it without partitions, so that nothing is missed.
  void foresee(const std::string& topic) { topics_.try_emplace(topic); }
  /// Records of this partition come next, from `from` on; those before `where.offset`, its end, are history.
  void begin(const topic_partition& where, int64_t from);
  /// There is nothing before this offset that has not come; markers of transactions, which never come, included.
  void reached(const topic_partition& where);
  /// Whether all partitions have come as far as their end was when they began.
  bool is_warm() const { return cold_ == 0; }
  /// Records of this partition before this offset are history: nobody is waiting for them.
  int64_t live_from(const std::string& topic, int32_t partition) const;
  void forget(const topic_partition& where);
  /// Takes note of a batch. Records before the partition's place have been there already.
  void add(batch_ptr batch);

  /// Names of all topics that are there or expected, sorted.
  std::vector<std::string> topics() const;
  /// The present place in every partition of these topics.
  live_cursor place_in(const std::vector<std::string>& topics) const;

  /// What can be said of a client's cursor.
  enum class standing {
    recent,  ///< All it has missed is here (maybe nothing).
    older,   ///< Something it has missed is in Kafka only.
    ahead,   ///< It has seen more than was shown here.
    foreign, ///< It knows none of these topics.
  };
  standing judge(const live_cursor& cursor, const std::vector<std::string>& topics) const;
  /// `cursor` made whole: these topics only, each with all its partitions. Topics it does not know are at their present
  /// place, partitions it does not know (made later) at their beginning.
  live_cursor completed(const live_cursor& cursor, const std::vector<std::string>& topics) const;

  /// A kept record: its batch and its index there.
  using kept_record = std::pair<batch_ptr, size_t>;
  /// What a client at `cursor`, which is `recent`, has missed, in the order it was shown here.
  std::vector<kept_record> missed(const live_cursor& cursor, const std::vector<std::string>& topics) const;

private:
  struct kept {
    batch_ptr batch;
    uint64_t serial = 0;
    uint64_t bytes = 0;
  };
  struct partition {
    bool known = false;
    bool fresh = true; ///< Nothing has come yet; where it begins is a guess.
    int64_t live = 0;  ///< Its end when it began.
    int64_t next = 0;  ///< Place: the offset after the last record that came.
    int64_t first = 0; ///< All records from here to `next` are kept.
    std::deque<kept> batches;
  };
  using partitions = std::vector<partition>;
  const partition* find(const std::string& topic, size_t index) const;
  partition* find(const topic_partition& where);
  void move(partition& which, int64_t next);
  void shrink();

  uint64_t max_bytes_;
  uint64_t bytes_ = 0;
  uint64_t serial_ = 0;
  size_t cold_ = 0; ///< Partitions that have not reached `live`.
  std::map<std::string, partitions> topics_;
  std::deque<std::pair<std::string, size_t>> order_; ///< Partitions of the kept batches, oldest batch first.
};

} // namespace sluice
