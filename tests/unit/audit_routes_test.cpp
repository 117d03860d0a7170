// The HTTP side of the audit trail and of reports: what is asked for, what is answered, who may.
#define CAF_SUITE audit_routes

#include "http/routes.hpp"

#include <filesystem>
#include <fstream>

#include <caf/test/unit_test.hpp>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "route_call.hpp"

using namespace sluice;
using nlohmann::json;

namespace {

struct fixture {
  http::api api;
  std::optional<audit_query> asked;
  std::optional<report_query> sought;
  std::vector<int64_t> verified;
  std::vector<audit_check> pieces;
  audit_page page;
  report_page reports;
  caf::error broken;
  std::vector<outgoing_record> published;
  std::string token;

  fixture() { with(config{}); }

  void with(const config& cfg) {
    auto access = http::authenticator::make(cfg);
    if (!access)
      CAF_FAIL("no authenticator");
    api.access = *access;
    api.find_audit = [this](audit_query query, auto answer) {
      asked = std::move(query);
      if (broken)
        answer(broken);
      else
        answer(std::make_shared<const audit_page>(page));
    };
    api.verify_audit = [this](int64_t after, auto answer) {
      verified.push_back(after);
      if (broken)
        answer(broken);
      else
        answer(std::make_shared<const audit_check>(pieces.at(verified.size() - 1)));
    };
    api.makes_reports = true;
    api.find_reports = [this](report_query query, auto answer) {
      sought = std::move(query);
      if (broken)
        answer(broken);
      else
        answer(std::make_shared<const report_page>(reports));
    };
    api.publish = [this](auto records, auto answer) {
      published = std::move(records);
      answer(std::vector<delivery>(published.size()));
    };
  }

  http::response call(const std::string& method, const std::string& path, const std::string& body = {},
                      std::map<std::string, std::string> query = {}, const std::string& accept = {}) {
    http::request req;
    req.method = method;
    req.path = path;
    req.query = std::move(query);
    req.body = body;
    req.headers["accept"] = accept;
    if (!token.empty())
      req.headers["authorization"] = "Bearer " + token;
    return call_route(api, std::move(req));
  }
  json get(const std::string& path, std::map<std::string, std::string> query = {}, int status = 200) {
    auto got = call("GET", path, {}, std::move(query));
    CAF_CHECK_EQUAL(got.status, status);
    return json::parse(got.body);
  }
  json post(const std::string& path, const std::string& body, int status = 200) {
    auto got = call("POST", path, body);
    CAF_CHECK_EQUAL(got.status, status);
    return json::parse(got.body);
  }
};

audit_entry entry(int64_t number) {
  audit_entry one;
  one.number = number;
  one.time_ms = 5000;
  one.event_id = "e";
  one.action = "a\"<b>";
  one.resource = "r";
  return one;
}

std::string header(const http::response& of, const std::string& name) {
  for (const auto& [key, value] : of.headers)
    if (key == name)
      return value;
  return {};
}

} // namespace

CAF_TEST_FIXTURE_SCOPE(audit_routes_tests, fixture)

CAF_TEST(what is looked for reaches the trail) {
  get("/audit", {{"action", "a"},
                 {"resource", "r"},
                 {"resourceId", "17"},
                 {"user", "u"},
                 {"tenant", "t"},
                 {"from", "1"},
                 {"to", "2"},
                 {"limit", "3"},
                 {"after", "5000-17"}});
  CAF_REQUIRE(asked.has_value());
  CAF_CHECK_EQUAL(*asked->action, "a");
  CAF_CHECK_EQUAL(*asked->resource, "r");
  CAF_CHECK_EQUAL(*asked->resource_id, "17");
  CAF_CHECK_EQUAL(*asked->user, "u");
  CAF_CHECK_EQUAL(*asked->tenant, "t");
  CAF_CHECK_EQUAL(*asked->from_ms, 1);
  CAF_CHECK_EQUAL(*asked->to_ms, 2);
  CAF_CHECK_EQUAL(asked->limit, 3u);
  CAF_CHECK_EQUAL(asked->after->time_ms, 5000);
  CAF_CHECK_EQUAL(asked->after->number, 17);
  get("/audit");
  CAF_CHECK_EQUAL(asked->limit, 100u);
  CAF_CHECK(!asked->action && !asked->from_ms && !asked->after);
}

