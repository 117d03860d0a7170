#include "sluice/circuit_breaker.hpp"

#include <algorithm>
#include <utility>

#include "sluice/error.hpp"
#include "sluice/log.hpp"

namespace sluice {

namespace {

constexpr const char* name = "circuit_breaker";

bool is_failure(const caf::error& error) {
  return code_of(error) == ec::target_unavailable || code_of(error) == ec::attempt_timeout;
}

} // namespace

caf::error circuit_breaker::call(const std::string& system, const std::function<caf::error()>& work) {
  if (auto wait = admit(system, clock::now()); wait.count() > 0)
    return spared(system, wait);
  try {
    auto error = work();
    report(system, !is_failure(error), clock::now());
    return error;
  } catch (...) {
    report(system, false, clock::now());
    throw;
  }
}

std::chrono::milliseconds circuit_breaker::admit(const std::string& system, clock::time_point now) {
  std::lock_guard guard{mutex_};
  auto it = circuits_.find(system);
  if (it == circuits_.end() || it->second.wait.count() == 0)
    return {};
  auto& one = it->second;
  if (now < one.until) // while it is tried: for as long as before, the answer may be there any moment
    return one.is_tried ? one.wait : std::chrono::ceil<std::chrono::milliseconds>(one.until - now);
  one.is_tried = true;
  one.until = now + how_.max_wait; // should nobody ever tell what came of it, there is another one
  return {};
}

void circuit_breaker::report(const std::string& system, bool answers, clock::time_point now) {
  std::lock_guard guard{mutex_};
  auto it = circuits_.find(system);
  if (answers) {
    if (it == circuits_.end())
      return;
    if (it->second.wait.count() > 0)
      log(log_level::info, name, "an outside system answers again", {{"system", system}});
    circuits_.erase(it);
    return;
  }
  if (it == circuits_.end()) {
    if (circuits_.size() >= max_systems)
      return;
    it = circuits_.emplace(system, circuit{}).first;
  }
  auto& one = it->second;
  ++one.failures;
  if (one.failures < how_.failures)
    return;
  const auto fresh = one.wait.count() == 0;
  if (!fresh && !std::exchange(one.is_tried, false))
    return; // a call that began before the circuit opened
  one.wait = fresh ? how_.first_wait : std::min(one.wait * 2, how_.max_wait);
  one.until = now + one.wait;
  if (fresh)
    log(log_level::warn, name, "an outside system fails, it is spared for a while",
        {{"system", system}, {"failures", std::to_string(one.failures)}});
}

caf::error spared(const std::string& system, std::chrono::milliseconds wait) {
  return try_later(
      system + " has failed too often in a row; it is asked again in " + std::to_string(wait.count()) + " ms", wait);
}

} // namespace sluice
