#pragma once

#include <string>

#include "sluice/stats.hpp"

namespace sluice {

/// All counters in Prometheus' text format. Any thread.
std::string render_metrics(const stats& counters);

} // namespace sluice
