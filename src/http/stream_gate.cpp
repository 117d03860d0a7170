#include "http/stream_gate.hpp"

#include <algorithm>

#include <asio/ip/address.hpp>

namespace sluice::http {

namespace {

/// The part of an address that stands for one client.
std::string client_of(std::string_view remote) {
  asio::error_code ec;
  auto address = asio::ip::make_address(std::string{remote}, ec);
  if (ec || address.is_v4())
    return std::string{remote};
  auto v6 = address.to_v6();
  if (v6.is_v4_mapped())
    return asio::ip::make_address_v4(asio::ip::v4_mapped, v6).to_string();
  auto bytes = v6.to_bytes();
  return {bytes.begin(), bytes.begin() + 8};
}

} // namespace

stream_pass::~stream_pass() {
  if (gate_ != nullptr)
    gate_->leave(address_, user_);
}

std::pair<stream_pass, stream_gate::refusal> stream_gate::admit(std::string_view remote, std::string_view user,
                                                                clock::time_point now) {
  auto by_address = max_an_address_ != 0 || opens_a_second_ != 0;
  auto address = by_address ? client_of(remote) : std::string{};
  auto name = std::string{max_a_user_ != 0 ? user : std::string_view{}};
  std::lock_guard guard{mutex_};
  if (max_streams_ != 0 && streams_ >= max_streams_)
    return {stream_pass{}, refusal::streams};
  if (auto mine = of_user_.find(name); mine != of_user_.end() && mine->second >= max_a_user_)
    return {stream_pass{}, refusal::user};
  if (by_address) {
    if (visitors_.size() >= max_addresses && !visitors_.contains(address))
      forget_idle(now);
    auto [at, is_new] = visitors_.try_emplace(address);
    auto& who = at->second;
    if (is_new) {
      who.opens = opens_a_second_;
      who.since = now;
    }
    if (max_an_address_ != 0 && who.streams >= max_an_address_)
      return {stream_pass{}, refusal::address};
    if (opens_a_second_ != 0) {
      who.opens = opens_of(who, now);
      who.since = now;
      if (who.opens < 1)
        return {stream_pass{}, refusal::rate};
      who.opens -= 1;
    }
    ++who.streams;
  }
  if (!name.empty())
    ++of_user_[name];
  ++streams_;
  return {stream_pass{*this, std::move(address), std::move(name)}, refusal::none};
}

void stream_gate::leave(const std::string& address, const std::string& user) {
  std::lock_guard guard{mutex_};
  --streams_;
  if (auto mine = of_user_.find(user); mine != of_user_.end() && --mine->second == 0)
    of_user_.erase(mine);
  auto at = visitors_.find(address);
  if (at == visitors_.end())
    return;
  --at->second.streams;
  if (at->second.streams == 0 && opens_a_second_ == 0)
    visitors_.erase(at);
}

/// One second fills the bucket.
double stream_gate::opens_of(const visitor& who, clock::time_point now) const {
  auto passed = std::chrono::duration<double>(now - who.since).count();
  return std::min<double>(opens_a_second_, who.opens + std::max(passed, 0.0) * opens_a_second_);
}

/// Whoever has no stream and has not opened one for a second is as good as new. Those with streams are no more than
/// there are connections, so the table has a bound.
void stream_gate::forget_idle(clock::time_point now) {
  if (now - swept_ < std::chrono::milliseconds{100})
    return;
  swept_ = now;
  std::erase_if(visitors_, [&](const auto& each) {
    return each.second.streams == 0 && opens_of(each.second, now) >= opens_a_second_;
  });
}

} // namespace sluice::http
