#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

namespace sluice {

/// A report's JSON as a page that stands by itself: no script, nothing from elsewhere. All texts are escaped.
std::string report_page_of(const nlohmann::ordered_json& report);

/// "2026-11-21 15:00", UTC.
std::string utc_text(int64_t unix_ms);

} // namespace sluice
