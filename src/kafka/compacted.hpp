/// Reading a compacted topic as the table it stands for.
#pragma once

#include <string>
#include <vector>

#include "kafka/kafka.hpp"

namespace sluice::kafka {

/// The latest committed record of every key; keys whose latest is a tombstone are left out. Waits for transactions that
/// are open at the call, at most `cfg.request_timeout`. Errors: `unknown_topic`, `kafka_unreachable`, `kafka_refused`.
caf::expected<std::vector<outgoing_record>> read_compacted(const kafka_config& cfg, const std::string& topic,
                                                           int32_t partition, log_sink log);

} // namespace sluice::kafka
