#include "http/jwt.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include <nlohmann/json.hpp>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>

#include "http/crypto.hpp"

namespace sluice::http {

namespace {

using nlohmann::json;

constexpr size_t min_secret_bytes = 32; // RFC 7518, 3.2
constexpr int min_rsa_bits = 2048;      // RFC 7518, 3.3
constexpr size_t coordinate_bytes = 32;
constexpr size_t max_user_bytes = 256;
constexpr size_t max_keys = 100;

/// Frees what OpenSSL made.
template <auto Free>
struct freed_by {
  template <class T>
  void operator()(T* made) const {
    Free(made);
  }
};
using bio_ptr = std::unique_ptr<BIO, freed_by<BIO_free>>;
using bignum_ptr = std::unique_ptr<BIGNUM, freed_by<BN_free>>;
using digest_ptr = std::unique_ptr<EVP_MD_CTX, freed_by<EVP_MD_CTX_free>>;
using key_context_ptr = std::unique_ptr<EVP_PKEY_CTX, freed_by<EVP_PKEY_CTX_free>>;
using signature_ptr = std::unique_ptr<ECDSA_SIG, freed_by<ECDSA_SIG_free>>;
using builder_ptr = std::unique_ptr<OSSL_PARAM_BLD, freed_by<OSSL_PARAM_BLD_free>>;
using parameters_ptr = std::unique_ptr<OSSL_PARAM, freed_by<OSSL_PARAM_free>>;

const unsigned char* bytes_of(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

bignum_ptr number_of(std::string_view big_endian) {
  return bignum_ptr{BN_bin2bn(bytes_of(big_endian), static_cast<int>(big_endian.size()), nullptr)};
}

/// r and s side by side, as tokens have them, in the form that OpenSSL wants. "" where they are not two numbers.
std::string der_of(std::string_view signature) {
  if (signature.size() != 2 * coordinate_bytes)
    return {};
  signature_ptr made{ECDSA_SIG_new()};
  auto r = number_of(signature.substr(0, coordinate_bytes));
  auto s = number_of(signature.substr(coordinate_bytes));
  if (!made || !r || !s || ECDSA_SIG_set0(made.get(), r.get(), s.get()) != 1)
    return {};
  [[maybe_unused]] auto* now_its_own = r.release();
  now_its_own = s.release();
  std::string out(80, '\0'); // at most 72
  auto* end = reinterpret_cast<unsigned char*>(out.data());
  auto size = i2d_ECDSA_SIG(made.get(), &end);
  out.resize(size > 0 ? static_cast<size_t>(size) : 0);
  return out;
}

caf::error wrong_key(std::string text) {
  return make_failure(ec::invalid_config, std::move(text));
}

/// A public key's algorithm follows from its kind.
caf::expected<jwt_key> key_of(EVP_PKEY* owned) {
  jwt_key out;
  out.public_key = {owned, EVP_PKEY_free};
  if (EVP_PKEY_is_a(owned, "RSA") == 1) {
    if (EVP_PKEY_get_bits(owned) < min_rsa_bits)
      return wrong_key("an RSA key needs at least 2,048 bits; make a longer one");
    out.algorithm = jwt_algorithm::rs256;
    return out;
  }
  std::array<char, 64> curve{};
  if (EVP_PKEY_is_a(owned, "EC") == 1 && EVP_PKEY_get_group_name(owned, curve.data(), curve.size(), nullptr) == 1 &&
      std::string_view{curve.data()} == SN_X9_62_prime256v1) {
    out.algorithm = jwt_algorithm::es256;
    return out;
  }
  return wrong_key("the key is neither RSA nor on the curve P-256; sluice verifies HS256, RS256 and ES256");
}

// -- JWKS -------------------------------------------------------------------------------------------------------------

std::string text_in(const json& from, const char* name) {
  auto found = from.find(name);
  return found != from.end() && found->is_string() ? found->get<std::string>() : std::string{};
}

/// A member's bytes; none where it is absent or broken.
std::string bytes_in(const json& from, const char* name) {
  return base64url_decode(text_in(from, name)).value_or("");
}

EVP_PKEY* make_public_key(const char* kind, OSSL_PARAM_BLD* builder) {
  parameters_ptr parameters{OSSL_PARAM_BLD_to_param(builder)};
  key_context_ptr context{EVP_PKEY_CTX_new_from_name(nullptr, kind, nullptr)};
  EVP_PKEY* made = nullptr;
  if (!parameters || !context || EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &made, EVP_PKEY_PUBLIC_KEY, parameters.get()) != 1)
    return nullptr;
  return made;
}

EVP_PKEY* rsa_key(const json& from) {
  auto n = bytes_in(from, "n");
  auto e = bytes_in(from, "e");
  builder_ptr builder{OSSL_PARAM_BLD_new()};
  auto modulus = number_of(n);
  auto exponent = number_of(e);
  if (n.empty() || e.empty() || !builder ||
      OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, modulus.get()) != 1 ||
      OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, exponent.get()) != 1)
    return nullptr;
  return make_public_key("RSA", builder.get());
}

