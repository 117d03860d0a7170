#define CAF_SUITE auth

#include "http/auth.hpp"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>

#include <caf/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include "http/crypto.hpp"
#include "http/routes.hpp"

using namespace sluice;
using namespace sluice::http;
using nlohmann::json;

namespace {

constexpr int64_t start_ms = 1'700'000'000'000;
const std::string secret(32, 's');

/// A folder of its own for keys and tokens, and a clock that stands still until it is moved.
struct fixture {
  fixture() {
    std::string pattern = (std::filesystem::temp_directory_path() / "sluice-auth-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr)
      throw std::runtime_error("no temporary directory");
    directory = pattern;
    cfg.auth.jwt_secret = secret;
    cfg.token = "static-token";
  }
  ~fixture() { std::filesystem::remove_all(directory); }

  std::string write(const std::string& text, const std::string& name = "file") const {
    std::ofstream{directory / name} << text;
    return (directory / name).string();
  }

  std::shared_ptr<authenticator> make() {
    auto made = authenticator::make(cfg, [this] { return now_ms; });
    if (!made)
      CAF_FAIL(text_of(made.error()));
    return *made;
  }

  std::string error() {
    auto made = authenticator::make(cfg);
    return made ? "" : text_of(made.error());
  }

  config cfg;
  int64_t now_ms = start_ms;
  std::filesystem::path directory;
};

std::string jwt(const std::string& user, int64_t expires_ms, const json& rights = json::object()) {
  auto text = base64url(R"({"alg":"HS256"})") + "." +
              base64url(json{{"sub", user}, {"exp", expires_ms / 1000}, {"sluice", rights}}.dump());
  return text + "." + base64url(hmac_sha256(secret, text));
}

request asking(std::map<std::string, std::string> headers, const std::string& method = "GET") {
  request out;
  out.method = method;
  out.headers = std::move(headers);
  return out;
}

request with_ticket(const std::string& text, const std::string& method = "GET") {
  auto out = asking({}, method);
  out.query["ticket"] = text;
  return out;
}

request bearing(const std::string& token) {
  return asking({{"authorization", "Bearer " + token}});
}

int status_of(const std::variant<identity, response>& outcome) {
  return outcome.index() == 0 ? 200 : std::get<response>(outcome).status;
}

std::string detail_of(const response& answer) {
  return json::parse(answer.body).at("detail").get<std::string>();
}

std::string header_of(const header_list& headers, const std::string& name) {
  std::string out;
  for (const auto& [key, value] : headers)
    if (key == name)
      out += value;
  return out;
}

/// What `covers` promises, tried in every possible way.
bool slowly_covers(std::string_view pattern, std::string_view name, std::string_view user, bool begins_part = true) {
  if (pattern.empty())
    return name.empty();
  if (pattern == "*")
    return true;
  if (begins_part && pattern.starts_with("*.")) {
    for (size_t size = 1; size <= name.size() && name.substr(0, size).find('.') == std::string_view::npos; ++size)
      if (slowly_covers(pattern.substr(1), name.substr(size), user, false))
        return true;
    return false;
  }
  if (pattern.starts_with("{user}"))
    return !user.empty() && name.starts_with(user) &&
           slowly_covers(pattern.substr(6), name.substr(user.size()), user, false);
  return !name.empty() && name[0] == pattern[0] &&
         slowly_covers(pattern.substr(1), name.substr(1), user, pattern[0] == '.');
}

/// Routes that say who asked.
struct small_api {
  explicit small_api(std::shared_ptr<authenticator> access) {
    with.access = std::move(access);
    with.events_topic = "events-topic";
    with.publish = [this](const std::vector<outgoing_record>& records, const auto& answer) {
      published += static_cast<int>(records.size());
      answer(std::vector<delivery>(records.size()));
    };
    with.status = [](const auto& answer) { answer(json::object()); };
    with.readiness = [](const auto& answer) { answer(""); };
    with.is_revoked = [](const std::string&) { return false; };
    with.metrics = [] { return std::string{}; };
    routes = make_routes(with);
  }

  response ask(request req, const std::string& path) const {
    auto match = routes.find(req.method, path);
    req.params = match.params;
    response out;
    match.found->answer(std::move(req), [&](response with) { out = std::move(with); });
    return out;
  }

