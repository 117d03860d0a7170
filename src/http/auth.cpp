#include "http/auth.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <iterator>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "sluice/ascii.hpp"

#include "http/crypto.hpp"
#include "http/key_files.hpp"

namespace sluice::http {

namespace {

using nlohmann::json;

/// What `parse` makes of a file. Its error gets the option's and the file's name.
template <class Parse>
auto read_file_as(const std::string& option, const std::string& path, Parse parse) -> decltype(parse(std::string{})) {
  auto text = read_key_file(option, path);
  if (!text)
    return text.error();
  auto out = parse(*text);
  if (!out)
    return wrong_option(option, "\"" + path + "\": " + text_of(out.error()));
  return out;
}

jwt_rules rules_of(const auth_config& cfg) {
  jwt_rules out;
  for (const auto& name : cfg.jwt_algorithms)
    if (auto algorithm = jwt_algorithm_of(name))
      out.algorithms.push_back(*algorithm);
  out.issuer = cfg.issuer;
  out.audience = cfg.audience;
  out.claim = cfg.claim;
  out.leeway_ms = cfg.leeway.count();
  return out;
}

response ask_for_credentials() {
  return problem(401, "this needs credentials: send the header Authorization: Bearer <token>", "Authorization",
                 {{"WWW-Authenticate", "Bearer"}});
}

/// `detail`: ASCII without quotes.
response refusal(const std::string& detail, std::string_view field) {
  return problem(401, detail, field,
                 {{"WWW-Authenticate", R"(Bearer error="invalid_token", error_description=")" + detail + "\""}});
}

/// The token of "Bearer <token>"; the scheme's case does not matter.
std::optional<std::string_view> bearer_of(std::string_view header) {
  constexpr std::string_view scheme = "bearer ";
  auto fits = header.size() > scheme.size() && same_but_for_case(header.substr(0, scheme.size()), scheme);
  return fits ? std::optional{header.substr(scheme.size())} : std::nullopt;
}

/// The first cookie of that name: a page of a neighbouring host can add further ones.
std::optional<std::string_view> cookie_of(std::string_view header, std::string_view name) {
  while (!header.empty() && !name.empty()) {
    auto one = header.substr(0, header.find(';'));
    header.remove_prefix(std::min(one.size() + 1, header.size()));
    one.remove_prefix(std::min(one.find_first_not_of(' '), one.size()));
    if (one.starts_with(name) && one.substr(name.size()).starts_with('='))
      return one.substr(name.size() + 1);
  }
  return std::nullopt;
}

// -- the tokens' file -------------------------------------------------------------------------------------------------

std::string read_list(const json& from, const char* name, std::vector<std::string>& out) {
  auto found = from.find(name);
  if (found == from.end())
    return {};
  if (!found->is_array() || !std::all_of(found->begin(), found->end(), [](const json& x) { return x.is_string(); }))
    return std::string{name} + " must be a list of texts";
  out = found->get<std::vector<std::string>>();
  return {};
}

/// Whether a header can carry it.
bool is_token(std::string_view text) {
  return !text.empty() && text.size() <= max_token_bytes &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c <= '~'; });
}

/// Reads one entry; returns what is wrong with it, else "".
std::string read_token(const json& from, std::string& digest, identity& who) {
  static constexpr std::array<std::string_view, 6> known{"token", "sha256", "user", "roles", "subscribe", "publish"};
  if (!from.is_object())
    return R"(must be an object such as {"sha256":"…","user":"reports","subscribe":["orders.*"]})";
  for (const auto& [name, ignored] : from.items())
    if (std::find(known.begin(), known.end(), name) == known.end())
      return "has a member it should not have; an entry has token or sha256, user, roles, subscribe and publish";
  auto text = [&from](const char* name) {
    return from.contains(name) && from[name].is_string() ? from[name] : json("");
  };
  who.user = text("user");
  if (!is_user_name(who.user))
    return "user must be a text of 1 to 256 bytes";
  if (from.contains("token") == from.contains("sha256"))
    return "must have either token or sha256";
  if (from.contains("token")) {
    std::string token = text("token");
    if (!is_token(token))
      return "token must be a text of 1 to 8,192 visible ASCII characters";
    digest = sha256(token);
  } else {
    digest = hex_decode(text("sha256").get<std::string>()).value_or("");
    if (digest.size() != 32)
      return "sha256 must have 64 hexadecimal digits; `printf %s \"$TOKEN\" | sha256sum` prints them";
  }
  for (auto [name, list] : {std::pair{"roles", &who.roles}, {"subscribe", &who.subscribe}, {"publish", &who.publish}})
    if (auto problem = read_list(from, name, *list); !problem.empty())
      return problem;
  return {};
}

} // namespace

