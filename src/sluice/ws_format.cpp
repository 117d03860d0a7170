#include "sluice/ws_format.hpp"

namespace sluice {

namespace {

constexpr size_t max_reason_bytes = 123;

void put_big_endian(std::string& out, uint64_t number, int bytes) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
    out.push_back(static_cast<char>(number >> shift));
}

} // namespace

std::string encode_ws_text(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 10);
  out.push_back('\x81'); // the last frame of a text message, and the only one
  if (text.size() < 126) {
    out.push_back(static_cast<char>(text.size()));
  } else if (text.size() <= 0xffff) {
    out.push_back('\x7e');
    put_big_endian(out, text.size(), 2);
  } else {
    out.push_back('\x7f');
    put_big_endian(out, text.size(), 8);
  }
  return out.append(text);
}

std::string encode_ws_close(uint16_t code, std::string_view reason) {
  if (reason.size() > max_reason_bytes) {
    auto end = max_reason_bytes;
    while (end > 0 && (static_cast<unsigned char>(reason[end]) & 0xc0) == 0x80)
      --end; // never within a character
    reason = reason.substr(0, end);
  }
  std::string out{'\x88', static_cast<char>(reason.size() + 2)};
  put_big_endian(out, code, 2);
  return out.append(reason);
}

} // namespace sluice
