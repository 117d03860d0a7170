/// What a WebSocket client says, taken apart (RFC 6455). Pure: bytes in, messages out.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace sluice::http {

/// One whole message of a client.
struct ws_message {
  enum class kind : uint8_t { text, ping, pong, close };
  kind what = kind::text;
  std::string payload; ///< Of `close`: the reason.
  uint16_t code = 0;   ///< Of `close`; 1005 where the client gave none.
};

/// Reads the frames of one connection, however they are cut. One thread.
class ws_reader {
public:
  /// `max_message`: bytes of a text message, all its fragments together.
  explicit ws_reader(size_t max_message) : max_message_(max_message) {}

  /// Calls `got` for each message that is complete. Returns 0, or the code to close with once the client breaks the
  /// protocol; then, and after a close frame, it takes no more.
  uint16_t read(std::string_view bytes, const std::function<void(ws_message)>& got);
  /// Nothing more is taken.
  bool is_done() const { return done_; }

private:
  uint16_t begin_frame();
  uint16_t end_frame(const std::function<void(ws_message)>& got);
  uint16_t fail(uint16_t code);
  size_t header_size() const;

  const size_t max_message_;
  std::array<unsigned char, 14> header_{};
  size_t header_have_ = 0;
  uint64_t left_ = 0; ///< Bytes of the frame's payload.
  uint64_t length_ = 0;
  std::string text_;    ///< Of the message so far.
  std::string control_; ///< Payload of the control frame in between.
  bool in_payload_ = false;
  bool in_text_ = false; ///< A text message has begun and waits for its next fragment.
  bool done_ = false;
};

/// True where `frames`, whole ones of a server, end with a close frame.
bool ends_with_close(std::string_view frames);

} // namespace sluice::http
