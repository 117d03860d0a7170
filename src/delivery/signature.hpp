/// Signatures of webhooks as standardwebhooks.com has them, and Base64. Pure functions, from any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::outbound {

/// RFC 4648, with padding.
std::string base64(std::string_view bytes);

/// The key a secret stands for: what is behind "whsec_" decoded, any other text as it is. Nothing where that is not
/// Base64.
std::optional<std::string> webhook_key(std::string_view secret);

/// The value of `webhook-signature`: "v1," and the HMAC-SHA256 of "id.time.body" in Base64.
std::string sign_webhook(std::string_view key, std::string_view id, int64_t unix_s, std::string_view body);

} // namespace sluice::outbound
