// `sluice dlq`: its words, what it asks the server, what it prints.
#define CAF_SUITE dlq_command

#include "app/dlq_command.hpp"

#include <deque>
#include <sstream>

#include <caf/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include "app/command_line.hpp"
#include "sluice/error.hpp"

using namespace sluice;
using nlohmann::json;

namespace {

command_line parse(std::vector<const char*> words) {
  words.insert(words.begin(), "sluice");
  return parse_command_line(static_cast<int>(words.size()), words.data());
}

struct fixture {
  struct sent {
    std::string method, path, body;
  };
  std::vector<sent> asked;
  std::deque<caf::expected<outbound::api_answer>> answers;
  std::ostringstream out, err;

  /// Runs a command line against the answers; its exit code.
  int run(std::vector<const char*> words) {
    words.insert(words.begin(), "dlq");
    auto line = parse(words);
    if (line.command != "dlq") {
      err << line.text;
      return line.exit_code;
    }
    auto call = [this](const std::string& method, const std::string& path,
                       const std::string& body) -> caf::expected<outbound::api_answer> {
      asked.push_back({method, path, body});
      if (answers.empty())
        return make_failure(ec::invalid_config, "nobody there");
      auto answer = std::move(answers.front());
      answers.pop_front();
      return answer;
    };
    return run_dlq(line.dlq, call, out, err);
  }
  void answer(int status, const json& body) { answers.emplace_back(outbound::api_answer{status, body.dump()}); }
  json body(size_t i) const { return json::parse(asked.at(i).body); }
};

json well(const std::string& id) {
  return {{"id", id}, {"ok", true}, {"topic", "orders"}, {"partition", 0}, {"offset", 1}};
}

json bad(const std::string& id, const std::string& error) {
  return {{"id", id}, {"ok", false}, {"error", error}, {"detail", "why"}};
}

bool has(const std::ostringstream& text, const std::string& what) {
  return text.str().find(what) != std::string::npos;
}

} // namespace

CAF_TEST_FIXTURE_SCOPE(dlq_command_tests, fixture)

CAF_TEST(help names the actions and wrong words are refused) {
  auto help = parse({"dlq", "--help"});
  CAF_CHECK_EQUAL(help.exit_code, 0);
  for (const auto* word : {"list", "show", "redrive"})
    CAF_CHECK(help.text.find(word) != std::string::npos);
  CAF_CHECK(parse({"dlq", "redrive", "--help"}).text.find("--dry-run") != std::string::npos);
  for (const auto& words : std::vector<std::vector<const char*>>{{"dlq"},
                                                                 {"dlq", "lsit"},
                                                                 {"dlq", "show", "orders.dlq"},
                                                                 {"dlq", "show"},
                                                                 {"dlq", "list", "a.dlq", "--from", "yesterday"},
                                                                 {"dlq", "list", "a.dlq", "--redriven", "maybe"},
                                                                 {"dlq", "list", "a.dlq", "--limit", "0"},
                                                                 {"dlq", "redrive", "a.dlq", "--rate", "-1"},
                                                                 {"dlq", "redrive", "a.dlq", "--everything"}}) {
    auto line = parse(words);
    CAF_CHECK(line.command.empty());
    CAF_CHECK_EQUAL(line.exit_code, 2);
  }
}

CAF_TEST(a redrive needs to be told which letters) {
  for (const auto& words :
       std::vector<std::vector<const char*>>{{"redrive", "a.dlq"},
                                             {"redrive", "a.dlq", "0-1", "--all"},
                                             {"redrive", "a.dlq", "--all", "--error", "x"},
                                             {"redrive", "a.dlq", "0-1", "0-2", "--value", "x"},
                                             {"redrive", "a.dlq", "--all", "--value", "x"},
                                             {"redrive", "a.dlq", "0-1", "--value", "x", "--value-file", "y"},
                                             {"redrive", "a.dlq", "0-1", "--value-file", "/nowhere/at/all"},
                                             {"redrive", "a.dlq", "0-1", "--value", "\xff"},
                                             {"redrive", "a.dlq", "0-1", "--after", "0-0"}})
    CAF_CHECK_EQUAL(run(words), 2);
  CAF_CHECK(asked.empty());
}

