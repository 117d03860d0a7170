/// WebSocket messages on the wire, as a server sends them: pure functions from text to bytes (RFC 6455, 5.2). Any
/// thread, nothing throws but std::bad_alloc.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice {

/// Encodes one whole text message. `text` must be UTF-8; clients end the connection over anything else.
std::string encode_ws_text(std::string_view text);

/// Encodes the frame that begins or answers the closing handshake. `code`: 1000 to 4999, RFC 6455, 7.4. Of `reason`
/// (UTF-8) as much is sent as fits whole characters into 123 bytes.
std::string encode_ws_close(uint16_t code, std::string_view reason = {});

} // namespace sluice
