#pragma once

#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include <caf/stateful_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include "sluice/config.hpp"
#include "sluice/interfaces.hpp"
#include "sluice/stats.hpp"

#include "event_reader.hpp"
#include "role.hpp"

namespace sluice {

/// What the hub needs of its surroundings.
struct sse_hub_config {
  std::chrono::milliseconds retry{3000};
  std::set<std::string> summary_topics; ///< Their records are shown as `{"type":"summary","data":…}`.
  std::vector<std::shared_ptr<role<aggregator_actor>>> aggregators; ///< Asked for snapshots.
};

struct sse_hub_state {
  using self_pointer = sse_hub_actor::stateful_pointer<sse_hub_state>;
  struct joiner {
    event_stream_ptr stream;
    caf::typed_response_promise<atom::done> promise;
  };
  explicit sse_hub_state(self_pointer self) : self(self) {}
  void show(const record_batch& batch);
  /// The cursor after the last event: the next offset of every partition shown here.
  std::string cursor() const;
  caf::result<atom::done> join(event_stream_ptr stream);
  void ask_for_snapshots();
  void greet();
  void drain_some();
  void gone(const caf::actor_addr& session);

  self_pointer self;
  sse_hub_config cfg;
  fan_out* live = nullptr;
  stats* counters = nullptr;
  event_reader reader{"", ""};
  std::map<std::pair<std::string, int32_t>, int64_t> positions;
  std::unordered_map<caf::actor_addr, event_stream_ptr> streams; ///< By session.
  std::vector<joiner> joiners;
  std::map<std::string, std::string> snapshots; ///< Aggregation -> its JSON.
  size_t awaited = 0;                           ///< Snapshots asked for.
  bool draining = false;
  size_t drain_slice = 0;
  std::vector<caf::typed_response_promise<atom::done>> drains;
  std::minstd_rand random{std::random_device{}()};
  static inline const char* name = "sse_hub";
};

/// Encodes each record once and gives it to `live`, which knows every open stream. `live` and `counters` must outlive
/// it.
sse_hub_actor::behavior_type sse_hub(sse_hub_state::self_pointer self, sse_hub_config cfg, fan_out* live,
                                     stats* counters);

} // namespace sluice
