// Notifications for users, on their way to each user's channel.
#include <utility>

#include <nlohmann/json.hpp>

#include "sluice/channels.hpp"

#include "contracts.hpp"
#include "live_requests.hpp"
#include "routes.hpp"

namespace sluice::http {

namespace {

using nlohmann::json;

constexpr size_t max_users = 1000;

/// What a notification must be, and where it goes.
struct contract {
  const char* path;
  const char* topic;
  const char* type;
  const char* key; ///< The member that orders the records.
  std::vector<member> members;
};

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

void notify(const api& with, const contract& what, const request& req, const responder& respond) {
  std::optional<response> wrong;
  auto body = read_json(req, wrong);
  if (!wrong)
    wrong = check_members(body, what.members, "this notification");
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
    wrong = check_members(body, members, "this notification");
  if (!wrong && !body.contains("title") && !body.contains("body") && !body.contains("template"))
    wrong = wrong_field("/title", "is missing, and so are body and template; send at least one of them");
  if (wrong) {
    respond(std::move(*wrong));
    return;
  }
  publish_event(with, req, topic, std::move(body), {{"ok", true}, {"message", "Notification event published to Kafka"}},
                respond);
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
