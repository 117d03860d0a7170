/// Reads what aggregations have summed up over some time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "sluice/ports.hpp"

#include "letter_reader.hpp"

namespace sluice {

/// One aggregation's summaries of some time, taken together.
struct summary_totals {
  uint64_t summaries = 0;
  uint64_t events = 0;
  double sum = 0;
  double least = 0, most = 0;   ///< Of no meaning without events.
  std::vector<uint64_t> slices; ///< Events by part of the time.
};

/// By the aggregation's name.
struct summary_book {
  std::map<std::string, summary_totals> all;
  bool complete = true; ///< All there was has been read within the budget.
};

/// Parts of some time, one after the other: from `begins[i]` on, up to the next, the last one up to `end`. Unix
/// milliseconds.
struct time_slices {
  std::vector<int64_t> begins;
  int64_t end = 0;
  /// The part that `ms` is in; -1 = none.
  int find(int64_t ms) const;
};

/// Reads the summaries of `names` from their topics, `sinks`. Blocks, as `source` does; without `seek_by_time` it reads
/// these topics from their beginning. What is no summary is left out. Gives up (`shutting_down`) once `cancelled`.
caf::expected<summary_book> read_summaries(replay_source& source, const std::vector<std::string>& sinks,
                                           const std::set<std::string, std::less<>>& names, const time_slices& when,
                                           bool seek_by_time, read_budget& budget,
                                           const std::function<bool()>& cancelled);

} // namespace sluice
