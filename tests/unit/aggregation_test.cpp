#define CAF_SUITE aggregation

#include "aggregation.hpp"

#include <nlohmann/json.hpp>

#include "fixture.hpp"

using namespace sluice;
using namespace sluice::testing;
using nlohmann::json;

namespace {

struct fixture {
  aggregation_config cfg;
  aggregation::moment at{aggregation::time_point{} + 1h, 1701523426789};
  fixture() {
    cfg.batch_size = 3;
    cfg.interval = 30s;
    cfg.sample_size = 2;
  }
  aggregation make(int32_t partitions = 1) {
    aggregation fresh{cfg};
    for (int32_t p = 0; p < partitions; ++p)
      fresh.assign({"events", p, 0}, {});
    return fresh;
  }
  void later(std::chrono::milliseconds by) {
    at.now += by;
    at.unix_ms += by.count();
  }
};

int64_t next_of(const aggregation::commitment& all, int32_t partition) {
  for (const auto& one : all.next_offsets)
    if (one.partition == partition)
      return one.offset;
  return -1;
}

} // namespace

CAF_TEST_FIXTURE_SCOPE(aggregation_tests, fixture)

CAF_TEST(a full window becomes one summary in the shape of the reference) {
  auto sut = make();
  sut.add(*batch("events", 0, 0, {event(10), event(20)}), at);
  CAF_CHECK_EQUAL(sut.pending(), 0u);
  later(5s);
  sut.add(*batch("events", 0, 2, {event(30)}), at);
  auto all = sut.take();
  CAF_REQUIRE_EQUAL(all.records.size(), 1u);
  CAF_CHECK_EQUAL(all.records[0].topic, "events-summary-table");
  auto summary = json::parse(*all.records[0].value);
  CAF_CHECK_EQUAL(summary["id"], "summary-1701523431789");
  CAF_CHECK_EQUAL(summary["timestamp"].get<int64_t>(), 1701523431789);
  CAF_CHECK_EQUAL(summary["aggregationPeriod"].dump(),
                  R"({"durationMs":5000,"end":1701523431789,"start":1701523426789})");
  CAF_CHECK_EQUAL(summary["statistics"].dump(),
                  R"({"averageValue":20,"maxValue":30,"minValue":10,"sumOfValues":60,"totalEvents":3})");
  CAF_CHECK_EQUAL(summary["eventSample"].size(), 2u);
  CAF_CHECK_EQUAL(summary["eventSample"][1]["payload"]["times"].get<double>(), 30.0);
  CAF_CHECK_EQUAL(next_of(all, 0), 3);
}

CAF_TEST(large events make no summary that Kafka would not take) {
  cfg.sample_size = cfg.batch_size = 1000;
  auto sut = make();
  auto padded = [](double times, size_t bytes) {
    auto text = event(times);
    text.insert(text.size() - 1, ",\"more\":\"" + std::string(bytes, 'x') + "\"");
    return text;
  };
  std::vector<std::string> events{padded(0, 2000000)};
  for (int i = 1; i < 1000; ++i)
    events.push_back(padded(i, i == 990 ? 70000 : 20000));
  sut.add(*batch("events", 0, 0, events), at);
  auto all = sut.take();
  CAF_REQUIRE_EQUAL(all.records.size(), 1u);
  CAF_CHECK_LESS(all.records[0].value->size(), 530000u);
  auto summary = json::parse(*all.records[0].value);
  CAF_CHECK_EQUAL(summary["statistics"]["totalEvents"].get<int>(), 1000);
  auto sample = summary["eventSample"];
  CAF_REQUIRE_EQUAL(sample.size(), 26u); // the last ones, without the large one among them
  CAF_CHECK_EQUAL(sample.back()["payload"]["times"].get<double>(), 999.0);
  CAF_CHECK_EQUAL(sample.front()["payload"]["times"].get<double>(), 973.0);
}

CAF_TEST(a key too long for a summary is a failure) {
  cfg.key_pointer = "/key";
  auto sut = make();
  auto failures =
      sut.add(*batch("events", 0, 0, {event(1, std::string(1024, 'k')), event(1, std::string(1025, 'k'))}), at);
  CAF_REQUIRE_EQUAL(failures.size(), 1u);
  CAF_CHECK_EQUAL(failures[0].index, 1u);
  CAF_CHECK(failures[0].reason.find("longer than 1,024 bytes") != std::string::npos);
}

CAF_TEST(a window closes its interval after its first event and never empty) {
  auto sut = make();
  CAF_CHECK(!sut.next_due());
  sut.close_due(at);
  CAF_CHECK_EQUAL(sut.pending(), 0u);
  sut.add(*batch("events", 0, 0, {event(1)}), at);
  later(29999ms);
  sut.close_due(at);
  CAF_CHECK_EQUAL(sut.pending(), 0u);
  later(1ms);
  sut.close_due(at);
  CAF_CHECK_EQUAL(sut.pending(), 1u);
  CAF_CHECK(!sut.next_due());
}

