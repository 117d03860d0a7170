// The notification processor with notifiers that only remember; templates; the rate limit.
#define CAF_SUITE notification

#include "notification.hpp"

#include <mutex>

#include <caf/test/dsl.hpp>
#include <nlohmann/json.hpp>

#include "rate_limit.hpp"
#include "sluice/testing.hpp"
#include "sluice/text_template.hpp"

using namespace sluice;
using namespace std::chrono_literals;
using nlohmann::json;

namespace {

/// Remembers what it was told, and answers as it was told to.
class memory : public notifier {
public:
  caf::error tell(const std::string& to, const notification& what, const std::function<bool()>&) override {
    told.emplace_back(to, what);
    return answer;
  }
  std::vector<std::pair<std::string, notification>> told;
  caf::error answer;
};

struct fixture {
  config cfg;
  std::shared_ptr<memory> telegram = std::make_shared<memory>();
  std::shared_ptr<memory> email = std::make_shared<memory>();

  fixture() {
    cfg.templates.push_back({"welcome", "Hi {{user.name}}", "{{ user.name }} has {{points}}", "<b>{{user.name}}</b>"});
    cfg.templates.push_back({"plain", "", "{{text}}", ""});
  }
  testing::processor_harness make() {
    return testing::processor_harness{
        make_processor(notification_function(cfg, {{"telegram", telegram}, {"email", email}}))};
  }
  static record in(const json& value, std::string key = "") {
    return {"notification.send", 0, 7, std::move(key), value.dump(), {{"sluice-event-id", "e1"}}, 1000};
  }
};

json value_of(const outgoing_record& what) {
  return json::parse(what.value.value_or("null"));
}

void same(const json& is, const json& wanted) {
  if (is != wanted)
    CAF_ERROR(is.dump() << " is not " << wanted.dump());
}

std::string expanded(std::string_view text) {
  auto result = expand(text, [](std::string_view name) -> caf::expected<std::string> {
    if (name == "none")
      return make_failure(ec::rejected, "no such field");
    return "[" + std::string{name} + "]";
  });
  return result ? *result : describe(result.error());
}

} // namespace

// -- templates --------------------------------------------------------------------------------------------------------

CAF_TEST(fields are filled in) {
  CAF_CHECK_EQUAL(expanded(""), "");
  CAF_CHECK_EQUAL(expanded("no field, { } and }}"), "no field, { } and }}");
  CAF_CHECK_EQUAL(expanded("{{a}}{{ b.c-d_1 }}!"), "[a][b.c-d_1]!");
  CAF_CHECK_EQUAL(expanded("x {{none}}"), "rejected: no such field");
}

CAF_TEST(what is no field is an error) {
  for (const char* bad : {"{{", "{{a", "{{}}", "{{ }}", "{{a b}}", "{{.a}}", "{{a.}}", "{{a{{b}}", "{{#if}}"})
    if (template_problem(bad).empty())
      CAF_ERROR(bad);
  CAF_CHECK_EQUAL(template_problem("{{a}} {{b.c}}"), "");
}

CAF_TEST(a filled in field is not looked at again) {
  auto result = expand("{{a}}", [](std::string_view) -> caf::expected<std::string> { return std::string{"{{a}}"}; });
  CAF_CHECK_EQUAL(*result, "{{a}}");
}

