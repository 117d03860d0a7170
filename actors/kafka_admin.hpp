#pragma once

#include <memory>
#include <random>
#include <vector>

#include <caf/stateful_actor.hpp>

#include "sluice/interfaces.hpp"
#include "sluice/stats.hpp"

namespace sluice {

struct kafka_admin_state {
  using self_pointer = kafka_admin_actor::stateful_pointer<kafka_admin_state>;
  explicit kafka_admin_state(self_pointer self) : self(self) {}
  void look();

  self_pointer self;
  std::shared_ptr<cluster_admin> admin;
  stats* counters = nullptr;
  std::vector<topic_spec> wanted; ///< Topics still to be created.
  cluster_view_ptr view = std::make_shared<cluster_view>();
  bool looked = false;
  uint32_t looks_after_creating = 0;
  std::minstd_rand random{std::random_device{}()};
  static inline const char* name = "kafka_admin";
};

/// Asks the cluster every 2 s whether it is there, more often while it is not, and creates the `wanted` topics once it
/// is. Every look blocks: spawn it detached. `counters` must outlive it.
kafka_admin_actor::behavior_type kafka_admin(kafka_admin_state::self_pointer self, std::shared_ptr<cluster_admin> admin,
                                             std::vector<topic_spec> wanted, stats* counters);

} // namespace sluice
