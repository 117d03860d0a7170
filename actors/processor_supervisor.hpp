#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include <caf/stateful_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include "sluice/config.hpp"
#include "sluice/interfaces.hpp"
#include "sluice/stats.hpp"

#include "key_lanes.hpp"
#include "offset_ledger.hpp"
#include "processor_worker.hpp"
#include "role.hpp"

namespace sluice {

/// Spawns a worker that reports to the given supervisor.
using worker_maker = std::function<processor_worker_actor(const processor_supervisor_actor&)>;

struct processor_supervisor_state {
  using self_pointer = processor_supervisor_actor::stateful_pointer<processor_supervisor_state>;
  using clock = std::chrono::steady_clock;
  using time_point = clock::time_point;
  using item = processor_work::item;

  /// A partition from its assignment to its revocation.
  struct tenure {
    std::string topic;
    int32_t partition = -1;
    offset_ledger ledger;
    std::unordered_map<std::string, uint64_t> parked_keys;
    size_t at_work = 0; ///< Records with a worker, or on their way to Kafka.
    bool changed = false;
    bool leaving = false; ///< Revoked: nothing begins any more.
  };
  /// A key whose first record waits for its next attempt, with all that came after it. Records without a key park
  /// alone.
  struct parked_key {
    std::deque<item> records;
    std::optional<std::string> key;
    time_point due;
    int64_t first_failure_ms = 0;
    bool is_waiting = false; ///< For `due`; else the first record is with a worker or on its way to Kafka.
  };
  struct worker_slot {
    processor_worker_actor worker;
    processor_work_ptr current;
    uint32_t kept = 0; ///< Records of `current` that have not been taken back.
    uint32_t seen = 0; ///< How far `current` was at `since`.
    time_point since;
    time_point sent;
    uint32_t share = 16; ///< Records a work: about 20 ms' worth.
    bool asking = false; ///< Its next work waits for the store.
  };
  /// What some records emitted, until the broker has all of it.
  struct publication {
    struct source {
      item from;
      uint32_t open = 0;
      caf::error error;
    };
    outgoing_ptr records;
    std::vector<uint32_t> source_of; ///< A record's.
    std::vector<source> sources;
    uint32_t tries = 0;
    std::optional<time_point> due{}; ///< They are no emitted records, but the sources themselves, set aside until then.
  };
  struct burial {
    item what;
    failed_ptr letter;
  };
  /// Records on their way to a worker: the store is asked whether their events are done already.
  struct inquiry {
    uint32_t slot = 0;
    std::vector<item> items;
    uint32_t tries = 0;
    bool is_waiting = false; ///< For the next try.
  };
  /// Records that are done, until the store remembers it.
  struct remembrance {
    std::vector<item> items;
    settlements_ptr what;
    uint32_t tries = 0;
    bool is_waiting = false; ///< For the next try.
  };
  struct revocation {
    std::vector<uint64_t> tenures;
    caf::typed_response_promise<atom::done> promise;
  };

  explicit processor_supervisor_state(self_pointer self) : self(self) {}
  ~processor_supervisor_state();

  time_point now() const { return self->clock().now(); }
  int64_t unix_ms(time_point when) const;
  tenure* find(uint64_t id);
  /// Whatever of it has no end yet is somebody else's now.
  void count_returned(const tenure& ended);

  // What comes from the consumer.
  caf::result<partition_list> assign(const partition_list& partitions);
  void begin_tenures(const partition_list& committed);
  void accept(const batch_ptr& batch);
  void revoke(const partition_list& partitions, bool lost, caf::typed_response_promise<atom::done> promise);
  void finish_revocations();

  // The workers.
  void start_worker(uint32_t slot);
  /// The parked key the item has to wait for.
  std::optional<uint64_t> parked_before(const tenure& owner, const item& what) const;
  void dispatch(const tenure& owner, item what);
  /// Gives idle workers something to do.
  void feed();
  /// False: there is nothing for this one.
  bool give_work(uint32_t index);
  void send_work(uint32_t index, std::vector<item> what);
  void worked(const processor_work_ptr& work, uint32_t count);
  /// Takes the outcomes of the first `count` records; `broken` is what happened to the one after them. All others go
  /// back to their lanes.
  void settle(worker_slot& slot, const processor_work_ptr& work, uint32_t count, const caf::error& broken);
  void take_back(std::vector<item> left);
  /// Takes back what a slow worker has not begun, for the others.
  void relieve(worker_slot& slot);
  /// How often is looked how far the workers are.
  milliseconds look_interval() const;
  void watch();
  void abandon(worker_slot& slot);
  void worker_ended(const caf::down_msg& down);

