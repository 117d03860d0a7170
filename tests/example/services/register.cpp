#include <cstdlib>
#include <iostream>

#include <sluice/server.hpp>
#include <sluice/topics.hpp>

namespace topics = sluice::topics;

int main() {
  sluice::config cfg;
  cfg.aggregations.clear();
  cfg.node = "register-1"; // under this name it finds again what waited on disk while Kafka was away
  cfg.http.port = 0;       // any free one
  if (const auto* brokers = std::getenv("KAFKA_BROKERS"))
    cfg.kafka.brokers = brokers;
  sluice::server kafka{cfg};
  if (auto error = kafka.start()) {
    std::cerr << sluice::describe(error) << "\n";
    return 1;
  }
  auto user = sluice::create_event("USER_CREATED", R"({"userId":"123","email":"ada@example.org","role":"employee"})",
                                   {.source = "auth-service", .tenant_id = "acme"});
  auto where = kafka.publish(topics::user_created, user, "123").get(); // the key keeps a user's events in order
  if (!where) {
    std::cerr << sluice::describe(where.error()) << "\n";
    return 1;
  }
  if (where->queued)
    std::cout << where->topic << ": Kafka is away, it is on disk\n";
  else
    std::cout << where->topic << " " << where->partition << " " << where->offset << "\n";

  auto health = kafka.health_check();
  std::cout << "connected: " << health.connected << ", producer: " << health.producer
            << ", consumers: " << health.consumers << ", brokers: " << health.brokers << "\n";
  return kafka.stop() ? 0 : 1;
}
