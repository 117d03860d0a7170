#define CAF_SUITE jwt

#include "http/jwt.hpp"

#include <caf/test/unit_test.hpp>
#include <nlohmann/json.hpp>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "http/crypto.hpp"

using namespace sluice;
using namespace sluice::http;
using nlohmann::json;

namespace {

constexpr int64_t now_ms = 1'700'000'000'000;
constexpr int64_t now = now_ms / 1000;
const std::string secret(32, 's');

// RFC 7515, appendices A.1 to A.3.
const std::string rfc_claims =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0"
    "cnVlfQ";
const std::string rfc_hs256 =
    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9." + rfc_claims + ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const std::string rfc_rs256 =
    "eyJhbGciOiJSUzI1NiJ9." + rfc_claims +
    ".cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7"
    "t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12"
    "jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUP"
    "QGe77Rw";
const std::string rfc_es256 = "eyJhbGciOiJFUzI1NiJ9." + rfc_claims +
                              ".DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
const std::string rfc_keys = R"({"keys":[
  {"kty":"oct","kid":"a1",
   "k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"},
  {"kty":"RSA","kid":"a2","e":"AQAB",
   "n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"},
  {"kty":"EC","crv":"P-256","kid":"a3",
   "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]})";

jwt_rules rules() {
  return {{jwt_algorithm::hs256, jwt_algorithm::rs256, jwt_algorithm::es256}, "", "", "sluice", 30000};
}

template <class T>
T must(caf::expected<T> x) {
  if (!x)
    CAF_FAIL(text_of(x.error()));
  return std::move(*x);
}

jwt_key hmac_key() {
  return must(key_of_secret(secret));
}

json claims() {
  return {{"sub", "ann"}, {"exp", now + 60}};
}

std::string unsigned_token(const json& header, const json& payload) {
  return base64url(header.dump()) + "." + base64url(payload.dump());
}

std::string token(const json& payload, const json& header = {{"alg", "HS256"}}) {
  auto text = unsigned_token(header, payload);
  return text + "." + base64url(hmac_sha256(secret, text));
}

/// "" where the token is taken, else what is wrong with it.
std::string verdict(std::string_view text, const std::vector<jwt_key>& keys, const jwt_rules& with = rules(),
                    int64_t at = now_ms) {
  auto outcome = read_jwt(text, keys, with, at);
  return outcome.index() == 0 ? "" : std::get<std::string>(outcome);
}

std::string verdict_of(const json& payload, const jwt_rules& with = rules()) {
  return verdict(token(payload), {hmac_key()}, with);
}

identity read(const json& payload, const jwt_rules& with = rules()) {
  return std::get<identity>(read_jwt(token(payload), {hmac_key()}, with, now_ms));
}

/// A key pair made here.
struct signer {
  explicit signer(EVP_PKEY* key) : pair{key, EVP_PKEY_free} {}

  std::string pem() const {
    auto* out = BIO_new(BIO_s_mem());
    PEM_write_bio_PUBKEY(out, pair.get());
    char* text = nullptr;
    auto size = BIO_get_mem_data(out, &text);
    std::string result(text, static_cast<size_t>(size));
    BIO_free(out);
    return result;
  }

  /// As OpenSSL has it: DER for EC keys.
  std::string sign(const std::string& text) const {
    auto* context = EVP_MD_CTX_new();
    EVP_DigestSignInit(context, nullptr, EVP_sha256(), nullptr, pair.get());
    std::string out(1024, '\0');
    size_t size = out.size();
    EVP_DigestSign(context, reinterpret_cast<unsigned char*>(out.data()), &size,
                   reinterpret_cast<const unsigned char*>(text.data()), text.size());
    EVP_MD_CTX_free(context);
    out.resize(size);
    return out;
  }

  /// r and s, as tokens have them.
  std::string sign_raw(const std::string& text) const {
    auto der = sign(text);
    const auto* at = reinterpret_cast<const unsigned char*>(der.data());
    auto* made = d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size()));
    std::string out(64, '\0');
    auto* bytes = reinterpret_cast<unsigned char*>(out.data());
    BN_bn2binpad(ECDSA_SIG_get0_r(made), bytes, 32);
    BN_bn2binpad(ECDSA_SIG_get0_s(made), bytes + 32, 32);
    ECDSA_SIG_free(made);
    return out;
  }

