#include "delivery/signature.hpp"

#include <stdexcept>

#include <openssl/evp.h>
#include <openssl/hmac.h>

namespace sluice::outbound {

namespace {

constexpr std::string_view encoded_prefix = "whsec_";

unsigned char* bytes_of(std::string& text) {
  return reinterpret_cast<unsigned char*>(text.data());
}

const unsigned char* bytes_of(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

} // namespace

std::string base64(std::string_view bytes) {
  std::string out((bytes.size() + 2) / 3 * 4 + 1, '\0'); // OpenSSL writes a NUL behind it
  out.resize(static_cast<size_t>(EVP_EncodeBlock(bytes_of(out), bytes_of(bytes), static_cast<int>(bytes.size()))));
  return out;
}

std::optional<std::string> webhook_key(std::string_view secret) {
  if (!secret.starts_with(encoded_prefix))
    return std::string{secret};
  secret.remove_prefix(encoded_prefix.size());
  std::string out(secret.size(), '\0');
  const auto size = EVP_DecodeBlock(bytes_of(out), bytes_of(secret), static_cast<int>(secret.size()));
  const auto padding = secret.ends_with("==") ? 2 : secret.ends_with('=') ? 1 : 0;
  if (size <= padding || secret.size() % 4 != 0)
    return std::nullopt;
  out.resize(static_cast<size_t>(size - padding)); // OpenSSL counts the padding too
  return out;
}

std::string sign_webhook(std::string_view key, std::string_view id, int64_t unix_s, std::string_view body) {
  std::string text{id};
  text.append(".").append(std::to_string(unix_s)).append(".").append(body);
  std::string digest(EVP_MAX_MD_SIZE, '\0');
  unsigned size = 0;
  if (HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), bytes_of(std::string_view{text}), text.size(),
           bytes_of(digest), &size) == nullptr)
    throw std::runtime_error("OpenSSL has no HMAC-SHA-256");
  digest.resize(size);
  return "v1," + base64(digest);
}

} // namespace sluice::outbound
