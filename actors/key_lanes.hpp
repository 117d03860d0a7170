#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <vector>

#include "processor_worker.hpp"

namespace sluice {

/// Records that wait for a worker. Each key has a lane, and what has been taken from a lane must be back before more is
/// taken from it: so the records of a key are with one worker at a time and in order. The lanes are dealt out to one
/// or more queues for good; whoever takes from a queue may take any lane of it that is free. Keys share a lane now and
/// then, which costs a little parallelism and nothing else. Not thread-safe.
class key_lanes {
public:
  using item = processor_work::item;

  explicit key_lanes(std::size_t queues = 1) : ready_(queues) {}

  /// How many queues there are.
  std::size_t queues() const noexcept { return ready_.size(); }
  /// Puts a record at the end of its key's lane, and notes the lane in it. A record without a key gets the next lane,
  /// whichever it is.
  void push(item what);
  /// Lanes of a queue that something can be taken from.
  std::size_t ready(std::size_t queue = 0) const noexcept { return ready_[queue].size(); }
  /// At most `max` records from at most `max_lanes` lanes of a queue, those first that have been ready for longest;
  /// from each as many as there are. Each must come back by `done` or `put_back`.
  std::vector<item> take(std::size_t max, std::size_t max_lanes, std::size_t queue = 0);
  /// A record that was taken needs its lane no more.
  void done(const item& what);
  /// A record that was taken has not begun: it becomes the first of its lane. Several of a lane: the last one first.
  void put_back(item what);
  /// Forgets all that waits and `goes`; the predicate is asked once a record.
  void erase_if(const std::function<bool(const item&)>& goes);

private:
  static constexpr std::size_t count = 16384; // more than there can be workers
  static constexpr uint32_t none = ~uint32_t{0};
  struct node {
    item what;
    uint32_t next = none;
  };
  struct lane {
    uint32_t first = none, last = none; ///< What waits, in `nodes_`.
    uint32_t taken = 0;
  };
  void become_ready(uint32_t index) { ready_[index % ready_.size()].push_back(index); }
  uint32_t make_node(item what);
  item free_node(uint32_t index);

  std::vector<lane> lanes_ = std::vector<lane>(count);
  std::vector<node> nodes_;                 ///< As many as have ever waited at a time.
  std::vector<uint32_t> free_;              ///< Nodes not in use.
  std::vector<std::deque<uint32_t>> ready_; ///< Of each queue the lanes where something waits and nothing is taken.
  uint32_t keyless_ = 0;
};

} // namespace sluice
