#include <nlohmann/json.hpp>

#include <sluice/program.hpp>
#include <sluice/topics.hpp>

namespace topics = sluice::topics;
using nlohmann::json;

/// notification-service: a welcome to each new user.
caf::error welcome(const sluice::event& what, sluice::context& out) {
  auto user = json::parse(what.data);
  if (!user.is_object() || !user.value("email", json()).is_string())
    return sluice::make_failure(sluice::ec::rejected, "the user has no e-mail address");
  auto mail = sluice::create_event("WELCOME", json{{"to", user["email"]}, {"text", "Welcome!"}}.dump(),
                                   {.source = "notification-service", .correlation_id = what.metadata.event_id});
  out.emit(sluice::to_record(topics::notification_send, mail, out.input().key));
  return {};
}

/// analytics-service: what happened to whom.
caf::error record_event(const sluice::event& what, sluice::context& out) {
  out.log(sluice::log_level::info, what.type, {{"data", what.data}});
  return {};
}

int main(int argc, char** argv) {
  return sluice::run(argc, argv, [](sluice::server& kafka) {
    kafka.subscribe(topics::user_created, "notification-service", welcome);
    for (auto topic : {topics::user_created, topics::user_updated, topics::user_login})
      kafka.subscribe(topic, "analytics-service", record_event);
  });
}
