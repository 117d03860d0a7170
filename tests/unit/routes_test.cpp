#define CAF_SUITE routes

#include "http/routes.hpp"

#include <set>

#include <caf/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include "embedded.hpp"
#include "sluice/envelope.hpp"

using namespace sluice;
using nlohmann::json;

namespace {

http::request post(const std::string& body, const std::string& type = "application/json") {
  http::request req;
  req.method = "POST";
  req.headers["content-type"] = type;
  req.body = body;
  return req;
}

int status_of(const http::request& req) {
  auto body = http::read_documents(req);
  return body.wrong ? body.wrong->status : 200;
}

} // namespace

CAF_TEST(the routes are those of openapi.yaml) {
  std::set<std::string> served;
  for (const auto& route : http::make_routes({}).list())
    served.insert(route);
  std::set<std::string> described;
  auto openapi = json::parse(openapi_json);
  for (const auto& [path, operations] : openapi.at("paths").items()) {
    auto pattern = path;
    for (size_t at; (at = pattern.find('{')) != std::string::npos;) {
      pattern.replace(at, 1, ":");
      pattern.erase(pattern.find('}'), 1);
    }
    for (const auto& [method, ignored] : operations.items()) {
      auto upper = method;
      for (auto& c : upper)
        c = static_cast<char>(std::toupper(c));
      described.insert(upper + " " + pattern);
    }
  }
  CAF_CHECK_EQUAL(described, served);
}

CAF_TEST(an event may stand alone or in an array or a line each) {
  CAF_CHECK_EQUAL(http::read_documents(post("{\"a\": 1}")).documents, std::vector<std::string>{"{\"a\": 1}"});
  CAF_CHECK_EQUAL(http::read_documents(post("[{\"a\":1},{}]")).documents.size(), 2u);
  CAF_CHECK_EQUAL(http::read_documents(post("{\"a\":1}\r\n\n{}\n", "application/x-ndjson")).documents.size(), 2u);
  CAF_CHECK_EQUAL(status_of(post("{}", "application/json; charset=utf-8")), 200);
  CAF_CHECK_EQUAL(status_of(post("{}", "application/vnd.api+json")), 200);
}

CAF_TEST(a body that cannot be used is refused with what is wrong) {
  for (const char* body : {"", " \n", "x", "{", "1", "null", "[]", "[1]", "{\"a\":NaN}", "{} {}"})
    CAF_CHECK_EQUAL(status_of(post(body)), 400);
  CAF_CHECK_EQUAL(status_of(post("{}", "text/plain")), 415);
  CAF_CHECK_EQUAL(status_of(post("{}\n[]", "application/x-ndjson")), 400);
  auto second = http::read_documents(post("[{},2]"));
  CAF_CHECK_EQUAL(json::parse(second.wrong->body).at("field").get<std::string>(), "/1");
}

CAF_TEST(nesting is bounded before it is parsed) {
  CAF_CHECK_EQUAL(status_of(post("{\"a\":" + std::string(63, '[') + std::string(63, ']') + "}")), 200);
  CAF_CHECK_EQUAL(status_of(post("{\"a\":" + std::string(64, '[') + std::string(64, ']') + "}")), 400);
  CAF_CHECK_EQUAL(status_of(post("{\"a\":\"" + std::string(1000, '[') + "\\\"" + std::string(1000, '{') + "\"}")), 200);
}

CAF_TEST(an event that stands alone is kept as it came and checked all the same) {
  CAF_CHECK_EQUAL(http::read_documents(post(" {\"b\": 1, \"a\":1.0}\n")).documents,
                  std::vector<std::string>{" {\"b\": 1, \"a\":1.0}\n"});
  for (const auto* wrong : {"{\"a\":1", "{} {}", "{\"a\":1e999}", "{\"a\":\"\xff\"}", "{\"a\":NaN}", "{a:1}"})
    CAF_CHECK_EQUAL(status_of(post(wrong)), 400);
  CAF_CHECK_EQUAL(status_of(post("{}", "text/plain")), 415);
}

CAF_TEST(off the io threads the end of a turn is now) {
  bool done = false;
  http::at_turn_end([&done] { done = true; });
  CAF_CHECK(done);
}

CAF_TEST(an acknowledged request is answered with the place of each record) {
  http::api with;
  http::response got;
  with.publish = [](const auto& records, const auto& answer) {
    std::vector<delivery> all;
    for (const auto& one : records)
      all.push_back({one.topic, 3, 7 + static_cast<int64_t>(all.size()), ec::no_error, ""});
    answer(all);
  };
  auto publish = [&](size_t n, bool many) {
    std::vector<std::string> ids{"a", "b"};
    ids.resize(n);
    outgoing_record record;
    record.topic = "t\"";
    http::publish_and_answer(with, std::vector<outgoing_record>(n, record), ids, 202, many,
                             [&](http::response what) { got = std::move(what); });
    return got.body;
  };
  auto one = json::parse(R"({"eventId":"a","offset":7,"ok":true,"partition":3,"topic":"t\""})");
  auto two = json::parse(R"({"eventId":"b","offset":8,"ok":true,"partition":3,"topic":"t\""})");
  auto alone = one;
  alone["accepted"] = 1;
  alone["results"] = json::array({one});
  CAF_CHECK_EQUAL(publish(1, false), alone.dump());
  CAF_CHECK_EQUAL(got.status, 202);
  auto both = json{{"ok", true}, {"accepted", 2}, {"results", json::array({one, two})}};
  CAF_CHECK_EQUAL(publish(2, true), both.dump());
}

CAF_TEST(a traceparent is passed on only if it is one) {
  http::request req;
  CAF_CHECK_EQUAL(http::tracing_headers(req, "id").size(), 1u);
  req.headers["traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  CAF_CHECK_EQUAL(http::tracing_headers(req, "id").size(), 2u);
  req.headers["traceparent"] = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0G";
  CAF_CHECK_EQUAL(http::tracing_headers(req, "id").size(), 1u);
}

CAF_TEST(event ids are version 4 UUIDs and differ) {
  auto one = make_uuid();
  CAF_CHECK_EQUAL(one.size(), 36u);
  CAF_CHECK_EQUAL(one[14], '4');
  CAF_CHECK(std::string{"89ab"}.find(one[19]) != std::string::npos);
  CAF_CHECK_NOT_EQUAL(one, make_uuid());
}
