#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include <caf/stateful_actor.hpp>

#include "sluice/interfaces.hpp"
#include "sluice/processor.hpp"

namespace sluice {

/// Records for one worker, one after the other, and what became of each. Supervisor and worker agree on how far it has
/// come by one number, so that the supervisor can take back what has not begun while the worker hangs.
struct processor_work {
  struct item {
    batch_ptr batch;
    uint32_t index = 0; ///< In the batch.
    uint32_t attempt = 1;
    uint64_t tenure = 0;   ///< Of the partition at this member; the supervisor's number.
    uint64_t number = 0;   ///< In the tenure's ledger.
    uint32_t lane = 0;     ///< Of its key, while it waits for a worker or is with one.
    uint64_t parked = 0;   ///< The parked key it is the first record of; 0 = none.
    bool credited = false; ///< The consumer got its credit back already.

    const record_view& record() const { return batch->records()[index]; }
  };
  enum class fate : uint8_t {
    none,    ///< Not looked at.
    done,    ///< Processed.
    failed,  ///< The error says why.
    held,    ///< Left alone, since an earlier record of its key has failed.
    expired, ///< Left alone, since it is past its deadline.
  };
  struct outcome {
    fate what = fate::none;
    caf::error error;
    std::vector<outgoing_record> emitted;
  };

  explicit processor_work(std::vector<item> what) : items(std::move(what)), outcomes(items.size()) {}

  /// The worker: begins item `index`, and with it ends the one before; `items.size()` ends the last. False = stopped.
  bool claim(uint32_t index) noexcept {
    auto expected = index;
    return begun_.compare_exchange_strong(expected, index + 1, std::memory_order_acq_rel);
  }
  /// The supervisor: how many items have begun; one more than there are = all have ended.
  uint32_t begun() const noexcept { return begun_.load(std::memory_order_acquire) & ~stop_bit; }
  /// The supervisor: nothing begins after this. Returns what `begun` is from now on. The outcomes of all items but the
  /// last begun are there.
  uint32_t stop() noexcept { return begun_.fetch_or(stop_bit, std::memory_order_acq_rel) & ~stop_bit; }

  const std::vector<item> items;
  std::vector<outcome> outcomes; ///< Of an item: the worker's until the next one is claimed.
  std::atomic<bool> cancelled{false};
  uint32_t slot = 0;          ///< The supervisor's number of the worker.
  int64_t unix_offset_ms = 0; ///< Unix time minus the actor clock's.

private:
  static constexpr uint32_t stop_bit = 1U << 31U;
  std::atomic<uint32_t> begun_{0};
};

struct processor_worker_state {
  using self_pointer = processor_worker_actor::stateful_pointer<processor_worker_state>;
  explicit processor_worker_state(self_pointer self) : self(self) {}
  ~processor_worker_state();
  /// Runs a work from its item `index` on. With an actor: until its answer is awaited.
  void run(const processor_work_ptr& work, uint32_t index);
  /// What can be said without the processor; `none` = it has to be asked.
  processor_work::fate decide(const processor_work& work, const processor_work::item& item, const context& attempt);
  void settle(processor_work& work, uint32_t index, context& attempt, caf::error error);

  self_pointer self;
  std::string processor_name;
  processor what;
  processor_supervisor_actor supervisor;
  processor_actor asked;                            ///< The processor's actor, where it is one.
  std::unordered_set<std::string_view> failed_keys; ///< In the present work.
  static inline const char* name = "processor_worker";
};

/// Runs `what` on what `supervisor` sends, and ends with it. An actor of the processor's that ends takes the worker
/// with it. Spawn it detached where the processor is a function: it may block.
processor_worker_actor::behavior_type processor_worker(processor_worker_state::self_pointer self,
                                                       std::string processor_name, processor what,
                                                       processor_supervisor_actor supervisor);

} // namespace sluice
