/// Who sends a request: static tokens, JSON Web Tokens, one-use tickets. See docs/security.md.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include <caf/expected.hpp>

#include "http/cors.hpp"
#include "http/jwt.hpp"
#include "http/server.hpp"
#include "http/tickets.hpp"
#include "sluice/config.hpp"
#include "sluice/identity.hpp"

namespace sluice::http {

/// Milliseconds since 1970.
using wall_clock = std::function<int64_t()>;
int64_t system_time_ms();

/// Tells who sends a request. From any thread.
class authenticator {
public:
  /// Reads keys and tokens; an error names the option and what to do. `cfg` must have passed `check`.
  static caf::expected<std::shared_ptr<authenticator>> make(const config& cfg, wall_clock now = system_time_ms);

  /// Who sends `req`, by its credentials: the Authorization header, else (GET only) a ticket, which is used up, else
  /// the cookie. Or the answer that says what is wrong: 401, or 403 for a cookie that another site's page has sent
  /// along. Without authentication everyone has every right.
  std::variant<identity, response> identify(const request& req);
  /// Whether `req` brings no credentials at all, where some are needed.
  bool misses_credentials(const request& req) const;
  /// A ticket for `who`.
  ticket issue_ticket(const identity& who);
  /// Reads the files of keys and tokens again. On an error all stays as it was.
  caf::error reload();

private:
  /// What a request is held against; replaced as a whole.
  struct known {
    /// By digest: how long a look-up takes tells nothing about the tokens there are.
    std::unordered_map<std::string, identity> tokens;
    std::vector<jwt_key> keys;
  };

  authenticator(const config& cfg, wall_clock now);
  caf::expected<known> read() const;
  std::shared_ptr<const known> current() const;
  std::variant<identity, response> identify_token(std::string_view token, std::string_view field) const;

  const auth_mode mode_;
  const bool over_tls_;
  const std::string static_token_;
  const auth_config cfg_;
  const jwt_rules rules_;
  const cors_policy cors_;
  const wall_clock now_;
  ticket_table tickets_;
  mutable std::mutex mutex_; ///< Guards `known_`, the pointer.
  std::shared_ptr<const known> known_;
};

/// The tokens of `auth.tokensFile`, by their SHA-256 digest. Errors name the entry and show no token.
caf::expected<std::unordered_map<std::string, identity>> read_tokens(const std::string& text);

/// 403, for someone who may not do this. `what`: "publish to the topic", "have the role"; `name`: of topic or role.
response forbidden(std::string_view what, std::string_view name, std::string_view field);

} // namespace sluice::http