CAF_TEST(a wrong parameter is named) {
  const std::vector<std::pair<std::string, std::string>> bad{
      {"limit", "0"},   {"limit", "1001"}, {"limit", "x"},   {"from", "-1"},     {"to", "tomorrow"},
      {"after", "17"},  {"after", "-"},    {"after", "1-0"}, {"after", "1-2-3"}, {"user", std::string(1001, 'x')},
      {"order", "asc"}, {"action", {0}}};
  for (const auto& [name, text] : bad)
    CAF_CHECK_EQUAL(get("/audit", {{name, text}}, 400).at("field").get<std::string>(), name);
  CAF_CHECK_EQUAL(get("/audit/verify", {{"after", "x"}}, 400).at("field").get<std::string>(), "after");
  CAF_CHECK_EQUAL(get("/audit/verify", {{"from", "1"}}, 400).at("field").get<std::string>(), "from");
  CAF_CHECK_EQUAL(get("/reports", {{"limit", "0"}}, 400).at("field").get<std::string>(), "limit");
  CAF_CHECK_EQUAL(get("/reports", {{"after", "x"}}, 400).at("field").get<std::string>(), "after");
  CAF_CHECK_EQUAL(get("/reports/x", {{"format", "pdf"}}, 400).at("field").get<std::string>(), "format");
  CAF_CHECK(!asked && !sought);
}

CAF_TEST(entries are shown as they were given) {
  auto one = entry(17);
  one.resource_id = "12345678901234567890";
  one.details = R"({"z":1.50,"a":"\u00e4"})";
  auto two = entry(16);
  two.details = "changed by <somebody>"; // no JSON any more
  page.entries = {one, two};
  page.more = true;
  auto got = call("GET", "/audit");
  CAF_CHECK(got.body.find(R"("resourceId":12345678901234567890,"details":{"z":1.50,"a":"\u00e4"})") !=
            std::string::npos);
  CAF_CHECK_EQUAL(header(got, "Cache-Control"), "no-store");
  auto body = json::parse(got.body);
  CAF_CHECK_EQUAL(body.at("next").get<std::string>(), "5000-16");
  CAF_CHECK_EQUAL(body.at("entries").at(0).at("action").get<std::string>(), one.action);
  CAF_CHECK(body.at("entries").at(0).at("user").is_null());
  CAF_CHECK_EQUAL(body.at("entries").at(1).at("details").get<std::string>(), two.details);
  page.more = false;
  CAF_CHECK(get("/audit").at("next").is_null());
}

CAF_TEST(the chain is walked piece by piece to its end) {
  audit_check first, second;
  first.checked = 2000;
  first.last = 2000;
  second.checked = 17;
  second.last = 2017;
  second.complete = true;
  second.head = 2017;
  second.head_hash = "abc";
  pieces = {first, second};
  auto body = get("/audit/verify");
  CAF_CHECK_EQUAL(verified, (std::vector<int64_t>{0, 2000}));
  CAF_CHECK_EQUAL(body.dump(), R"({"broken":null,"checked":2017,"complete":true,"head":{"hash":"abc","number":2017},)"
                               R"("last":2017,"ok":true,"valid":true})");
}

CAF_TEST(a fault ends the walk) {
  audit_check first;
  first.checked = 3;
  first.last = 3;
  first.broken = {4, "it was changed"};
  pieces = {first};
  auto body = get("/audit/verify", {{"after", "0"}});
  CAF_CHECK_EQUAL(body.at("valid").get<bool>(), false);
  CAF_CHECK_EQUAL(body.at("complete").get<bool>(), true);
  CAF_CHECK_EQUAL(body.at("broken").dump(), R"({"number":4,"reason":"it was changed"})");
}

CAF_TEST(a database that is away is said) {
  broken = make_failure(ec::store_unavailable, "store.url: gone");
  for (const char* path : {"/audit", "/audit/verify", "/reports", "/reports/x"})
    CAF_CHECK_EQUAL(get(path, {}, 503).at("detail").get<std::string>(), "store.url: gone");
}

CAF_TEST(a node without a trail says how to have one) {
  api.find_audit = nullptr;
  api.verify_audit = nullptr;
  api.find_reports = nullptr;
  for (const char* path : {"/audit", "/audit/verify"})
    CAF_CHECK(get(path, {}, 404).at("detail").get<std::string>().find("audit.enabled") != std::string::npos);
  for (const char* path : {"/reports", "/reports/x"})
    CAF_CHECK(get(path, {}, 404).at("detail").get<std::string>().find("report.enabled") != std::string::npos);
}

CAF_TEST(an audit event is written with its sender) {
  config cfg;
  cfg.token = "secret-token";
  with(cfg);
  token = cfg.token;
  auto body = post("/kafka/test/audit",
                   R"({"action":"test_action","resource":"document","resourceId":123,"details":{"note":"n"}})");
  CAF_CHECK_EQUAL(body.at("message").get<std::string>(), "Audit event published to Kafka");
  CAF_CHECK_EQUAL(body.at("topic").get<std::string>(), "audit.event");
  CAF_REQUIRE_EQUAL(published.size(), 1u);
  CAF_CHECK_EQUAL(published[0].topic, "audit.event");
  auto written = json::parse(*published[0].value);
  CAF_CHECK_EQUAL(written.at("data").at("resourceId").get<int>(), 123);
  CAF_CHECK(written.at("data").contains("userId"));
  CAF_CHECK_EQUAL(written.at("metadata").at("eventId"), body.at("eventId"));
  token.clear();
  for (const char* path : {"/kafka/test/audit", "/kafka/test/report"})
    CAF_CHECK_EQUAL(call("POST", path, "{}").status, 401);
}

