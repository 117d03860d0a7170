/// Where a client of live events is: its place in every partition of its topics, as text for `id:`.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

/// The next offset of each partition of some topics. The same on every node, before and after restarts: it has nothing
/// of the process in it, only a hash of each topic's name.
struct live_cursor {
  /// By `topic_hash`; the index is the partition. -1 = not known: from now on.
  std::map<uint32_t, std::vector<int64_t>> next;

  friend bool operator==(const live_cursor&, const live_cursor&) = default;
};

/// FNV-1a, 32 bits.
uint32_t topic_hash(std::string_view topic);

/// Longest text that `parse_cursor` takes, in bytes.
constexpr size_t max_cursor_bytes = 8192;

/// Version 1: "1", then base64url of, for each topic: its hash, the number of partitions, each one's next offset + 1
/// (all varints but the hash), and at the end a checksum (CRC-16). Letters, digits, `-` and `_` only.
std::string encode_cursor_text(const live_cursor& cursor);
/// Nothing where the text is no cursor of a known version, is damaged or too long.
std::optional<live_cursor> parse_cursor_text(std::string_view text);

} // namespace sluice
