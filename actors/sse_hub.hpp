#pragma once

#include <deque>
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

#include "live_channels.hpp"
#include "live_history.hpp"
#include "live_replay.hpp"
#include "role.hpp"

namespace sluice {

/// What the hub needs of its surroundings.
struct sse_hub_config {
  sse_config sse;
  channel_rules rules;
  std::vector<std::shared_ptr<role<aggregator_actor>>> aggregators; ///< Asked for snapshots.
  replay_source_factory make_replay_source;
  bool detached_replays = true; ///< Sources that block need it; tests with a virtual clock have others.
};

struct sse_hub_state {
  using self_pointer = sse_hub_actor::stateful_pointer<sse_hub_state>;

  /// Clients whose cursors cover the same topics.
  struct group {
    std::vector<std::string> topics;
    live_cursor place;       ///< After the last event of these topics.
    std::string cursor_text; ///< `place` as text; empty = to be made anew.
    std::string told;        ///< The cursor that quiet clients were last moved to.
    route_id quiet = 0;      ///< Route of blocks that only move the cursor.
    size_t clients = 0;
  };
  struct route {
    route_id id = 0;
    size_t clients = 0;
  };
  using channel = std::map<group*, route>;

  enum class phase : uint8_t {
    greeting,  ///< The snapshot is on its way.
    waiting,   ///< For the hub to come as far as the client.
    queued,    ///< For its turn to replay from Kafka.
    replaying, ///< From Kafka.
    live,
  };
  struct member {
    live_request_ptr request;
    caf::actor_addr session;
    channel_names channels;
    channel_names settled; ///< Those of `home`'s routes it has.
    group* home = nullptr;
    std::vector<route_id> routes;
    phase at = phase::greeting;
    std::optional<live_cursor> cursor; ///< What it has seen, before it is live.
    std::string told;                  ///< The cursor it was greeted with.
    uint32_t replays = 0;
    bool timed = false;     ///< It waits for the hub to catch up, but not for ever.
    caf::actor_addr reader; ///< Its replay.
    int64_t connected_ms = 0;
    caf::typed_response_promise<atom::done> promise;
  };
  using members = std::map<uint64_t, member>; ///< By stream.

  explicit sse_hub_state(self_pointer self) : self(self) {}

  // what comes
  void show(const batch_ptr& batch);
  void place(live_block& block, const record_batch& batch, size_t index);
  partition_list assign(const partition_list& partitions);
  void revoke(const partition_list& partitions);
  void moved_on();
  // clients
  caf::result<atom::done> join(live_request_ptr request);
  void ask_for_snapshots();
  void greet(member& who);
  void admit(member& who);
  void go_live(member& who, std::string text, uint32_t events);
  void go_live_after_gap(member& who, const char* reason);
  void replay(member& who);
  void next_replays();
  void resume(uint64_t stream, const std::string& cursor);
  caf::result<channel_names> change(const std::string& client, const channel_names& channels, bool add);
  caf::result<atom::done> end_client(const std::string& client, const std::string& reason);
  live_clients list() const;
  void gone(const caf::actor_addr& session);
  void drain_some();
  member* find(const std::string& client);
  // groups and routes
  std::vector<std::string> topics_of(const channel_names& channels) const;
  void settle(member& who);
  void unsettle(member& who);
  void regroup();
  void replace(const std::string& topic);
  route_id new_route();
  const std::string& cursor_of(group& home);
  void move_quiet_clients();
  stream_subscription subscription_of(const member& who) const;

  self_pointer self;
  sse_hub_config cfg;
  fan_out* live = nullptr;
  stats* counters = nullptr;
  std::optional<channel_finder> finder;
  std::optional<live_history> history;
  members clients;
  std::unordered_map<caf::actor_addr, uint64_t> by_session;
  std::unordered_map<std::string, uint64_t> by_client;
  std::unordered_map<caf::actor_addr, uint64_t> by_replay;
  size_t waiting = 0; ///< Clients in that phase, at most.
  std::map<std::vector<std::string>, std::unique_ptr<group>> groups;
  std::unordered_map<std::string, std::vector<group*>> groups_by_topic;
  std::unordered_map<std::string, channel> channels;
  std::vector<route_id> free_routes;
  route_id next_route = 0;
  size_t websockets = 0;
  std::deque<uint64_t> replay_queue;
  size_t replays = 0;                           ///< Under way.
  std::map<std::string, std::string> snapshots; ///< Aggregation -> its JSON.
  size_t awaited = 0;                           ///< Snapshots asked for.
  std::vector<uint64_t> awaiting;               ///< Clients to be greeted with them; some may have left.
  bool draining = false;
  size_t drain_slice = 0;
  std::vector<caf::typed_response_promise<atom::done>> drains;
  std::minstd_rand random{std::random_device{}()};
  static inline const char* name = "sse_hub";
};

/// Encodes each record once for all clients of a channel and gives it to `live`, which knows every open stream; knows
/// who is connected, and brings clients that come back to the present. `live` and `counters` must outlive it.
sse_hub_actor::behavior_type sse_hub(sse_hub_state::self_pointer self, sse_hub_config cfg, fan_out* live,
                                     stats* counters);

} // namespace sluice
