// Notifications for users, on their way to each user's channel.
#include <algorithm>
#include <chrono>
#include <functional>
#include <utility>

#include <nlohmann/json.hpp>

#include "sluice/channels.hpp"
#include "sluice/envelope.hpp"

#include "live_requests.hpp"
#include "routes.hpp"

namespace sluice::http {

namespace {

using nlohmann::json;

constexpr size_t max_users = 1000;
constexpr size_t max_text_bytes = 10000;

/// One member of a contract. `check` returns what is wrong with a value that is there, or "".
struct member {
  const char* name;
  bool needed;
  std::function<std::string(const json&)> check;
};

/// What a notification must be, and where it goes.
struct contract {
  const char* path;
  const char* topic;
  const char* type;
  const char* key; ///< The member that orders the records.
  std::vector<member> members;
};

std::string check_text(const json& value) {
  if (!value.is_string() || value.get_ref<const std::string&>().empty())
    return "must be a string that is not empty";
  return value.get_ref<const std::string&>().size() > max_text_bytes ? "is longer than 10,000 bytes" : "";
}

std::string check_users(const json& value) {
  if (!value.is_array() || value.empty() || value.size() > max_users)
    return "must be a list of 1 to 1,000 user ids";
  for (const auto& one : value)
    if (!one.is_string() || one.get_ref<const std::string&>().empty() ||
        !is_channel_name(user_prefix + one.get_ref<const std::string&>()))
      return "holds something that is no user id: a string of 1 to 195 bytes without commas or control characters";
  return "";
}

std::string check_time(const json& value) {
  bool text = value.is_string() && value.get_ref<const std::string&>().size() >= 10 &&
              value.get_ref<const std::string&>().size() <= 40;
  return text || value.is_number_unsigned() ? "" : "must be a time: ISO 8601, or Unix milliseconds";
}

std::string check_level(const json& value) {
  return value.is_number() && value.get<double>() >= 0 && value.get<double>() <= 1 ? ""
                                                                                   : "must be a number from 0 to 1";
}

std::string check_anything(const json&) {
  return "";
}

const std::vector<contract>& contracts() {
  static const std::vector<contract> all{
      {"/notifications/session-starting-soon",
       "session-notifications",
       "session_starting_soon",
       "sessionId",
       {{"sessionId", true, check_text},
        {"userIds", true, check_users},
        {"message", false, check_text},
        {"scheduledTime", false, check_time}}},
      {"/notifications/concept-mastered",
       "concept-notifications",
       "concept_mastered",
       "conceptId",
       {{"conceptId", true, check_text},
        {"userIds", true, check_users},
        {"conceptName", false, check_text},
        {"masteryLevel", false, check_level}}},
      {"/notifications",
       "notifications",
       "notification",
       "",
       {{"userIds", true, check_users},
        {"type", false, check_text},
        {"title", false, check_text},
        {"message", false, check_text},
        {"data", false, check_anything}}},
  };
  return all;
}

/// The answer to a body that is not as it must be; every field that is wrong is named, not only the first.
std::optional<response> check_members(const json& body, const std::vector<member>& members) {
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
      add(given.key(), "is no member of this notification");
  if (!detail.empty())
    return problem(400, detail, field);
  return std::nullopt;
}

void notify(const api& with, const contract& what, const request& req, const responder& respond) {
  std::optional<response> wrong;
  auto body = read_json(req, wrong);
  if (!wrong)
    wrong = check_members(body, what.members);
  if (wrong) {
    respond(std::move(*wrong));
    return;
  }
  if (!req.who.may_publish(what.topic)) {
    respond(forbidden("publish to the topic", what.topic, ""));
    return;
  }
  if (!body.contains("type"))
    body["type"] = what.type;
  outgoing_record record;
  record.topic = what.topic;
  record.key = *what.key != '\0' ? body[what.key].get<std::string>() : body["userIds"][0].get<std::string>();
  record.value = body.dump();
  auto id = make_event_id(req);
  record.headers = tracing_headers(req, id);
  publish_and_answer(with, {std::move(record)}, {id}, 202, false, respond);
}

std::string check_object(const json& value) {
  return value.is_object() ? "" : "must be an object";
}

std::string check_targets(const json& value) {
  constexpr auto wanted = R"(must be a list of 1 to 1,000 targets such as {"channel":"email","to":"ann@example.com"})";
  if (!value.is_array() || value.empty() || value.size() > max_users)
    return wanted;
  for (const auto& one : value) {
    if (!one.is_object() || !one.contains("channel") || !check_text(one["channel"]).empty() ||
        (one.contains("to") && !check_text(one["to"]).empty()) || one.size() > (one.contains("to") ? 2U : 1U))
      return wanted;
  }
  return "";
}

/// What the notification processor takes, into its topic.
void send_notification(const api& with, const request& req, const responder& respond) {
  static const std::string topic = "notification.send";
  static const std::vector<member> members{{"title", false, check_text},  {"body", false, check_text},
                                           {"html", false, check_text},   {"template", false, check_text},
                                           {"data", false, check_object}, {"targets", false, check_targets}};
  std::optional<response> wrong;
  auto body = read_json(req, wrong);
  if (!wrong)
    wrong = check_members(body, members);
  if (!wrong && !body.contains("title") && !body.contains("body") && !body.contains("template"))
    wrong = wrong_field("/title", "is missing, and so are body and template; send at least one of them");
  if (!wrong && !req.who.may_publish(topic))
    wrong = forbidden("publish to the topic", topic, "");
  if (wrong) {
    respond(std::move(*wrong));
    return;
  }
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  auto id = make_event_id(req);
  json metadata{{"eventId", id},
                {"timestamp", std::chrono::duration_cast<std::chrono::milliseconds>(now).count()},
                {"source", "sluice"},
                {"version", 1}};
  outgoing_record record;
  record.topic = topic;
  record.value = json{{"type", topic}, {"data", std::move(body)}, {"metadata", std::move(metadata)}}.dump();
  record.headers = tracing_headers(req, id);
  with.publish({std::move(record)}, [respond, id](const caf::expected<std::vector<delivery>>& outcome) {
    if (!outcome)
      respond(failure(code_of(outcome.error()), text_of(outcome.error())));
    else if (outcome->front().error != ec::no_error)
      respond(failure(outcome->front().error, outcome->front().reason));
    else if (outcome->front().queued)
      respond(ok(202, {{"ok", true},
                       {"message", "Kafka is away: the notification event is on disk, and goes there when it is back"},
                       {"topic", topic},
                       {"eventId", id},
                       {"queued", true}}));
    else
      respond(
          ok(200,
             {{"ok", true}, {"message", "Notification event published to Kafka"}, {"topic", topic}, {"eventId", id}}));
  });
}

} // namespace

void add_notification_routes(router& routes, const api& with) {
  for (const auto& one : contracts())
    routes.add("POST", one.path, publishing(with, [with, &one](const request& req, const responder& respond) {
                 notify(with, one, req, respond);
               }));
  routes.add("POST", "/kafka/test/notification", publishing(with, [with](const request& req, const responder& respond) {
               send_notification(with, req, respond);
             }));
}

} // namespace sluice::http
