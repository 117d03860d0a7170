/// Which offsets may be committed when records finish out of order.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "sluice/record.hpp"

namespace sluice::kafka {

/// Keeps, per partition, what has begun and what has finished. Only the contiguous finished prefix may be committed:
/// a record behind it is still at work and would be lost in a crash. Not thread-safe.
class offset_ledger {
public:
  /// A record begins; in offset order per partition, holes allowed. One at or below the last begun is ignored: it is
  /// accounted for already.
  void begin(const std::string& topic, int32_t partition, int64_t offset);
  /// A record has finished. Ignored for partitions and offsets that are not at work (any more).
  void finish(const std::string& topic, int32_t partition, int64_t offset);
  /// The offsets to continue at, of the partitions where they have moved since the last call.
  std::vector<topic_partition> next();
  /// Forgets a partition that was taken away; what finishes of it later is ignored.
  void drop(const std::string& topic, int32_t partition);
  /// Records at work: begun and not finished.
  std::size_t in_flight() const noexcept { return in_flight_; }
  std::size_t in_flight(const std::string& topic, int32_t partition) const;

private:
  struct entry {
    int64_t offset;
    bool finished;
  };
  struct account {
    std::deque<entry> entries; ///< From the first unfinished one on, ascending.
    int64_t last_begun = -1;
    int64_t next = -1; ///< -1 = nothing has finished yet.
    bool moved = false;
    std::size_t in_flight = 0;
  };
  std::map<std::pair<std::string, int32_t>, account> accounts_;
  std::size_t in_flight_ = 0;
};

} // namespace sluice::kafka
