#include "live_requests.hpp"

#include <algorithm>
#include <charconv>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "sluice/channels.hpp"
#include "sluice/envelope.hpp"

namespace sluice::http {

namespace {

using nlohmann::json;

constexpr size_t max_client_bytes = 128;
constexpr size_t max_event_bytes = 200;

/// The header wins: native EventSource sends it when it comes back, whatever its URL says. Of several the last counts,
/// for clients that add theirs to what they were given; a cursor has no comma.
std::string cursor_of(const request& req) {
  if (auto header = req.header("last-event-id"); !header.empty())
    return std::string{header.substr(header.find_last_of(", ") + 1)};
  for (const auto* name : {"lastEventId", "last_event_id", "Last-Event-ID"})
    if (auto text = parameter(req, name); !text.empty())
      return text;
  return {};
}

bool is_client_id(const std::string& text) {
  return !text.empty() && text.size() <= max_client_bytes &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c <= '~' && c != '"' && c != '\\'; });
}

bool is_start(const std::string& from) {
  if (from.empty() || from == "now" || from == "earliest")
    return true;
  int64_t ms = 0;
  auto [end, error] = std::from_chars(from.data(), from.data() + from.size(), ms);
  return error == std::errc{} && end == from.data() + from.size() && ms >= 0;
}

} // namespace

response wrong_field(const std::string& field, const std::string& detail) {
  return problem(400, field + " " + detail, field);
}

std::string parameter(const request& req, const std::string& name) {
  auto found = req.query.find(name);
  return found == req.query.end() ? std::string{} : found->second;
}

channel_names split_channels(const std::string& text) {
  channel_names result;
  for (size_t from = 0; from <= text.size();) {
    auto comma = std::min(text.find(',', from), text.size());
    if (comma > from)
      result.push_back(text.substr(from, comma - from));
    from = comma + 1;
  }
  std::set<std::string> seen;
  std::erase_if(result, [&seen](const std::string& one) { return !seen.insert(one).second; });
  return result;
}

std::optional<response> read_channels(const json& body, channel_names& channels) {
  if (!body.is_object() || !body.contains("channels") || !body["channels"].is_array())
    return wrong_field("/channels", "is missing; send {\"channels\":[\"orders\"]}");
  for (const auto& one : body["channels"]) {
    if (!one.is_string())
      return wrong_field("/channels", "holds something that is no string");
    channels.push_back(one.get<std::string>());
  }
  return std::nullopt;
}

std::optional<response> check_channels(const api& with, const identity& who, const channel_names& channels,
                                       const std::string& field) {
  if (channels.empty())
    return wrong_field(field, "is empty; name at least one channel, several separated by commas");
  if (channels.size() > with.max_channels)
    return wrong_field(field, "names more than " + std::to_string(with.max_channels) + " channels (sse.maxChannels)");
  for (const auto& one : channels) {
    if (!is_channel_name(one))
      return wrong_field(field, "holds a channel name that is none: 1 to 200 bytes, no control characters, no comma");
    if (!who.may_subscribe(one))
      return forbidden("subscribe to the channel", one, field);
  }
  return std::nullopt;
}

std::optional<response> check_live_request(const api& with, request& req, const channel_names& channels,
                                           const std::string& field, bool need_channels) {
  if (auto refused = admit(with, req))
    return refused;
  if (need_channels || !channels.empty())
    if (auto wrong = check_channels(with, req.who, channels, field))
      return wrong;
  auto client = parameter(req, "clientId");
  if (!client.empty() && !is_client_id(client))
    return wrong_field("clientId", "is no client id: 1 to 128 visible ASCII characters without quotes");
  if (!is_start(parameter(req, "from")))
    return wrong_field("from", "is neither now, earliest nor a time in Unix milliseconds");
  if (with.is_revoked(client))
    return response{204, {}, {}, {}}; // the one answer that makes EventSource stop for good
  return std::nullopt;
}

live_request make_live_request(const request& req, event_stream_ptr stream, channel_names channels) {
  live_request wish;
  wish.stream = std::move(stream);
  wish.client = parameter(req, "clientId");
  if (wish.client.empty())
    wish.client = make_uuid();
  wish.user = req.who.user;
  wish.remote = req.remote;
  wish.channels = std::move(channels);
  wish.cursor = cursor_of(req);
  wish.from = parameter(req, "from");
  wish.expires_ms = req.who.expires_ms;
  return wish;
}

std::optional<response> make_broadcast(const api& with, const identity& who, const std::string& channel,
                                       const json& body, outgoing_record& record, std::string& id) {
  if (!is_channel_name(channel))
    return wrong_field("channel", "is no channel name: 1 to 200 bytes, no control characters, no comma");
  if (!who.may_publish(channel))
    return forbidden("publish to the channel", channel, "channel");
  if (!body.is_object() || !body.contains("data"))
    return wrong_field("/data", "is missing; send {\"event\":\"order\",\"data\":{…}}");
  for (const auto& [name, ignored] : body.items())
    if (name != "event" && name != "data" && name != "id")
      return wrong_field("/" + name, "is not a member of a broadcast; it has event, data and id");
  record.value = body["data"].dump();
  for (const auto* name : {"event", "id"}) {
    if (!body.contains(name) || body[name].is_null())
      continue;
    auto field = std::string{"/"} + name;
    if (!body[name].is_string())
      return wrong_field(field, "must be a string");
    auto text = body[name].get<std::string>();
    if (text.empty() || text.size() > max_event_bytes ||
        text.find_first_of(std::string_view{"\r\n\0", 3}) != std::string::npos)
      return wrong_field(field, "must have 1 to 200 bytes and no CR, LF or NUL, which would end its line");
    if (name == std::string_view{"event"})
      record.headers.push_back({event_name_header, text});
    else
      id = text;
  }
  record.topic = with.broadcast_topic;
  record.key = channel;
  return std::nullopt;
}

} // namespace sluice::http
