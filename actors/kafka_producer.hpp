#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include <caf/stateful_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include "sluice/interfaces.hpp"
#include "sluice/stats.hpp"

namespace sluice {

struct kafka_producer_state {
  using self_pointer = kafka_producer_actor::stateful_pointer<kafka_producer_state>;
  struct job {
    caf::typed_response_promise<deliveries> promise;
    std::vector<delivery> results;
    size_t open = 0;
  };
  explicit kafka_producer_state(self_pointer self) : self(self) {}
  caf::result<deliveries> accept(const outgoing_ptr& records);
  /// Takes the outcomes that the library has; ends the actor where the producer cannot go on.
  void collect();
  void finish(uint64_t id);
  void fail_all(ec code, const std::string& reason);

  self_pointer self;
  std::shared_ptr<record_sink> sink;
  stats* counters = nullptr;
  std::unordered_map<uint64_t, job> jobs;
  uint64_t next_id = 0;
  std::vector<caf::typed_response_promise<atom::done>> drains;
  bool draining = false;
  static inline const char* name = "kafka_producer";
};

/// Writes records through `sink`; every record gets exactly one outcome, every message one answer.
/// Spawn it detached: the sink's destructor waits. `counters` must outlive it.
kafka_producer_actor::behavior_type kafka_producer(kafka_producer_state::self_pointer self,
                                                   std::shared_ptr<record_sink> sink, stats* counters);

} // namespace sluice
