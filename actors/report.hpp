#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sluice/config.hpp"
#include "sluice/ports.hpp"
#include "sluice/processor.hpp"

#include "summary_reader.hpp"

namespace sluice {

/// Where reports are asked for, and where it is told that one is there.
inline const std::string reports_in = "report.generate";
inline const std::string reports_out = "report.ready";

/// What making reports needs of the rest. Calls may block.
struct report_tools {
  /// Entries of the audit trail from one time on, up to another.
  std::function<caf::expected<audit_counts>(int64_t from_ms, int64_t to_ms)> count;
  std::function<caf::expected<report_page>(report_query)> find;
  /// Keeps a report, unless there is one for its event; returns the one that is there.
  std::function<caf::expected<report>(report)> keep;
  std::function<std::unique_ptr<replay_source>()> make_source;
  bool seek_by_time = true; ///< Whether these sources know the offset of a time.
  std::function<std::string()> make_id;
  std::function<int64_t()> unix_ms;
};

/// The processor's place and policies: group `paka-report-generator`.
processor_config report_settings(const config& cfg);

/// The time a report is about. With a `date` ("2026-11-21") it is that day, or its week from Monday on, or its month,
/// in UTC; without, the 24 hours, 7 or 30 days up to `now_ms`. `malformed_record` names the field that is wrong.
caf::expected<time_slices> report_time(const std::string& type, const std::optional<std::string>& date, int64_t now_ms);

/// The processor's function. A record `{"reportType":"daily"|"weekly"|"monthly","date"?}`, bare or in an envelope,
/// makes one report for its event id, whatever number of times it comes; that goes to `report.ready`, and its main
/// figures to `notification.send`.
processor_function report_function(const config& cfg, report_tools tools);

} // namespace sluice
