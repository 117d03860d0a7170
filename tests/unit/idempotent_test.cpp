#define CAF_SUITE idempotent

#include "http/routes.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include <caf/test/unit_test.hpp>
#include <nlohmann/json.hpp>

using namespace sluice;
using nlohmann::json;
using state = standing::state;

namespace {

/// The routes, before a store in memory and a Kafka that takes what it is given.
struct fixture {
  fixture() {
    config cfg;
    cfg.token = "secret";
    with.access = *http::authenticator::make(cfg);
    with.events_topic = "events-topic";
    with.broadcast_topic = "sluice-broadcast";
    with.publish = [this](std::vector<outgoing_record> records, auto answer) {
      std::vector<delivery> results;
      for (auto& one : records) {
        results.push_back({one.topic, 0, 7, error, "no", queued});
        published.push_back(std::move(one));
      }
      if (hold)
        held = [answer, results] { answer(results); };
      else
        answer(results);
    };
    with.claim = [this](const claim& what, auto answer) {
      if (broken) {
        answer(broken);
        return;
      }
      auto [it, fresh] = known.try_emplace(what.scope + "/" + what.id, standing{state::busy, what.fingerprint, ""});
      answer(fresh ? standing{} : it->second);
    };
    with.settle = [this](const settlement& what, auto answer) {
      settled.push_back(what);
      auto key = what.scope + "/" + what.id;
      if (what.done) {
        known[key].what = state::done;
        known[key].answer = what.answer;
      } else {
        known.erase(key);
      }
      answer(settle_error);
    };
  }
  http::response post(const std::string& path, const std::string& body, const std::string& key,
                      const std::string& type = "application/json") {
    http::request req;
    req.method = "POST";
    req.path = path;
    req.headers = {{"content-type", type}, {"authorization", "Bearer secret"}, {"idempotency-key", key}};
    req.body = body;
    auto routes = http::make_routes(with);
    auto match = routes.find("POST", path);
    CAF_REQUIRE(match.found != nullptr);
    req.params = match.params;
    http::response got;
    got.status = 0;
    match.found->answer(req, [this, &got](http::response answer) {
      if (hold)
        late = std::move(answer);
      else
        got = std::move(answer);
    });
    return got;
  }
  static bool is_replayed(const http::response& got) {
    return std::any_of(got.headers.begin(), got.headers.end(),
                       [](const auto& one) { return one.first == "Idempotent-Replayed" && one.second == "true"; });
  }
  http::api with;
  std::vector<outgoing_record> published;
  std::map<std::string, standing> known;
  std::vector<settlement> settled;
  std::function<void()> held;
  http::response late;
  caf::error broken, settle_error;
  ec error = ec::no_error;
  bool queued = false;
  bool hold = false;
};

} // namespace

CAF_TEST_FIXTURE_SCOPE(idempotent_tests, fixture)

CAF_TEST(the same request by the same key is carried out once and answered alike) {
  for (const auto* path :
       {"/events", "/kafka/send/t", "/kafka/send/t/batch", "/notifications", "/notifications/session-starting-soon",
        "/notifications/concept-mastered", "/kafka/sse/broadcast/alerts"}) {
    std::string body = std::string{path}.ends_with("batch")          ? "[{\"value\":1},{\"value\":2}]"
                       : std::string{path}.starts_with("/kafka/sse") ? "{\"data\":1}"
                       : std::string{path}.starts_with("/kafka")     ? "{\"value\":1}"
                       : std::string{path}.ends_with("soon")         ? "{\"sessionId\":\"s\",\"userIds\":[\"u\"]}"
                       : std::string{path}.ends_with("mastered")     ? "{\"conceptId\":\"s\",\"userIds\":[\"u\"]}"
                       : path == std::string{"/notifications"}       ? "{\"userIds\":[\"u\"]}"
                                                                     : "{\"x\":1}";
    auto before = published.size();
    auto first = post(path, body, std::string{"key"} + path);
    CAF_MESSAGE(path << " " << first.body);
    CAF_CHECK(first.status == 200 || first.status == 202);
    CAF_CHECK(!is_replayed(first));
    auto count = published.size();
    CAF_CHECK(count > before);
    auto second = post(path, body, std::string{"key"} + path);
    CAF_CHECK_EQUAL(published.size(), count);
    CAF_CHECK_EQUAL(second.status, first.status);
    CAF_CHECK_EQUAL(second.body, first.body);
    CAF_CHECK_EQUAL(second.content_type, first.content_type);
    CAF_CHECK(is_replayed(second));
  }
}

