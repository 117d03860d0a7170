/// Days as people write them.
#pragma once

#include <charconv>
#include <chrono>
#include <optional>
#include <string_view>

namespace sluice {

/// "2026-11-21" as a day, from 1970 on; nothing for what is no day. Any thread.
inline std::optional<std::chrono::sys_days> parse_date(std::string_view text) {
  constexpr std::size_t bytes = 10;
  if (text.size() != bytes || text[4] != '-' || text[7] != '-')
    return std::nullopt;
  auto number = [text](std::size_t at, std::size_t size) {
    unsigned value = 0;
    const auto* end = text.data() + at + size;
    auto [stop, error] = std::from_chars(text.data() + at, end, value);
    return error == std::errc{} && stop == end ? static_cast<int>(value) : -1;
  };
  const auto year = number(0, 4), month = number(5, 2), day = number(8, 2);
  if (year < 1970 || month < 0 || day < 0)
    return std::nullopt;
  const std::chrono::year_month_day date{std::chrono::year{year}, std::chrono::month{static_cast<unsigned>(month)},
                                         std::chrono::day{static_cast<unsigned>(day)}};
  return date.ok() ? std::optional{std::chrono::sys_days{date}} : std::nullopt;
}

} // namespace sluice
