/// What every role does with an exception: CAF loses its text on the way to the supervisor, so it is logged here.
#pragma once

#include <exception>
#include <string>

#include "sluice/error.hpp"
#include "sluice/log.hpp"

namespace sluice {

/// Logs what `self`'s handlers throw and ends the actor with an error, so that its supervisor restarts it. Call once,
/// in the actor's constructor function.
template <class Self>
void log_crashes(Self* self, const char* name) {
  self->set_exception_handler([name](std::exception_ptr& thrown) -> caf::error {
    std::string text = "unknown exception";
    try {
      std::rethrow_exception(thrown);
    } catch (const std::exception& e) {
      text = e.what();
    } catch (...) { // NOLINT: not an std::exception, named so in the log
    }
    log(log_level::error, name, "crashed", {{"cause", text}});
    return caf::sec::runtime_error;
  });
}

/// The jittered delay before attempt `n` (1, 2, …): doubles from `initial`, at most `max`, +-20 %.
template <class Duration, class Random>
Duration backoff_delay(Duration initial, Duration max, uint32_t n, Random& random) {
  auto delay = initial;
  for (uint32_t i = 1; i < n && delay < max; ++i)
    delay *= 2;
  if (delay > max)
    delay = max;
  return delay * static_cast<int>(80 + random() % 41) / 100;
}

} // namespace sluice
