#pragma once

#include <memory>
#include <optional>
#include <vector>

#include <caf/stateful_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include "sluice/config.hpp"
#include "sluice/interfaces.hpp"
#include "sluice/stats.hpp"

#include "aggregation.hpp"
#include "role.hpp"

namespace sluice {

struct aggregator_state {
  using self_pointer = aggregator_actor::stateful_pointer<aggregator_state>;
  struct revocation {
    partition_list partitions;
    bool lost = false;
    caf::typed_response_promise<atom::done> promise;
  };
  explicit aggregator_state(self_pointer self) : self(self) {}
  aggregation::moment now() const;
  void count(const batch_ptr& batch);
  void bury(const batch_ptr& batch, const aggregation::failure& what);
  caf::result<partition_list> assign(const partition_list& partitions);
  void begin(const partition_list& partitions, const std::vector<outgoing_record>& marks);
  void revoke(revocation what);
  /// Commits soon, or at once where much waits.
  void schedule();
  void commit();
  void committed();
  /// Gives credits back, a quarter of all at a time, unless too much waits for Kafka.
  void give_credit();
  void arm_due_timer();
  void fail(const caf::error& error);

  self_pointer self;
  aggregation_config cfg;
  std::optional<aggregation> windows;
  transactor_actor transactions;
  std::shared_ptr<role<dead_letter_actor>> dead_letters;
  stats* counters = nullptr;
  kafka_consumer_actor consumer; ///< Who sent the last batch.
  uint32_t owed = 0;             ///< Credits not given back yet.
  size_t burials = 0;            ///< Dead letters on their way.
  bool commit_armed = false;
  bool committing = false;
  std::optional<aggregation::time_point> timer; ///< When the armed due timer fires.
  std::vector<revocation> revocations;
  aggregation::time_point started;
  int64_t started_unix_ms = 0;
  static inline const char* name = "aggregator";
};

/// Counts events into windows and publishes each closed one's summary exactly once, by `transactions`. What it cannot
/// read goes to `dead_letters`. Any error of a transaction ends the actor: its successor begins at the last commit.
/// `counters` must outlive it.
aggregator_actor::behavior_type aggregator(aggregator_state::self_pointer self, aggregation_config cfg,
                                           transactor_actor transactions,
                                           std::shared_ptr<role<dead_letter_actor>> dead_letters, stats* counters);

} // namespace sluice
