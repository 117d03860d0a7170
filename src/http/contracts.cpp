#include "contracts.hpp"

#include <algorithm>
#include <utility>

#include "sluice/envelope.hpp"

namespace sluice::http {

namespace {

using nlohmann::json;

constexpr size_t max_text_bytes = 10000;

} // namespace

std::string check_text(const json& value) {
  if (!value.is_string() || value.get_ref<const std::string&>().empty())
    return "must be a string that is not empty";
  return value.get_ref<const std::string&>().size() > max_text_bytes ? "is longer than 10,000 bytes" : "";
}

std::string check_anything(const json&) {
  return "";
}

std::optional<response> check_members(const json& body, const std::vector<member>& members, const char* what) {
  std::string field, detail;
  auto add = [&](const std::string& name, const std::string& text) {
    if (field.empty())
      field = "/" + name;
    detail += (detail.empty() ? "/" : "; /") + name + " " + text;
  };
  if (!body.is_object())
    return problem(400, std::string{"the body must be a JSON object with "} + members.front().name, "body");
  for (const auto& one : members) {
    if (!body.contains(one.name)) {
      if (one.needed)
        add(one.name, "is missing");
    } else if (auto text = one.check(body[one.name]); !text.empty()) {
      add(one.name, text);
    }
  }
  for (const auto& given : body.items())
    if (std::none_of(members.begin(), members.end(), [&given](const member& one) { return given.key() == one.name; }))
      add(given.key(), std::string{"is no member of "} + what);
  if (!detail.empty())
    return problem(400, detail, field);
  return std::nullopt;
}

namespace {

/// The answer where the event is on disk for now.
json queued(json answer) {
  answer["message"] = "Kafka is away: the event is on disk, and goes there when it is back";
  answer["queued"] = true;
  return answer;
}

} // namespace

void publish_event(const api& with, const request& req, const std::string& topic, json data, json answer,
                   const responder& respond) {
  if (!req.who.may_publish(topic)) {
    respond(forbidden("publish to the topic", topic, ""));
    return;
  }
  auto id = make_event_id(req);
  json metadata{{"eventId", id}, {"timestamp", system_time_ms()}, {"source", "sluice"}, {"version", 1}};
  outgoing_record record;
  record.topic = topic;
  record.value = json{{"type", topic}, {"data", std::move(data)}, {"metadata", std::move(metadata)}}.dump();
  record.headers = tracing_headers(req, id);
  answer["topic"] = topic;
  answer["eventId"] = id;
  with.publish({std::move(record)}, [respond, answer](const caf::expected<std::vector<delivery>>& outcome) {
    if (!outcome)
      respond(failure(code_of(outcome.error()), text_of(outcome.error())));
    else if (outcome->front().error != ec::no_error)
      respond(failure(outcome->front().error, outcome->front().reason));
    else if (outcome->front().queued)
      respond(ok(202, queued(answer)));
    else
      respond(ok(200, answer));
  });
}

} // namespace sluice::http
