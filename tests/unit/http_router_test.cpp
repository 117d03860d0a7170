#define CAF_SUITE http_router

#include "http/server.hpp"
#include "http/stream_log.hpp"
#include "http/url.hpp"
#include "http/wire.hpp"

#include <array>

#include <nlohmann/json.hpp>

#include <caf/test/unit_test.hpp>

using namespace sluice;
using namespace sluice::http;
using namespace std::string_literals;

namespace {

/// By value, for the checks keep references to what they compare.
template <class T>
T must(std::optional<T> x) {
  return std::move(x.value());
}

router example() {
  router out;
  auto nothing = [](const request&, const responder&) {};
  out.add("GET", "/", nothing);
  out.add("GET", "/kafka/topics", nothing);
  out.add("POST", "/kafka/topics", nothing);
  out.add("GET", "/kafka/:what/:name", nothing);
  out.add("GET", "/kafka/topics/:topic", nothing);
  out.add("GET", "/kafka/topics/mine", nothing);
  out.add("POST", "/kafka/send/:topic", nothing);
  out.add_stream("/events", [](const request&, const event_stream_ptr&) {});
  return out;
}

std::string found(const router& routes, std::string_view method, std::string_view path) {
  auto match = routes.find(method, path);
  if (match.found == nullptr)
    return "none; " + match.allow;
  std::string out;
  for (const auto& part : match.found->parts)
    out += "/" + part;
  for (const auto& [name, value] : match.params)
    out += " " + name + "=" + value;
  return out;
}

std::string read_all(const stream_log& log, uint64_t from) {
  std::string out;
  std::array<iovec, 2> parts{};
  while (from < log.end()) {
    auto used = log.gather(from, parts.data(), parts.size());
    for (size_t i = 0; i < used; ++i) {
      out.append(static_cast<const char*>(parts[i].iov_base), parts[i].iov_len);
      from += parts[i].iov_len;
    }
  }
  return out;
}

} // namespace

CAF_TEST(a route is found by method and path) {
  auto routes = example();
  CAF_CHECK_EQUAL(found(routes, "GET", "/kafka/topics"), "/kafka/topics");
  CAF_CHECK_EQUAL(found(routes, "POST", "/kafka/send/orders"), "/kafka/send/:topic topic=orders");
  CAF_CHECK_EQUAL(found(routes, "GET", "/"), "");
  CAF_CHECK(routes.find("GET", "/events").found->stream);
}

CAF_TEST(words win over parameters whatever the order of the routes) {
  auto routes = example();
  CAF_CHECK_EQUAL(found(routes, "GET", "/kafka/topics/mine"), "/kafka/topics/mine");
  CAF_CHECK_EQUAL(found(routes, "GET", "/kafka/topics/yours"), "/kafka/topics/:topic topic=yours");
  CAF_CHECK_EQUAL(found(routes, "GET", "/kafka/groups/yours"), "/kafka/:what/:name name=yours what=groups");
}

CAF_TEST(a parameter is decoded by itself and is never empty) {
  auto routes = example();
  CAF_CHECK_EQUAL(found(routes, "POST", "/kafka/send/a%2Fb%20c+d"), "/kafka/send/:topic topic=a/b c+d");
  CAF_CHECK_EQUAL(found(routes, "GET", "/%6Bafka/topics"), "/kafka/topics");
  CAF_CHECK(routes.find("POST", "/kafka/send/").found == nullptr);
  CAF_CHECK(routes.find("POST", "/kafka/send//").found == nullptr);
  CAF_CHECK(routes.find("POST", "/kafka/send/a%zz").found == nullptr);
}

CAF_TEST(a slash at the end makes no difference and one in the middle does) {
  auto routes = example();
  CAF_CHECK_EQUAL(found(routes, "GET", "/kafka/topics/"), "/kafka/topics");
  CAF_CHECK_EQUAL(found(routes, "GET", "/kafka//topics"), "none; ");
}

CAF_TEST(a path without the method tells which methods it has) {
  auto routes = example();
  CAF_CHECK_EQUAL(found(routes, "DELETE", "/kafka/topics"), "none; GET, HEAD, OPTIONS, POST");
  CAF_CHECK_EQUAL(found(routes, "GET", "/kafka/send"), "none; ");
  CAF_CHECK_EQUAL(found(routes, "OPTIONS", "/events"), "none; GET, HEAD, OPTIONS");
  CAF_CHECK_EQUAL(found(routes, "GET", "/nowhere"), "none; ");
}

CAF_TEST(HEAD is answered by GET unless it has a route of its own) {
  auto routes = example();
  CAF_CHECK_EQUAL(routes.find("HEAD", "/kafka/topics").found->method, "GET");
  routes.add("HEAD", "/kafka/topics", [](const request&, const responder&) {});
  CAF_CHECK_EQUAL(routes.find("HEAD", "/kafka/topics").found->method, "HEAD");
  CAF_CHECK_EQUAL(routes.find("GET", "/kafka/topics").found->method, "GET");
}

CAF_TEST(the list names every route) {
  auto all = example().list();
  CAF_REQUIRE_EQUAL(all.size(), 8u);
  CAF_CHECK_EQUAL(all.front(), "GET /");
  CAF_CHECK_EQUAL(all.back(), "GET /events");
}

