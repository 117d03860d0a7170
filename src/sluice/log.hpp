/// The front every layer logs through. Costs one relaxed load where the level is off; goes nowhere until a program sets
/// a sink (sluice's own: `start_logging` in app/logging.hpp).
#pragma once

#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace sluice {

enum class log_level : uint8_t { trace, debug, info, warn, error, off };

/// "info" for `log_level::info`.
std::string_view to_string(log_level level) noexcept;

/// Reads `to_string`'s output back. Returns false for an unknown name.
bool from_string(std::string_view text, log_level& level) noexcept;

/// One key and value of a log line; "eventId" is the key of an event's id.
using log_field = std::pair<std::string_view, std::string>;

/// Takes a line. Called from any thread, also from several at once; must not throw, block for long, or log.
using log_sink = void (*)(log_level level, std::string_view actor, std::string_view text,
                          std::span<const log_field> fields) noexcept;

namespace detail {
extern std::atomic<log_level> log_threshold;
} // namespace detail

/// Sends lines of at least `threshold` to `sink` from now on, for the whole process; null = nowhere. From any thread.
/// A line on its way may still reach the sink before: a sink lives as long as the process.
void set_log_sink(log_level threshold, log_sink sink) noexcept;

/// Whether a line of `level` goes anywhere: check it before building costly fields.
inline bool log_enabled(log_level level) noexcept {
  return level >= detail::log_threshold.load(std::memory_order_relaxed) && level != log_level::off;
}

/// Logs `text` in the name of `actor`, e.g. log(log_level::warn, "kafka_consumer", "partition lost", {{"topic",
/// topic}}). From any thread.
void log(log_level level, std::string_view actor, std::string_view text,
         std::initializer_list<log_field> fields = {}) noexcept;
void log(log_level level, std::string_view actor, std::string_view text, std::span<const log_field> fields) noexcept;

} // namespace sluice
