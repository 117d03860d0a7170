/// For tests of users' own processors: no broker, no server, no configuration.
#pragma once

#include <chrono>
#include <string>
#include <utility>

#include <caf/actor_system.hpp>
#include <caf/exit_reason.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/sec.hpp>
#include <caf/send.hpp>

#include "sluice/processor.hpp"

namespace sluice::testing {

/// A processor in an actor system of its own:
///
///     sluice::testing::processor_harness shout{sluice::make_processor(my_function)};
///     auto result = shout.push({"orders", 0, 7, "key", "value"});
///     assert(result && *result == "VALUE");
///
/// One thread at a time. A harness that goes waits for the record at work: a function that never returns hangs it.
class processor_harness {
public:
  /// Makes the processor. Throws what `make` throws.
  explicit processor_harness(const processor_factory& make) : system_(config_), processor_(make(system_)) {}
  ~processor_harness() { caf::anon_send_exit(processor_, caf::exit_reason::user_shutdown); }
  processor_harness(const processor_harness&) = delete;
  processor_harness& operator=(const processor_harness&) = delete;

  /// Gives `what` to the processor and waits for its result, at most `patience`. An error is the processor's own,
  /// `caf::sec::request_timeout` where the result did not come in time, or `caf::sec::request_receiver_down` where the
  /// processor has ended. Read it with `describe`.
  caf::expected<std::string> push(record what, std::chrono::milliseconds patience = std::chrono::seconds{5}) {
    caf::expected<std::string> result{caf::error{caf::sec::request_timeout}};
    caf::scoped_actor self{system_};
    self->request(processor_, patience, std::move(what))
        .receive([&result](std::string& text) { result = std::move(text); },
                 [&result](caf::error& why) { result = std::move(why); });
    return result;
  }

private:
  actor_config<caf::id_block::sluice> config_{1};
  caf::actor_system system_;
  processor_actor processor_;
};

} // namespace sluice::testing