EVP_PKEY* p256_key(const json& from) {
  auto x = bytes_in(from, "x");
  auto y = bytes_in(from, "y");
  auto point = "\x04" + x + y; // uncompressed
  builder_ptr builder{OSSL_PARAM_BLD_new()};
  if (x.size() != coordinate_bytes || y.size() != coordinate_bytes || !builder ||
      OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, SN_X9_62_prime256v1, 0) != 1 ||
      OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size()) != 1)
    return nullptr;
  return make_public_key("EC", builder.get()); // refuses points that are not on the curve
}

bool is_for_verifying(const json& key) {
  auto use = text_in(key, "use");
  auto operations = key.find("key_ops");
  return (use.empty() || use == "sig") &&
         (operations == key.end() || std::find(operations->begin(), operations->end(), "verify") != operations->end());
}

/// The only algorithm a JWK serves here; none for kinds to leave out.
std::optional<jwt_algorithm> algorithm_of(const json& key) {
  auto kind = text_in(key, "kty");
  std::optional<jwt_algorithm> found;
  if (kind == "oct")
    found = jwt_algorithm::hs256;
  else if (kind == "RSA")
    found = jwt_algorithm::rs256;
  else if (kind == "EC" && text_in(key, "crv") == "P-256")
    found = jwt_algorithm::es256;
  return found && key.contains("alg") && jwt_algorithm_of(text_in(key, "alg")) != found ? std::nullopt : found;
}

caf::expected<jwt_key> key_of_jwk(const json& from, jwt_algorithm algorithm) {
  if (algorithm == jwt_algorithm::hs256)
    return key_of_secret(bytes_in(from, "k"));
  if (auto* made = algorithm == jwt_algorithm::rs256 ? rsa_key(from) : p256_key(from))
    return key_of(made);
  return wrong_key(algorithm == jwt_algorithm::rs256 ? "n and e are not an RSA key in base64url"
                                                     : "x and y are not a point on P-256 in base64url");
}

// -- tokens -----------------------------------------------------------------------------------------------------------

constexpr const char* not_a_jwt = "the token is not a JWT";

struct token_parts {
  std::string_view signed_text;
  json header, claims;
  std::string signature;
};

std::optional<json> object_of(std::string_view encoded) {
  auto text = base64url_decode(encoded);
  if (!text)
    return std::nullopt;
  auto out = json::parse(*text, nullptr, false);
  return out.is_object() ? std::optional{std::move(out)} : std::nullopt;
}

std::optional<token_parts> take_apart(std::string_view token) {
  auto first = token.find('.');
  auto last = token.rfind('.');
  if (first == last || token.find('.', first + 1) != last)
    return std::nullopt;
  auto header = object_of(token.substr(0, first));
  auto claims = object_of(token.substr(first + 1, last - first - 1));
  auto signature = base64url_decode(token.substr(last + 1));
  if (!header || !claims || !signature)
    return std::nullopt;
  return token_parts{token.substr(0, last), std::move(*header), std::move(*claims), std::move(*signature)};
}

/// "" where one of the keys made the signature, else what is wrong.
std::string check_signature(const token_parts& token, const std::vector<jwt_key>& keys, const jwt_rules& rules) {
  if (token.header.contains("crit"))
    return "the token asks for extensions that sluice does not have";
  auto algorithm = jwt_algorithm_of(text_in(token.header, "alg"));
  if (!algorithm || std::find(rules.algorithms.begin(), rules.algorithms.end(), *algorithm) == rules.algorithms.end())
    return "the token is signed by an algorithm that is not allowed";
  auto kid = text_in(token.header, "kid");
  bool any = false;
  for (const auto& key : keys) {
    if (key.algorithm != *algorithm || (!kid.empty() && !key.kid.empty() && key.kid != kid))
      continue;
    any = true;
    if (key.verifies(token.signed_text, token.signature))
      return {};
  }
  return any ? "the token's signature is wrong" : "the token is signed by a key that this server does not know";
}

/// Unix milliseconds of a NumericDate.
std::optional<int64_t> time_in(const json& claims, const char* name) {
  auto found = claims.find(name);
  if (found == claims.end() || !found->is_number())
    return std::nullopt;
  auto seconds = found->get<double>();
  if (!(std::abs(seconds) < 1e12)) // beyond the year 30,000
    return std::nullopt;
  return static_cast<int64_t>(std::floor(seconds * 1000));
}

bool is_for(const json& audience, const std::string& us) {
  return audience == us ||
         (audience.is_array() && std::find(audience.begin(), audience.end(), json(us)) != audience.end());
}