  // What becomes of a record.
  /// It is done, or a dead letter.
  void end(const item& what);
  /// They are processed, and what they emitted is with the broker.
  void finish(std::vector<item> done);
  void fail(item what, const caf::error& error);
  void bury(const item& what, const caf::error& error, uint32_t attempts);
  /// Its partition goes before it has an end.
  void drop(const item& what);
  /// Whether the item's partition is still ours; else it is dropped.
  bool is_ours(const item& what);
  void hand_over(uint64_t id);
  void buried(uint64_t id);
  void publish(uint64_t id);
  void published(uint64_t id, const deliveries& results);
  void publish_again(uint64_t id, const std::string& reason);

  // What the store knows.
  bool asks_store() const noexcept { return cfg.remember.count() > 0; }
  /// Several processors may share a group.
  std::string scope() const { return cfg.group + "/" + cfg.name; }
  void ask(uint64_t id);
  void answered(uint64_t id, const std::vector<standing>& found);
  void not_answered(uint64_t id, const caf::error& error);
  void remember(std::vector<item> done);
  void note(uint64_t id);
  void noted(uint64_t id);
  void not_noted(uint64_t id, const caf::error& error);
  /// Drops what belongs to partitions that go; `in_lanes`: it has not been processed.
  void drop_leaving(std::vector<item>& items, bool in_lanes);
  /// A dead letter may be sent back: its event is not done.
  void forget(const item& what);

  // Set aside.
  void set_aside(const item& what, time_point when);
  /// Where it was set aside before: parks it as it was, until it is due.
  bool take_up(tenure& owner, const item& what);

  // Parked keys.
  void park(tenure& owner, item what, time_point due);
  void park_behind(uint64_t id, item what);
  void release(uint64_t id);
  void retry_due();

  /// After anything has changed: feeds workers, gives credit, answers revocations.
  void go_on();
  void give_credit();
  void schedule_commit(tenure& changed);
  void commit();
  void arm(time_point when);

  self_pointer self;
  processor_config cfg;
  std::string retries_topic;
  worker_maker make_worker;
  bool keys_stay = false;
  std::shared_ptr<role<kafka_producer_actor>> producer;
  std::shared_ptr<role<dead_letter_actor>> dead_letters;
  std::shared_ptr<role<idempotency_actor>> claims;
  processor_stats* counters = nullptr;
  kafka_consumer_actor consumer; ///< Who sent the last batch.

  std::unordered_map<uint64_t, tenure> tenures;
  std::vector<worker_slot> slots;
  std::vector<uint32_t> idle; ///< Slots with a worker and nothing for it to do.
  key_lanes lanes;            ///< What waits for a worker; where keys stay, with a queue for each slot.
  std::unordered_map<caf::actor_addr, uint32_t> running; ///< Slot of each worker.
  std::unordered_set<caf::actor_addr> stuck;             ///< Given up, and not ended yet.
  std::unordered_map<uint64_t, parked_key> parked;
  std::set<std::pair<time_point, uint64_t>> due;
  std::unordered_map<uint64_t, publication> publications;
  std::unordered_map<uint64_t, burial> burials;
  std::unordered_map<uint64_t, inquiry> inquiries;
  std::unordered_map<uint64_t, remembrance> remembrances;
  std::vector<revocation> revocations;
  std::deque<time_point> crashes; ///< Of workers, within the last minute.
  uint64_t next_id = 1;           ///< Of tenures, parked keys, and all that waits for another actor.
  uint32_t owed = 0;              ///< Credits not given back yet.
  size_t parked_records = 0;
  bool commit_armed = false;
  std::optional<time_point> timer;
  int64_t unix_offset_ms = 0;
  std::minstd_rand random{std::random_device{}()};
  static inline const char* name = "processor_supervisor";
};

/// Runs one processor on the records of its partitions, by workers that `make_worker` makes: each key in order, failing
/// keys again after a growing delay while others flow, records that will not do to `dead_letters`, what the processor
/// emits to `producer`. Commits what is finished. With `keys_stay` each key has a worker for good, else any that is
/// free may take it. Past the bounds of `cfg`, which must be `effective`, the consumer gets no credit. With
/// `cfg.set_aside` long waits are spent in `retries_topic_of(cfg)`; a second supervisor, of the same `cfg` but for its
/// topics, reads it. With `cfg.remember` each event is claimed from `claims` before it is processed, and done there
/// before it is committed; while the store is away the records wait. Ends with an error when workers crash too often.
/// `counters` must outlive it.
processor_supervisor_actor::behavior_type
processor_supervisor(processor_supervisor_state::self_pointer self, processor_config cfg, worker_maker make_worker,
                     bool keys_stay, std::shared_ptr<role<kafka_producer_actor>> producer,
                     std::shared_ptr<role<dead_letter_actor>> dead_letters,
                     std::shared_ptr<role<idempotency_actor>> claims, processor_stats* counters);

} // namespace sluice