int64_t system_time_ms() {
  return std::chrono::duration_cast<milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

caf::expected<std::unordered_map<std::string, identity>> read_tokens(const std::string& text) {
  auto document = json::parse(text, nullptr, false);
  if (!document.is_array())
    return make_failure(ec::invalid_config, "is not a JSON array of tokens");
  std::unordered_map<std::string, identity> out;
  for (size_t i = 0; i < document.size(); ++i) {
    std::string digest;
    identity who;
    auto problem = read_token(document[i], digest, who);
    if (problem.empty() && !out.try_emplace(digest, std::move(who)).second)
      problem = "has the token of another entry too";
    if (!problem.empty())
      return make_failure(ec::invalid_config, "entry " + std::to_string(i) + " (counted from 0) " + problem);
  }
  return out;
}

response forbidden(std::string_view what, std::string_view name, std::string_view field) {
  return problem(403,
                 "you may not " + std::string{what} + " \"" + std::string{name} + "\"; your token does not allow it",
                 field, {{"WWW-Authenticate", R"(Bearer error="insufficient_scope")"}});
}

authenticator::authenticator(const config& cfg, wall_clock now)
    : mode_(mode_of(cfg)), over_tls_(!cfg.http.tls_certificate.empty()), static_token_(cfg.token), cfg_(cfg.auth),
      rules_(rules_of(cfg.auth)), cors_(cfg.http.cors_origins), now_(std::move(now)),
      tickets_(cfg.auth.ticket_lifetime.count()), known_(std::make_shared<known>()) {}

caf::expected<std::shared_ptr<authenticator>> authenticator::make(const config& cfg, wall_clock now) {
  std::shared_ptr<authenticator> made{new authenticator{cfg, std::move(now)}};
  if (auto error = made->reload())
    return error;
  return made;
}

caf::expected<authenticator::known> authenticator::read() const {
  known out;
  if (mode_ != auth_mode::none && !cfg_.tokens_file.empty()) {
    auto tokens = read_file_as("auth.tokensFile", cfg_.tokens_file, read_tokens);
    if (!tokens)
      return tokens.error();
    out.tokens = std::move(*tokens);
  }
  if (!static_token_.empty()) {
    identity everything;
    everything.all = true;
    out.tokens.insert_or_assign(sha256(static_token_), std::move(everything));
  }
  if (mode_ != auth_mode::jwt)
    return out;
  if (!cfg_.jwt_secret.empty()) {
    auto key = key_of_secret(cfg_.jwt_secret);
    if (!key)
      return wrong_option("auth.jwtSecret", text_of(key.error()));
    out.keys.push_back(std::move(*key));
  }
  if (!cfg_.jwt_key_file.empty()) {
    auto key = read_file_as("auth.jwtKeyFile", cfg_.jwt_key_file, key_of_pem);
    if (!key)
      return key.error();
    out.keys.push_back(std::move(*key));
  }
  if (!cfg_.jwks_file.empty()) {
    auto keys = read_file_as("auth.jwksFile", cfg_.jwks_file, keys_of_jwks);
    if (!keys)
      return keys.error();
    std::move(keys->begin(), keys->end(), std::back_inserter(out.keys));
  }
  return out;
}

caf::error authenticator::reload() {
  auto fresh = read();
  if (!fresh)
    return fresh.error();
  auto shared = std::make_shared<const known>(std::move(*fresh));
  std::lock_guard guard{mutex_};
  known_ = std::move(shared);
  return {};
}

std::shared_ptr<const authenticator::known> authenticator::current() const {
  std::lock_guard guard{mutex_};
  return known_;
}

std::variant<identity, response> authenticator::identify(const request& req) {
  if (mode_ == auth_mode::none) {
    identity anyone;
    anyone.all = true;
    return anyone;
  }
  if (auto header = req.header("authorization"); !header.empty()) {
    auto token = bearer_of(header);
    return token ? identify_token(*token, "Authorization") : ask_for_credentials();
  }
  if (auto ticket = req.query.find("ticket"); ticket != req.query.end() && req.method == "GET") {
    auto who = tickets_.redeem(ticket->second, now_());
    if (who)
      return std::move(*who);
    return refusal("the ticket was used, is too old or never was one; get a new one by POST /auth/ticket", "ticket");
  }
  if (auto token = cookie_of(req.header("cookie"), cfg_.cookie)) {
    // Browsers send cookies along whatever page asks, so that page has to be a trusted one.
    auto origin = req.header("origin");
    if (!origin.empty() && !is_same_origin(req, over_tls_) && !cors_.trusts(origin))
      return problem(403,
                     "pages of " + std::string{origin} +
                         " may not use this server's cookie; list that origin in http.corsOrigins if they should",
                     "Origin");
    return identify_token(*token, "Cookie");
  }
  return ask_for_credentials();
}

bool authenticator::misses_credentials(const request& req) const {
  return mode_ != auth_mode::none && req.header("authorization").empty() && !req.query.contains("ticket") &&
         !cookie_of(req.header("cookie"), cfg_.cookie);
}

std::variant<identity, response> authenticator::identify_token(std::string_view token, std::string_view field) const {
  auto held_against = current();
  if (token.size() <= max_token_bytes)
    if (auto found = held_against->tokens.find(sha256(token)); found != held_against->tokens.end())
      return found->second;
  if (mode_ != auth_mode::jwt)
    return refusal("the token is not known to this server", field);
  auto outcome = read_jwt(token, held_against->keys, rules_, now_());
  if (auto* who = std::get_if<identity>(&outcome))
    return std::move(*who);
  return refusal(std::get<std::string>(outcome), field);
}

ticket authenticator::issue_ticket(const identity& who) {
  return tickets_.issue(who, now_());
}

} // namespace sluice::http
