// The HTTP side of dead letters: what is asked for, what is answered, who may.
#define CAF_SUITE dlq_routes

#include "http/routes.hpp"

#include <caf/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include "route_call.hpp"

using namespace sluice;
using nlohmann::json;

namespace {

struct fixture {
  http::api api;
  std::optional<dlq_query> asked;
  std::optional<redrive_order> ordered;
  caf::expected<dlq_page_ptr> page{std::make_shared<const dlq_page>()};
  caf::expected<redrive_report_ptr> report{std::make_shared<const redrive_report>()};
  std::string token;

  fixture() { with(config{}); }

  void with(const config& cfg) {
    auto access = http::authenticator::make(cfg);
    if (!access)
      CAF_FAIL("no authenticator");
    api.access = *access;
    api.dlq_topics = [](auto answer) {
      dlq_topic_view one;
      one.topic = "orders.dlq";
      one.partitions = 2;
      one.letters = 5;
      one.redriven = 1;
      one.oldest_ms = 1000;
      one.errors = {{"", 2}, {"rejected", 3}};
      one.complete = true;
      answer(std::make_shared<const dlq_overview>(dlq_overview{{one}, 0}));
    };
    api.find_letters = [this](dlq_query query, auto answer) {
      asked = std::move(query);
      answer(page);
    };
    api.redrive = [this](redrive_order order, auto answer) {
      ordered = std::move(order);
      answer(report);
    };
  }

  http::response call(const std::string& method, const std::string& path, const std::string& body = {},
                      std::map<std::string, std::string> query = {}) {
    http::request req;
    req.method = method;
    req.path = path;
    req.query = std::move(query);
    req.body = body;
    req.remote = "::1";
    if (!token.empty())
      req.headers["authorization"] = "Bearer " + token;
    return call_route(api, std::move(req));
  }
  json list(std::map<std::string, std::string> query = {}, int status = 200) {
    auto got = call("GET", "/kafka/dlq/orders.dlq", {}, std::move(query));
    CAF_CHECK_EQUAL(got.status, status);
    return json::parse(got.body);
  }
  json redrive(const std::string& body, int status = 200) {
    auto got = call("POST", "/kafka/dlq/orders.dlq/redrive", body);
    CAF_CHECK_EQUAL(got.status, status);
    return json::parse(got.body);
  }
  void show_letter(const std::function<void(dlq_page::entry&)>& change) {
    dlq_page all;
    dlq_page::entry one;
    one.letter.topic = "orders.dlq";
    one.letter.id = {0, 17};
    one.letter.timestamp_ms = 1000;
    one.letter.key = "k";
    one.letter.value = "v";
    one.letter.origin = {"orders", 2, 70};
    change(one);
    one.key_bytes = std::max<uint64_t>(one.key_bytes, one.letter.key ? one.letter.key->size() : 0);
    one.value_bytes = std::max<uint64_t>(one.value_bytes, one.letter.value ? one.letter.value->size() : 0);
    all.letters.push_back(std::move(one));
    page = std::make_shared<const dlq_page>(std::move(all));
  }
  json letter() { return list().at("letters").at(0); }
  void results(std::vector<redrive_report::result> all) {
    redrive_report made;
    made.results = std::move(all);
    report = std::make_shared<const redrive_report>(std::move(made));
  }
};

redrive_report::result outcome(int64_t offset, const std::string& error = {}) {
  redrive_report::result one;
  one.id = {0, offset};
  one.error = error;
  one.detail = error.empty() ? "" : "why";
  one.target = {"orders", 2, 71};
  one.event_id = "e";
  one.redrives = 1;
  return one;
}

std::string text(const json& from, const char* name) {
  return from.at(name).get<std::string>();
}

} // namespace

CAF_TEST_FIXTURE_SCOPE(dlq_routes_tests, fixture)

CAF_TEST(the topics come with their numbers) {
  auto got = json::parse(call("GET", "/kafka/dlq").body);
  CAF_CHECK_EQUAL(got["ok"].get<bool>(), true);
  auto one = got["topics"][0];
  CAF_CHECK_EQUAL(text(one, "topic"), "orders.dlq");
  CAF_CHECK_EQUAL(one["letters"].get<int>(), 5);
  CAF_CHECK_EQUAL(one["redriven"].get<int>(), 1);
  CAF_CHECK_EQUAL(one["oldest"].get<int>(), 1000);
  CAF_CHECK(one["newest"].is_null());
  CAF_CHECK_EQUAL(one["errors"].dump(), "{\"rejected\":3,\"unknown\":2}");
  CAF_CHECK(!got.contains("leftOut"));
  api.dlq_topics = [](auto answer) { answer(std::make_shared<const dlq_overview>(dlq_overview{{}, 7})); };
  CAF_CHECK_EQUAL(json::parse(call("GET", "/kafka/dlq").body).at("leftOut").get<int>(), 7);
}

