#pragma once

#include <functional>
#include <memory>

#include <caf/stateful_actor.hpp>

#include "sluice/interfaces.hpp"

namespace sluice {

struct transactor_state {
  std::shared_ptr<transaction_log> log;
  std::function<bool()> keep_trying;
  bool open = false;
  static inline const char* name = "transactor";
};

/// Commits one transaction after the other through `log`. An error as answer means that nothing of it was written and
/// that the reader must begin anew from the last commit.
/// Every message blocks until Kafka has answered or `keep_trying` says no: spawn it detached.
transactor_actor::behavior_type transactor(transactor_actor::stateful_pointer<transactor_state> self,
                                           std::shared_ptr<transaction_log> log, std::function<bool()> keep_trying);

} // namespace sluice
