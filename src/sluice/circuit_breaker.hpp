/// Spares outside systems that fail, and those who wait for them.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <unordered_map>

#include <caf/error.hpp>

namespace sluice {

/// A circuit for each outside system, by name. After some failures in a row nothing goes to a system for a while; then
/// one call is let through, and as long as that fails too, the while doubles. Any thread.
///
///     static sluice::circuit_breaker outside;
///     return outside.call("billing", [&] { return ask_billing(in); });
class circuit_breaker {
public:
  using clock = std::chrono::steady_clock;
  struct settings {
    uint32_t failures = 5; ///< In a row, that open a circuit.
    std::chrono::milliseconds first_wait{1000};
    std::chrono::milliseconds max_wait{60000};
  };
  /// Circuits with a failure, at most: beyond it further systems are not watched.
  static constexpr std::size_t max_systems = 10000;

  circuit_breaker() : circuit_breaker(settings{}) {}
  explicit circuit_breaker(settings how) : how_(how) {}

  /// Calls `work` where the system's circuit is closed, or it is time to try; else answers `spared`.
  /// `target_unavailable`, `attempt_timeout` and what is thrown are failures of the system; any other error says that
  /// it answers.
  caf::error call(const std::string& system, const std::function<caf::error()>& work);

  /// Zero: call the system, and tell by `report` what came of it. Else: how long not to, see `spared`.
  std::chrono::milliseconds admit(const std::string& system, clock::time_point now);
  void report(const std::string& system, bool answers, clock::time_point now);

private:
  struct circuit {
    uint32_t failures = 0;
    std::chrono::milliseconds wait{0}; ///< Zero: closed.
    clock::time_point until;           ///< Nothing goes through before.
    bool is_tried = false;             ///< One call has been let through since.
  };

  const settings how_;
  mutable std::mutex mutex_;
  std::unordered_map<std::string, circuit> circuits_; ///< Those that have failed lately.
};

/// The answer of who has not been called: `try_later`, so that the supervisor comes back then and counts no attempt.
caf::error spared(const std::string& system, std::chrono::milliseconds wait);

} // namespace sluice
