#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>

namespace sluice {

/// A token bucket a key. Any thread. Keeps only keys whose bucket is not full, so there are no more of them than were
/// used within the time a bucket takes to fill.
class rate_limit {
public:
  using clock = std::chrono::steady_clock;
  /// 0 a minute = no limit. `burst` is at least 1.
  rate_limit(uint32_t per_minute, uint32_t burst);

  /// Takes one token of `key` and returns zero, or takes none and returns when one is there at the earliest.
  std::chrono::milliseconds take(const std::string& key, clock::time_point now);
  size_t size() const;

private:
  void forget_full(clock::time_point now);

  const clock::duration interval_; ///< Time in which one token comes; zero = no limit.
  const clock::duration burst_;    ///< Time in which an empty bucket gets full.
  mutable std::mutex mutex_;
  /// When each bucket will be full again: now, less the interval for each token in it, plus `burst_`.
  std::unordered_map<std::string, clock::time_point> full_at_;
  size_t sweep_at_ = 1024;
};

} // namespace sluice
