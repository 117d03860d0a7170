/// Who sends a request, and what they may do.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

/// Someone whose credentials hold. Without rights until told otherwise.
struct identity {
  std::string user;                   ///< "" where credentials name nobody.
  std::vector<std::string> subscribe; ///< Patterns of channels, see `covers`.
  std::vector<std::string> publish;   ///< Patterns of topics.
  std::vector<std::string> roles;
  std::optional<int64_t> expires_ms; ///< Unix time from which the credentials no longer hold, leeway included.
  bool all = false;                  ///< Every right and role.

  /// A user may always subscribe to its own channel, `user:<user>`.
  bool may_subscribe(std::string_view channel) const;
  bool may_publish(std::string_view topic) const;
  bool has_role(std::string_view role) const;
};

/// Whether a pattern of `user` covers `name`, a channel or topic. Linear in `name`; from any thread.
/// - `*` as the last character stands for any rest, dots included, also for none: `orders.*`, `orders*`, `*`.
/// - `*` as a whole part between dots, but not the last, stands for one part that is not empty: `*.eu.*`.
/// - `{user}` stands for `user`, character by character; it covers nothing where there is no user.
/// - Everything else, any other `*` included, stands for itself.
bool covers(std::string_view pattern, std::string_view name, std::string_view user);

} // namespace sluice