CAF_TEST(percent decoding refuses what is not hex and NUL) {
  CAF_CHECK_EQUAL(must(percent_decode("a%20b%C3%A4+")), "a b\xC3\xA4+");
  CAF_CHECK_EQUAL(must(percent_decode("a+b", true)), "a b");
  for (auto bad : {"%", "%1", "%zz", "a%4", "%00", "% 1"})
    CAF_CHECK(!percent_decode(bad));
}

CAF_TEST(the last of several query parameters wins) {
  auto query = must(parse_query("a=1&b=x%3Dy&a=2&flag&&c=d=e&sp+ace=1+2"));
  CAF_CHECK_EQUAL(query.size(), 5u);
  CAF_CHECK_EQUAL(query["a"], "2");
  CAF_CHECK_EQUAL(query["b"], "x=y");
  CAF_CHECK_EQUAL(query["flag"], "");
  CAF_CHECK_EQUAL(query["c"], "d=e");
  CAF_CHECK_EQUAL(query["sp ace"], "1 2");
  CAF_CHECK(!parse_query("a=%"));
}

CAF_TEST(a target is taken apart in all its forms) {
  CAF_CHECK_EQUAL(split_target("/a/b?x=1?2#f").path, "/a/b");
  CAF_CHECK_EQUAL(split_target("/a/b?x=1?2#f").query, "x=1?2");
  CAF_CHECK_EQUAL(split_target("http://host:80/a?b").path, "/a");
  CAF_CHECK_EQUAL(split_target("http://host?b").path, "/");
  CAF_CHECK_EQUAL(split_target("http://host?b").query, "b");
  CAF_CHECK_EQUAL(split_target("/redirect?to=http://host/").path, "/redirect");
  CAF_CHECK_EQUAL(split_target("*").path, "*");
}

CAF_TEST(a problem says what is wrong in a form that programs can read) {
  auto out = problem(422, "Send a number, not \"\xFF\".", "/payload/times", {{"X-A", "b"}});
  auto body = nlohmann::json::parse(out.body);
  CAF_CHECK_EQUAL(out.content_type, "application/problem+json");
  CAF_CHECK_EQUAL(body["status"].get<int>(), 422);
  CAF_CHECK_EQUAL(body["title"], "Unprocessable Content");
  CAF_CHECK(!body["ok"].get<bool>());
  CAF_CHECK_EQUAL(body["field"], "/payload/times");
  CAF_CHECK(!nlohmann::json::parse(problem(404, "x").body).contains("field"));
}

CAF_TEST(a header cannot be injected) {
  std::vector<std::string> dropped;
  response out{200,
               "text/plain",
               "hi",
               {{"X-A", "1\r\nX-B: 2"}, {"X C", "1"}, {"content-length", "9"}, {"X-D", "a\tb"}, {"X-E", "\x7f"}}};
  auto bytes = render(out, {.date = "now"}, [&](std::string_view name) { dropped.emplace_back(name); });
  CAF_CHECK_EQUAL(bytes, "HTTP/1.1 200 OK\r\nServer: sluice\r\nDate: now\r\nContent-Type: text/plain\r\n"
                         "Content-Length: 2\r\nX-D: a\tb\r\n\r\nhi");
  CAF_CHECK_EQUAL(dropped.size(), 4u);
}

CAF_TEST(an answer without a body has no length and an answer to HEAD has that of the body) {
  CAF_CHECK_EQUAL(render({204, "text/plain", "", {}}, {.keep_alive = false, .date = "now"}),
                  "HTTP/1.1 204 No Content\r\nServer: sluice\r\nDate: now\r\nConnection: close\r\n\r\n");
  auto head = render({200, "text/plain", "hello", {}}, {.head_only = true, .date = "now"});
  CAF_CHECK(head.find("Content-Length: 5\r\n") != std::string::npos);
  CAF_CHECK(head.ends_with("\r\n\r\n"));
}

CAF_TEST(dates are in the one form HTTP allows) {
  CAF_CHECK_EQUAL(http_date(784111777), "Sun, 06 Nov 1994 08:49:37 GMT");
}

CAF_TEST(the log gives every reader its bytes and forgets what all have had) {
  page_pool pages;
  stream_log log{pages};
  std::string all;
  for (int i = 0; i < 3000; ++i) {
    auto line = std::string(static_cast<size_t>(i % 97), 'a') + std::to_string(i) + "\n";
    log.append({}, line);
    all += line;
  }
  log.append("zz", std::string(99996, 'z'), "zz");
  all += std::string(100000, 'z');
  CAF_CHECK_EQUAL(log.end(), all.size());
  for (uint64_t from : {uint64_t{0}, uint64_t{1}, uint64_t{65535}, uint64_t{65536}, uint64_t{140000}, log.end() - 1})
    CAF_CHECK(read_all(log, from) == all.substr(from));
  CAF_CHECK_EQUAL(read_all(log, log.end()), "");
  log.trim(70000);
  CAF_CHECK(log.begin() <= 70000u);
  CAF_CHECK(log.begin() > 0u);
  CAF_CHECK(read_all(log, 70000) == all.substr(70000));
  log.trim(log.end());
  CAF_CHECK_EQUAL(log.begin(), log.end());
  log.append({}, "more");
  CAF_CHECK_EQUAL(read_all(log, log.end() - 4), "more");
}
