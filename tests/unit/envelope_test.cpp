#define CAF_SUITE envelope

#include "sluice/envelope.hpp"

#include <set>
#include <stdexcept>

#include <caf/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include "sluice/config_check.hpp"
#include "sluice/testing.hpp"
#include "sluice/topics.hpp"

using namespace sluice;
using nlohmann::json;

namespace {

record carried(const std::string& value, std::vector<record_header> headers = {}) {
  return {"user.created", 2, 7, "123", value, std::move(headers), 1795244255286};
}

std::string wrong_with(const std::string& value) {
  auto found = event_of(carried(value));
  if (found)
    return "nothing";
  CAF_CHECK(code_of(found.error()) == ec::malformed_record);
  return text_of(found.error());
}

} // namespace

CAF_TEST(an event goes through a record and back) {
  auto sent = create_event("USER_CREATED", R"({"userId":"123","n":18446744073709551615})",
                           {.source = "auth-service", .tenant_id = "t-1", .correlation_id = "c-1"});
  CAF_CHECK_EQUAL(sent.metadata.event_id.size(), 36u);
  CAF_CHECK(sent.metadata.timestamp_ms > 1700000000000);
  auto out = to_record(topics::user_created, sent, "123");
  CAF_CHECK_EQUAL(out.topic, "user.created");
  CAF_CHECK_EQUAL(*out.key, "123");
  auto text = json::parse(*out.value);
  std::set<std::string> fields, metadata_fields;
  for (const auto& [name, value] : text.items())
    fields.insert(name);
  for (const auto& [name, value] : text["metadata"].items())
    metadata_fields.insert(name);
  CAF_CHECK((fields == std::set<std::string>{"type", "data", "metadata"}));
  CAF_CHECK((metadata_fields ==
             std::set<std::string>{"eventId", "timestamp", "source", "tenantId", "correlationId", "version"}));
  CAF_CHECK(out.value->find(sent.data) != std::string::npos);
  CAF_CHECK_EQUAL(*find_header(out.headers, "sluice-event-id"), sent.metadata.event_id);
  CAF_CHECK_EQUAL(*find_header(out.headers, "sluice-correlation-id"), "c-1");

  auto got = event_of(carried(*out.value, out.headers));
  CAF_REQUIRE(got);
  CAF_CHECK_EQUAL(got->type, sent.type);
  CAF_CHECK_EQUAL(got->data, sent.data);
  CAF_CHECK_EQUAL(got->metadata.event_id, sent.metadata.event_id);
  CAF_CHECK_EQUAL(got->metadata.timestamp_ms, sent.metadata.timestamp_ms);
  CAF_CHECK_EQUAL(got->metadata.source, "auth-service");
  CAF_CHECK_EQUAL(got->metadata.tenant_id, "t-1");
  CAF_CHECK_EQUAL(got->metadata.correlation_id, "c-1");
  CAF_CHECK_EQUAL(got->metadata.version, 1u);
}

CAF_TEST(what an event does not say is left out) {
  auto metadata = json::parse(to_json(create_event("X", "null")))["metadata"];
  CAF_CHECK(!metadata.contains("tenantId"));
  CAF_CHECK(!metadata.contains("correlationId"));
  CAF_CHECK_EQUAL(metadata["source"].get<std::string>(), "sluice");
  auto quoted = create_event("a \"type\"\n", "[]", {.source = "\xff"});
  CAF_CHECK_EQUAL(json::parse(to_json(quoted))["type"].get<std::string>(), "a \"type\"\n");
}

CAF_TEST(bare JSON is an event whose metadata is in the headers) {
  auto found = event_of(carried(R"({"userId":"123"})", {{"sluice-event-id", "e-1"}, {"sluice-correlation-id", "c-1"}}));
  CAF_REQUIRE(found);
  CAF_CHECK_EQUAL(found->type, "user.created");
  CAF_CHECK_EQUAL(found->data, R"({"userId":"123"})");
  CAF_CHECK_EQUAL(found->metadata.event_id, "e-1");
  CAF_CHECK_EQUAL(found->metadata.correlation_id, "c-1");
  CAF_CHECK_EQUAL(found->metadata.timestamp_ms, 1795244255286);
  CAF_CHECK_EQUAL(found->metadata.source, "");
  auto nameless = event_of(carried("[1]"));
  CAF_REQUIRE(nameless);
  CAF_CHECK_EQUAL(nameless->metadata.event_id, "user.created/2/7");
}

CAF_TEST(an envelope without metadata takes it from record and headers) {
  auto found = event_of(carried(R"({"type":"T","data":1})", {{"sluice-event-id", "e-1"}}));
  CAF_REQUIRE(found);
  CAF_CHECK_EQUAL(found->type, "T");
  CAF_CHECK_EQUAL(found->data, "1");
  CAF_CHECK_EQUAL(found->metadata.event_id, "e-1");
}

CAF_TEST(what is no event says why) {
  CAF_CHECK_EQUAL(wrong_with(""), "the value is not JSON");
  CAF_CHECK_EQUAL(wrong_with("{\"type\""), "the value is not JSON");
  CAF_CHECK_EQUAL(wrong_with(R"({"type":"T","data":1,"metadata":[]})"), "metadata must be an object, not array");
  CAF_CHECK_EQUAL(wrong_with(R"({"type":"T","data":1,"metadata":{"eventId":7}})"),
                  "metadata.eventId must be a string, not 7");
  CAF_CHECK_EQUAL(wrong_with(R"({"type":"T","data":1,"metadata":{"timestamp":"now"}})"),
                  R"(metadata.timestamp must be a whole number, not "now")");
  CAF_CHECK_EQUAL(wrong_with(R"({"type":"T","data":1,"metadata":{"version":-1}})"),
                  "metadata.version must be a whole number, not -1");
  CAF_CHECK_EQUAL(wrong_with(std::string(1000000, '[')), "the value is nested deeper than 64 levels");
}

CAF_TEST(what would be no event is not made) {
  auto made = [](const std::string& type, const std::string& data) {
    try {
      create_event(type, data);
      return true;
    } catch (const std::invalid_argument&) {
      return false;
    }
  };
  CAF_CHECK(made("X", std::string(64, '[') + std::string(64, ']')));
  CAF_CHECK(!made("X", std::string(65, '[') + std::string(65, ']')));
  CAF_CHECK(!made("", "{}"));
  CAF_CHECK(!made("X", "{"));
  CAF_CHECK(!made("X", "\"\xff\""));
}

CAF_TEST(a processor of events gets them and refuses what is none) {
  testing::processor_harness sut{make_event_processor([](const event& what, context& out) -> caf::error {
    out.emit(to_record(topics::notification_send, create_event("SEEN", what.data), out.input().key));
    return {};
  })};
  auto result = sut.push(carried(R"({"type":"T","data":{"a":1}})"));
  CAF_REQUIRE(result);
  CAF_REQUIRE_EQUAL(result.emitted.size(), 1u);
  CAF_CHECK_EQUAL(result.emitted[0].topic, "notification.send");
  CAF_CHECK_EQUAL(json::parse(*result.emitted[0].value)["data"].dump(), R"({"a":1})");
  CAF_CHECK(code_of(sut.push(carried("none")).error) == ec::malformed_record);
}

CAF_TEST(each topic of the catalogue is one and is there once) {
  std::set<std::string_view> seen;
  for (auto topic : topics::catalogue) {
    CAF_CHECK(is_topic_name(topic));
    CAF_CHECK(seen.insert(topic).second);
  }
}
