#define CAF_SUITE live_channels

#include "live_channels.hpp"

#include "sluice/wildcard.hpp"

#include "fixture.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

/// One record with a key and headers.
class full_record : public record_batch {
public:
  full_record(std::string topic, std::string key, std::string value, std::vector<record_header> headers = {})
      : topic_(std::move(topic)), key_(std::move(key)), value_(std::move(value)), headers_(std::move(headers)) {
    view_.key = key_;
    view_.has_key = !key_.empty();
    view_.value = value_;
    view_.has_value = true;
  }
  const std::string& topic() const noexcept override { return topic_; }
  int32_t partition() const noexcept override { return 0; }
  std::span<const record_view> records() const noexcept override { return {&view_, 1}; }
  std::vector<record_header> headers(std::size_t) const override { return headers_; }

private:
  std::string topic_, key_, value_;
  std::vector<record_header> headers_;
  record_view view_;
};

config with_channels(std::vector<channel_config> channels) {
  config cfg;
  cfg.channels = std::move(channels);
  return cfg;
}

std::string shown(channel_finder& finder, const record_batch& record) {
  std::string text;
  bool skipped = false;
  for (const auto& one : finder.find(record, 0, skipped))
    text += one.channel + "|" + one.event + "|" + std::string{one.data} + "\n";
  return skipped && text.empty() ? "skipped" : text;
}

} // namespace

CAF_TEST(stars stand for any characters) {
  CAF_CHECK(fits_pattern("orders.*", "orders.eu"));
  CAF_CHECK(fits_pattern("*.eu", "orders.eu"));
  CAF_CHECK(fits_pattern("o*s.*u", "orders.eu"));
  CAF_CHECK(fits_pattern("*", ""));
  CAF_CHECK(!fits_pattern("orders.*", "orders"));
  CAF_CHECK(!fits_pattern("orders", "orders.eu"));
  CAF_CHECK(!fits_pattern("", "x"));
  CAF_CHECK(!fits_pattern("*a*a*a*a*a*a*a*b", std::string(5000, 'a')));
}

CAF_TEST(events and summaries share a channel and summaries are wrapped) {
  channel_finder finder{make_channel_rules(config{})};
  CAF_CHECK_EQUAL(shown(finder, full_record("events-topic", "", "{\"a\":1}")), "events||{\"a\":1}\n");
  CAF_CHECK_EQUAL(shown(finder, full_record("events-summary-table", "default", "{\"id\":1}")),
                  "events||{\"type\":\"summary\",\"data\":{\"id\":1}}\n");
  CAF_CHECK_EQUAL(shown(finder, full_record("other", "", "{}")), "");
}

CAF_TEST(a broadcast goes to the channel that is its key) {
  channel_finder finder{make_channel_rules(config{})};
  CAF_CHECK_EQUAL(
      shown(finder, full_record("sluice-broadcast", "alerts", "\"hi\"", {{"sluice-event", "system_alert"}})),
      "alerts|system_alert|\"hi\"\n");
  CAF_CHECK_EQUAL(shown(finder, full_record("sluice-broadcast", "", "1")), "skipped");
  CAF_CHECK_EQUAL(shown(finder, full_record("sluice-broadcast", "a\nb", "1")), "skipped");
  CAF_CHECK_EQUAL(shown(finder, full_record("sluice-broadcast", "a", "not json")), "skipped");
}

CAF_TEST(a notification goes to each of its users who do not see the others) {
  channel_finder finder{make_channel_rules(config{})};
  auto text = R"({"type":"concept_mastered","userIds":["u1","u2","u1"],"conceptId":"c"})";
  CAF_CHECK_EQUAL(shown(finder, full_record("concept-notifications", "c", text)),
                  "user:u1|concept_mastered|{\"type\":\"concept_mastered\",\"conceptId\":\"c\"}\n"
                  "user:u2|concept_mastered|{\"type\":\"concept_mastered\",\"conceptId\":\"c\"}\n");
}

CAF_TEST(channels are found by topic pattern pointer and header) {
  channel_config by_topic, by_pointer, by_header;
  by_topic.name = "{topic}";
  by_topic.topics = {"orders.*"};
  by_pointer.name = "customer.{value}";
  by_pointer.topics = {"orders.eu"};
  by_pointer.pointer = "/customer/id";
  by_pointer.event_pointer = "/kind";
  by_pointer.event = "order";
  by_header.name = "h-{value}";
  by_header.topics = {"orders.us"};
  by_header.header = "region";
  channel_finder finder{make_channel_rules(with_channels({by_topic, by_pointer, by_header}))};
  CAF_CHECK_EQUAL(shown(finder, full_record("orders.eu", "", R"({"customer":{"id":7},"kind":"paid"})")),
                  "orders.eu||{\"customer\":{\"id\":7},\"kind\":\"paid\"}\n"
                  "customer.7|paid|{\"customer\":{\"id\":7},\"kind\":\"paid\"}\n");
  CAF_CHECK_EQUAL(shown(finder, full_record("orders.eu", "", R"({"customer":{"id":"x"},"kind":"a\nb"})")),
                  "orders.eu||{\"customer\":{\"id\":\"x\"},\"kind\":\"a\\nb\"}\n"
                  "customer.x|order|{\"customer\":{\"id\":\"x\"},\"kind\":\"a\\nb\"}\n");
  CAF_CHECK_EQUAL(shown(finder, full_record("orders.us", "", "1", {{"region", "west"}})), "orders.us||1\nh-west||1\n");
  CAF_CHECK(finder.feeds("orders.eu", "customer.9"));
  CAF_CHECK(!finder.feeds("orders.us", "customer.9"));
  CAF_CHECK(finder.feeds("sluice-broadcast", "anything"));
  CAF_CHECK(finder.feeds("notifications", "user:x"));
  CAF_CHECK(!finder.feeds("notifications", "orders.eu"));
}

CAF_TEST(a pattern of topics leaves broadcasts alone) {
  channel_config all;
  all.name = "{topic}";
  all.topics = {"*"};
  channel_finder finder{make_channel_rules(with_channels({all}))};
  CAF_CHECK_EQUAL(shown(finder, full_record("sluice-broadcast", "alerts", "1")), "alerts||1\n");
}

CAF_TEST(of several policies the strictest holds) {
  channel_config prices;
  prices.name = "prices";
  prices.topics = {"ticks"};
  prices.policy = "latest";
  channel_finder finder{make_channel_rules(with_channels({prices}))};
  CAF_CHECK(finder.policy_of("prices") == slow_policy::latest);
  CAF_CHECK(finder.policy_of("events") == slow_policy::disconnect);
  CAF_CHECK(finder.policy_of("unheard-of") == slow_policy::disconnect);
}