CAF_TEST(the open window holds its offsets back) {
  auto sut = make();
  sut.add(*batch("events", 0, 0, {event(1), event(2), event(3), event(4)}), at);
  auto all = sut.take();
  CAF_CHECK_EQUAL(all.summaries, 1u);
  CAF_CHECK_EQUAL(next_of(all, 0), 3);
  CAF_CHECK(!sut.worth_committing());
}

CAF_TEST(ids stay unique within a millisecond) {
  auto sut = make();
  sut.add(*batch("events", 0, 0, {event(1), event(1), event(1), event(1), event(1), event(1)}), at);
  auto all = sut.take();
  CAF_REQUIRE_EQUAL(all.records.size(), 2u);
  CAF_CHECK_NOT_EQUAL(json::parse(*all.records[0].value).at("id").get<std::string>(),
                      json::parse(*all.records[1].value).at("id").get<std::string>());
}

CAF_TEST(unreadable records are named and hold the offset until their dead letter is kept) {
  auto sut = make();
  auto failures = sut.add(*batch("events", 0, 0,
                                 {"not json", R"({"payload":{"times":"42"}})", R"({"payload":{}})",
                                  R"({"payload":{"times":NaN}})", "{\"payload\":{\"times\":1}} trailing", "[1]", ""}),
                          at);
  CAF_CHECK_EQUAL(failures.size(), 7u);
  CAF_CHECK(failures[1].reason.find("not a number") != std::string::npos);
  for (int64_t offset = 1; offset < 7; ++offset)
    sut.dead_letter_kept({"events", 0, offset});
  CAF_CHECK_EQUAL(next_of(sut.take(), 0), 0);
  CAF_CHECK(!sut.worth_committing());
  sut.dead_letter_kept({"events", 0, 0});
  CAF_CHECK(sut.worth_committing());
  CAF_CHECK_EQUAL(next_of(sut.take(), 0), 7);
}

CAF_TEST(large and fractional numbers are summed) {
  cfg.batch_size = 4;
  auto sut = make();
  sut.add(*batch("events", 0, 0,
                 {R"({"payload":{"times":9223372036854775808}})", R"({"payload":{"times":0.5}})",
                  R"({"payload":{"times":-3}})", R"({"payload":{"times":1e3}})"}),
          at);
  json statistics = json::parse(*sut.take().records.at(0).value).at("statistics");
  CAF_CHECK_EQUAL(statistics["maxValue"].get<double>(), 9223372036854775808.0);
  CAF_CHECK_EQUAL(statistics["minValue"].get<int>(), -3);
}

CAF_TEST(integers beyond 64 bits are numbers) {
  cfg.batch_size = 1;
  auto sut = make();
  auto text =
      R"({"a":"18446744073709551616\"","f":0.12345678901234567890123,"payload":{"times":18446744073709551616}})";
  CAF_CHECK(sut.add(*batch("events", 0, 0, {text}), at).empty());
  auto summary = *sut.take().records.at(0).value;
  CAF_CHECK_EQUAL(json::parse(summary).at("statistics").at("sumOfValues").get<double>(), 18446744073709551616.0);
  CAF_CHECK(summary.find("18446744073709551616") != std::string::npos); // the sample is as it came
}

CAF_TEST(deeply nested events are read or refused but never crash) {
  auto sut = make();
  std::string deep(100000, '[');
  CAF_CHECK_EQUAL(sut.add(*batch("events", 0, 0, {deep}), at).size(), 1u);
}

CAF_TEST(samples are the last events across batches and partitions) {
  cfg.batch_size = 100;
  cfg.sample_size = 3;
  auto sut = make(2);
  sut.add(*batch("events", 0, 0, {event(1), event(2), "poison", event(3), event(4)}), at);
  sut.add(*batch("events", 1, 0, {event(5)}), at);
  later(31s);
  sut.close_due(at);
  auto sample = json::parse(*sut.take().records.at(0).value).at("eventSample");
  CAF_REQUIRE_EQUAL(sample.size(), 3u);
  CAF_CHECK_EQUAL(sample[0]["payload"]["times"].get<int>(), 3);
  CAF_CHECK_EQUAL(sample[2]["payload"]["times"].get<int>(), 5);
}

