/// What authentication needs of OpenSSL, and base64url. Pure functions, from any thread.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::http {

/// 32 bytes.
std::string sha256(std::string_view text);
/// 32 bytes.
std::string hmac_sha256(std::string_view key, std::string_view text);
/// Takes the same time wherever two texts of one length differ.
bool same(std::string_view a, std::string_view b);
/// Nobody can guess them. Throws std::runtime_error where the system has no randomness.
std::string random_bytes(std::size_t count);

/// RFC 4648, with padding.
std::string base64(std::string_view bytes);
/// RFC 4648, without padding.
std::string base64url(std::string_view bytes);
/// Nothing for what is not exactly `base64url`'s output: padding, line ends, bits left over.
std::optional<std::string> base64url_decode(std::string_view text);
/// Lower case.
std::string hex(std::string_view bytes);
/// Lower or upper case; nothing for what is not hexadecimal.
std::optional<std::string> hex_decode(std::string_view text);

} // namespace sluice::http
