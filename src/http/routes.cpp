#include "routes.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>

#include <nlohmann/json.hpp>

#include "sluice/config_check.hpp"
#include "sluice/envelope.hpp"
#include "sluice/json_text.hpp"
#include "sluice/log.hpp"
#include "sluice/processor.hpp"

namespace sluice::http {

namespace {

using nlohmann::json;

json result_of(const delivery& one) {
  json result{{"topic", one.topic}};
  if (one.error == ec::no_error) {
    result["ok"] = true;
    if (one.queued) {
      result["queued"] = true;
    } else {
      result["partition"] = one.partition;
      result["offset"] = one.offset;
    }
  } else {
    result["ok"] = false;
    result["error"] = to_string(one.error);
    result["detail"] = one.reason;
  }
  return result;
}

void append_members(std::string& out, const char* before, const delivery& one, const std::string& event_id) {
  out += before;
  append_string(out, event_id);
  out += ",\"offset\":";
  out += std::to_string(one.offset);
  out += ",\"ok\":true,\"partition\":";
  out += std::to_string(one.partition);
}

/// What most requests are answered; written by hand because they are many.
std::string all_acknowledged(const std::vector<delivery>& all, const std::vector<std::string>& event_ids, bool many) {
  std::string out;
  out.reserve(128 + all.size() * 160);
  out += "{\"accepted\":";
  out += std::to_string(all.size());
  if (many)
    out += ",\"ok\":true";
  else
    append_members(out, ",\"eventId\":", all.front(), event_ids.front());
  out += ",\"results\":[";
  for (size_t i = 0; i < all.size(); ++i) {
    append_members(out, i == 0 ? "{\"eventId\":" : ",{\"eventId\":", all[i], event_ids[i]);
    out += ",\"topic\":";
    append_string(out, all[i].topic);
    out += '}';
  }
  out += ']';
  if (!many) {
    out += ",\"topic\":";
    append_string(out, all.front().topic);
  }
  out += '}';
  return out;
}

/// What only sluice says of a record: senders may give an event id, a deadline, a correlation, not these.
bool is_own_header(const std::string& name) {
  return name.starts_with("sluice-dlq-") || name == "sluice-redrives" || name == "sluice-retry";
}

/// One `{key?, value, headers?, partition?}`; `where` is its JSON pointer, for errors.
bool read_message(const json& message, const std::string& where, outgoing_record& record,
                  std::optional<response>& wrong) {
  auto bad = [&](const std::string& member, const std::string& detail) {
    wrong = std::make_optional<response>(problem(400, where + member + " " + detail, where + member));
    return false;
  };
  if (!message.is_object())
    return bad("", "must be an object such as {\"key\":\"a\",\"value\":{…}}");
  for (const auto& [name, ignored] : message.items())
    if (name != "key" && name != "value" && name != "headers" && name != "partition")
      return bad("/" + name, "is not a member of a message; it has key, value, headers and partition");
  if (!message.contains("value"))
    return bad("/value", "is missing; send the record's value (null for a tombstone)");
  const auto& value = message["value"];
  if (value.is_string())
    record.value = value.get<std::string>();
  else if (!value.is_null())
    record.value = value.dump();
  if (message.contains("key") && !message["key"].is_null()) {
    if (!message["key"].is_string())
      return bad("/key", "must be a string or null");
    record.key = message["key"].get<std::string>();
  }
  if (message.contains("partition")) {
    if (!message["partition"].is_number_unsigned() || message["partition"].get<uint64_t>() > 1000000)
      return bad("/partition", "must be a whole number from 0");
    record.partition = message["partition"].get<int32_t>();
  }
  if (message.contains("headers")) {
    const auto& headers = message["headers"];
    if (!headers.is_object() || headers.size() > 100)
      return bad("/headers", "must be an object of at most 100 strings");
    for (const auto& [name, text] : headers.items()) {
      if (!text.is_string())
        return bad("/headers/" + name, "must be a string");
      if (is_own_header(name))
        return bad("/headers/" + name, "is set by sluice only; leave it out");
      record.headers.push_back({name, text.get<std::string>()});
    }
  }
  return true;
}

/// What of the status is for everybody: whether Kafka is connected, and for what. No figures, no cause, which may name
/// more than the brokers.
json open_part(const json& status) {
  const auto& kafka = status.at("kafka");
  return {
      {"ok", true},
      {"kafka",
       {{"connected", kafka.at("connected")}, {"brokers", kafka.at("brokers")}, {"clientId", kafka.at("clientId")}}},
      {"topics", status.at("topics")},
      {"consumers", status.at("consumers")},
      {"message", status.at("message")},
      {"producer", {{"connected", status.at("producer").at("connected")}}},
      {"consumer", {{"connected", status.at("consumer").at("connected")}}}};
}

/// Whom the client took this server for. A page whose host's name is made to lead here shows itself by it.
std::string_view host_of(const request& req) {
  auto host = req.header("host");
  if (host.starts_with('['))
    return host.substr(1, std::min(host.find(']'), host.size()) - 1);
  return host.substr(0, host.find(':'));
}

void send(const api& with, const request& req, bool batch, const responder& respond) {
  auto topic = req.params.at("topic");
  if (!is_topic_name(topic)) {
    respond(problem(400, "a topic's name has 1 to 249 letters, digits, dots, underscores and hyphens", "topic"));
    return;
  }
  if (!req.who.may_publish(topic)) {
    respond(forbidden("publish to the topic", topic, "topic"));
    return;
  }
  std::optional<response> wrong;
  auto body = read_json(req, wrong);
  if (wrong) {
    respond(std::move(*wrong));
    return;
  }
  std::string prefix;
  if (batch && body.is_object()) {
    body = body.contains("messages") ? json(body["messages"]) : json();
    prefix = "/messages";
  }
  if (batch && (!body.is_array() || body.empty() || body.size() > 10000)) {
    respond(
        problem(400, "send 1 to 10,000 messages as {\"messages\":[{\"key\":\"a\",\"value\":{…}}, …]}", "/messages"));
    return;
  }
  std::vector<outgoing_record> records;
  std::vector<std::string> ids;
  if (!batch)
    body = json::array({std::move(body)});
  for (size_t i = 0; i < body.size(); ++i) {
    outgoing_record record;
    record.topic = topic;
    if (!read_message(body[i], batch ? prefix + "/" + std::to_string(i) : "", record, wrong)) {
      respond(std::move(*wrong));
      return;
    }
    const auto* given = find_header(record.headers, event_id_header);
    ids.push_back(given != nullptr ? *given : make_event_id(req, i));
    for (auto& header : tracing_headers(req, ids.back()))
      if (find_header(record.headers, header.name) == nullptr)
        record.headers.push_back(std::move(header));
    records.push_back(std::move(record));
  }
  publish_and_answer(with, std::move(records), std::move(ids), 200, batch, respond);
}

} // namespace

response ok(int status, const json& body) {
  return {status, "application/json", body.dump(-1, ' ', false, json::error_handler_t::replace), {}};
}

void publish_and_answer(const api& with, std::vector<outgoing_record> records, std::vector<std::string> event_ids,
                        int all_well, bool many, responder respond) {
  with.publish(std::move(records), [event_ids = std::move(event_ids), all_well, many,
                                    respond = std::move(respond)](const caf::expected<std::vector<delivery>>& outcome) {
    if (!outcome) {
      respond(failure(code_of(outcome.error()), text_of(outcome.error())));
      return;
    }
    auto failed =
        std::count_if(outcome->begin(), outcome->end(), [](const auto& x) { return x.error != ec::no_error; });
    auto queued = std::any_of(outcome->begin(), outcome->end(), [](const auto& x) { return x.queued; });
    if (failed == 0 && !queued) {
      respond({all_well, "application/json", all_acknowledged(*outcome, event_ids, many), {}});
      return;
    }
    json results = json::array();
    for (size_t i = 0; i < outcome->size(); ++i) {
      results.push_back(result_of((*outcome)[i]));
      results.back()["eventId"] = event_ids[i];
    }
    auto written = static_cast<std::ptrdiff_t>(outcome->size()) - failed;
    if (failed == 0) { // in the outbox, all of them or some
      json body{{"ok", true}, {"accepted", written}, {"queued", true}, {"topic", outcome->front().topic}};
      if (!many)
        body["eventId"] = event_ids.front();
      body["results"] = std::move(results);
      respond(ok(202, body));
      return;
    }
    if (written == 0) { // one error for all
      const auto& first = outcome->front();
      auto answer = failure(first.error, first.reason);
      auto body = json::parse(answer.body);
      if (many)
        body["results"] = std::move(results);
      answer.body = body.dump();
      respond(std::move(answer));
      return;
    }
    respond(ok(207, {{"ok", false}, {"accepted", written}, {"failed", failed}, {"results", std::move(results)}}));
  });
}

response failure(ec code, const std::string& reason) {
  switch (code) {
  case ec::queue_full:
    return problem(503, reason.empty() ? "the producer's queue is full; try again shortly" : reason, {},
                   {{"Retry-After", "1"}});
  case ec::delivery_timeout:
  case ec::kafka_unreachable:
    return problem(503, "Kafka did not acknowledge in time (" + reason + "); try again", {}, {{"Retry-After", "5"}});
  case ec::storage_full:
    return problem(507, reason, {}, {{"Retry-After", "30"}});
  case ec::store_unavailable:
    return problem(503, reason, {}, {{"Retry-After", "5"}});
  case ec::shutting_down:
    return problem(503, reason, {}, {{"Retry-After", "2"}});
  case ec::unknown_topic:
    return problem(404, reason + "; create the topic first", "topic");
  case ec::unknown_client:
    return problem(404, reason);
  case ec::busy:
    return problem(409, reason);
  case ec::too_large:
    return problem(413, reason);
  case ec::kafka_refused:
    return problem(422, "Kafka refused the record: " + reason);
  default:
    return problem(500, "sluice could not do this: " + (reason.empty() ? to_string(code) : reason) + "; see its log");
  }
}

std::optional<response> admit(const api& with, request& req, const std::string& role) {
  auto outcome = with.access->identify(req);
  if (auto* refused = std::get_if<response>(&outcome)) {
    if (log_enabled(log_level::debug))
      log(log_level::debug, "http", "credentials refused",
          {{"status", std::to_string(refused->status)},
           {"method", req.method},
           {"path", req.path},
           {"remote", req.remote},
           {"reason", nlohmann::json::parse(refused->body).value("detail", "")}});
    return std::move(*refused);
  }
  req.who = std::move(std::get<identity>(outcome));
  if (!role.empty() && !req.who.has_role(role))
    return forbidden("do this without the role", role, "role");
  return std::nullopt;
}

handler authorized(const api& with, handler next, std::string role) {
  return [with, next = std::move(next), role = std::move(role)](request req, responder respond) {
    if (auto refused = admit(with, req, role))
      respond(std::move(*refused));
    else
      next(std::move(req), std::move(respond));
  };
}

void add_auth_routes(router& routes, const api& with) {
  routes.add("POST", "/auth/ticket", authorized(with, [with](const request& req, const responder& respond) {
               auto ticket = with.access->issue_ticket(req.who);
               auto answer = ok(200, {{"ok", true}, {"ticket", ticket.text}, {"expiresIn", ticket.lifetime_ms / 1000}});
               answer.headers.emplace_back("Cache-Control", "no-store");
               respond(std::move(answer));
             }));
}

void add_event_routes(router& routes, const api& with) {
  routes.add("POST", "/events", publishing(with, [with](const request& req, const responder& respond) {
               if (!req.who.may_publish(with.events_topic)) {
                 respond(forbidden("publish to the topic", with.events_topic, "topic"));
                 return;
               }
               auto body = read_documents(req);
               if (body.wrong) {
                 respond(std::move(*body.wrong));
                 return;
               }
               std::vector<outgoing_record> records;
               std::vector<std::string> ids;
               for (auto& text : body.documents) {
                 outgoing_record record;
                 record.topic = with.events_topic;
                 record.value = std::move(text);
                 ids.push_back(make_event_id(req, ids.size()));
                 record.headers = tracing_headers(req, ids.back());
                 records.push_back(std::move(record));
               }
               publish_and_answer(with, std::move(records), std::move(ids), 202, body.many, respond);
             }));
}

void add_kafka_routes(router& routes, const api& with) {
  routes.add("POST", "/kafka/send/:topic", publishing(with, [with](const request& req, const responder& respond) {
               send(with, req, false, respond);
             }));
  routes.add("POST", "/kafka/send/:topic/batch", publishing(with, [with](const request& req, const responder& respond) {
               send(with, req, true, respond);
             }));
  routes.add("GET", "/kafka/status", [with](request req, const responder& respond) {
    const bool open = with.open_status && is_loopback(host_of(req)) && with.access->misses_credentials(req);
    if (auto refused = open ? std::nullopt : admit(with, req))
      respond(std::move(*refused));
    else
      with.status([respond, open](const json& body) { respond(ok(200, open ? open_part(body) : body)); });
  });
}

void add_health_routes(router& routes, const api& with) {
  routes.add("GET", "/livez", [](const request&, const responder& respond) { respond(ok(200, {{"ok", true}})); });
  routes.add("GET", "/readyz", [with](const request&, const responder& respond) {
    with.readiness([respond](const std::string& why_not) {
      if (why_not.empty())
        respond(ok(200, {{"ok", true}}));
      else
        respond(problem(503, why_not, {}, {{"Retry-After", "2"}}));
    });
  });
  routes.add("GET", "/metrics", authorized(with, [with](const request&, const responder& respond) {
               respond({200, "text/plain; version=0.0.4; charset=utf-8", with.metrics(), {}});
             }));
  routes.add("GET", "/openapi.json", [with](const request&, const responder& respond) {
    respond({200, "application/json", with.openapi, {}});
  });
  routes.add("GET", "/", [with](const request&, const responder& respond) {
    if (with.demo_page.empty())
      respond(problem(404, "There is no page here without --demo. /openapi.json lists what there is."));
    else
      respond({200,
               "text/html; charset=utf-8",
               with.demo_page,
               {{"Content-Security-Policy", "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; "
                                            "style-src 'unsafe-inline'; frame-ancestors 'none'"},
                {"Cache-Control", "no-cache"}}});
  });
}

router make_routes(const api& with) {
  router routes;
  add_auth_routes(routes, with);
  add_event_routes(routes, with);
  add_kafka_routes(routes, with);
  add_live_routes(routes, with);
  add_socket_routes(routes, with);
  add_notification_routes(routes, with);
  add_dlq_routes(routes, with);
  add_audit_routes(routes, with);
  add_report_routes(routes, with);
  add_document_routes(routes, with);
  add_health_routes(routes, with);
  return routes;
}

} // namespace sluice::http