CAF_TEST(a list asks for what its parameters say) {
  list({{"error", "rejected"},
        {"key", ""},
        {"processor", "p"},
        {"text", "x y"},
        {"from", "1"},
        {"to", "2"},
        {"redriven", "false"},
        {"limit", "7"},
        {"after", "1-2"},
        {"ticket", "t"}});
  CAF_REQUIRE(asked);
  CAF_CHECK_EQUAL(asked->topic, "orders.dlq");
  CAF_CHECK(asked->filter.error == "rejected" && asked->filter.key == "" && asked->filter.processor == "p");
  CAF_CHECK_EQUAL(asked->filter.text, "x y");
  CAF_CHECK(asked->filter.from_ms == 1 && asked->filter.to_ms == 2 && asked->filter.redriven == false);
  CAF_CHECK_EQUAL(asked->limit, 7u);
  CAF_CHECK(asked->after == (letter_id{1, 2}));
  CAF_CHECK(asked->preview_bytes > 0);
  list();
  CAF_CHECK_EQUAL(asked->limit, 100u);
  CAF_CHECK(!asked->filter.key);
}

CAF_TEST(a wrong parameter is named) {
  for (const auto& [name, value] : std::map<std::string, std::string>{{"from", "yesterday"},
                                                                      {"to", "-1"},
                                                                      {"redriven", "yes"},
                                                                      {"limit", "0"},
                                                                      {"after", "x"},
                                                                      {"eror", "rejected"}}) {
    auto got = list({{name, value}}, 400);
    CAF_CHECK_EQUAL(text(got, "field"), name);
  }
  CAF_CHECK_EQUAL(list({{"limit", "1001"}}, 400)["ok"].get<bool>(), false);
  for (const auto* path : {"/kafka/dlq/orders", "/kafka/dlq/.dlq", "/kafka/dlq/a%20b.dlq", "/kafka/dlq/orders/0-1"})
    CAF_CHECK_EQUAL(call("GET", path).status, 400);
  CAF_CHECK_EQUAL(call("GET", "/kafka/dlq/orders.dlq/seventeen").status, 400);
  CAF_CHECK(!asked);
}

CAF_TEST(bytes are shown as what they are) {
  show_letter([](auto& one) { one.letter.value = "{\"a\": 1.00, \"n\": 12345678901234567890123}"; });
  auto raw = call("GET", "/kafka/dlq/orders.dlq").body;
  CAF_CHECK(raw.find("{\"a\": 1.00, \"n\": 12345678901234567890123}") != std::string::npos); // to the digit
  CAF_CHECK_EQUAL(text(letter(), "valueEncoding"), "json");
  show_letter([](auto& one) { one.letter.value = "not json"; });
  CAF_CHECK_EQUAL(text(letter(), "value"), "not json");
  CAF_CHECK_EQUAL(text(letter(), "valueEncoding"), "text");
  show_letter([](auto& one) { one.letter.value = std::string("\xff\x00\xfe", 3); });
  CAF_CHECK_EQUAL(text(letter(), "value"), "/wD+");
  CAF_CHECK_EQUAL(text(letter(), "valueEncoding"), "base64");
  show_letter([](auto& one) { one.letter.key = std::string("\xff", 1); });
  CAF_CHECK_EQUAL(text(letter(), "key"), "/w==");
  show_letter([](auto& one) {
    one.letter.value.reset();
    one.letter.key.reset();
  });
  CAF_CHECK(letter()["value"].is_null() && letter()["valueBytes"].is_null() && letter()["key"].is_null());
  show_letter([](auto& one) { one.letter.value = std::string(100, '[') + std::string(100, ']'); });
  CAF_CHECK_EQUAL(text(letter(), "valueEncoding"), "text"); // too deep for many a parser
}