CAF_TEST(list shows the topics in columns) {
  answer(200, {{"ok", true},
               {"topics",
                {{{"topic", "orders.dlq"},
                  {"letters", 5},
                  {"redriven", 1},
                  {"oldest", 1700000000000},
                  {"newest", nullptr},
                  {"errors", {{"rejected", 5}}},
                  {"complete", false}}}},
               {"leftOut", 7}});
  CAF_CHECK_EQUAL(run({"list"}), 0);
  CAF_CHECK_EQUAL(asked[0].path, "/kafka/dlq");
  CAF_CHECK_EQUAL(out.str(), "TOPIC       LETTERS  REDRIVEN  OLDEST                NEWEST  ERRORS\n"
                             "orders.dlq  5        1         2023-11-14T22:13:20Z  -       rejected 5, …\n"
                             "and 7 more topics; look into each by its name\n");
}

CAF_TEST(list passes its filter on and says how to go on) {
  answer(
      200,
      {{"ok", true}, {"complete", false}, {"after", "0-9"}, {"letters", {{{"id", "0-1"}, {"key", "a\x1b[31m\nb"}}}}});
  CAF_CHECK_EQUAL(run({"list", "orders.dlq", "--error", "a&b", "--text", "x y", "--limit", "5", "--after", "0-0",
                       "--redriven", "false"}),
                  0);
  CAF_CHECK_EQUAL(asked[0].path, "/kafka/dlq/orders.dlq?error=a%26b&redriven=false&text=x%20y&limit=5&after=0-0");
  CAF_CHECK(has(out, "--after 0-9"));
  CAF_CHECK(has(out, "a?[31m b")); // nothing that moves the cursor
}

CAF_TEST(json is what the server said) {
  answers.emplace_back(outbound::api_answer{200, R"({"ok":true,"letter":{"value":1.00}})"});
  CAF_CHECK_EQUAL(run({"show", "orders.dlq", "0-1", "--json"}), 0);
  CAF_CHECK_EQUAL(asked[0].path, "/kafka/dlq/orders.dlq/0-1");
  CAF_CHECK_EQUAL(out.str(), "{\"ok\":true,\"letter\":{\"value\":1.00}}\n");
}

CAF_TEST(show prints what there is of a letter) {
  answer(200, {{"ok", true},
               {"letter",
                {{"id", "0-1"},
                 {"topic", "orders.dlq"},
                 {"origin", {{"topic", "orders"}, {"partition", 2}, {"offset", 7}}},
                 {"error", "rejected"},
                 {"headers", {{{"name", "h"}, {"value", nullptr}}}},
                 {"valueEncoding", "json"},
                 {"value", {{"a", 1}}}}}});
  CAF_CHECK_EQUAL(run({"show", "orders.dlq", "0-1"}), 0);
  CAF_CHECK(has(out, "orders/2/7") && has(out, "rejected") && has(out, "h: -") && has(out, "\"a\": 1"));
}

CAF_TEST(what the server refuses is said and the exit code is 1) {
  answer(403, {{"ok", false}, {"detail", "you may not"}});
  CAF_CHECK_EQUAL(run({"list"}), 1);
  CAF_CHECK(has(err, "you may not"));
  CAF_CHECK_EQUAL(run({"list"}), 1);
  CAF_CHECK(has(err, "nobody there"));
  answers.emplace_back(outbound::api_answer{200, "<html>"});
  CAF_CHECK_EQUAL(run({"show", "a.dlq", "0-1"}), 1);
  answers.emplace_back(outbound::api_answer{502, "<html>"});
  CAF_CHECK_EQUAL(run({"redrive", "a.dlq", "--all"}), 1);
  CAF_CHECK(has(err, "502"));
}

