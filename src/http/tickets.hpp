/// One-use tickets: what may stand in a URL instead of a token, which would stay in logs and histories.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "sluice/identity.hpp"

namespace sluice::http {

struct ticket {
  std::string text;        ///< 256 random bits, in characters that need no encoding in a URL.
  int64_t lifetime_ms = 0; ///< From now on.
};

/// The tickets that are out. From any thread.
class ticket_table {
public:
  static constexpr size_t default_bound = 10000;

  /// Tickets hold for `lifetime_ms`. With more than `bound` out, the oldest no longer hold.
  explicit ticket_table(int64_t lifetime_ms, size_t bound = default_bound);

  /// Stands for `who`, once, and no longer than the credentials hold that it was given for.
  ticket issue(const identity& who, int64_t now_ms);
  /// Whom the ticket stands for; nothing where it was used, is too old, or never was one.
  std::optional<identity> redeem(std::string_view text, int64_t now_ms);

private:
  struct entry {
    std::string digest;
    identity who;
    int64_t expires_ms = 0;
  };
  void drop_oldest();

  const int64_t lifetime_ms_;
  const size_t bound_;
  std::mutex mutex_;
  std::list<entry> entries_; ///< The oldest first.
  /// By digest, not by ticket: how long a look-up takes tells nothing about the tickets that are out.
  std::unordered_map<std::string_view, std::list<entry>::iterator> by_digest_;
};

} // namespace sluice::http
