#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <caf/stateful_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include "sluice/interfaces.hpp"
#include "sluice/stats.hpp"

#include "outbox_gate.hpp"

namespace sluice {

/// Records for the outbox, and who waits for the answer.
class outbox_job {
public:
  outbox_job(publication what, std::vector<delivery> so_far, outbox_gate::ticket place)
      : what(std::move(what)), so_far(std::move(so_far)), place(std::move(place)) {}
  /// Once: what was to be queued is, or is not for this reason. What was tried before keeps its outcome.
  void answer(const caf::error& error);
  /// Whether the record at `index` is to be queued: it is not in Kafka, as far as anybody knows.
  bool wants(size_t index) const { return so_far.empty() || publication::away(so_far[index]); }

  publication what;
  std::vector<delivery> so_far; ///< What became of each record where that was tried before; else empty.
  outbox_gate::ticket place;
};

/// Told of records that have just been put on disk; true: nothing older waits there. On the outbox's thread.
using kept_function = std::function<void(const std::vector<const outgoing_record*>&, bool alone)>;

struct outbox_state {
  using self_pointer = outbox_actor::stateful_pointer<outbox_state>;
  /// A record that the library has.
  struct sent {
    std::string topic;
    uint64_t bytes = 0;
  };
  explicit outbox_state(self_pointer self) : self(self) {}
  void take(outbox_job_ptr job);
  void arm_commit();
  /// Puts all that is new on disk, in one transaction. False where that failed.
  bool commit();
  void fail(const std::vector<outbox_job_ptr>& jobs, const caf::error& error);
  /// Takes the log as it is now, and sends all of it again.
  caf::error begin_anew();
  void count(const std::map<std::string, outbox_log::usage>& contents);
  void send_more();
  bool read_ahead();
  void collect();
  void settle(int64_t id, const delivery& result);
  /// A record that Kafka will not take stays on disk, out of the way of the others.
  void set_aside(int64_t id, sent what, const std::string& reason);
  /// Begins again at the oldest record, a moment later, once all that is on its way has an outcome.
  void rewind(const std::string& reason);
  void retry_later();
  void on_tick();
  void finish_drain();

  self_pointer self;
  std::shared_ptr<outbox_log> log_file;
  std::function<std::shared_ptr<record_sink>()> make_sink;
  std::shared_ptr<outbox_gate> gate;
  kept_function kept;
  stats* counters = nullptr;

  std::vector<outbox_job_ptr> waiting;      ///< For the next commit.
  std::map<int64_t, sent> written, refused; ///< By Kafka; not noted on disk yet.
  std::vector<outbox_log::refusal> reasons; ///< Of `refused`.
  std::map<int64_t, sent> in_flight;
  std::deque<outbox_log::entry> ahead; ///< Read and not sent.
  int64_t last_read = 0;
  uint64_t stored = 0; ///< Records on disk that are not set aside.
  std::shared_ptr<record_sink> sink;
  std::unordered_map<std::string, uint32_t> missing; ///< How often Kafka did not know a topic, in a row.
  bool armed = false;
  bool ticking = false;
  bool rewinding = false;
  bool failing = false; ///< The last commit failed ...
  bool lost = false;    ///< ... and it is not known what is on disk.
  bool draining = false;
  std::vector<caf::typed_response_promise<atom::done>> drains;
  static inline const char* name = "outbox";
};

/// Keeps what it is given in `log_file` and answers once it is on disk; what comes while the disk works shares the next
/// transaction. At the same time brings what is there to Kafka, oldest first, through a sink that `make_sink` makes
/// while something waits, and that must keep the order and try for as long as it takes. Spawn it detached. `contents`
/// are those of `log_file`, after `gate` was reset to them. `kept` is called after each commit. `counters` must outlive
/// it.
outbox_actor::behavior_type outbox(outbox_state::self_pointer self, std::shared_ptr<outbox_log> log_file,
                                   const std::map<std::string, outbox_log::usage>& contents,
                                   std::function<std::shared_ptr<record_sink>()> make_sink,
                                   std::shared_ptr<outbox_gate> gate, kept_function kept, stats* counters);

} // namespace sluice