CAF_TEST(a value that is cut ends with a whole character and says how long it is) {
  show_letter([](auto& one) {
    one.letter.value = "{\"a\":\"\xc3"; // of "ä" the first half
    one.value_bytes = 5000;
  });
  CAF_CHECK_EQUAL(text(letter(), "value"), "{\"a\":\"");
  CAF_CHECK_EQUAL(letter()["valueBytes"].get<int>(), 5000);
  CAF_CHECK_EQUAL(letter()["valueCut"].get<bool>(), true);
}

CAF_TEST(headers keep their order and their nulls) {
  show_letter([](auto& one) { one.letter.headers = {{"b", "1"}, {"a", "", false}, {"b", "\xff"}}; });
  CAF_CHECK_EQUAL(letter()["headers"].dump(), R"([{"name":"b","value":"1"},{"name":"a","value":null},)"
                                              R"({"encoding":"base64","name":"b","value":"/w=="}])");
}

CAF_TEST(a redriven letter says by whom and where to) {
  show_letter([](auto& one) { one.letter.redriven = redrive_mark{1000, 2000, "ann", {"orders", 2, 99}}; });
  CAF_CHECK_EQUAL(letter()["redriven"].dump(),
                  R"({"at":2000,"by":"ann","to":{"offset":99,"partition":2,"topic":"orders"}})");
}

CAF_TEST(one letter comes whole or not at all) {
  CAF_CHECK_EQUAL(call("GET", "/kafka/dlq/orders.dlq/0-17").status, 404);
  CAF_CHECK(asked->ids == (std::vector<letter_id>{letter_id{0, 17}}));
  CAF_CHECK_EQUAL(asked->preview_bytes, 0u);
  show_letter([](auto&) {});
  auto got = json::parse(call("GET", "/kafka/dlq/orders.dlq/0-17").body);
  CAF_CHECK_EQUAL(text(got["letter"], "id"), "0-17");
  CAF_CHECK_EQUAL(got["letter"]["origin"]["offset"].get<int>(), 70);
}

CAF_TEST(errors are told as they are everywhere) {
  page = make_failure(ec::unknown_topic, "there is no topic \"orders.dlq\"");
  CAF_CHECK_EQUAL(text(list({}, 404), "field"), "topic");
  page = make_failure(ec::kafka_unreachable, "away");
  auto got = call("GET", "/kafka/dlq/orders.dlq");
  CAF_CHECK_EQUAL(got.status, 503);
  CAF_CHECK_EQUAL(got.headers.at(0).first, "Retry-After");
  report = make_failure(ec::busy, "being sent back already");
  redrive(R"({"filter":{}})", 409);
}

CAF_TEST(an order is what its body says) {
  redrive(R"({"ids":["1-5","0-17","1-5"],"again":true,"dryRun":true,"rate":50})");
  CAF_REQUIRE(ordered);
  CAF_CHECK(ordered->which.ids == (std::vector<letter_id>{letter_id{0, 17}, letter_id{1, 5}}));
  CAF_CHECK(ordered->again && ordered->dry_run && ordered->rate == 50 && !ordered->replace);
  CAF_CHECK_EQUAL(ordered->remote, "::1");
  redrive(R"({"filter":{"error":"rejected","from":1,"to":2,"redriven":true},"limit":9,"after":"0-1"})");
  CAF_CHECK(ordered->which.filter.error == "rejected" && ordered->which.filter.from_ms == 1);
  CAF_CHECK(ordered->which.filter.to_ms == 2 && ordered->which.filter.redriven == true);
  CAF_CHECK(ordered->which.limit == 9 && ordered->which.after == (letter_id{0, 1}));
  CAF_CHECK(!ordered->again && !ordered->dry_run && ordered->rate == 0);
  auto got = redrive(R"({"filter":{}})");
  CAF_CHECK(ordered->which.filter.to_ms.has_value()); // letters that come back meanwhile are not meant
  CAF_CHECK_EQUAL(got["to"].get<int64_t>(), *ordered->which.filter.to_ms);
}

CAF_TEST(a value goes with one id) {
  redrive(R"({"ids":["0-1"],"value":"text"})");
  CAF_CHECK(ordered->replace && ordered->value == "text");
  redrive(R"({"ids":["0-1"],"value":{"b":1,"a":2}})");
  CAF_CHECK(json::parse(*ordered->value) == json::parse(R"({"a":2,"b":1})"));
  redrive(R"({"ids":["0-1"],"value":null})");
  CAF_CHECK(ordered->replace && !ordered->value);
}

