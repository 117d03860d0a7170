/// Which offset may be committed when the records of a partition finish out of order, and what goes into the commit's
/// metadata so that the rest need not be done again.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

/// Keeps what has begun and what has finished of **one** partition. Only the contiguous finished prefix may be
/// committed: a record behind it is still at work and would be lost in a crash. Not thread-safe.
class offset_ledger {
public:
  /// The broker's bound of a commit's metadata by default, in bytes.
  static constexpr std::size_t max_metadata = 4096;

  /// Takes over what an earlier owner committed beside its offset. Before the first `begin`; what is not its own format
  /// is ignored.
  void restore(int64_t committed, std::string_view metadata);
  /// A record begins; in offset order, holes allowed. Returns its number, for `finish`.
  uint64_t begin(int64_t offset);
  /// Whether an earlier owner has finished this offset. Asked in offset order, before `begin`.
  bool was_finished(int64_t offset);
  /// The record with this number has finished. Once a record.
  void finish(uint64_t number);
  /// The offset to continue at; -1 = nothing has begun yet, so the last commit holds.
  int64_t next() const noexcept { return next_; }
  /// The finished records beyond `next`, as text for the commit: the nearest ones as far as they fit.
  std::string metadata() const;
  /// Begun and not finished.
  std::size_t in_flight() const noexcept { return in_flight_; }
  /// How many records it remembers, from the first unfinished one on.
  std::size_t span() const noexcept { return entries_.size(); }

private:
  struct entry {
    int64_t offset;
    bool finished;
  };
  /// Offsets from `first` to `last`.
  struct range {
    int64_t first;
    int64_t last;
  };
  std::vector<range> finished_ranges(std::size_t max) const;

  std::deque<entry> entries_; ///< From the first unfinished one on.
  uint64_t base_ = 0;         ///< The first entry's number.
  int64_t next_ = -1;
  std::size_t in_flight_ = 0;
  std::deque<range> restored_; ///< Of the earlier owner; what has been passed is gone.
};

} // namespace sluice