  std::shared_ptr<EVP_PKEY> pair;
};

const signer& rsa_signer() {
  static const signer made{EVP_RSA_gen(2048)};
  return made;
}

const signer& ec_signer() {
  static const signer made{EVP_EC_gen("P-256")};
  return made;
}

} // namespace

CAF_TEST(the examples of RFC 7515 have the signatures of their keys) {
  auto keys = must(keys_of_jwks(rfc_keys));
  CAF_REQUIRE_EQUAL(keys.size(), 3u);
  for (const auto* text : {&rfc_hs256, &rfc_rs256, &rfc_es256}) {
    auto at = text->rfind('.');
    auto signed_text = text->substr(0, at);
    auto signature = base64url_decode(text->substr(at + 1)).value();
    auto index = text == &rfc_hs256 ? 0u : text == &rfc_rs256 ? 1u : 2u;
    for (size_t i = 0; i < keys.size(); ++i)
      CAF_CHECK_EQUAL(keys[i].verifies(signed_text, signature), i == index);
    CAF_CHECK(!keys[index].verifies(signed_text + "x", signature));
    // Every one of its bits counts.
    for (size_t i = 0; i < signature.size(); i += 7) {
      auto wrong = signature;
      wrong[i] = static_cast<char>(wrong[i] ^ 1);
      CAF_CHECK(!keys[index].verifies(signed_text, wrong));
    }
    // Signed as it should be, but of 2011.
    CAF_CHECK_EQUAL(verdict(*text, keys), "the token has expired");
    CAF_CHECK_EQUAL(verdict(*text, keys, rules(), 1300819380'000 - 1), "the token names no user (sub)");
  }
}

CAF_TEST(the three algorithms are taken with keys from PEM and secret) {
  std::vector<jwt_key> keys{hmac_key(), must(key_of_pem(rsa_signer().pem())), must(key_of_pem(ec_signer().pem()))};
  auto rs256 = unsigned_token({{"alg", "RS256"}}, claims());
  auto es256 = unsigned_token({{"alg", "ES256"}}, claims());
  CAF_CHECK_EQUAL(verdict(token(claims()), keys), "");
  CAF_CHECK_EQUAL(verdict(rs256 + "." + base64url(rsa_signer().sign(rs256)), keys), "");
  CAF_CHECK_EQUAL(verdict(es256 + "." + base64url(ec_signer().sign_raw(es256)), keys), "");
  auto only = rules();
  only.algorithms = {jwt_algorithm::rs256};
  CAF_CHECK_EQUAL(verdict(token(claims()), keys, only), "the token is signed by an algorithm that is not allowed");
  CAF_CHECK_EQUAL(verdict(rs256 + "." + base64url(rsa_signer().sign(rs256)), keys, only), "");
}

CAF_TEST(a token without signature is refused) {
  for (const auto* none : {"none", "None", "NONE", ""})
    CAF_CHECK_EQUAL(verdict(unsigned_token({{"alg", none}}, claims()) + ".", {hmac_key()}),
                    "the token is signed by an algorithm that is not allowed");
  CAF_CHECK_EQUAL(verdict(unsigned_token({{"alg", "HS256"}}, claims()) + ".", {hmac_key()}),
                  "the token's signature is wrong");
  CAF_CHECK_EQUAL(verdict(token(claims(), json::object()), {hmac_key()}),
                  "the token is signed by an algorithm that is not allowed");
  CAF_CHECK_EQUAL(verdict(token(claims(), {{"alg", 5}}), {hmac_key()}),
                  "the token is signed by an algorithm that is not allowed");
}

CAF_TEST(a public key does not serve as a secret) {
  auto pem = rsa_signer().pem();
  auto text = unsigned_token({{"alg", "HS256"}}, claims());
  auto forged = text + "." + base64url(hmac_sha256(pem, text));
  CAF_CHECK_EQUAL(verdict(forged, {must(key_of_pem(pem))}),
                  "the token is signed by a key that this server does not know");
  CAF_CHECK_EQUAL(verdict(forged, {must(key_of_pem(pem)), hmac_key()}), "the token's signature is wrong");
}

CAF_TEST(an ES256 signature is 64 bytes and no other form of it is taken) {
  auto key = must(key_of_pem(ec_signer().pem()));
  auto text = unsigned_token({{"alg", "ES256"}}, claims());
  auto signature = ec_signer().sign_raw(text);
  CAF_CHECK(key.verifies(text, signature));
  CAF_CHECK(!key.verifies(text, ec_signer().sign(text))); // DER
  CAF_CHECK(!key.verifies(text, signature.substr(1)));
  CAF_CHECK(!key.verifies(text, signature + '\0'));
  CAF_CHECK(!key.verifies(text, '\0' + signature));
  CAF_CHECK(!key.verifies(text, ""));
  CAF_CHECK(!key.verifies(text, std::string(64, '\0'))); // r = s = 0, "psychic"
  CAF_CHECK(!key.verifies(text, std::string(64, '\xff')));
}

CAF_TEST(the key is chosen by kid) {
  auto first = hmac_key();
  first.kid = "first";
  auto second = must(key_of_secret(std::string(32, 't')));
  second.kid = "second";
  auto with_kid = [](const json& kid) { return token(claims(), {{"alg", "HS256"}, {"kid", kid}}); };
  CAF_CHECK_EQUAL(verdict(with_kid("first"), {second, first}), "");
  CAF_CHECK_EQUAL(verdict(with_kid("second"), {second, first}), "the token's signature is wrong");
  CAF_CHECK_EQUAL(verdict(with_kid("third"), {second, first}),
                  "the token is signed by a key that this server does not know");
  CAF_CHECK_EQUAL(verdict(token(claims()), {second, first}), "");
  CAF_CHECK_EQUAL(verdict(with_kid("third"), {second, hmac_key()}), ""); // a key without kid serves all
  CAF_CHECK_EQUAL(verdict(token(claims()), {}), "the token is signed by a key that this server does not know");
}

CAF_TEST(what is no token is refused whatever it is) {
  auto good = token(claims());
  for (size_t size = 0; size < good.size(); ++size)
    CAF_CHECK_NOT_EQUAL(verdict(good.substr(0, size), {hmac_key()}), "");
  for (const auto& bad : {"x" + good, good + ".", good + "=", "." + good, good + "\n", " " + good,
                          base64url("[]") + good.substr(good.find('.')), base64url("{") + good.substr(good.find('.'))})
    CAF_CHECK_NOT_EQUAL(verdict(bad, {hmac_key()}), "");
  CAF_CHECK_EQUAL(verdict("", {hmac_key()}), "the token is not a JWT");
  CAF_CHECK_EQUAL(verdict("..", {hmac_key()}), "the token is not a JWT");
  CAF_CHECK_EQUAL(verdict("a.b", {hmac_key()}), "the token is not a JWT");
  auto standard = good; // base64, not base64url
  standard.back() = '+';
  CAF_CHECK_EQUAL(verdict(standard, {hmac_key()}), "the token is not a JWT");
  CAF_CHECK_EQUAL(verdict(token(claims(), {{"alg", "HS256"}, {"crit", {"exp"}}}), {hmac_key()}),
                  "the token asks for extensions that sluice does not have");
}

CAF_TEST(a token is looked at only up to its bound) {
  auto payload = claims();
  payload["pad"] = "";
  auto missing = (max_token_bytes - token(payload).size()) * 3 / 4 - 3;
  payload["pad"] = std::string(missing, 'x');
  CAF_CHECK_EQUAL(verdict_of(payload), "");
  payload["pad"] = std::string(missing + 8, 'x');
  CAF_CHECK_EQUAL(verdict_of(payload), "the token is longer than 8 KiB");
  CAF_CHECK_EQUAL(verdict(std::string(1'000'000, 'x'), {hmac_key()}), "the token is longer than 8 KiB");
  auto deep = base64url(R"({"alg":"HS256"})") + "." + base64url(std::string(5000, '[')) + ".";
  CAF_CHECK_EQUAL(verdict(deep, {hmac_key()}), "the token is not a JWT");
}

CAF_TEST(a token holds from nbf to exp with the leeway added) {
  auto at = [](int64_t time, const json& payload) { return verdict(token(payload), {hmac_key()}, rules(), time); };
  json payload{{"sub", "ann"}, {"exp", now}, {"nbf", now - 100}};
  CAF_CHECK_EQUAL(at(now_ms + 29'999, payload), "");
  CAF_CHECK_EQUAL(at(now_ms + 30'000, payload), "the token has expired");
  CAF_CHECK_EQUAL(at(now_ms - 130'000, payload), "");
  CAF_CHECK_EQUAL(at(now_ms - 130'001, payload), "the token is not valid yet (nbf)");
  payload["exp"] = static_cast<double>(now) + 0.5;
  CAF_CHECK_EQUAL(at(now_ms + 30'499, payload), "");
  CAF_CHECK_EQUAL(at(now_ms + 30'500, payload), "the token has expired");
  auto ann = read({{"sub", "ann"}, {"exp", now + 60}});
  CAF_CHECK_EQUAL(ann.expires_ms.value(), now_ms + 90'000);
}

CAF_TEST(a token must say when it ends in a number of this age) {
  for (const auto& exp : {json(nullptr), json("1900000000"), json(true), json(1e300), json::array({now + 60})})
    CAF_CHECK_EQUAL(verdict_of({{"sub", "ann"}, {"exp", exp}}), "the token does not say when it expires (exp)");
  CAF_CHECK_EQUAL(verdict_of({{"sub", "ann"}}), "the token does not say when it expires (exp)");
  CAF_CHECK_EQUAL(verdict_of({{"sub", "ann"}, {"exp", -1}}), "the token has expired");
  CAF_CHECK_EQUAL(verdict_of({{"sub", "ann"}, {"exp", now + 60}, {"nbf", "soon"}}), "the token is not valid yet (nbf)");
}

CAF_TEST(issuer and audience must be those configured) {
  auto with = rules();
  with.issuer = "https://issuer";
  with.audience = "sluice";
  auto payload = claims();
  CAF_CHECK_EQUAL(verdict_of(payload, with), "the token is from another issuer (iss)");
  payload["iss"] = "https://issuer/";
  CAF_CHECK_EQUAL(verdict_of(payload, with), "the token is from another issuer (iss)");
  payload["iss"] = "https://issuer";
  CAF_CHECK_EQUAL(verdict_of(payload, with), "the token is for another audience (aud)");
  for (const auto& wrong : {json("slu"), json(1), json::array(), json::array({"a", 5}), json::object()}) {
    payload["aud"] = wrong;
    CAF_CHECK_EQUAL(verdict_of(payload, with), "the token is for another audience (aud)");
  }
  for (const auto& right : {json("sluice"), json::array({"a", "sluice"})}) {
    payload["aud"] = right;
    CAF_CHECK_EQUAL(verdict_of(payload, with), "");
    CAF_CHECK_EQUAL(verdict_of(payload), "the token is for another audience (aud)"); // none configured
  }
}

CAF_TEST(a token names its user and their rights) {
  auto payload = claims();
  auto nobody = read(payload);
  CAF_CHECK_EQUAL(nobody.user, "ann");
  CAF_CHECK(nobody.may_subscribe("user:ann"));
  CAF_CHECK(!nobody.may_subscribe("events"));
  CAF_CHECK(!nobody.may_publish("orders"));
  payload["sluice"] = {{"subscribe", {"events", "orders.*"}}, {"publish", {"orders"}}, {"roles", {"admin"}}};
  auto somebody = read(payload);
  CAF_CHECK(somebody.may_subscribe("orders.eu"));
  CAF_CHECK(somebody.may_publish("orders"));
  CAF_CHECK(!somebody.may_publish("events"));
  CAF_CHECK(somebody.has_role("admin"));
  CAF_CHECK(!somebody.all);
  auto other = rules();
  other.claim = "https://example.com/sluice";
  CAF_CHECK(!read(payload, other).may_publish("orders"));
  payload[other.claim] = payload["sluice"];
  CAF_CHECK(read(payload, other).may_publish("orders"));
  for (const auto& wrong : {json("all"), json::array({"orders"}), json{{"publish", "orders"}}, json{{"roles", {1}}}}) {
    payload["sluice"] = wrong;
    CAF_CHECK_EQUAL(verdict_of(payload), "the token's rights are not lists of texts");
  }
  for (const auto& sub : {json(""), json(5), json(nullptr), json(std::string(257, 'x')), json("a\nb")})
    CAF_CHECK_EQUAL(verdict_of({{"sub", sub}, {"exp", now + 60}}), "the token names no user (sub)");
}

CAF_TEST(keys that cannot be used are refused with what to do) {
  CAF_CHECK(text_of(key_of_secret(std::string(31, 'x')).error()).find("openssl rand") != std::string::npos);
  for (const auto* bad : {"", "x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"})
    CAF_CHECK(text_of(key_of_pem(bad).error()).find("is not a public key in PEM") == 0);
  signer short_rsa{EVP_RSA_gen(1024)};
  CAF_CHECK(text_of(key_of_pem(short_rsa.pem()).error()).find("2,048 bits") != std::string::npos);
  signer other_curve{EVP_EC_gen("P-384")};
  CAF_CHECK(text_of(key_of_pem(other_curve.pem()).error()).find("neither RSA nor") != std::string::npos);
  signer edwards{EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519")};
  CAF_CHECK(text_of(key_of_pem(edwards.pem()).error()).find("neither RSA nor") != std::string::npos);
}

CAF_TEST(a key set leaves out what is not for verifying here) {
  auto count = [](const std::vector<json>& keys) {
    auto read = keys_of_jwks(json{{"keys", keys}}.dump());
    return read ? static_cast<int>(read->size()) : -1;
  };
  json good{{"kty", "oct"}, {"kid", "a"}, {"k", base64url(secret)}};
  auto with = [&](const char* name, const json& value) {
    auto copy = good;
    copy[name] = value;
    return copy;
  };
  CAF_CHECK_EQUAL(count({good}), 1);
  CAF_CHECK_EQUAL(count({good, with("use", "enc"), with("key_ops", {"sign"}), with("alg", "HS512"), with("kty", "OKP"),
                         json("text"), json{{"kty", "EC"}, {"crv", "P-521"}}}),
                  1);
  CAF_CHECK_EQUAL(count({with("use", "sig"), with("key_ops", {"sign", "verify"}), with("alg", "HS256")}), 3);
  CAF_CHECK_EQUAL(count({with("use", "enc")}), -1);
  CAF_CHECK_EQUAL(count({}), -1);
  CAF_CHECK_EQUAL(count({good, with("k", base64url("short"))}), -1);
  CAF_CHECK_EQUAL(count({good, with("k", "not base64url")}), -1);
  CAF_CHECK_EQUAL(count({json{{"kty", "RSA"}, {"n", "AQAB"}}}), -1);
  CAF_CHECK_EQUAL(count({json{{"kty", "RSA"}, {"n", "AQAB"}, {"e", "AQAB"}}}), -1); // too short
  CAF_CHECK_EQUAL(count(std::vector<json>(100, good)), 100);
  CAF_CHECK_EQUAL(count(std::vector<json>(101, good)), -1);
  // A point that is not on the curve.
  auto off = json::parse(rfc_keys)["keys"][2];
  off["y"] = off["x"];
  CAF_CHECK_EQUAL(count({off}), -1);
  for (const auto* bad : {"", "[]", "{}", R"({"keys":{}})", "{"})
    CAF_CHECK(!keys_of_jwks(bad));
  auto shown = text_of(keys_of_jwks(json{{"keys", {with("k", "hunter2!")}}}.dump()).error());
  CAF_CHECK(shown.find("keys[0]") == 0 && shown.find("hunter2") == std::string::npos);
}

CAF_TEST(base64url is read only in its one form) {
  for (const auto* text : {"", "f", "fo", "foo", "foob", "fooba", "foobar"})
    CAF_CHECK(base64url_decode(base64url(text)) == text);
  CAF_CHECK_EQUAL(base64url("\xfb\xff"), "-_8");
  for (const auto* bad : {"A", "AAAAA", "AB", "Zm9v=", "Zg==", "Zm+v", "Zm/v", "Zm 9", "Zm9v\n", "\xc3\xa4"})
    CAF_CHECK(!base64url_decode(bad));
}