CAF_TEST(what is no audit event is refused with each field) {
  auto body = post("/kafka/test/audit", R"({"action":"","resourceId":{},"more":1})", 400);
  CAF_CHECK_EQUAL(body.at("field").get<std::string>(), "/action");
  for (const char* field : {"/action", "/resource is missing", "/resourceId", "/more"})
    CAF_CHECK(body.at("detail").get<std::string>().find(field) != std::string::npos);
  CAF_CHECK(published.empty());
}

CAF_TEST(a report is asked for as the reference has it) {
  auto body = post("/kafka/test/report", R"({"reportType":"weekly"})");
  CAF_CHECK_EQUAL(body.at("message").get<std::string>(), "Report generation request published to Kafka");
  CAF_CHECK_EQUAL(body.at("note").get<std::string>(), "Report will be generated async and sent to Telegram");
  CAF_CHECK_EQUAL(published.at(0).topic, "report.generate");
  api.makes_reports = false;
  CAF_CHECK(post("/kafka/test/report", R"({"reportType":"weekly"})").at("note").get<std::string>().find("waits") !=
            std::string::npos);
  CAF_CHECK_EQUAL(post("/kafka/test/report", R"({"reportType":"yearly"})", 400).at("field").get<std::string>(),
                  "/reportType");
  CAF_CHECK_EQUAL(post("/kafka/test/report", "{}", 400).at("field").get<std::string>(), "/reportType");
  CAF_CHECK_EQUAL(
      post("/kafka/test/report", R"({"reportType":"daily","date":"2026-02-30"})", 400).at("field").get<std::string>(),
      "/date");
}

CAF_TEST(a report comes as JSON or as a page that may do nothing) {
  report one;
  one.id = "id-1";
  one.json = R"({"id":"id-1"})";
  one.html = "<!doctype html>";
  reports.reports = {one};
  auto plain = call("GET", "/reports/id-1");
  CAF_CHECK_EQUAL(plain.body, R"({"ok":true,"report":{"id":"id-1"}})");
  CAF_CHECK_EQUAL(sought->id, "id-1");
  for (const auto& got : {call("GET", "/reports/id-1", {}, {}, "text/html,application/xhtml+xml"),
                          call("GET", "/reports/id-1", {}, {{"format", "html"}})}) {
    CAF_CHECK_EQUAL(got.body, one.html);
    CAF_CHECK_EQUAL(got.content_type, "text/html; charset=utf-8");
    auto policy = header(got, "Content-Security-Policy");
    CAF_CHECK(policy.find("default-src 'none'") != std::string::npos && policy.find("script") == std::string::npos);
    CAF_CHECK_EQUAL(header(got, "X-Content-Type-Options"), "nosniff");
  }
  CAF_CHECK_EQUAL(call("GET", "/reports/id-1", {}, {{"format", "json"}}, "text/html").body, plain.body);
  reports.reports.clear();
  CAF_CHECK_EQUAL(call("GET", "/reports/id-2").status, 404);
  CAF_CHECK_EQUAL(call("GET", "/reports/" + std::string(65, 'x')).status, 404);
}

CAF_TEST(reports are listed page by page) {
  report one;
  one.id = "id-1";
  one.type = "daily";
  one.created_ms = 1000;
  reports.reports = {one};
  reports.more = true;
  auto body = get("/reports", {{"limit", "1"}, {"after", "2000-id-2"}});
  CAF_CHECK_EQUAL(sought->after->first, 2000);
  CAF_CHECK_EQUAL(sought->after->second, "id-2");
  CAF_CHECK_EQUAL(body.at("next").get<std::string>(), "1000-id-1");
  CAF_CHECK_EQUAL(body.at("reports").at(0).at("url").get<std::string>(), "/reports/id-1");
}

CAF_TEST(only operators read them and a sender is named) {
  auto file = std::filesystem::temp_directory_path() / ("sluice-audit-tokens-" + std::to_string(getpid()));
  std::ofstream{file} << R"([{"token":"anns-token","user":"ann","publish":["audit.*"]}])";
  config cfg;
  cfg.auth.tokens_file = file;
  with(cfg);
  std::filesystem::remove(file);
  const std::vector<std::string> paths{"/audit", "/audit/verify", "/reports", "/reports/x"};
  for (const auto& path : paths)
    CAF_CHECK_EQUAL(call("GET", path).status, 401);
  token = "anns-token";
  for (const auto& path : paths)
    CAF_CHECK_EQUAL(call("GET", path).status, 403);
  CAF_CHECK(!asked && !sought && verified.empty());
  post("/kafka/test/audit", R"({"action":"a","resource":"r"})");
  CAF_CHECK_EQUAL(json::parse(*published.at(0).value).at("data").at("userId").get<std::string>(), "ann");
  post("/kafka/test/report", R"({"reportType":"daily"})", 403);
}

CAF_TEST_FIXTURE_SCOPE_END()
