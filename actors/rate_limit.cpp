#include "rate_limit.hpp"

#include <algorithm>

namespace sluice {

using std::chrono::milliseconds;

rate_limit::rate_limit(uint32_t per_minute, uint32_t burst)
    : interval_(per_minute == 0 ? clock::duration::zero() : clock::duration{std::chrono::minutes{1}} / per_minute),
      burst_(interval_ * std::max(burst, 1U)) {}

milliseconds rate_limit::take(const std::string& key, clock::time_point now) {
  if (interval_ == clock::duration::zero())
    return milliseconds{0};
  std::lock_guard guard{mutex_};
  if (full_at_.size() >= sweep_at_)
    forget_full(now);
  auto& full_at = full_at_.try_emplace(key, now).first->second;
  const auto next = std::max(full_at, now) + interval_;
  if (next > now + burst_)
    return std::chrono::ceil<milliseconds>(next - now - burst_);
  full_at = next;
  return milliseconds{0};
}

size_t rate_limit::size() const {
  std::lock_guard guard{mutex_};
  return full_at_.size();
}

void rate_limit::forget_full(clock::time_point now) {
  std::erase_if(full_at_, [now](const auto& one) { return one.second <= now; });
  sweep_at_ = std::max<size_t>(1024, full_at_.size() * 2);
}

} // namespace sluice
