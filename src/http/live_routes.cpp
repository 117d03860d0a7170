// Live delivery: streams, their channels, broadcasts.
#include <algorithm>
#include <charconv>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "sluice/channels.hpp"

#include "routes.hpp"

namespace sluice::http {

namespace {

using nlohmann::json;

constexpr size_t max_client_bytes = 128;
constexpr size_t max_event_bytes = 200;

response bad(const std::string& field, const std::string& detail) {
  return problem(400, field + " " + detail, field);
}

std::string parameter(const request& req, const std::string& name) {
  auto found = req.query.find(name);
  return found == req.query.end() ? std::string{} : found->second;
}

/// The header wins: native EventSource sends it when it comes back, whatever its URL says.
std::string cursor_of(const request& req) {
  if (auto header = req.header("last-event-id"); !header.empty())
    return std::string{header};
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

std::optional<response> check_channels(const api& with, const identity& who, const channel_names& channels,
                                       const std::string& field) {
  if (channels.empty())
    return bad(field, "is empty; name at least one channel, several separated by commas");
  if (channels.size() > with.max_channels)
    return bad(field, "names more than " + std::to_string(with.max_channels) + " channels (sse.maxChannels)");
  for (const auto& one : channels) {
    if (!is_channel_name(one))
      return bad(field, "holds a channel name that is none: 1 to 200 bytes, no control characters, no comma");
    if (!who.may_subscribe(one))
      return forbidden("subscribe to the channel", one, field);
  }
  return std::nullopt;
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

/// What a stream's request has in common, whatever its path.
std::optional<response> check_stream(const api& with, request& req, const channel_names& channels,
                                     const std::string& field) {
  if (auto refused = admit(with, req))
    return refused;
  if (auto wrong = check_channels(with, req.who, channels, field))
    return wrong;
  auto client = parameter(req, "clientId");
  if (!client.empty() && !is_client_id(client))
    return bad("clientId", "is no client id: 1 to 128 visible ASCII characters without quotes");
  if (!is_start(parameter(req, "from")))
    return bad("from", "is neither now, earliest nor a time in Unix milliseconds");
  if (with.is_revoked(client))
    return response{204, {}, {}, {}}; // the one answer that makes EventSource stop for good
  return std::nullopt;
}

live_request request_of(const request& req, event_stream_ptr stream, channel_names channels) {
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

void add_channel_stream(router& routes, const api& with, const std::string& path) {
  routes.add_stream(
      path,
      [with](const request& req, event_stream_ptr stream) {
        with.open_session(request_of(req, std::move(stream), split_channels(parameter(req, "channels"))));
      },
      [with](request& req) {
        return stream_verdict{check_stream(with, req, split_channels(parameter(req, "channels")), "channels"), {}};
      });
}

/// `{"channels":["a","b"]}`, or the answer to what is none.
std::optional<response> read_channels(const request& req, channel_names& channels) {
  std::optional<response> wrong;
  auto body = read_json(req, wrong);
  if (wrong)
    return wrong;
  if (!body.is_object() || !body.contains("channels") || !body["channels"].is_array())
    return bad("/channels", "is missing; send {\"channels\":[\"orders\"]}");
  for (const auto& one : body["channels"]) {
    if (!one.is_string())
      return bad("/channels", "holds something that is no string");
    channels.push_back(one.get<std::string>());
  }
  return std::nullopt;
}

void change(const api& with, const request& req, bool add, const responder& respond) {
  channel_names channels;
  auto wrong = read_channels(req, channels);
  if (!wrong)
    wrong = check_channels(with, req.who, channels, "/channels");
  if (wrong) {
    respond(std::move(*wrong));
    return;
  }
  auto client = req.params.at("clientId");
  // Another's stream is an operator's to change; so is one whose client nobody knows.
  auto mine = [who = req.who](const live_client& one) {
    return who.all || who.has_role("admin") || (!who.user.empty() && one.user == who.user);
  };
  with.clients([=](const caf::expected<live_clients>& all) {
    if (!all) {
      respond(failure(code_of(all.error()), text_of(all.error())));
      return;
    }
    auto found = std::find_if((*all)->begin(), (*all)->end(), [&](const auto& one) { return one.client == client; });
    if (found != (*all)->end() && !mine(*found)) {
      respond(forbidden("change the stream of client", client, "clientId"));
      return;
    }
    with.change_channels(client, channels, add, [respond, client](const caf::expected<channel_names>& now) {
      if (now)
        respond(ok(200, {{"ok", true}, {"clientId", client}, {"channels", *now}}));
      else if (code_of(now.error()) == ec::queue_full)
        respond(bad("/channels", text_of(now.error())));
      else
        respond(failure(code_of(now.error()), text_of(now.error())));
    });
  });
}

json to_json(const live_client& one, const std::string& node) {
  return {{"clientId", one.client},
          {"userId", one.user.empty() ? json() : json(one.user)},
          {"channels", one.channels},
          {"protocol", one.protocol == stream_protocol::sse ? "sse" : "websocket"},
          {"remote", one.remote},
          {"connectedSince", one.connected_ms},
          {"sentEvents", one.usage.events},
          {"sentBytes", one.usage.bytes},
          {"queuedBytes", one.usage.queued_bytes},
          {"droppedEvents", one.usage.dropped},
          {"node", node}};
}

/// One `{event?, data, id?}`.
std::optional<response> read_broadcast(const json& body, outgoing_record& record, std::string& id) {
  if (!body.is_object() || !body.contains("data"))
    return bad("/data", "is missing; send {\"event\":\"order\",\"data\":{…}}");
  for (const auto& [name, ignored] : body.items())
    if (name != "event" && name != "data" && name != "id")
      return bad("/" + name, "is not a member of a broadcast; it has event, data and id");
  record.value = body["data"].dump();
  for (const auto* name : {"event", "id"}) {
    if (!body.contains(name) || body[name].is_null())
      continue;
    auto field = std::string{"/"} + name;
    if (!body[name].is_string())
      return bad(field, "must be a string");
    auto text = body[name].get<std::string>();
    if (text.empty() || text.size() > max_event_bytes ||
        text.find_first_of(std::string_view{"\r\n\0", 3}) != std::string::npos)
      return bad(field, "must have 1 to 200 bytes and no CR, LF or NUL, which would end its line");
    if (name == std::string_view{"event"})
      record.headers.push_back({event_name_header, text});
    else
      id = text;
  }
  return std::nullopt;
}

void broadcast(const api& with, const request& req, const responder& respond) {
  const auto& channel = req.params.at("channel");
  if (!is_channel_name(channel)) {
    respond(bad("channel", "is no channel name: 1 to 200 bytes, no control characters, no comma"));
    return;
  }
  if (!req.who.may_publish(channel)) {
    respond(forbidden("publish to the channel", channel, "channel"));
    return;
  }
  std::optional<response> wrong;
  auto body = read_json(req, wrong);
  outgoing_record record;
  auto id = make_uuid();
  if (!wrong)
    wrong = read_broadcast(body, record, id);
  if (wrong) {
    respond(std::move(*wrong));
    return;
  }
  record.topic = with.broadcast_topic;
  record.key = channel;
  for (auto& header : tracing_headers(req, id))
    record.headers.push_back(std::move(header));
  publish_and_answer(with, {std::move(record)}, {id}, 202, false, respond);
}

} // namespace

void add_live_routes(router& routes, const api& with) {
  routes.add_stream(
      "/events",
      [with](const request& req, event_stream_ptr stream) {
        auto wish = request_of(req, std::move(stream), {events_channel});
        wish.snapshot = true;
        with.open_session(std::move(wish));
      },
      [with](request& req) {
        return stream_verdict{check_stream(with, req, {events_channel}, "channel"), {}};
      });
  add_channel_stream(routes, with, "/kafka/events");
  add_channel_stream(routes, with, "/events/stream");
  routes.add(
      "POST", "/kafka/sse/subscribe/:clientId",
      authorized(with, [with](const request& req, const responder& respond) { change(with, req, true, respond); }));
  routes.add(
      "POST", "/kafka/sse/unsubscribe/:clientId",
      authorized(with, [with](const request& req, const responder& respond) { change(with, req, false, respond); }));
  routes.add("GET", "/kafka/sse/clients",
             authorized(
                 with,
                 [with](const request&, const responder& respond) {
                   with.clients([respond, node = with.node](const caf::expected<live_clients>& all) {
                     if (!all) {
                       respond(failure(code_of(all.error()), text_of(all.error())));
                       return;
                     }
                     json clients = json::array();
                     for (const auto& one : **all)
                       clients.push_back(to_json(one, node));
                     respond(ok(200, {{"ok", true}, {"total", clients.size()}, {"clients", std::move(clients)}}));
                   });
                 },
                 "admin"));
  routes.add("DELETE", "/kafka/sse/clients/:clientId",
             authorized(
                 with,
                 [with](const request& req, const responder& respond) {
                   auto reason = parameter(req, "reason");
                   if (reason.size() > max_event_bytes) {
                     respond(bad("reason", "is longer than 200 bytes"));
                     return;
                   }
                   with.end_client(req.params.at("clientId"), reason.empty() ? "ended by an operator" : reason,
                                   [respond](const caf::error& error) {
                                     if (error)
                                       respond(failure(code_of(error), text_of(error)));
                                     else
                                       respond(ok(200, {{"ok", true}}));
                                   });
                 },
                 "admin"));
  routes.add("POST", "/kafka/sse/broadcast/:channel",
             authorized(with, [with](const request& req, const responder& respond) { broadcast(with, req, respond); }));
}

} // namespace sluice::http
