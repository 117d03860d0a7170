#include "http/tickets.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

#include "http/crypto.hpp"

namespace sluice::http {

namespace {

constexpr size_t ticket_bytes = 32;

} // namespace

ticket_table::ticket_table(int64_t lifetime_ms, size_t bound) : lifetime_ms_(lifetime_ms), bound_(bound) {}

ticket ticket_table::issue(const identity& who, int64_t now_ms) {
  auto text = base64url(random_bytes(ticket_bytes));
  auto expires_ms = std::min(now_ms + lifetime_ms_, who.expires_ms.value_or(INT64_MAX));
  entry made{sha256(text), who, expires_ms};
  std::lock_guard guard{mutex_};
  while (!entries_.empty() && (entries_.size() >= bound_ || entries_.front().expires_ms <= now_ms))
    drop_oldest();
  entries_.push_back(std::move(made));
  by_digest_.emplace(entries_.back().digest, std::prev(entries_.end()));
  return {std::move(text), expires_ms - now_ms};
}

std::optional<identity> ticket_table::redeem(std::string_view text, int64_t now_ms) {
  auto digest = sha256(text);
  std::lock_guard guard{mutex_};
  auto found = by_digest_.find(digest);
  if (found == by_digest_.end())
    return std::nullopt;
  auto at = found->second;
  by_digest_.erase(found);
  auto used = std::move(*at);
  entries_.erase(at);
  return now_ms < used.expires_ms ? std::optional{std::move(used.who)} : std::nullopt;
}

void ticket_table::drop_oldest() {
  by_digest_.erase(entries_.front().digest);
  entries_.pop_front();
}

} // namespace sluice::http
