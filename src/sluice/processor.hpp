/// Processors: what a user's program does with each record. A plain function is enough; an actor of one's own works
/// too.
#pragma once

#include <exception>
#include <functional>
#include <string>
#include <utility>

#include <caf/actor_system.hpp>
#include <caf/expected.hpp>
#include <caf/result.hpp>

#include "sluice/interfaces.hpp"

namespace sluice {

/// Makes one processor in the given system. Called again for each further worker and after each crash, from any thread,
/// so what it captures has to bear that.
using processor_factory = std::function<processor_actor(caf::actor_system&)>;

/// A processor as a plain function: the result, or an error (`make_failure(ec::malformed_record, …)`) where it failed.
using processor_function = std::function<caf::expected<std::string>(const record&)>;

/// Calls `function`. What it throws becomes `ec::processor_failed` with the exception's text.
inline caf::expected<std::string> process(const processor_function& function, const record& x) {
  try {
    return function(x);
  } catch (const std::exception& e) {
    return make_failure(ec::processor_failed, e.what());
  } catch (...) {
    return make_failure(ec::processor_failed, "it threw something that is not a std::exception");
  }
}

/// Wraps `function` into a factory of processors:
///
///     auto shout = sluice::make_processor([](const sluice::record& x) { return x.value + "!"; });
///
/// Each processor calls its own copy for one record at a time, on a thread of the actor system's: functions that wait
/// for the network or a disk hold that thread. An exception fails its record (`ec::processor_failed`) and nothing else.
inline processor_factory make_processor(processor_function function) {
  return [function = std::move(function)](caf::actor_system& system) -> processor_actor {
    return system.spawn([function](processor_actor::pointer) -> processor_actor::behavior_type {
      return {
          [function](const record& x) -> caf::result<std::string> {
            auto answer = process(function, x);
            if (!answer)
              return std::move(answer.error());
            return std::move(*answer);
          },
      };
    });
  };
}

} // namespace sluice