CAF_TEST(a wrong body names its member) {
  std::string many = "\"0-0\"";
  for (int i = 1; i <= 1000; ++i)
    many += ",\"0-" + std::to_string(i) + "\"";
  const std::vector<std::pair<std::string, std::string>> wrong{
      {"[]", "body"},
      {"{}", "body"},
      {R"({"ids":["0-1"],"filter":{}})", "body"},
      {R"({"ids":[]})", "/ids"},
      {R"({"ids":[)" + many + "]}", "/ids"},
      {R"({"ids":"0-1"})", "/ids"},
      {R"({"ids":["0-1","x"]})", "/ids/1"},
      {R"({"ids":[17]})", "/ids/0"},
      {R"({"filter":[]})", "/filter"},
      {R"({"filter":{"eror":"x"}})", "/filter/eror"},
      {R"({"filter":{"error":1}})", "/filter/error"},
      {R"({"filter":{"from":"1"}})", "/filter/from"},
      {R"({"filter":{"redriven":"true"}})", "/filter/redriven"},
      {R"({"filter":{},"dryrun":true})", "/dryrun"},
      {R"({"filter":{},"dryRun":1})", "/dryRun"},
      {R"({"filter":{},"again":"yes"})", "/again"},
      {R"({"filter":{},"rate":0})", "/rate"},
      {R"({"filter":{},"rate":-1})", "/rate"},
      {R"({"filter":{},"rate":100001})", "/rate"},
      {R"({"filter":{},"limit":1001})", "/limit"},
      {R"({"filter":{},"value":1})", "/value"},
      {R"({"ids":["0-1","0-2"],"value":1})", "/value"},
      {R"({"filter":{},"after":"x"})", "/after"},
      {R"({"ids":["0-1"],"after":"0-0"})", "/after"},
  };
  for (const auto& [body, field] : wrong)
    CAF_CHECK_EQUAL(text(redrive(body, 400), "field"), field);
  CAF_CHECK(!ordered);
}

CAF_TEST(the answer has a result for each letter) {
  results({outcome(1), outcome(2)});
  auto got = redrive(R"({"filter":{}})");
  CAF_CHECK(got["ok"].get<bool>() && got["redriven"] == 2 && got["failed"] == 0 && got["complete"].get<bool>());
  CAF_CHECK_EQUAL(got["results"][0].dump(),
                  R"({"eventId":"e","id":"0-1","offset":71,"ok":true,"partition":2,"redrives":1,"topic":"orders"})");
  results({outcome(1), outcome(2, "loop_guard")});
  got = redrive(R"({"filter":{}})", 207);
  CAF_CHECK_EQUAL(got["results"][1].dump(), R"({"detail":"why","error":"loop_guard","id":"0-2","ok":false})");
  results({});
  CAF_CHECK(redrive(R"({"filter":{}})")["ok"].get<bool>()); // nothing was to be done
}

CAF_TEST(where nothing went back the status says why) {
  for (const auto& [error, status] : std::map<std::string, int>{{"already_redriven", 409},
                                                                {"loop_guard", 409},
                                                                {"not_found", 404},
                                                                {"no_origin", 422},
                                                                {"delivery_timeout", 503},
                                                                {"not_reached", 503}}) {
    results({outcome(1, error)});
    auto got = redrive(R"({"ids":["0-1"]})", status);
    CAF_CHECK_EQUAL(got["results"][0]["error"].get<std::string>(), error);
    CAF_CHECK(!text(got, "detail").empty());
  }
  results({outcome(1, "not_found"), outcome(2, "loop_guard")});
  redrive(R"({"ids":["0-1","0-2"]})", 207);
}

CAF_TEST(only who has the role admin may look or send back) {
  config cfg;
  cfg.token = "everything-allowed";
  with(cfg);
  const std::vector<std::pair<std::string, std::string>> all{{"GET", "/kafka/dlq"},
                                                             {"GET", "/kafka/dlq/orders.dlq"},
                                                             {"GET", "/kafka/dlq/orders.dlq/0-1"},
                                                             {"POST", "/kafka/dlq/orders.dlq/redrive"}};
  for (const auto& [method, path] : all)
    CAF_CHECK_EQUAL(call(method, path, "{\"filter\":{}}").status, 401);
  CAF_CHECK(!asked && !ordered);
  token = "everything-allowed";
  CAF_CHECK_EQUAL(call("GET", "/kafka/dlq").status, 200);
  redrive(R"({"filter":{}})");
  CAF_CHECK(ordered);
}

CAF_TEST_FIXTURE_SCOPE_END()
