#pragma once

#include <memory>
#include <unordered_map>
#include <variant>
#include <vector>

#include <caf/actor_clock.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include "sluice/interfaces.hpp"
#include "sluice/stats.hpp"

namespace sluice {

struct kafka_producer_state {
  using self_pointer = kafka_producer_actor::stateful_pointer<kafka_producer_state>;
  using clock = caf::actor_clock::clock_type;
  /// An actor that waits, and its records until they are handed over.
  struct request {
    caf::typed_response_promise<deliveries> promise;
    outgoing_ptr records;
  };
  using asker = std::variant<request, publication>;
  struct job {
    explicit job(asker from) : from(std::move(from)) {}
    asker from;
    std::vector<delivery> results;
    size_t open = 0;
  };
  explicit kafka_producer_state(self_pointer self) : self(self) {}
  caf::result<deliveries> accept(const outgoing_ptr& records);
  void accept(const publications& all);
  /// Why these are not taken.
  caf::error refusal(size_t records) const;
  void gather(asker from);
  /// Hands over what waits, unless it is better to gather a little more.
  void hand_over_when_due();
  void hand_over();
  void write(asker from);
  /// Takes the outcomes that the library has; ends the actor where the producer cannot go on.
  void collect();
  void finish(uint64_t id);
  void fail_waiting(ec code, const std::string& reason);
  void fail_all(ec code, const std::string& reason);
  bool idle() const { return jobs.empty() && waiting.empty(); }

  self_pointer self;
  std::shared_ptr<record_sink> sink;
  stats* counters = nullptr;
  std::vector<asker> waiting;      ///< Gathered while others are on their way.
  clock::time_point waiting_since; ///< The first of them.
  std::unordered_map<uint64_t, job> jobs;
  uint64_t next_id = 0;
  size_t in_flight = 0; ///< Records without an outcome.
  clock::time_point handed_over;
  size_t last_batch = 0; ///< Messages handed over at a time.
  clock::time_point next_tick;
  std::vector<caf::typed_response_promise<atom::done>> drains;
  bool draining = false;
  static inline const char* name = "kafka_producer";
};

/// Writes records through `sink`; every record gets exactly one outcome, every message one answer.
/// What comes while other records are on their way is gathered and handed over once those have their outcomes, after 2
/// ms at most: no waiting while little is to do, large batches while there is much. Spawn it detached: the sink's
/// destructor waits. `counters` must outlive it.
kafka_producer_actor::behavior_type kafka_producer(kafka_producer_state::self_pointer self,
                                                   std::shared_ptr<record_sink> sink, stats* counters);

} // namespace sluice
