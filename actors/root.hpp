#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include <caf/actor.hpp>
#include <caf/stateful_actor.hpp>

#include "sluice/config.hpp"
#include "sluice/interfaces.hpp"
#include "sluice/stats.hpp"

namespace sluice {

/// One role under the root: `start` spawns it anew, tells its clients where it is (role<>), and returns it.
/// It may fail by an error, which counts as a crash.
struct child_spec {
  std::string name;
  std::function<caf::expected<caf::actor>()> start;
};

struct root_state {
  using self_pointer = root_actor::stateful_pointer<root_state>;
  explicit root_state(self_pointer self) : self(self) {}
  void start(size_t index);
  void crashed(size_t index, const caf::error& reason);

  self_pointer self;
  supervision_config cfg;
  std::vector<child_spec> children;
  std::function<void(std::string)> give_up;
  stats* counters = nullptr;
  std::unordered_map<caf::actor_addr, size_t> running;
  std::deque<std::chrono::steady_clock::time_point> crashes; ///< Within the restart window, of all roles.
  std::minstd_rand random{std::random_device{}()};
  static inline const char* name = "root";
};

/// Starts `children` in order, calls `started`, and restarts each that ends with an error (one for one), after a
/// growing, jittered delay. More than `max_restarts` crashes within the window: calls `give_up` with the cause, once,
/// and restarts nothing more. `counters` must outlive it.
root_actor::behavior_type root(root_state::self_pointer self, supervision_config cfg, std::vector<child_spec> children,
                               const std::function<void()>& started, std::function<void(std::string)> give_up,
                               stats* counters);

} // namespace sluice
