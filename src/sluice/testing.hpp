/// For tests of users' own processors: no broker, no server, no configuration.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <caf/actor_system.hpp>
#include <caf/exit_reason.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/sec.hpp>
#include <caf/send.hpp>

#include "sluice/processor.hpp"

namespace sluice::testing {

/// What became of one record.
struct processed {
  caf::error error;                     ///< None = done. Read it with `describe`, compare it by `code_of`.
  std::vector<outgoing_record> emitted; ///< Empty where there is an error, as nothing is published then.
  explicit operator bool() const noexcept { return !error; }
};

/// A processor in an actor system of its own:
///
///     sluice::testing::processor_harness shout{sluice::make_processor(my_function)};
///     auto result = shout.push({"orders", 0, 7, "key", "value"});
///     assert(result && result.emitted.at(0).value == "VALUE");
///
/// One thread at a time. A harness that goes waits for the record at work: a function that never returns hangs it.
class processor_harness {
public:
  /// Makes the processor. Throws what a function that spawns the processor's actor throws.
  explicit processor_harness(processor what)
      : system_(config_), actor_(what.make ? what.make(system_) : spawn(std::move(what.function))) {}
  ~processor_harness() { caf::anon_send_exit(actor_, caf::exit_reason::user_shutdown); }
  processor_harness(const processor_harness&) = delete;
  processor_harness& operator=(const processor_harness&) = delete;

  /// Gives `what` to the processor as attempt number `attempt` and waits for its end, at most `patience`. The error is
  /// the processor's own, `ec::expired` where the record is past its deadline, `ec::attempt_timeout` where the
  /// processor took longer, or `ec::processor_failed` where its actor has ended.
  processed push(record what, uint32_t attempt = 1, std::chrono::milliseconds patience = std::chrono::seconds{5}) {
    auto cancelled = std::make_shared<std::atomic<bool>>(false);
    auto job = std::make_shared<context>("processor", cancelled);
    job->begin(std::move(what), attempt);
    processed result;
    if (auto deadline = job->deadline_ms(); deadline && *deadline <= unix_now()) {
      result.error = make_failure(ec::expired, "the record's deadline has passed");
      return result;
    }
    caf::scoped_actor self{system_};
    self->request(actor_, patience, job)
        .receive([](atom::done) {}, [&result](caf::error& why) { result.error = of_processor(why); });
    *cancelled = true;
    if (!result.error) {
      if (auto emitted = job->take_emitted())
        result.emitted = std::move(*emitted);
      else
        result.error = std::move(emitted.error());
    }
    return result;
  }

private:
  static caf::error of_processor(const caf::error& why) {
    if (why == caf::sec::request_timeout)
      return make_failure(ec::attempt_timeout, "the processor took longer");
    return why == caf::sec::request_receiver_down ? make_failure(ec::processor_failed, "its actor has ended") : why;
  }
  static int64_t unix_now() {
    auto since = std::chrono::system_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::milliseconds>(since).count();
  }
  processor_actor spawn(processor_function function) {
    return system_.spawn([function = std::move(function)](processor_actor::pointer) -> processor_actor::behavior_type {
      return {[function](const context_ptr& job) -> caf::result<atom::done> {
        if (auto error = process(function, *job))
          return error;
        return atom::done_v;
      }};
    });
  }

  actor_config<caf::id_block::sluice> config_{1};
  caf::actor_system system_;
  processor_actor actor_;
};

} // namespace sluice::testing
