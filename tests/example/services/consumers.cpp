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
  json mail{{"title", "Welcome"}, {"body", "Welcome!"}, {"targets", {{{"channel", "email"}, {"to", user["email"]}}}}};
  // The same id in every attempt: who has sent the mail can tell that it has.
  auto event = sluice::create_event("NOTIFICATION_SEND", mail.dump(),
                                    {.event_id = what.metadata.event_id + "/welcome",
                                     .source = "notification-service",
                                     .correlation_id = what.metadata.event_id});
  out.emit(sluice::to_record(topics::notification_send, event, out.input().key));
  return {};
}

/// analytics-service: what happened to whom.
void record_event(const sluice::event& what, sluice::context& out) {
  out.log(sluice::log_level::info, what.type, {{"data", what.data}});
}

int main(int argc, char** argv) {
  return sluice::run(argc, argv, [](sluice::server& kafka) {
    kafka.subscribe(topics::user_created, "notification-service", welcome);
    for (auto topic : {topics::user_created, topics::user_updated, topics::user_login})
      kafka.subscribe(topic, "analytics-service", record_event);
  });
}
