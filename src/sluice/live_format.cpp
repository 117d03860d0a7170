#include "sluice/live_format.hpp"

#include <memory>
#include <utility>

#include "sluice/json_text.hpp"
#include "sluice/sse_format.hpp"
#include "sluice/ws_format.hpp"

namespace sluice {

namespace {

void append_member(std::string& out, std::string_view name, std::string_view text) {
  out.append(",\"").append(name).append("\":");
  append_string(out, text);
}

} // namespace

void append_live_event(std::string& out, stream_protocol protocol, std::string_view channel, std::string_view event,
                       std::string_view id, std::string_view data) {
  if (protocol == stream_protocol::sse) {
    out += encode_event(data, event, id).value_or("");
    return;
  }
  std::string text = "{\"type\":\"event\"";
  append_member(text, "channel", channel);
  append_member(text, "id", id);
  if (!event.empty())
    append_member(text, "event", event);
  text.append(",\"data\":").append(data).append("}");
  out += encode_ws_text(text);
}

void append_notice(std::string& out, stream_protocol protocol, std::string_view name, std::string_view id,
                   std::string_view data) {
  if (protocol == stream_protocol::sse) {
    out += encode_event(data, name, id).value_or("");
    return;
  }
  std::string text = "{\"type\":";
  append_string(text, name);
  if (!id.empty())
    append_member(text, "id", id);
  text.append(",\"data\":").append(data).append("}");
  out += encode_ws_text(text);
}

void append_cursor(std::string& out, stream_protocol protocol, std::string_view id) {
  if (protocol == stream_protocol::sse)
    out += encode_cursor(id).value_or("");
  else
    append_notice(out, protocol, "cursor", id, "null");
}

void append_retry(std::string& out, stream_protocol protocol, uint64_t ms) {
  if (protocol == stream_protocol::sse)
    out += encode_retry(ms);
  else
    out += encode_ws_text("{\"type\":\"retry\",\"ms\":" + std::to_string(ms) + "}");
}

void end_stream(event_stream& stream, farewell why, std::string last) {
  if (stream.protocol() == stream_protocol::websocket)
    last += encode_ws_close(static_cast<uint16_t>(why));
  stream.finish(std::make_shared<const std::string>(std::move(last)));
}

void send_away(event_stream& stream, farewell why, uint64_t retry_ms) {
  std::string text;
  append_retry(text, stream.protocol(), retry_ms);
  end_stream(stream, why, std::move(text));
}

} // namespace sluice
