/// Where log lines go: standard error or a file, for people or for machines. spdlog lives only here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sluice/config.hpp"

namespace sluice {

/// Sends what `sluice::log` gets to where `config` says, from now on; may be called again, e.g. after a log file was
/// moved away. Human lines carry local time, JSON lines UTC.
/// A file that cannot be opened or written never stops or slows down the caller: standard error says so once per
/// outage, lines of level `error` go there meanwhile, others are lost and counted; the file says how many when it works
/// again. Where it cannot even be opened, all lines go to standard error. The process should ignore SIGPIPE.
void start_logging(const log_config& config);

/// Replaces every occurrence of these texts in messages and fields by "***" from now on. Empty ones are ignored.
/// Replaces an earlier list. From any thread.
void mask_secrets(std::vector<std::string> secrets);

/// Lines lost since the process started because the log could not be written.
uint64_t lost_log_lines();

} // namespace sluice
