#include "kafka/offset_ledger.hpp"

#include <algorithm>

namespace sluice::kafka {

void offset_ledger::begin(const std::string& topic, int32_t partition, int64_t offset) {
  auto& account = accounts_[{topic, partition}];
  if (offset <= account.last_begun)
    return;
  account.last_begun = offset;
  account.entries.push_back({offset, false});
  ++account.in_flight;
  ++in_flight_;
}

void offset_ledger::finish(const std::string& topic, int32_t partition, int64_t offset) {
  auto found = accounts_.find({topic, partition});
  if (found == accounts_.end())
    return;
  auto& account = found->second;
  auto& entries = account.entries;
  auto where = std::lower_bound(entries.begin(), entries.end(), offset,
                                [](const entry& x, int64_t wanted) { return x.offset < wanted; });
  if (where == entries.end() || where->offset != offset || where->finished)
    return;
  where->finished = true;
  --account.in_flight;
  --in_flight_;
  while (!entries.empty() && entries.front().finished) {
    account.next = entries.front().offset + 1;
    account.moved = true;
    entries.pop_front();
  }
}

std::vector<topic_partition> offset_ledger::next() {
  std::vector<topic_partition> result;
  for (auto& [key, account] : accounts_)
    if (std::exchange(account.moved, false))
      result.push_back({key.first, key.second, account.next});
  return result;
}

void offset_ledger::drop(const std::string& topic, int32_t partition) {
  auto found = accounts_.find({topic, partition});
  if (found == accounts_.end())
    return;
  in_flight_ -= found->second.in_flight;
  accounts_.erase(found);
}

std::size_t offset_ledger::in_flight(const std::string& topic, int32_t partition) const {
  auto found = accounts_.find({topic, partition});
  return found == accounts_.end() ? 0 : found->second.in_flight;
}

} // namespace sluice::kafka