/// "" where the token holds here and now, else what is wrong.
std::string check_claims(const json& claims, const jwt_rules& rules, int64_t now_ms) {
  auto expires = time_in(claims, "exp");
  if (!expires)
    return "the token does not say when it expires (exp)";
  if (now_ms >= *expires + rules.leeway_ms)
    return "the token has expired";
  if (claims.contains("nbf")) {
    auto begins = time_in(claims, "nbf");
    if (!begins || now_ms + rules.leeway_ms < *begins)
      return "the token is not valid yet (nbf)";
  }
  if (!rules.issuer.empty() && text_in(claims, "iss") != rules.issuer)
    return "the token is from another issuer (iss)";
  auto audience = claims.find("aud");
  // RFC 7519, 4.1.3: who does not find itself in the audience must not take the token.
  if (rules.audience.empty() ? audience != claims.end()
                             : audience == claims.end() || !is_for(*audience, rules.audience))
    return "the token is for another audience (aud)";
  return {};
}

/// Reads a list of texts; an absent one is empty. False for anything else.
bool read_list(const json& from, const char* name, std::vector<std::string>& out) {
  auto found = from.find(name);
  if (found == from.end())
    return true;
  if (!found->is_array() || !std::all_of(found->begin(), found->end(), [](const json& x) { return x.is_string(); }))
    return false;
  out = found->get<std::vector<std::string>>();
  return true;
}

} // namespace

std::optional<jwt_algorithm> jwt_algorithm_of(std::string_view name) {
  if (name == "HS256")
    return jwt_algorithm::hs256;
  if (name == "RS256")
    return jwt_algorithm::rs256;
  if (name == "ES256")
    return jwt_algorithm::es256;
  return std::nullopt;
}

bool jwt_key::verifies(std::string_view text, std::string_view signature) const {
  if (algorithm == jwt_algorithm::hs256)
    return secret.size() >= min_secret_bytes && same(hmac_sha256(secret, text), signature);
  auto der = algorithm == jwt_algorithm::es256 ? der_of(signature) : std::string{signature};
  digest_ptr digest{EVP_MD_CTX_new()};
  return digest && public_key && !der.empty() &&
         EVP_DigestVerifyInit(digest.get(), nullptr, EVP_sha256(), nullptr, public_key.get()) == 1 &&
         EVP_DigestVerify(digest.get(), bytes_of(der), der.size(), bytes_of(text), text.size()) == 1;
}

caf::expected<jwt_key> key_of_secret(std::string secret) {
  if (secret.size() < min_secret_bytes)
    return wrong_key("a secret for HS256 needs at least 32 bytes; make one with `openssl rand -hex 32`");
  jwt_key out;
  out.secret = std::move(secret);
  return out;
}

caf::expected<jwt_key> key_of_pem(const std::string& text) {
  bio_ptr in{BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))};
  if (auto* made = in ? PEM_read_bio_PUBKEY(in.get(), nullptr, nullptr, nullptr) : nullptr)
    return key_of(made);
  return wrong_key("is not a public key in PEM (-----BEGIN PUBLIC KEY-----); `openssl pkey -in private.pem -pubout` "
                   "makes one of a private key");
}

caf::expected<std::vector<jwt_key>> keys_of_jwks(const std::string& text) {
  auto document = json::parse(text, nullptr, false);
  if (!document.is_object() || !document.contains("keys") || !document["keys"].is_array())
    return wrong_key(R"(is not a JSON Web Key Set: {"keys":[…]})");
  const auto& given = document["keys"];
  if (given.size() > max_keys)
    return wrong_key("has more than 100 keys; leave out those that are no longer used");
  std::vector<jwt_key> out;
  for (size_t i = 0; i < given.size(); ++i) {
    const auto& one = given[i];
    auto algorithm = one.is_object() && is_for_verifying(one) ? algorithm_of(one) : std::nullopt;
    if (!algorithm)
      continue;
    auto key = key_of_jwk(one, *algorithm);
    if (!key)
      return wrong_key("keys[" + std::to_string(i) + "]: " + text_of(key.error()));
    key->kid = text_in(one, "kid");
    out.push_back(std::move(*key));
  }
  if (out.empty())
    return wrong_key("has no key for HS256, RS256 or ES256");
  return out;
}

std::variant<identity, std::string> read_jwt(std::string_view token, const std::vector<jwt_key>& keys,
                                             const jwt_rules& rules, int64_t now_ms) {
  if (token.size() > max_token_bytes)
    return "the token is longer than 8 KiB";
  auto parts = take_apart(token);
  if (!parts)
    return not_a_jwt;
  const auto& claims = parts->claims;
  if (auto wrong = check_signature(*parts, keys, rules); !wrong.empty())
    return wrong;
  if (auto wrong = check_claims(claims, rules, now_ms); !wrong.empty())
    return wrong;
  identity who;
  who.user = text_in(claims, "sub");
  if (!is_user_name(who.user))
    return "the token names no user (sub)";
  who.expires_ms = time_in(claims, "exp").value_or(0) + rules.leeway_ms;
  auto rights = claims.find(rules.claim);
  if (rights != claims.end() &&
      (!rights->is_object() || !read_list(*rights, "subscribe", who.subscribe) ||
       !read_list(*rights, "publish", who.publish) || !read_list(*rights, "roles", who.roles)))
    return "the token's rights are not lists of texts";
  return who;
}

bool is_user_name(std::string_view text) {
  return !text.empty() && text.size() <= max_user_bytes && std::none_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
}

} // namespace sluice::http
