#pragma once

#include <deque>
#include <memory>
#include <optional>

#include <caf/stateful_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include "sluice/interfaces.hpp"
#include "sluice/stats.hpp"

namespace sluice {

struct kafka_consumer_state {
  using self_pointer = kafka_consumer_actor::stateful_pointer<kafka_consumer_state>;
  explicit kafka_consumer_state(self_pointer self) : self(self) {}
  /// Takes all the source has and the credit allows.
  void pump();
  /// Group events are carried out one after the other: the next waits until the handler has answered.
  void next_group_event();
  void assign(const partitions_assigned& event);
  void revoke(const partitions_revoked& event);
  void forget(const partition_list& partitions);
  /// Hands all over, leaves the group, answers.
  void leave();

  self_pointer self;
  std::shared_ptr<record_source> source;
  record_handler_actor handler;
  stats* counters = nullptr;
  int64_t credit = 0;
  bool revoking = false;
  bool busy = false; ///< A group event waits for the handler.
  std::deque<source_event> group_events;
  partition_list owned;
  std::optional<caf::typed_response_promise<atom::done>> drain;
  static inline const char* name = "kafka_consumer";
};

/// Feeds `handler` with the batches of `source`, at most `credit` records ahead of it. Lives and dies with its handler.
/// Spawn it detached: leaving the group takes a moment. `counters` must outlive it.
kafka_consumer_actor::behavior_type kafka_consumer(kafka_consumer_state::self_pointer self,
                                                   std::shared_ptr<record_source> source, record_handler_actor handler,
                                                   uint32_t credit, stats* counters);

} // namespace sluice
