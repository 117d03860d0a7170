/// Names of live delivery that more than one room needs.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

namespace sluice {

/// The channel of GET /events.
inline const std::string events_channel = "events";
/// What every user's own channel begins with.
inline const std::string user_prefix = "user:";
/// Header of a broadcast's record: the event's name.
inline const std::string event_name_header = "sluice-event";

/// 1 to 200 bytes, no control characters, no comma (it separates channels in URLs).
inline bool is_channel_name(std::string_view name) {
  constexpr size_t max_bytes = 200;
  return !name.empty() && name.size() <= max_bytes && std::none_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == ',';
  });
}

} // namespace sluice
