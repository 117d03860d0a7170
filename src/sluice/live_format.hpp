/// Live events as each protocol has them. Pure functions, any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "sluice/ports.hpp"

namespace sluice {

/// An event of a channel. `data` is JSON; `event` may be empty (`message` for EventSource). SSE: `id:`, `event:`,
/// `data:`. WebSocket: `{"type":"event","channel":…,"id":…,"event":…,"data":…}`. Appends to `out`. `id` and `event`
/// have no CR, LF or NUL.
void append_live_event(std::string& out, stream_protocol protocol, std::string_view channel, std::string_view event,
                       std::string_view id, std::string_view data);

/// An event about the stream itself: `connected`, `snapshot`, `gap`, … SSE: an event of that name. WebSocket:
/// `{"type":<name>,"id":…,"data":…}`.
void append_notice(std::string& out, stream_protocol protocol, std::string_view name, std::string_view id,
                   std::string_view data);

/// Moves the client's cursor without an event.
void append_cursor(std::string& out, stream_protocol protocol, std::string_view id);

/// How long the client is to wait before it comes back, in milliseconds. WebSocket: `{"type":"retry","ms":…}`.
void append_retry(std::string& out, stream_protocol protocol, uint64_t ms);

/// Why the server ends a stream. Of a WebSocket this is the close code (RFC 6455, 7.4; 4000 and up are ours).
enum class farewell : uint16_t {
  finished = 1000, ///< For good.
  going_away = 1001,
  unauthorized = 1008, ///< The credentials are no longer valid.
  try_later = 1013,
  replaced = 4001, ///< By a later stream of the same client; who came back would end that one.
};

/// Ends a stream with `last`, whole events, as its last words. SSE knows no reasons.
void end_stream(event_stream& stream, farewell why, std::string last = {});
/// Ends a stream and tells the client to come back after so many milliseconds.
void send_away(event_stream& stream, farewell why, uint64_t retry_ms);

} // namespace sluice
