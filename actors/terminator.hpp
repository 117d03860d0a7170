#pragma once

#include <functional>
#include <string>
#include <vector>

#include <caf/stateful_actor.hpp>

#include "sluice/config.hpp"
#include "sluice/interfaces.hpp"

namespace sluice {

/// One step of a stop: begins it and calls `done` once it is over, from the terminator's thread. `self` makes requests.
struct drain_step {
  std::string name;
  std::function<void(terminator_actor::pointer self, const std::function<void()>& done)> begin;
  std::chrono::milliseconds pause{0}; ///< Between its end and the next step.
};

struct terminator_state {
  using self_pointer = terminator_actor::stateful_pointer<terminator_state>;
  explicit terminator_state(self_pointer self) : self(self) {}
  void next();
  void finish(bool clean);

  self_pointer self;
  std::vector<drain_step> steps;
  std::function<void(bool)> finished;
  size_t at = 0;
  static inline const char* name = "terminator";
};

/// Carries out `steps` one after the other, then calls `finished(true)`; where they take longer than `grace_period`,
/// calls `finished(false)` and names the step in the log.
terminator_actor::behavior_type terminator(terminator_state::self_pointer self, std::vector<drain_step> steps,
                                           std::chrono::milliseconds grace_period, std::function<void(bool)> finished);

} // namespace sluice