CAF_TEST(redrive asks until all is done and never for what came meanwhile) {
  answer(207, {{"complete", false},
               {"after", "0-5"},
               {"to", 1234},
               {"skipped", 2},
               {"results", {well("0-4"), bad("0-5", "loop_guard")}}});
  answer(200, {{"complete", true}, {"to", 1234}, {"skipped", 1}, {"results", {well("0-6")}}});
  CAF_CHECK_EQUAL(run({"redrive", "orders.dlq", "--error", "rejected", "--from", "7", "--rate", "10", "--again"}), 1);
  CAF_REQUIRE_EQUAL(asked.size(), 2u);
  CAF_CHECK_EQUAL(asked[0].path, "/kafka/dlq/orders.dlq/redrive");
  CAF_CHECK(body(0) ==
            json::parse(R"({"again":true,"dryRun":false,"rate":10,"filter":{"error":"rejected","from":7}})"));
  CAF_CHECK(body(1)["after"] == "0-5" && body(1)["filter"]["to"] == 1234);
  CAF_CHECK(has(out, "0-5: loop_guard: why") && has(out, "sent back 2, not 1") && has(out, "before 3"));
}

CAF_TEST(redrive keeps to its limit) {
  answer(200, {{"complete", false}, {"after", "0-1"}, {"to", 1}, {"results", {well("0-0"), well("0-1")}}});
  CAF_CHECK_EQUAL(run({"redrive", "orders.dlq", "--all", "--limit", "2"}), 0);
  CAF_CHECK_EQUAL(body(0)["limit"].get<int>(), 2);
  CAF_CHECK_EQUAL(asked.size(), 1u);
}

CAF_TEST(ids that were not reached are sent again and an answer without any ends it) {
  answer(207, {{"complete", false}, {"results", {well("0-1"), bad("0-2", "not_reached")}}});
  answer(503, {{"complete", false}, {"detail", "no time"}, {"results", {bad("0-2", "not_reached")}}});
  CAF_CHECK_EQUAL(run({"redrive", "orders.dlq", "0-1", "0-2"}), 1);
  CAF_CHECK(body(1)["ids"] == json::parse(R"(["0-2"])"));
  CAF_CHECK(has(err, "no time"));
}

CAF_TEST(more than a thousand ids go in several requests) {
  std::vector<std::string> ids;
  for (int i = 0; i < 1500; ++i)
    ids.push_back("0-" + std::to_string(i));
  std::vector<const char*> words{"redrive", "orders.dlq"};
  for (const auto& id : ids)
    words.push_back(id.c_str());
  answer(200, {{"complete", true}, {"results", {well("0-0")}}});
  answer(200, {{"complete", true}, {"results", {well("0-1000")}}});
  CAF_CHECK_EQUAL(run(words), 0);
  CAF_CHECK_EQUAL(body(0)["ids"].size(), 1000u);
  CAF_CHECK_EQUAL(body(1)["ids"].size(), 500u);
}

CAF_TEST(redrive does not go on while Kafka takes nothing) {
  answer(503, {{"complete", false},
               {"after", "0-1"},
               {"to", 1},
               {"detail", "away"},
               {"results", {bad("0-1", "delivery_timeout")}}});
  CAF_CHECK_EQUAL(run({"redrive", "orders.dlq", "--all", "--json"}), 1);
  CAF_CHECK_EQUAL(asked.size(), 1u);
  auto shown = json::parse(out.str());
  CAF_CHECK(shown["ok"] == false && shown["failed"] == 1);
}

CAF_TEST(an edited value is sent as the text it is) {
  answer(200, {{"complete", true}, {"results", {well("0-1")}}});
  CAF_CHECK_EQUAL(run({"redrive", "orders.dlq", "0-1", "--value", "{\"b\": 1.0}", "--dry-run"}), 0);
  CAF_CHECK_EQUAL(body(0)["value"].get<std::string>(), "{\"b\": 1.0}");
  CAF_CHECK_EQUAL(body(0)["dryRun"].get<bool>(), true);
  CAF_CHECK(has(out, "would send back 1"));
}

CAF_TEST(what is no url of a server is refused) {
  for (const auto* right : {"https://[::1]:8443/gate/", "http://example", "http://localhost:3000"})
    CAF_CHECK(outbound::is_server_url(right));
  for (const auto* wrong : {"", "localhost:3000", "ftp://x", "http://", "http://x:99999", "http://x:y", "http://a@x",
                            "http://x?y", "http://x#y", "http://x y"})
    CAF_CHECK(!outbound::is_server_url(wrong));
}

CAF_TEST_FIXTURE_SCOPE_END()
