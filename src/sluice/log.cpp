#include "sluice/log.hpp"

#include <array>

namespace sluice {

namespace detail {
std::atomic<log_level> log_threshold{log_level::off};
} // namespace detail

namespace {

std::atomic<log_sink> current_sink{nullptr};

constexpr std::array<std::pair<log_level, std::string_view>, 6> names{{
    {log_level::trace, "trace"},
    {log_level::debug, "debug"},
    {log_level::info, "info"},
    {log_level::warn, "warn"},
    {log_level::error, "error"},
    {log_level::off, "off"},
}};

} // namespace

std::string_view to_string(log_level level) noexcept {
  for (const auto& [value, name] : names)
    if (value == level)
      return name;
  return "unknown";
}

bool from_string(std::string_view text, log_level& level) noexcept {
  for (const auto& [value, name] : names)
    if (name == text) {
      level = value;
      return true;
    }
  return false;
}

void set_log_sink(log_level threshold, log_sink sink) noexcept {
  current_sink.store(sink, std::memory_order_release);
  detail::log_threshold.store(sink == nullptr ? log_level::off : threshold, std::memory_order_relaxed);
}

void log(log_level level, std::string_view actor, std::string_view text,
         std::initializer_list<log_field> fields) noexcept {
  log(level, actor, text, std::span<const log_field>{fields.begin(), fields.size()});
}

void log(log_level level, std::string_view actor, std::string_view text, std::span<const log_field> fields) noexcept {
  if (!log_enabled(level))
    return;
  if (auto sink = current_sink.load(std::memory_order_acquire))
    sink(level, actor, text, fields);
}

} // namespace sluice
