/// Processors: what a user's program does with each record. A plain function is enough; an actor of one's own works
/// too.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include <caf/actor_system.hpp>
#include <caf/expected.hpp>

#include "sluice/interfaces.hpp"
#include "sluice/log.hpp"

namespace sluice {

/// Becomes true when nobody waits for an attempt any more. Any thread.
using cancel_flag = std::shared_ptr<const std::atomic<bool>>;

/// One attempt to process one record: what is known about it, and what comes of it. One thread at a time, except
/// `cancelled`.
class context {
public:
  /// Records one attempt may emit, at most.
  static constexpr std::size_t max_emitted = 1000;
  /// Their keys and values together, in bytes, at most.
  static constexpr std::size_t max_emitted_bytes = 67108864;

  explicit context(std::string processor, cancel_flag cancelled = nullptr);

  /// The record.
  const record& input() const noexcept { return input_; }
  /// The record's `event_id_of`, the same in every attempt and after every redelivery. What the outside should not do
  /// twice is told apart by it.
  std::string event_id() const;
  /// 1 for the first attempt. Begins anew where the record is read again, after a crash or a rebalance.
  uint32_t attempt() const noexcept { return attempt_; }
  /// When the record is no longer worth anything (header `sluice-deadline`), Unix milliseconds; nothing = it has no
  /// deadline. A record that is past it is not given to the processor.
  std::optional<int64_t> deadline_ms() const noexcept { return deadline_ms_; }

  /// Publishes `what` once the attempt has succeeded; nothing of a failed attempt is published. The input counts as
  /// done only when the broker has acknowledged it. `traceparent`, `tracestate`, `sluice-correlation-id` and
  /// `sluice-deadline` are taken over from the input, and `sluice-event-id` is made from the input's ("<id>/<n>", the
  /// same in every attempt), unless `what` has them. More than `max_emitted`, or than `max_emitted_bytes`, fail the
  /// attempt.
  void emit(outgoing_record what);
  /// Logs a line in the processor's name with the event's id.
  void log(log_level level, std::string_view text, std::initializer_list<log_field> fields = {}) const;
  /// Whether the result is no longer waited for: the attempt has timed out, the partition has gone to another member,
  /// or the server stops. Whatever takes long should look from time to time, and return. Any thread.
  bool cancelled() const noexcept { return cancelled_ && cancelled_->load(std::memory_order_relaxed); }

  // -- for who runs processors: the supervisor's workers, and tests ---------------------------------------------------

  /// Begins an attempt; forgets the one before.
  void begin(record input, uint32_t attempt);
  void begin(const record_batch& batch, std::size_t index, uint32_t attempt);
  /// What the attempt has emitted, or `processor_failed` where it was too much.
  caf::expected<std::vector<outgoing_record>> take_emitted();

private:
  void begin(uint32_t attempt);

  std::string processor_;
  cancel_flag cancelled_;
  record input_;
  mutable std::string event_id_; ///< Empty until somebody asks: it may take reading the value.
  uint32_t attempt_ = 1;
  std::optional<int64_t> deadline_ms_;
  std::vector<outgoing_record> emitted_;
  std::size_t emissions_ = 0;
  std::size_t emitted_bytes_ = 0;
};

/// The header's value; null where the record has no such header. The first one counts.
const std::string* find_header(const std::vector<record_header>& headers, std::string_view name) noexcept;

/// What tells an event apart: the header `sluice-event-id`; where there is none, `metadata.eventId` where `value` is an
/// envelope that has it, as services write it that know no sluice (1 to 200 bytes); else "topic/partition/offset".
std::string event_id_of(const std::vector<record_header>& headers, std::string_view value, std::string_view topic,
                        int32_t partition, int64_t offset);

/// The header `sluice-deadline` as Unix milliseconds; nothing where there is none, or no such number.
std::optional<int64_t> deadline_of(const std::vector<record_header>& headers) noexcept;

/// A processor as a plain function: no error = done.
using processor_function = std::function<caf::error(const record&, context&)>;

/// Makes one processor actor in the given system: one for each worker, and another one after each crash.
using processor_maker = std::function<processor_actor(caf::actor_system&)>;

/// A processor, in one of its two forms. Make it with `make_processor`.
struct processor {
  processor_function function;
  processor_maker make; ///< Used where there is no function.
};

/// Makes a processor of a function:
///
///     auto greet = sluice::make_processor([](const sluice::record& in, sluice::context& out) {
///       out.emit({.topic = "greetings", .key = in.key, .value = "hello " + in.value});
///     });
///
/// It returns nothing, or a `caf::error`: `{}` for done, `make_failure(ec::rejected, …)` for a record that will never
/// do, another code for one to try again. What it throws is `ec::processor_failed` with the exception's text, and tried
/// again. Each worker has a thread and a copy of the function of its own, so it may wait and block; copies must not
/// share anything unprotected.
///
/// Or of a function that spawns an actor, for processors that wait for others without holding a thread:
///
///     auto ask = sluice::make_processor([](caf::actor_system& system) { return system.spawn(my_processor); });
///
/// Each worker has an actor of its own, which gets the next record once it has answered.
template <class Function>
processor make_processor(Function function) {
  if constexpr (std::is_invocable_r_v<processor_actor, Function&, caf::actor_system&>) {
    return {nullptr, std::move(function)};
  } else if constexpr (std::is_void_v<std::invoke_result_t<Function&, const record&, context&>>) {
    return {[function = std::move(function)](const record& in, context& out) mutable {
              function(in, out);
              return caf::error{};
            },
            nullptr};
  } else {
    return {std::move(function), nullptr};
  }
}

/// Calls `function` for the context's record. What it throws becomes `ec::processor_failed` with the exception's text.
caf::error process(const processor_function& function, context& attempt) noexcept;

} // namespace sluice
