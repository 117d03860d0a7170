#pragma once

#include <chrono>
#include <memory>
#include <random>
#include <string>

#include <caf/stateful_actor.hpp>

#include "sluice/interfaces.hpp"

#include "role.hpp"

namespace sluice {

struct generator_state {
  std::shared_ptr<role<kafka_producer_actor>> producer;
  std::string topic;
  std::chrono::milliseconds interval{2000};
  std::minstd_rand random{std::random_device{}()};
  static inline const char* name = "generator";
};

/// Publishes `{"payload":{"date":<now>,"times":<0..99>}}` to `topic` once every `interval`.
generator_actor::behavior_type generator(generator_actor::stateful_pointer<generator_state> self,
                                         std::shared_ptr<role<kafka_producer_actor>> producer, std::string topic,
                                         std::chrono::milliseconds interval);

} // namespace sluice
