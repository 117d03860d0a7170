#include "http/ws_frames.hpp"

#include <algorithm>
#include <utility>

#include "sluice/utf8.hpp"

namespace sluice::http {

namespace {

constexpr uint16_t protocol_error = 1002;
constexpr uint16_t only_text = 1003;
constexpr uint16_t no_code = 1005;
constexpr uint16_t not_utf8 = 1007;
constexpr uint16_t too_long = 1009;

constexpr unsigned continuation = 0x0, text_frame = 0x1, binary_frame = 0x2, close_frame = 0x8, ping_frame = 0x9,
                   pong_frame = 0xa;
constexpr uint64_t max_control = 125;

uint64_t big_endian(const unsigned char* bytes, size_t count) {
  uint64_t out = 0;
  for (size_t i = 0; i < count; ++i)
    out = out << 8 | bytes[i];
  return out;
}

/// Bytes of the extended length that this length code asks for.
size_t extension(unsigned length_code) {
  return length_code == 127 ? 8 : length_code == 126 ? 2 : 0;
}

/// Codes that may be on the wire.
bool is_close_code(uint64_t code) {
  return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

} // namespace

uint16_t ws_reader::read(std::string_view bytes, const std::function<void(ws_message)>& got) {
  while (!done_ && !bytes.empty()) {
    if (!in_payload_) {
      header_[header_have_++] = static_cast<unsigned char>(bytes.front());
      bytes.remove_prefix(1);
      if (header_have_ < header_size())
        continue;
      if (auto code = begin_frame())
        return code;
    }
    auto& into = (header_[0] & 0x8) != 0 ? control_ : text_;
    auto part = bytes.substr(0, std::min<uint64_t>(left_, bytes.size()));
    const auto* mask = header_.data() + header_have_ - 4;
    for (size_t i = 0; i < part.size(); ++i)
      into.push_back(static_cast<char>(static_cast<unsigned char>(part[i]) ^ mask[(length_ - left_ + i) % 4]));
    left_ -= part.size();
    bytes.remove_prefix(part.size());
    if (left_ == 0)
      if (auto code = end_frame(got))
        return code;
  }
  return 0;
}

/// Two bytes say how many there are.
size_t ws_reader::header_size() const {
  return header_have_ < 2 ? 2 : 2 + extension(header_[1] & 0x7f) + ((header_[1] & 0x80) != 0 ? 4 : 0);
}

uint16_t ws_reader::begin_frame() {
  auto opcode = header_[0] & 0xfu;
  auto is_final = (header_[0] & 0x80) != 0;
  length_ = header_[1] & 0x7f;
  if (auto more = extension(header_[1] & 0x7f); more > 0)
    length_ = big_endian(header_.data() + 2, more);
  if ((header_[0] & 0x70) != 0 || (header_[1] & 0x80) == 0) // nothing was negotiated that has RSV bits; no mask
    return fail(protocol_error);
  switch (opcode) {
  case continuation:
  case text_frame:
    if (in_text_ != (opcode == continuation))
      return fail(protocol_error);
    if (length_ > max_message_ - text_.size())
      return fail(too_long);
    in_text_ = true;
    break;
  case binary_frame:
    return fail(in_text_ ? protocol_error : only_text);
  case close_frame:
  case ping_frame:
  case pong_frame:
    if (!is_final || length_ > max_control)
      return fail(protocol_error);
    break;
  default:
    return fail(protocol_error);
  }
  in_payload_ = true;
  left_ = length_;
  return 0;
}

uint16_t ws_reader::end_frame(const std::function<void(ws_message)>& got) {
  auto opcode = header_[0] & 0xfu;
  auto is_final = (header_[0] & 0x80) != 0;
  in_payload_ = false;
  header_have_ = 0;
  if (opcode <= text_frame) {
    if (!is_final)
      return 0;
    in_text_ = false;
    if (!is_utf8(text_))
      return fail(not_utf8);
    got({ws_message::kind::text, std::exchange(text_, {}), 0});
    return 0;
  }
  auto payload = std::exchange(control_, {});
  if (opcode != close_frame) {
    got({opcode == ping_frame ? ws_message::kind::ping : ws_message::kind::pong, std::move(payload), 0});
    return 0;
  }
  auto code = no_code;
  if (!payload.empty()) {
    auto given = payload.size() == 1 ? 0 : big_endian(reinterpret_cast<const unsigned char*>(payload.data()), 2);
    if (!is_close_code(given))
      return fail(protocol_error);
    code = static_cast<uint16_t>(given);
    payload.erase(0, 2);
    if (!is_utf8(payload))
      return fail(not_utf8);
  }
  done_ = true;
  got({ws_message::kind::close, std::move(payload), code});
  return 0;
}

uint16_t ws_reader::fail(uint16_t code) {
  done_ = true;
  return code;
}

bool ends_with_close(std::string_view frames) {
  auto is_close = false;
  while (frames.size() >= 2) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(frames.data());
    auto more = extension(bytes[1] & 0x7f);
    if (frames.size() < 2 + more)
      return false;
    auto length = more == 0 ? bytes[1] & 0x7fu : big_endian(bytes + 2, more);
    is_close = (bytes[0] & 0xf) == close_frame;
    frames.remove_prefix(std::min<uint64_t>(2 + more + length, frames.size()));
  }
  return is_close;
}

} // namespace sluice::http
