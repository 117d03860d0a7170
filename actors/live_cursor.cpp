#include "live_cursor.hpp"

#include <array>

namespace sluice {

namespace {

constexpr char version = '1';
constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr uint8_t not_a_digit = 255;
constexpr size_t max_partitions = 4096; // of one topic, in a cursor

uint32_t fnv(std::string_view bytes) {
  uint32_t hash = 2166136261U;
  for (char c : bytes)
    hash = (hash ^ static_cast<uint8_t>(c)) * 16777619U;
  return hash;
}

/// CRC-16/CCITT-FALSE: finds every change within 16 bits in a row, so every single character of base64 that is changed.
uint16_t checksum(std::string_view bytes) {
  uint32_t crc = 0xffff;
  for (char c : bytes) {
    auto x = (crc >> 8) ^ static_cast<uint8_t>(c);
    x ^= x >> 4;
    crc = ((crc << 8) ^ (x << 12) ^ (x << 5) ^ x) & 0xffff;
  }
  return static_cast<uint16_t>(crc);
}

void put_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7)
    out += static_cast<char>((value & 0x7f) | 0x80);
  out += static_cast<char>(value);
}

std::optional<uint64_t> take_varint(std::string_view& in) {
  uint64_t value = 0;
  for (unsigned shift = 0; shift < 63 && !in.empty(); shift += 7) {
    auto byte = static_cast<uint8_t>(in.front());
    in.remove_prefix(1);
    value |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80)
      return value;
  }
  return std::nullopt;
}

std::string to_base64url(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size() * 4 / 3 + 3);
  uint32_t bits = 0;
  unsigned held = 0;
  for (char c : bytes) {
    bits = (bits << 8) | static_cast<uint8_t>(c);
    for (held += 8; held >= 6; held -= 6)
      out += alphabet[(bits >> (held - 6)) & 63];
  }
  if (held > 0)
    out += alphabet[(bits << (6 - held)) & 63];
  return out;
}

std::optional<std::string> from_base64url(std::string_view text) {
  static const auto digits = [] {
    std::array<uint8_t, 256> table{};
    table.fill(not_a_digit);
    for (size_t i = 0; i < alphabet.size(); ++i)
      table[static_cast<uint8_t>(alphabet[i])] = static_cast<uint8_t>(i);
    return table;
  }();
  std::string out;
  uint32_t bits = 0;
  unsigned held = 0;
  for (char c : text) {
    auto digit = digits[static_cast<uint8_t>(c)];
    if (digit == not_a_digit)
      return std::nullopt;
    bits = (bits << 6) | digit;
    held += 6;
    if (held >= 8) {
      held -= 8;
      out += static_cast<char>((bits >> held) & 0xff);
    }
  }
  if ((bits & ((1U << held) - 1)) != 0)
    return std::nullopt; // the last character says more than the bytes do
  return out;
}

} // namespace

uint32_t topic_hash(std::string_view topic) {
  return fnv(topic);
}

std::string encode_cursor_text(const live_cursor& cursor) {
  std::string bytes;
  for (const auto& [hash, partitions] : cursor.next) {
    for (int shift = 24; shift >= 0; shift -= 8)
      bytes += static_cast<char>((hash >> shift) & 0xff);
    put_varint(bytes, partitions.size());
    for (auto next : partitions)
      put_varint(bytes, static_cast<uint64_t>(next + 1));
  }
  auto sum = checksum(bytes);
  bytes += static_cast<char>(sum >> 8);
  bytes += static_cast<char>(sum & 0xff);
  return version + to_base64url(bytes);
}

std::optional<live_cursor> parse_cursor_text(std::string_view text) {
  if (text.empty() || text.front() != version || text.size() > max_cursor_bytes)
    return std::nullopt;
  auto decoded = from_base64url(text.substr(1));
  if (!decoded || decoded->size() < 2)
    return std::nullopt;
  auto rest = std::string_view{*decoded}.substr(0, decoded->size() - 2);
  auto sum = static_cast<uint16_t>((static_cast<uint8_t>((*decoded)[rest.size()]) << 8) |
                                   static_cast<uint8_t>(decoded->back()));
  if (checksum(rest) != sum)
    return std::nullopt;
  live_cursor cursor;
  while (!rest.empty()) {
    if (rest.size() < 5)
      return std::nullopt;
    uint32_t hash = 0;
    for (int i = 0; i < 4; ++i)
      hash = (hash << 8) | static_cast<uint8_t>(rest[static_cast<size_t>(i)]);
    rest.remove_prefix(4);
    auto count = take_varint(rest);
    if (!count || *count > max_partitions)
      return std::nullopt;
    auto& partitions = cursor.next[hash];
    if (!partitions.empty())
      return std::nullopt; // a topic twice
    for (uint64_t i = 0; i < *count; ++i) {
      auto next = take_varint(rest);
      if (!next || *next > static_cast<uint64_t>(INT64_MAX))
        return std::nullopt;
      partitions.push_back(static_cast<int64_t>(*next) - 1);
    }
  }
  return cursor;
}

} // namespace sluice