CAF_TEST(another request by the same key is refused) {
  post("/events", "{\"x\":1}", "k");
  CAF_CHECK_EQUAL(post("/events", "{\"x\":2}", "k").status, 422);
  CAF_CHECK_EQUAL(post("/kafka/send/t", "{\"x\":1}", "k").status, 422);
  CAF_CHECK_EQUAL(post("/events", "{\"x\":1}", "k", "application/x-ndjson").status, 422);
  CAF_CHECK_EQUAL(published.size(), 1u);
}

CAF_TEST(a request under way is not begun again) {
  hold = true;
  post("/events", "{\"x\":1}", "k");
  hold = false;
  auto second = post("/events", "{\"x\":1}", "k");
  CAF_CHECK_EQUAL(second.status, 409);
  CAF_CHECK_EQUAL(post("/events", "{\"x\":2}", "k").status, 422);
  hold = true;
  held();
  CAF_CHECK_EQUAL(late.status, 202);
  hold = false;
  CAF_CHECK(is_replayed(post("/events", "{\"x\":1}", "k")));
  CAF_CHECK_EQUAL(published.size(), 1u);
}

CAF_TEST(what failed frees its key and has the same event id next time) {
  error = ec::delivery_timeout;
  CAF_CHECK_EQUAL(post("/events", "{\"x\":1}", "k").status, 503);
  error = ec::no_error;
  auto second = post("/events", "{\"x\":1}", "k");
  CAF_CHECK_EQUAL(second.status, 202);
  CAF_CHECK(!is_replayed(second));
  CAF_REQUIRE_EQUAL(published.size(), 2u);
  CAF_CHECK_EQUAL(published[0].headers.at(0).name, "sluice-event-id");
  CAF_CHECK_EQUAL(published[0].headers.at(0).value, published[1].headers.at(0).value);
  CAF_CHECK_EQUAL(json::parse(second.body).at("eventId").get<std::string>(), published[1].headers.at(0).value);
}

CAF_TEST(event ids differ within a request and between requests) {
  post("/events", "[{},{}]", "k");
  post("/events", "[{},{}]", "l");
  std::set<std::string> ids;
  for (const auto& one : published)
    ids.insert(one.headers.at(0).value);
  CAF_CHECK_EQUAL(ids.size(), 4u);
  for (const auto& id : ids)
    CAF_CHECK(id.size() == 36 && id[14] == '8');
}

CAF_TEST(a body that is wrong frees the key) {
  CAF_CHECK_EQUAL(post("/events", "{", "k").status, 400);
  CAF_CHECK_EQUAL(post("/events", "{}", "k").status, 202);
}

CAF_TEST(keys are bounded) {
  for (const auto& key : {std::string{}, std::string(256, 'x'), std::string{"a b"}, std::string{"\xc3\xa4"}}) {
    auto got = post("/events", "{}", key);
    CAF_CHECK_EQUAL(got.status, 400);
    CAF_CHECK_EQUAL(json::parse(got.body).at("field").get<std::string>(), "Idempotency-Key");
  }
  CAF_CHECK_EQUAL(post("/events", "{}", std::string(255, 'x')).status, 202);
  CAF_CHECK_EQUAL(published.size(), 1u);
}

CAF_TEST(without its store a keyed request is refused before anything happens) {
  broken = make_failure(ec::store_unavailable, "store.url: gone");
  CAF_CHECK_EQUAL(post("/events", "{}", "k").status, 503);
  broken = make_failure(ec::storage_full, "store.url: full");
  CAF_CHECK_EQUAL(post("/events", "{}", "k").status, 507);
  CAF_CHECK(published.empty());
}

CAF_TEST(what has happened is answered even where it cannot be remembered) {
  settle_error = make_failure(ec::store_unavailable, "store.url: gone");
  CAF_CHECK_EQUAL(post("/events", "{}", "k").status, 202);
}

CAF_TEST(what is in the outbox is said to be queued) {
  queued = true;
  auto got = post("/kafka/send/t", "{\"value\":1}", "k");
  CAF_CHECK_EQUAL(got.status, 202);
  auto body = json::parse(got.body);
  CAF_CHECK(body.at("queued").get<bool>());
  CAF_CHECK_EQUAL(body.at("topic").get<std::string>(), "t");
  CAF_CHECK(!body.contains("offset"));
  CAF_CHECK(body.at("eventId").is_string());
  CAF_CHECK(body.at("results").at(0).at("queued").get<bool>());
  CAF_CHECK(is_replayed(post("/kafka/send/t", "{\"value\":1}", "k")));
}

CAF_TEST_FIXTURE_SCOPE_END()
