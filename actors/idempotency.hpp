#pragma once

#include <memory>
#include <random>
#include <utility>
#include <vector>

#include <caf/stateful_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include "sluice/interfaces.hpp"
#include "sluice/stats.hpp"

namespace sluice {

struct idempotency_state {
  using self_pointer = idempotency_actor::stateful_pointer<idempotency_state>;
  struct asker {
    caf::typed_response_promise<standings_ptr> promise;
    claims_ptr claims;
  };
  struct settler {
    caf::typed_response_promise<atom::done> promise;
    settlements_ptr settlements;
  };
  explicit idempotency_state(self_pointer self) : self(self) {}
  caf::result<standings_ptr> take(const claims_ptr& claims);
  caf::result<atom::done> take(const settlements_ptr& settlements);
  void arm_commit();
  void commit();
  void settle_all();
  void begin_all();
  void sweep();
  /// Counts an error and logs the first of several.
  void note(const caf::error& error);

  self_pointer self;
  std::shared_ptr<idempotency_store> store;
  stats* counters = nullptr;
  std::vector<asker> askers;
  std::vector<settler> settlers;
  bool armed = false;
  bool failing = false;
  std::minstd_rand random{std::random_device{}()};
  static inline const char* name = "idempotency";
};

/// Asks `store` on behalf of all; spawn it detached, for the store blocks. `counters` must outlive it.
idempotency_actor::behavior_type idempotency(idempotency_state::self_pointer self,
                                             std::shared_ptr<idempotency_store> store, stats* counters);

} // namespace sluice
