// Live delivery: streams, their channels, broadcasts.
#include <algorithm>
#include <utility>

#include <nlohmann/json.hpp>

#include "sluice/channels.hpp"
#include "sluice/envelope.hpp"

#include "live_requests.hpp"
#include "routes.hpp"

namespace sluice::http {

namespace {

using nlohmann::json;

constexpr size_t max_reason_bytes = 200;

void add_channel_stream(router& routes, const api& with, const std::string& path) {
  routes.add_stream(
      path,
      [with](const request& req, event_stream_ptr stream) {
        with.open_session(make_live_request(req, std::move(stream), split_channels(parameter(req, "channels"))));
      },
      [with](request& req) {
        return stream_verdict{
            check_live_request(with, req, split_channels(parameter(req, "channels")), "channels", true), {}};
      });
}

void change(const api& with, const request& req, bool add, const responder& respond) {
  channel_names channels;
  std::optional<response> wrong;
  auto body = read_json(req, wrong);
  if (!wrong)
    wrong = read_channels(body, channels);
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
        respond(wrong_field("/channels", text_of(now.error())));
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

void broadcast(const api& with, const request& req, const responder& respond) {
  std::optional<response> wrong;
  auto body = read_json(req, wrong);
  outgoing_record record;
  auto id = make_event_id(req);
  if (!wrong)
    wrong = make_broadcast(with, req.who, req.params.at("channel"), body, record, id);
  if (wrong) {
    respond(std::move(*wrong));
    return;
  }
  for (auto& header : tracing_headers(req, id))
    record.headers.push_back(std::move(header));
  publish_and_answer(with, {std::move(record)}, {id}, 202, false, respond);
}

} // namespace

void add_live_routes(router& routes, const api& with) {
  routes.add_stream(
      "/events",
      [with](const request& req, event_stream_ptr stream) {
        auto wish = make_live_request(req, std::move(stream), {events_channel});
        wish.snapshot = true;
        with.open_session(std::move(wish));
      },
      [with](request& req) {
        return stream_verdict{check_live_request(with, req, {events_channel}, "channel", true), {}};
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
                   if (reason.size() > max_reason_bytes) {
                     respond(wrong_field("reason", "is longer than 200 bytes"));
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
             publishing(with, [with](const request& req, const responder& respond) { broadcast(with, req, respond); }));
}

} // namespace sluice::http