CAF_TEST(a revoked partition takes only its own share out of the window) {
  auto sut = make(2);
  sut.add(*batch("events", 0, 0, {event(1)}), at);
  sut.add(*batch("events", 1, 0, {event(100)}), at);
  sut.revoke({"events", 1, 0});
  sut.add(*batch("events", 0, 1, {event(2), event(3)}), at);
  auto all = sut.take();
  CAF_REQUIRE_EQUAL(all.records.size(), 1u);
  auto summary = json::parse(*all.records[0].value);
  CAF_CHECK_EQUAL(summary["statistics"]["sumOfValues"].get<int>(), 6);
  CAF_CHECK_EQUAL(next_of(all, 0), 3);
  CAF_CHECK_EQUAL(next_of(all, 1), -1);
}

CAF_TEST(records of a revoked partition that are still under way are not counted) {
  auto sut = make();
  sut.revoke({"events", 0, 0});
  sut.add(*batch("events", 0, 0, {event(1), event(1), event(1)}), at);
  CAF_CHECK_EQUAL(sut.pending(), 0u);
  CAF_CHECK_EQUAL(sut.counted(), 0u);
}

CAF_TEST(records that come twice are counted once) {
  auto sut = make();
  sut.add(*batch("events", 0, 0, {event(1), event(2)}), at);
  sut.add(*batch("events", 0, 1, {event(2)}), at);
  CAF_CHECK_EQUAL(sut.counted(), 2u);
}

CAF_TEST(keyed windows survive a restart exactly once) {
  cfg.key_pointer = "/key";
  cfg.batch_size = 2;
  auto first = make();
  // Key b closes while a, which came before it, stays open: a's offset holds the commit back, b must not count twice.
  first.add(*batch("events", 0, 0, {event(1, "a"), event(2, "b"), event(3, "b"), event(4, "b")}), at);
  auto all = first.take();
  CAF_CHECK_EQUAL(all.summaries, 1u);
  CAF_CHECK_EQUAL(next_of(all, 0), 0);
  std::vector<outgoing_record> marks;
  for (const auto& record : all.records)
    if (record.topic == "events-summary-table.covered")
      marks.push_back(record);
  CAF_REQUIRE_EQUAL(marks.size(), 1u);
  CAF_CHECK_EQUAL(*marks[0].key, "events/0/b");
  CAF_CHECK_EQUAL(*marks[0].value, "2");
  aggregation second{cfg};
  second.assign({"events", 0, 0}, marks);
  second.add(*batch("events", 0, 0,
                    {event(1, "a"), event(2, "b"), event(3, "b"), event(4, "b"), event(5, "a"), event(6, "b")}),
             at);
  auto rest = second.take();
  CAF_CHECK_EQUAL(rest.summaries, 2u);
  double sum = 0;
  for (const auto& record : rest.records)
    if (record.topic == "events-summary-table")
      sum += json::parse(*record.value)["statistics"]["sumOfValues"].get<double>();
  CAF_CHECK_EQUAL(sum, 1.0 + 5 + 4 + 6);
  CAF_CHECK_EQUAL(next_of(rest, 0), 6);
  bool buried = false; // the mark is behind the commit now
  for (const auto& record : rest.records)
    buried = buried || (record.topic == "events-summary-table.covered" && !record.value);
  CAF_CHECK(buried);
}

CAF_TEST(beyond maxWindows the oldest window closes early) {
  cfg.key_pointer = "/key";
  cfg.max_windows = 2;
  auto sut = make();
  sut.add(*batch("events", 0, 0, {event(1, "a"), event(2, "b"), event(3, "c")}), at);
  CAF_CHECK_EQUAL(sut.open_windows(), 2u);
  CAF_CHECK_EQUAL(sut.evicted(), 1u);
  CAF_CHECK_EQUAL(json::parse(*sut.take().records.at(0).value).at("key").get<std::string>(), "a");
}

CAF_TEST(the view is the currentAggregation of the reference) {
  auto sut = make();
  CAF_CHECK_EQUAL(json::parse(sut.view()).dump(),
                  R"({"currentBuffer":0,"stats":{"maxValue":null,"minValue":null,"sumOfValues":0,"totalEvents":0}})");
  sut.add(*batch("events", 0, 0, {event(10), event(50)}), at);
  CAF_CHECK_EQUAL(json::parse(sut.view()).dump(),
                  R"({"currentBuffer":2,"stats":{"maxValue":50,"minValue":10,"sumOfValues":60,"totalEvents":2}})");
}

CAF_TEST(summaries are valid JSON whatever the events and keys contain) {
  cfg.key_pointer = "/key";
  cfg.batch_size = 1;
  auto sut = make();
  sut.add(*batch("events", 0, 0, {"{\"key\":\"a\\\"\\n\\u0000b\",\n\"payload\":{\"times\":1e308}}"}), at);
  auto all = sut.take();
  CAF_CHECK(json::accept(*all.records.at(0).value));
}

CAF_TEST_FIXTURE_SCOPE_END()
