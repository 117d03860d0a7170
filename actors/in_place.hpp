#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include <caf/stateful_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include "sluice/interfaces.hpp"

namespace sluice {

struct in_place_state {
  using self_pointer = in_place_actor::stateful_pointer<in_place_state>;
  explicit in_place_state(self_pointer self) : self(self) {}
  void take(const std::vector<outgoing_record>& kept, bool alone);
  void pump();

  self_pointer self;
  record_handler_actor handler;
  partition_list partitions; ///< One of each topic, that does not exist.
  std::deque<outgoing_record> waiting;
  size_t waiting_bytes = 0;
  uint32_t credit = 0;
  int64_t next_offset = 0;
  bool assigned = false;
  bool behind = true; ///< Something older waits on disk that has not been given to the handler.
  static inline const char* name = "in_place";
};

/// Feeds `handler`, a processor's supervisor, with what the outbox keeps while Kafka is away, in the place of Kafka's
/// partitions. What it cannot take, and what comes after it, is left for when Kafka is back: the outbox has it all.
/// `first_offset` must be greater than that of an earlier process.
in_place_actor::behavior_type in_place(in_place_state::self_pointer self, record_handler_actor handler,
                                       const std::vector<std::string>& topics, uint32_t credit, int64_t first_offset);

/// Publishes records and answers on any thread what became of each.
using publish_function =
    std::function<void(std::vector<outgoing_record>, std::function<void(caf::expected<std::vector<delivery>>)>)>;

using in_place_producer_actor = kafka_producer_actor::extend<
    // INTERNAL: what became of the records with this number.
    caf::reacts_to<atom::done, uint64_t, deliveries>>;
struct in_place_producer_state {
  std::unordered_map<uint64_t, caf::typed_response_promise<deliveries>> waiting;
  uint64_t next_id = 0;
  static inline const char* name = "in_place_producer";
};

/// Takes what a processor emits to `publish`, which puts it into the outbox where Kafka is away.
in_place_producer_actor::behavior_type
in_place_producer(in_place_producer_actor::stateful_pointer<in_place_producer_state> self, publish_function publish);

/// Takes records that failed in place: nothing is written, they come again by Kafka.
dead_letter_actor::behavior_type in_place_letters(dead_letter_actor::pointer self);

} // namespace sluice
