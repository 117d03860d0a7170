/// Who may open a stream now: bounds against storms of clients.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "sluice/config.hpp"

namespace sluice::http {

class stream_gate;

/// One open stream's place in the counts, for as long as this lives. The gate must outlive it.
class stream_pass {
public:
  stream_pass() = default;
  stream_pass(stream_gate& gate, std::string address, std::string user)
      : gate_(&gate), address_(std::move(address)), user_(std::move(user)) {}
  stream_pass(stream_pass&& other) noexcept
      : gate_(std::exchange(other.gate_, nullptr)), address_(std::move(other.address_)), user_(std::move(other.user_)) {
  }
  stream_pass& operator=(stream_pass&& other) noexcept {
    std::swap(gate_, other.gate_);
    address_.swap(other.address_);
    user_.swap(other.user_);
    return *this;
  }
  ~stream_pass();
  explicit operator bool() const { return gate_ != nullptr; }

private:
  stream_gate* gate_ = nullptr;
  std::string address_, user_;
};

/// Counts the streams of all I/O threads, in all, by user and by address. Any thread.
class stream_gate {
public:
  using clock = std::chrono::steady_clock;
  enum class refusal : uint8_t { none, streams, user, address, rate };

  explicit stream_gate(const sse_config& cfg)
      : max_streams_(cfg.max_streams), max_a_user_(cfg.max_streams_per_user),
        max_an_address_(cfg.max_streams_per_address), opens_a_second_(cfg.max_opens_per_second) {}

  /// Lets a stream of `user` ("" for nobody in particular) at `remote`, an IP address, in, or says why not. Networks of
  /// IPv6 count as one address each, for a client has a whole one.
  std::pair<stream_pass, refusal> admit(std::string_view remote, std::string_view user = {},
                                        clock::time_point now = clock::now());

private:
  friend class stream_pass;
  static constexpr size_t max_addresses = 65536;
  struct visitor {
    uint32_t streams = 0;
    double opens = 0; ///< Allowed at `since`.
    clock::time_point since;
  };

  void leave(const std::string& address, const std::string& user);
  double opens_of(const visitor& who, clock::time_point now) const;
  void forget_idle(clock::time_point now);

  const uint32_t max_streams_, max_a_user_, max_an_address_, opens_a_second_;
  std::mutex mutex_;
  uint64_t streams_ = 0;
  std::unordered_map<std::string, uint32_t> of_user_; ///< Those with streams only.
  std::unordered_map<std::string, visitor> visitors_;
  clock::time_point swept_;
};

} // namespace sluice::http