  /// The status of a stream's opening; 200 where it would be opened.
  int open(request req, const std::string& path) const {
    auto instead = routes.find("GET", path).found->check(req).instead;
    return instead ? instead->status : 200;
  }

  api with;
  router routes;
  int published = 0;
};

} // namespace

// -- patterns ---------------------------------------------------------------------------------------------------------

CAF_TEST(a pattern covers what its documentation says) {
  struct example {
    const char *pattern, *name;
    bool covered;
  };
  for (const auto& [pattern, name, covered] : std::vector<example>{{"orders", "orders", true},
                                                                   {"orders", "orders2", false},
                                                                   {"orders", "order", false},
                                                                   {"", "", true},
                                                                   {"", "a", false},
                                                                   {"*", "", true},
                                                                   {"*", "a.b", true},
                                                                   {"orders.*", "orders.a", true},
                                                                   {"orders.*", "orders.a.b", true},
                                                                   {"orders.*", "orders.", true},
                                                                   {"orders.*", "orders", false},
                                                                   {"orders*", "orders", true},
                                                                   {"orders*", "orders-eu.a", true},
                                                                   {"*.eu", "orders.eu", true},
                                                                   {"*.eu", "a.b.eu", false},
                                                                   {"*.eu", ".eu", false},
                                                                   {"a.*.c", "a.b.c", true},
                                                                   {"a.*.c", "a..c", false},
                                                                   {"a.*.c", "a.b.b.c", false},
                                                                   {"a.*.*", "a.b.c.d", true},
                                                                   {"*.*.c", "a.b.c", true},
                                                                   {"a*c", "abc", false},
                                                                   {"a*c", "a*c", true},
                                                                   {"a*.c", "ab.c", false},
                                                                   {"**", "*a", true},
                                                                   {"**", "ab", false},
                                                                   {"user:{user}", "user:ann", true},
                                                                   {"user:{user}", "user:bob", false},
                                                                   {"{user}.*", "ann.x", true},
                                                                   {"{user}", "{user}", false},
                                                                   {"x.{user}.*.y", "x.ann.z.y", true},
                                                                   {"{users}", "{users}", true},
                                                                   {"{user", "{user", true}})
    if (covers(pattern, name, "ann") != covered)
      CAF_ERROR(pattern << " and " << name);
}

CAF_TEST(a user named like a pattern gets no more than their name) {
  CAF_CHECK(!covers("user:{user}", "user:ann", "*"));
  CAF_CHECK(covers("user:{user}", "user:*", "*"));
  CAF_CHECK(!covers("{user}.x", "a.x", "*"));
  CAF_CHECK(!covers("{user}", "ann", "{user}"));
  CAF_CHECK(!covers("user:{user}", "user:", ""));
  CAF_CHECK(covers("{user}.*.x", "a.b.c.x", "a.b"));
  identity nobody;
  CAF_CHECK(!nobody.may_subscribe("user:"));
  identity star;
  star.user = "*";
  CAF_CHECK(!star.may_subscribe("user:ann"));
  CAF_CHECK(star.may_subscribe("user:*"));
  CAF_CHECK(!star.may_publish("user:*"));
}

CAF_TEST(patterns of all kinds cover what trying everything covers) {
  std::mt19937 random{1};
  auto text_of_length = [&random](size_t most, const std::vector<std::string>& of) {
    std::string out;
    for (auto left = random() % (most + 1); left > 0; --left)
      out += of[random() % of.size()];
    return out;
  };
  int covered = 0;
  for (int i = 0; i < 300000; ++i) {
    auto pattern = text_of_length(6, {"a", "b", ".", ".", "*", "*", "{user}"});
    auto name = text_of_length(7, {"a", "b", ".", "a.", "*"});
    auto user = text_of_length(2, {"a", "b", ".", "*"});
    auto fast = covers(pattern, name, user);
    covered += fast ? 1 : 0;
    if (fast != slowly_covers(pattern, name, user))
      CAF_ERROR(pattern << " and " << name << " for " << user);
    if (covers(pattern, pattern, "") && pattern.find("{user}") != std::string::npos && !pattern.ends_with('*'))
      CAF_ERROR(pattern << " without a user");
  }
  CAF_MESSAGE(covered << " covered");
  CAF_CHECK(covered > 10000);
}

// -- tickets ----------------------------------------------------------------------------------------------------------

CAF_TEST(a ticket stands for its user once) {
  ticket_table tickets{30000};
  identity ann;
  ann.user = "ann";
  auto issued = tickets.issue(ann, start_ms);
  CAF_CHECK_EQUAL(issued.text.size(), 43u); // 256 bits
  CAF_CHECK_EQUAL(issued.lifetime_ms, 30000);
  auto who = tickets.redeem(issued.text, start_ms + 29999);
  CAF_CHECK_EQUAL(who.value().user, "ann");
  CAF_CHECK(!tickets.redeem(issued.text, start_ms + 1));
  CAF_CHECK(!tickets.redeem("", start_ms));
  CAF_CHECK(!tickets.redeem(tickets.issue(ann, start_ms).text, start_ms + 30000));
  std::set<std::string> all;
  for (int i = 0; i < 1000; ++i)
    all.insert(tickets.issue(ann, start_ms).text);
  CAF_CHECK_EQUAL(all.size(), 1000u);
}

CAF_TEST(a ticket does not outlive the credentials it was given for) {
  ticket_table tickets{30000};
  identity ann;
  ann.expires_ms = start_ms + 10000;
  auto issued = tickets.issue(ann, start_ms);
  CAF_CHECK_EQUAL(issued.lifetime_ms, 10000);
  CAF_CHECK(!tickets.redeem(issued.text, start_ms + 10000));
}

CAF_TEST(with too many tickets out the oldest no longer hold) {
  ticket_table tickets{30000, 3};
  std::vector<std::string> texts;
  for (int i = 0; i < 5; ++i)
    texts.push_back(tickets.issue({}, start_ms + i).text);
  CAF_CHECK(!tickets.redeem(texts[0], start_ms));
  CAF_CHECK(!tickets.redeem(texts[1], start_ms));
  for (size_t i = 2; i < 5; ++i)
    CAF_CHECK(tickets.redeem(texts[i], start_ms));
}

// -- who asks ---------------------------------------------------------------------------------------------------------

CAF_TEST_FIXTURE_SCOPE(auth_tests, fixture)

CAF_TEST(without authentication everyone may do everything) {
  cfg.token = "";
  cfg.auth.jwt_secret = "";
  CAF_CHECK(mode_of(cfg) == auth_mode::none);
  auto outcome = make()->identify(asking({{"authorization", "Bearer whatever"}}));
  CAF_CHECK(std::get<identity>(outcome).all);
}

CAF_TEST(the mode follows from what is set unless it is named) {
  CAF_CHECK(mode_of(cfg) == auth_mode::jwt);
  cfg.auth.mode = "token";
  CAF_CHECK(mode_of(cfg) == auth_mode::token);
  CAF_CHECK_EQUAL(status_of(make()->identify(bearing(jwt("ann", start_ms + 1000)))), 401);
  cfg.auth.mode = "auto";
  cfg.auth.jwt_secret = "";
  CAF_CHECK(mode_of(cfg) == auth_mode::token);
  cfg.token = "";
  cfg.auth.jwks_file = "x";
  CAF_CHECK(mode_of(cfg) == auth_mode::jwt);
}

CAF_TEST(the static token has every right in every mode) {
  for (const auto* mode : {"token", "jwt"}) {
    cfg.auth.mode = mode;
    auto access = make();
    CAF_CHECK(std::get<identity>(access->identify(bearing("static-token"))).all);
    CAF_CHECK(std::get<identity>(access->identify(asking({{"authorization", "bEARER static-token"}}))).all);
    for (const auto* header :
         {"static-token", "Bearer", "Bearer ", "Bearer static-toke", "Bearer static-tokens", "Bearer  static-token",
          "Basic static-token", "Bearer static-token, Bearer static-token"})
      CAF_CHECK_EQUAL(status_of(access->identify(asking({{"authorization", header}}))), 401);
    CAF_CHECK_EQUAL(status_of(access->identify(asking({}))), 401);
  }
}

CAF_TEST(a refused token is told why but not repeated) {
  auto access = make();
  auto expired = jwt("ann", start_ms - 60000);
  auto answer = std::get<response>(access->identify(bearing(expired)));
  CAF_CHECK_EQUAL(detail_of(answer), "the token has expired");
  CAF_CHECK_EQUAL(header_of(answer.headers, "WWW-Authenticate"),
                  R"(Bearer error="invalid_token", error_description="the token has expired")");
  CAF_CHECK(answer.body.find(expired.substr(0, 20)) == std::string::npos);
  auto none = std::get<response>(access->identify(asking({})));
  CAF_CHECK_EQUAL(header_of(none.headers, "WWW-Authenticate"), "Bearer");
  CAF_CHECK_EQUAL(detail_of(std::get<response>(access->identify(bearing("abc")))), "the token is not a JWT");
  cfg.auth.mode = "token";
  CAF_CHECK_EQUAL(detail_of(std::get<response>(make()->identify(bearing("abc")))),
                  "the token is not known to this server");
}

CAF_TEST(tokens come from the header or else the cookie) {
  auto access = make();
  auto ann = jwt("ann", start_ms + 1000);
  auto bob = jwt("bob", start_ms + 1000);
  auto user_of = [&access](std::map<std::string, std::string> headers) {
    auto outcome = access->identify(asking(std::move(headers)));
    return outcome.index() == 0 ? std::get<identity>(outcome).user : "nobody";
  };
  CAF_CHECK_EQUAL(user_of({{"cookie", "sluice_token=" + ann}}), "ann");
  CAF_CHECK_EQUAL(user_of({{"cookie", "a=1; sluice_token=" + ann + "; b=2"}}), "ann");
  CAF_CHECK_EQUAL(user_of({{"cookie", "sluice_token=" + ann + ";sluice_token=" + bob}}), "ann");
  CAF_CHECK_EQUAL(user_of({{"cookie", "xsluice_token=" + ann}}), "nobody");
  CAF_CHECK_EQUAL(user_of({{"cookie", "sluice_token2=" + ann}}), "nobody");
  CAF_CHECK_EQUAL(user_of({{"cookie", "sluice_token"}}), "nobody");
  CAF_CHECK_EQUAL(user_of({{"cookie", ";;=; ;"}}), "nobody");
  CAF_CHECK_EQUAL(user_of({{"cookie", "sluice_token=" + ann}, {"authorization", "Bearer " + bob}}), "bob");
  CAF_CHECK_EQUAL(user_of({{"cookie", "sluice_token=" + ann}, {"authorization", "Bearer x"}}), "nobody");
  cfg.auth.cookie = "";
  access = make();
  CAF_CHECK_EQUAL(user_of({{"cookie", "sluice_token=" + ann}}), "nobody");
  CAF_CHECK_EQUAL(user_of({{"cookie", "=" + ann}}), "nobody");
}

CAF_TEST(a cookie is not taken from the pages of others) {
  cfg.http.cors_origins = {"https://app.example", "*"};
  auto access = make();
  auto status = [&](const std::string& origin, const std::string& method = "POST") {
    return status_of(access->identify(asking(
        {{"cookie", "sluice_token=static-token"}, {"origin", origin}, {"host", "sluice.example:3000"}}, method)));
  };
  CAF_CHECK_EQUAL(status("http://sluice.example:3000"), 200);
  CAF_CHECK_EQUAL(status("https://SLUICE.example:3000"), 200);
  CAF_CHECK_EQUAL(status("https://app.example"), 200);
  for (const auto* foreign : {"https://evil.example", "null", "https://sluice.example", "https://sluice.example:30000",
                              "https://app.example.evil.example", "https://evil.example/https://app.example",
                              "https://evilsluice.example:3000", "sluice.example:3000"})
    for (const auto* method : {"POST", "GET"})
      CAF_CHECK_EQUAL(status(foreign, method), 403);
  // No browser: nobody else's page can be behind it.
  CAF_CHECK_EQUAL(status_of(access->identify(asking({{"cookie", "sluice_token=static-token"}}, "POST"))), 200);
  // Headers are not sent along by browsers, so their origin does not matter.
  CAF_CHECK_EQUAL(status_of(access->identify(
                      asking({{"authorization", "Bearer static-token"}, {"origin", "https://evil.example"}}, "POST"))),
                  200);
  // With TLS of our own, what came unencrypted is no page of ours.
  cfg.http.tls_certificate = "certificate.pem";
  access = make();
  CAF_CHECK_EQUAL(status("https://sluice.example:3000"), 200);
  CAF_CHECK_EQUAL(status("http://sluice.example:3000"), 403);
}

CAF_TEST(a ticket opens a GET once and keeps the user and the end of the token) {
  auto access = make();
  auto ann = std::get<identity>(access->identify(bearing(jwt("ann", start_ms + 600000))));
  auto issued = access->issue_ticket(ann);
  CAF_CHECK_EQUAL(issued.lifetime_ms, 30000);
  CAF_CHECK_EQUAL(status_of(access->identify(with_ticket(issued.text, "POST"))), 401);
  auto outcome = access->identify(with_ticket(issued.text));
  CAF_CHECK_EQUAL(std::get<identity>(outcome).user, "ann");
  CAF_CHECK_EQUAL(std::get<identity>(outcome).expires_ms.value(), start_ms + 630000);
  CAF_CHECK_EQUAL(status_of(access->identify(with_ticket(issued.text))), 401);
  auto late = access->issue_ticket(ann);
  now_ms += 30000;
  CAF_CHECK_EQUAL(status_of(access->identify(with_ticket(late.text))), 401);
  CAF_CHECK_EQUAL(status_of(access->identify(with_ticket("static-token"))), 401);
  // Whoever sends a ticket means it, also where a cookie comes along.
  auto both = with_ticket("wrong");
  both.headers["cookie"] = "sluice_token=static-token";
  CAF_CHECK_EQUAL(status_of(access->identify(both)), 401);
}

// -- files ------------------------------------------------------------------------------------------------------------

CAF_TEST(static tokens have the users and rights of their file) {
  cfg.auth.jwt_secret = "";
  cfg.auth.tokens_file = write(json{
      {{"token", "plain"}, {"user", "reports"}, {"subscribe", {"orders.*"}}},
      {{"sha256", "2BB80D537B1DA3E38BD30361AA855686BDE0EACD7162FEF6A25FE97BF527A25B"},
       {"user", "shop"},
       {"publish", {"{user}.*"}},
       {"roles", {"admin"}}}}.dump());
  auto access = make();
  auto reports = std::get<identity>(access->identify(bearing("plain")));
  CAF_CHECK_EQUAL(reports.user, "reports");
  CAF_CHECK(reports.may_subscribe("orders.eu") && !reports.may_publish("orders.eu") && !reports.has_role("admin"));
  auto shop = std::get<identity>(access->identify(bearing("secret")));
  CAF_CHECK(shop.may_publish("shop.sold") && !shop.may_subscribe("orders.eu") && shop.has_role("admin"));
  CAF_CHECK(!shop.expires_ms);
  CAF_CHECK(std::get<identity>(access->identify(bearing("static-token"))).all);
}

CAF_TEST(a wrong file of tokens is refused without showing a token) {
  auto error_of = [](const json& entry) {
    auto read = read_tokens(json::array({entry}).dump());
    return read ? "" : text_of(read.error());
  };
  CAF_CHECK_EQUAL(error_of({{"token", "hunter2"}, {"user", "a"}}), "");
  for (const auto& wrong :
       {json("hunter2"), json{{"token", "hunter2"}}, json{{"token", "hunter2"}, {"user", ""}},
        json{{"token", "hunter2"}, {"user", "a"}, {"sha256", std::string(64, '0')}}, json{{"user", "a"}},
        json{{"token", "hunter2 "}, {"user", "a"}}, json{{"token", 5}, {"user", "a"}},
        json{{"sha256", "hunter2"}, {"user", "a"}}, json{{"sha256", std::string(64, 'g')}, {"user", "a"}},
        json{{"token", "hunter2"}, {"user", "a"}, {"publish", "hunter2"}},
        json{{"token", "hunter2"}, {"user", "a"}, {"roles", {1}}}, json{{"hunter2", 1}, {"user", "a"}}}) {
    auto error = error_of(wrong);
    CAF_MESSAGE(error);
    CAF_CHECK(error.starts_with("entry 0 ") && error.find("hunter2") == std::string::npos);
  }
  json one{{"token", "hunter2"}, {"user", "a"}};
  CAF_CHECK_EQUAL(text_of(read_tokens(json::array({one, one}).dump()).error()),
                  "entry 1 (counted from 0) has the token of another entry too");
  for (const auto* bad : {"", "{}", "[", "hunter2"})
    CAF_CHECK_EQUAL(text_of(read_tokens(bad).error()), "is not a JSON array of tokens");
}

CAF_TEST(files that cannot be used name their option) {
  cfg.auth.tokens_file = (directory / "gone").string();
  CAF_CHECK(error().starts_with("auth.tokensFile: \"" + cfg.auth.tokens_file + "\" cannot be read"));
  cfg.auth.tokens_file = write("hunter2");
  CAF_CHECK_EQUAL(error(), "auth.tokensFile: \"" + cfg.auth.tokens_file + "\": is not a JSON array of tokens");
  cfg.auth.tokens_file = "";
  cfg.auth.jwt_key_file = directory.string();
  CAF_CHECK(error().starts_with("auth.jwtKeyFile: "));
  cfg.auth.jwt_key_file = "";
  cfg.auth.jwks_file = write("{}");
  CAF_CHECK(error().starts_with("auth.jwksFile: "));
}

CAF_TEST(a reload takes new keys and tokens or leaves all as it was) {
  cfg.auth.jwt_secret = "";
  auto key = [](const std::string& of) { return json{{"keys", {{{"kty", "oct"}, {"k", base64url(of)}}}}}.dump(); };
  cfg.auth.jwks_file = write(key(secret), "keys");
  cfg.auth.tokens_file = write(R"([{"token":"old","user":"a"}])", "tokens");
  auto access = make();
  auto is_taken = [&](const std::string& token) { return status_of(access->identify(bearing(token))) == 200; };
  auto token = jwt("ann", start_ms + 1000);
  CAF_CHECK(is_taken(token) && is_taken("old"));
  write(R"([{"token":"new","user":"a"}])", "tokens");
  write("broken", "keys");
  CAF_CHECK(text_of(access->reload()).starts_with("auth.jwksFile: "));
  CAF_CHECK(is_taken(token) && is_taken("old") && !is_taken("new")); // nothing of it, not half
  write(key(std::string(32, 't')), "keys");
  CAF_CHECK(!access->reload());
  CAF_CHECK(!is_taken(token) && !is_taken("old") && is_taken("new") && is_taken("static-token"));
}

// -- routes -----------------------------------------------------------------------------------------------------------

CAF_TEST(only health and the description are open) {
  small_api api{make()};
  for (const auto& line : api.routes.list()) {
    auto method = line.substr(0, line.find(' '));
    auto path = line.substr(method.size() + 1);
    if (path == "/")
      continue; // the demo's page, which is not there without it
    auto is_open = path == "/livez" || path == "/readyz" || path == "/openapi.json";
    auto found = api.routes.find(method, path).found;
    auto status = found->stream ? api.open(asking({}), path) : api.ask(asking({}, method), path).status;
    CAF_MESSAGE(line);
    CAF_CHECK_EQUAL(status, is_open ? 200 : 401);
  }
}

CAF_TEST(publishing and watching need the right to it) {
  small_api api{make()};
  auto post = [&](const std::string& path, const std::string& body, const json& rights) {
    auto req = bearing(jwt("ann", start_ms + 1000, rights));
    req.method = "POST";
    req.body = body;
    return api.ask(std::move(req), path);
  };
  auto refused = post("/events", "{}", {{"publish", {"orders"}}});
  CAF_CHECK_EQUAL(refused.status, 403);
  CAF_CHECK(detail_of(refused).find("\"events-topic\"") != std::string::npos);
  CAF_CHECK_EQUAL(header_of(refused.headers, "WWW-Authenticate"), R"(Bearer error="insufficient_scope")");
  CAF_CHECK_EQUAL(post("/kafka/send/orders", R"({"value":1})", {{"publish", {"events-topic"}}}).status, 403);
  CAF_CHECK_EQUAL(post("/kafka/send/orders/batch", R"([{"value":1}])", {{"publish", {"events-topic"}}}).status, 403);
  CAF_CHECK_EQUAL(api.published, 0);
  CAF_CHECK_EQUAL(post("/events", "{}", {{"publish", {"events-topic"}}}).status, 202);
  CAF_CHECK_EQUAL(post("/kafka/send/orders", R"({"value":1})", {{"publish", {"orders"}}}).status, 200);
  CAF_CHECK_EQUAL(post("/kafka/send/orders/batch", R"([{"value":1}])", {{"publish", {"*"}}}).status, 200);
  CAF_CHECK_EQUAL(api.published, 3);
  CAF_CHECK_EQUAL(api.open(bearing(jwt("ann", start_ms + 1000, {{"subscribe", {"orders"}}})), "/events"), 403);
  CAF_CHECK_EQUAL(api.open(bearing(jwt("ann", start_ms + 1000, {{"subscribe", {"events"}}})), "/events"), 200);
}

CAF_TEST(a ticket is given for credentials but not for a ticket) {
  small_api api{make()};
  auto req = bearing(jwt("ann", start_ms + 1000, {{"subscribe", {"events"}}}));
  req.method = "POST";
  auto answer = api.ask(req, "/auth/ticket");
  CAF_CHECK_EQUAL(answer.status, 200);
  CAF_CHECK_EQUAL(header_of(answer.headers, "Cache-Control"), "no-store");
  auto body = json::parse(answer.body);
  CAF_CHECK_EQUAL(body.at("expiresIn").get<int>(), 30);
  auto text = body.at("ticket").get<std::string>();
  CAF_CHECK_EQUAL(api.ask(with_ticket(text, "POST"), "/auth/ticket").status, 401);
  CAF_CHECK_EQUAL(api.open(with_ticket(text), "/events"), 200);
  CAF_CHECK_EQUAL(api.open(with_ticket(text), "/events"), 401);
}

CAF_TEST(a role is asked for by name) {
  small_api api{make()};
  auto ask = [&](const json& rights) {
    auto req = bearing(jwt("ann", start_ms + 1000, rights));
    return admit(api.with, req, "admin");
  };
  CAF_CHECK(!ask({{"roles", {"admin"}}}));
  auto refused = ask({{"roles", {"administrator"}}});
  CAF_CHECK_EQUAL(refused.value().status, 403);
  CAF_CHECK(detail_of(refused.value()).find("\"admin\"") != std::string::npos);
}

CAF_TEST_FIXTURE_SCOPE_END()

// -- CORS -------------------------------------------------------------------------------------------------------------

CAF_TEST(without allowed origins no page may read anything) {
  CAF_CHECK(cors_policy{{}}.headers_for(asking({{"origin", "https://a.example"}}), "GET").empty());
}

CAF_TEST(an allowed origin may read and use cookies) {
  cors_policy cors{{"https://a.example", "http://localhost:5173"}};
  auto headers = cors.headers_for(asking({{"origin", "http://localhost:5173"}}), "GET");
  CAF_CHECK_EQUAL(header_of(headers, "Access-Control-Allow-Origin"), "http://localhost:5173");
  CAF_CHECK_EQUAL(header_of(headers, "Access-Control-Allow-Credentials"), "true");
  CAF_CHECK_EQUAL(header_of(headers, "Vary"), "Origin");
  CAF_CHECK(!header_of(headers, "Access-Control-Expose-Headers").empty());
  for (const auto* other : {"https://b.example", "https://a.example:8443", "null", "*", ""}) {
    auto none = cors.headers_for(asking({{"origin", other}}), "GET");
    CAF_CHECK_EQUAL(header_of(none, "Access-Control-Allow-Origin"), "");
    CAF_CHECK_EQUAL(header_of(none, "Vary"), "Origin"); // caches keep them apart
  }
}

CAF_TEST(a star lets all read but never with cookies) {
  cors_policy cors{{"*"}};
  auto headers = cors.headers_for(asking({{"origin", "https://any.example"}}), "GET");
  CAF_CHECK_EQUAL(header_of(headers, "Access-Control-Allow-Origin"), "*");
  CAF_CHECK_EQUAL(header_of(headers, "Access-Control-Allow-Credentials"), "");
  CAF_CHECK(!cors.trusts("https://any.example"));
  CAF_CHECK(!cors.trusts("*"));
}

CAF_TEST(a preflight is told methods and headers) {
  cors_policy cors{{"https://a.example"}};
  auto headers = cors.headers_for(
      asking({{"origin", "https://a.example"}, {"access-control-request-method", "POST"}}, "OPTIONS"), "OPTIONS, POST");
  CAF_CHECK_EQUAL(header_of(headers, "Access-Control-Allow-Methods"), "OPTIONS, POST");
  CAF_CHECK_EQUAL(header_of(headers, "Access-Control-Allow-Headers"),
                  "Authorization, Content-Type, Last-Event-ID, Idempotency-Key, traceparent");
  CAF_CHECK_EQUAL(header_of(headers, "Access-Control-Max-Age"), "600");
}