CAF_TEST(HTML has five characters to escape) {
  CAF_CHECK_EQUAL(escape_html("<a href=\"x\">'&'</a>"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;");
}

// -- the rate limit ---------------------------------------------------------------------------------------------------

CAF_TEST(a burst goes through and then the rate holds) {
  rate_limit limit{60, 3};
  const rate_limit::clock::time_point at{1000s};
  for (int i = 0; i < 3; ++i)
    CAF_CHECK(limit.take("a", at) == 0ms);
  CAF_CHECK(limit.take("a", at) == 1000ms);
  CAF_CHECK(limit.take("a", at + 400ms) == 600ms);
  CAF_CHECK(limit.take("b", at) == 0ms);
  CAF_CHECK(limit.take("a", at + 1s) == 0ms);
  CAF_CHECK(limit.take("a", at + 1s) == 1000ms);
  CAF_CHECK(limit.take("a", at + 1h) == 0ms);
  CAF_CHECK(limit.take("a", at + 1h) == 0ms);
  CAF_CHECK(limit.take("a", at + 1h) == 0ms);
  CAF_CHECK(limit.take("a", at + 1h) == 1000ms); // it does not save up more than a burst
}

CAF_TEST(no rate is no limit) {
  rate_limit limit{0, 0};
  for (int i = 0; i < 1000; ++i)
    CAF_CHECK(limit.take("a", {}) == 0ms);
  CAF_CHECK_EQUAL(limit.size(), 0u);
}

CAF_TEST(targets that are not used any more are forgotten) {
  rate_limit limit{60, 1};
  rate_limit::clock::time_point at{1000s};
  for (int i = 0; i < 100000; ++i, at += 1ms)
    limit.take("k" + std::to_string(i), at);
  CAF_CHECK_LESS(limit.size(), 4000u); // a bucket is full after a second
}

// -- the processor ----------------------------------------------------------------------------------------------------

CAF_TEST_FIXTURE_SCOPE(notification_tests, fixture)

CAF_TEST(a request becomes a delivery for each target) {
  auto processor = make();
  auto result = processor.push(in({{"title", "T"},
                                   {"body", "B"},
                                   {"data", {{"x", 1}}},
                                   {"targets",
                                    {{{"channel", "telegram"}, {"to", "7"}},
                                     {{"channel", "email"}, {"to", "ann@example.com"}},
                                     {{"channel", "telegram"}, {"to", "7"}},
                                     {{"channel", "live"}, {"to", "ann"}}}}}));
  CAF_REQUIRE(result);
  CAF_REQUIRE_EQUAL(result.emitted.size(), 3u); // the repeated one is one
  std::vector<std::string> keys;
  for (const auto& one : result.emitted) {
    CAF_CHECK_EQUAL(one.topic, "notification.send");
    keys.push_back(one.key.value_or(""));
  }
  CAF_CHECK_EQUAL(keys, (std::vector<std::string>{"email:ann@example.com", "live:ann", "telegram:7"}));
  same(value_of(result.emitted[0]), (json{{"type", "notification.send"},
                                          {"data",
                                           {{"title", "T"},
                                            {"body", "B"},
                                            {"data", {{"x", 1}}},
                                            {"targets", {{{"channel", "email"}, {"to", "ann@example.com"}}}}}},
                                          {"metadata", {{"eventId", "e1"}, {"timestamp", 1000}}}}));
  CAF_CHECK(telegram->told.empty() && email->told.empty());
}

CAF_TEST(a delivery is told and reported) {
  auto processor = make();
  auto request =
      processor.push(in({{"title", "T"}, {"body", "B"}, {"targets", {{{"channel", "telegram"}, {"to", "7"}}}}}));
  CAF_REQUIRE_EQUAL(request.emitted.size(), 1u);
  const auto& sent = request.emitted[0];
  record delivery{sent.topic, 0, 8, *sent.key, *sent.value, sent.headers, 2000};
  auto result = processor.push(delivery, 3);
  CAF_REQUIRE(result);
  CAF_REQUIRE_EQUAL(telegram->told.size(), 1u);
  const auto& [to, what] = telegram->told[0];
  CAF_CHECK_EQUAL(to, "7");
  CAF_CHECK_EQUAL(what.id, "e1/1");
  CAF_CHECK_EQUAL(what.title, "T");
  CAF_CHECK_EQUAL(what.text, "B");
  same(json::parse(what.json), (json{{"id", "e1/1"}, {"timestamp", 2000}, {"title", "T"}, {"body", "B"}}));
  CAF_REQUIRE_EQUAL(result.emitted.size(), 1u);
  CAF_CHECK_EQUAL(result.emitted[0].topic, "notification.sent");
  same(value_of(result.emitted[0])["data"], (json{{"notificationId", "e1"},
                                                  {"deliveryId", "e1/1"},
                                                  {"channel", "telegram"},
                                                  {"to", "7"},
                                                  {"title", "T"},
                                                  {"status", "sent"},
                                                  {"attempts", 3}}));
}

CAF_TEST(a delivery that fails reports nothing and says why) {
  telegram->answer = make_failure(ec::target_unavailable, "away");
  auto result = make().push(in({{"body", "B"}, {"targets", {{{"channel", "telegram"}, {"to", "7"}}}}}, "telegram:7"));
  CAF_CHECK_EQUAL(describe(result.error), "target_unavailable: away");
  CAF_CHECK(result.emitted.empty());
}

CAF_TEST(a user s own channel gets the broadcast) {
  auto result =
      make().push(in({{"title", "T"}, {"body", "B"}, {"targets", {{{"channel", "live"}, {"to", "ann"}}}}}, "live:ann"));
  CAF_REQUIRE_EQUAL(result.emitted.size(), 2u);
  const auto& live = result.emitted[0];
  CAF_CHECK_EQUAL(live.topic, "sluice-broadcast");
  CAF_CHECK_EQUAL(live.key.value_or(""), "user:ann");
  CAF_CHECK_EQUAL(live.headers[0].name, "sluice-event");
  CAF_CHECK_EQUAL(live.headers[0].value, "notification");
  same(value_of(live)["body"], "B");
  CAF_CHECK_EQUAL(result.emitted[1].topic, "notification.sent");
}

CAF_TEST(what is nested too deeply is refused before it is looked at) {
  auto processor = make();
  auto levels = [&](size_t count) {
    auto what = in({});
    what.value = R"({"title":"T","targets":[{"channel":"live","to":"ann"}],"data":{"a":)" + std::string(count, '[') +
                 std::string(count, ']') + "}}";
    return code_of(processor.push(std::move(what)).error);
  };
  CAF_CHECK(levels(63) == ec::no_error);
  CAF_CHECK(levels(100) == ec::malformed_record);
  CAF_CHECK(levels(300000) == ec::malformed_record);
}

CAF_TEST(a template is filled in before anything is sent) {
  auto result = make().push(in({{"template", "welcome"},
                                {"data", {{"user", {{"name", "<Ann>"}}}, {"points", 7}}},
                                {"targets", {{{"channel", "email"}, {"to", "ann@example.com"}}}}}));
  CAF_REQUIRE_EQUAL(result.emitted.size(), 1u);
  auto data = value_of(result.emitted[0])["data"];
  same(data["title"], "Hi <Ann>");
  same(data["body"], "<Ann> has 7");
  same(data["html"], "<b>&lt;Ann&gt;</b>");
}

CAF_TEST(what is wrong with a request is said and not tried again) {
  auto processor = make();
  auto check = [&](const json& value, ec code, const std::string& text) {
    auto result = processor.push(in(value));
    CAF_MESSAGE(value.dump() << " -> " << describe(result.error));
    CAF_CHECK_EQUAL(code_of(result.error), code);
    CAF_CHECK(text_of(result.error).find(text) != std::string::npos);
    CAF_CHECK(!is_retryable(code));
  };
  const json seven{{{"channel", "telegram"}, {"to", "7"}}};
  check(json::array(), ec::malformed_record, "a JSON object");
  check({{"targets", seven}}, ec::rejected, "neither title nor body");
  check({{"body", 7}, {"targets", seven}}, ec::malformed_record, "body is not a text");
  check({{"body", "B"}}, ec::rejected, "names no targets");
  check({{"body", "B"}, {"targets", json::array()}}, ec::malformed_record, "targets is not a list");
  check({{"body", "B"}, {"targets", {"telegram"}}}, ec::malformed_record, "targets/0 is not a target");
  check({{"body", "B"}, {"targets", {{{"channel", "telegram"}, {"to", 7}}}}}, ec::malformed_record,
        "targets/0/to is not");
  check({{"body", "B"}, {"targets", {{{"channel", "telegram"}}}}}, ec::rejected, "lacks \"to\"");
  check({{"body", "B"}, {"targets", {{{"channel", "fax"}, {"to", "7"}}}}}, ec::rejected, "live, email, telegram");
  check({{"template", "none"}, {"targets", seven}}, ec::rejected, "no template \"none\"");
  check({{"template", "welcome"}, {"data", {{"user", {{"name", "A"}}}}}, {"targets", seven}}, ec::rejected,
        "template \"welcome\": the template's field {{points}} is not in data");
  check({{"template", "plain"}, {"data", {{"text", json::array()}}}, {"targets", seven}}, ec::rejected,
        "neither a text");
  check({{"template", "plain"}, {"data", 7}, {"targets", seven}}, ec::malformed_record, "data is not an object");
}

CAF_TEST(defaults stand in for targets that are not named) {
  cfg.notification.telegram_chat = "7";
  cfg.notification.smtp_to = {"a@example.com", "b@example.com"};
  cfg.notification.webhook_url = "https://example.com"; // of a channel that is not there
  auto processor = make();
  auto keys = [](const testing::processed& result) {
    std::vector<std::string> all;
    for (const auto& one : result.emitted)
      all.push_back(one.key.value_or(""));
    return all;
  };
  CAF_CHECK_EQUAL(keys(processor.push(in({{"body", "B"}}))),
                  (std::vector<std::string>{"email:a@example.com", "email:b@example.com", "telegram:7"}));
  CAF_CHECK_EQUAL(keys(processor.push(in({{"body", "B"}, {"targets", {{{"channel", "email"}}}}}))),
                  (std::vector<std::string>{"email:a@example.com", "email:b@example.com"}));
}

CAF_TEST(an envelope s event id goes along) {
  auto result = make().push(in({{"type", "notification.send"},
                                {"data", {{"body", "B"}, {"targets", {{{"channel", "telegram"}, {"to", "7"}}}}}},
                                {"metadata", {{"eventId", "mine"}, {"tenantId", "t"}}}}));
  CAF_REQUIRE_EQUAL(result.emitted.size(), 1u);
  same(value_of(result.emitted[0])["metadata"], (json{{"eventId", "mine"}, {"tenantId", "t"}, {"timestamp", 1000}}));
}

CAF_TEST(too many for one target have to wait and are not sent) {
  cfg.notification.rate = 1;
  cfg.notification.burst = 1;
  auto processor = make();
  auto delivery = in({{"body", "B"}, {"targets", {{{"channel", "telegram"}, {"to", "7"}}}}}, "telegram:7");
  CAF_CHECK(processor.push(delivery));
  auto second = processor.push(delivery);
  CAF_CHECK_EQUAL(code_of(second.error), ec::rate_limited);
  auto wait = retry_after_of(second.error);
  CAF_REQUIRE(wait);
  CAF_CHECK(*wait > 50s && *wait <= 60s);
  CAF_CHECK_EQUAL(telegram->told.size(), 1u);
  CAF_CHECK(processor.push(in({{"body", "B"}, {"targets", {{{"channel", "telegram"}, {"to", "8"}}}}}, "telegram:8")));
}

CAF_TEST_FIXTURE_SCOPE_END()

CAF_TEST(the processor has the names of the documents) {
  config cfg;
  CAF_CHECK(!sends_notifications(cfg));
  cfg.notification.smtp_host = "mail.example.com";
  CAF_CHECK(sends_notifications(cfg));
  auto settings = notification_settings(cfg);
  CAF_CHECK_EQUAL(settings.group, "paka-notification-processor");
  CAF_CHECK_EQUAL(settings.topics, std::vector<std::string>{"notification.send"});
  CAF_CHECK_EQUAL(settings.outputs, std::vector<std::string>{"notification.sent"});
  CAF_CHECK(settings.timeout > cfg.notification.timeout);
}
