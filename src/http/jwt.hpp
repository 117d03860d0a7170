/// JSON Web Tokens (RFC 7519) in the compact form of RFC 7515, signed by HS256, RS256 or ES256. Nothing here keeps
/// state; from any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <caf/expected.hpp>

#include "sluice/error.hpp"
#include "sluice/identity.hpp"

struct evp_pkey_st; // OpenSSL's EVP_PKEY

namespace sluice::http {

/// How a token may be signed. "none" is not among them.
enum class jwt_algorithm : uint8_t { hs256, rs256, es256 };

/// Reads "HS256", "RS256" and "ES256".
std::optional<jwt_algorithm> jwt_algorithm_of(std::string_view name);

/// What verifies tokens, by its own algorithm and no other: a public key never serves as a secret.
struct jwt_key {
  std::string kid; ///< "" = for tokens with any `kid`, or with none.
  jwt_algorithm algorithm = jwt_algorithm::hs256;
  std::string secret;                      ///< HS256; at least 32 bytes.
  std::shared_ptr<evp_pkey_st> public_key; ///< RS256: RSA of 2,048 bits or more. ES256: on P-256.

  /// Whether `signature` (raw; r and s for ES256) of `text` was made with this key.
  bool verifies(std::string_view text, std::string_view signature) const;
};

/// These read keys. Errors say what is wrong and what to do, and show nothing of a key.
caf::expected<jwt_key> key_of_secret(std::string secret);
/// "-----BEGIN PUBLIC KEY-----": RSA or P-256.
caf::expected<jwt_key> key_of_pem(const std::string& text);
/// RFC 7517: `oct`, `RSA` and `EC` keys, 100 at most. Those of other kinds or for other uses are left out, but one must
/// remain.
caf::expected<std::vector<jwt_key>> keys_of_jwks(const std::string& text);

/// What a token must fulfil besides its signature.
struct jwt_rules {
  std::vector<jwt_algorithm> algorithms;
  std::string issuer;   ///< "" = any.
  std::string audience; ///< "" = only tokens without `aud`.
  std::string claim;    ///< Where the rights are.
  int64_t leeway_ms = 0;
};

/// Longer tokens are not looked at.
constexpr size_t max_token_bytes = 8192;

/// Whose token it is, or what is wrong with it ("the token has expired"): plain ASCII without quotes, and nothing of
/// the token. `now_ms` is Unix time.
std::variant<identity, std::string> read_jwt(std::string_view token, const std::vector<jwt_key>& keys,
                                             const jwt_rules& rules, int64_t now_ms);

/// Whether it can be a user's name: 1 to 256 bytes without control characters.
bool is_user_name(std::string_view text);

} // namespace sluice::http
