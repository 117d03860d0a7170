// Reports: the time they are about, their figures, what is told of them, and their page.
#define CAF_SUITE report

#include "report.hpp"

#include <algorithm>

#include <caf/test/dsl.hpp>
#include <nlohmann/json.hpp>

#include "dlq_fakes.hpp"
#include "report_page.hpp"
#include "sluice/testing.hpp"

using namespace sluice;
using nlohmann::json;

namespace {

constexpr int64_t hour = 3600000, day = 24 * hour;
constexpr int64_t saturday = 1795219200000; // 2026-11-21

struct world {
  std::shared_ptr<testing::log_fake> log = std::make_shared<testing::log_fake>();
  std::vector<report> kept;
  std::map<int64_t, audit_counts> counts; ///< By the begin of their part.
  int counted = 0, ids = 0;
  caf::error broken;
};

struct fixture {
  config cfg;
  std::shared_ptr<world> all = std::make_shared<world>();

  fixture() { all->log->add_partition("events-summary-table"); }

  testing::processor_harness make() {
    report_tools tools;
    tools.count = [all = all](int64_t from, int64_t) -> caf::expected<audit_counts> {
      if (all->broken)
        return all->broken;
      ++all->counted;
      return all->counts[from];
    };
    tools.find = [all = all](const report_query& query) -> caf::expected<report_page> {
      report_page page;
      for (const auto& one : all->kept)
        if (one.event_id == query.event_id)
          page.reports.push_back(one);
      return page;
    };
    tools.keep = [all = all](const report& fresh) -> caf::expected<report> {
      all->kept.push_back(fresh);
      return fresh;
    };
    tools.make_source = [log = all->log] { return std::make_unique<testing::log_source>(log); };
    tools.make_id = [all = all] { return "id-" + std::to_string(++all->ids); };
    tools.unix_ms = [] { return saturday + 15 * hour; };
    return testing::processor_harness{make_processor(report_function(cfg, tools))};
  }
  static record ask(const json& value, const std::string& id = "e") {
    return {"report.generate", 0, 7, "", value.dump(), {{"sluice-event-id", id}}, saturday + 15 * hour};
  }
  void summary(int64_t when, uint64_t events, double sum, double least, double most,
               const std::string& name = "default") const {
    outgoing_record record;
    record.topic = "events-summary-table";
    record.timestamp_ms = when;
    record.value =
        json{{"id", "summary-1"},
             {"timestamp", when},
             {"aggregation", name},
             {"statistics", {{"totalEvents", events}, {"sumOfValues", sum}, {"minValue", least}, {"maxValue", most}}}}
            .dump();
    all->log->append(record);
  }
};

std::vector<int64_t> time_of(const std::string& type, const std::optional<std::string>& date) {
  auto found = report_time(type, date, saturday + 15 * hour);
  if (!found)
    CAF_FAIL(text_of(found.error()));
  return {found->begins.front(), found->end, static_cast<int64_t>(found->begins.size())};
}

std::string refused(const std::string& type, const std::optional<std::string>& date) {
  auto found = report_time(type, date, saturday);
  return found ? "taken" : text_of(found.error());
}

json value_of(const outgoing_record& what) {
  return json::parse(what.value.value_or("null"));
}

} // namespace

CAF_TEST(a date stands for its day or week or month) {
  using list = std::vector<int64_t>;
  CAF_CHECK_EQUAL(time_of("daily", "2026-11-21"), (list{saturday, saturday + day, 24}));
  CAF_CHECK_EQUAL(time_of("weekly", "2026-11-21"), (list{saturday - 5 * day, saturday + 2 * day, 7})); // from Monday on
  CAF_CHECK_EQUAL(time_of("weekly", "2026-11-22"), (list{saturday - 5 * day, saturday + 2 * day, 7}));
  CAF_CHECK_EQUAL(time_of("weekly", "2026-11-23"), (list{saturday + 2 * day, saturday + 9 * day, 7}));
  CAF_CHECK_EQUAL(time_of("monthly", "2026-11-21"), (list{saturday - 20 * day, saturday + 10 * day, 30}));
  CAF_CHECK_EQUAL(time_of("monthly", "2024-02-29"), (list{1706745600000, 1709251200000, 29}));
  CAF_CHECK_EQUAL(time_of("monthly", "2026-12-31"), (list{1796083200000, 1798761600000, 31}));
}

CAF_TEST(without a date the time ends now) {
  using list = std::vector<int64_t>;
  auto now = saturday + 15 * hour;
  CAF_CHECK_EQUAL(time_of("daily", std::nullopt), (list{now - day, now, 24}));
  CAF_CHECK_EQUAL(time_of("weekly", std::nullopt), (list{now - 7 * day, now, 7}));
  CAF_CHECK_EQUAL(time_of("monthly", std::nullopt), (list{now - 30 * day, now, 30}));
}

CAF_TEST(what is no type or date is named) {
  CAF_CHECK_EQUAL(refused("yearly", std::nullopt), "reportType is none of daily, weekly and monthly");
  for (const char* bad : {"", "2026-11-31", "2026-02-29", "2026-1-1", "21.11.2026", "2026-11-21T00:00", "1969-12-31",
                          "2026-00-01", "2026-+1-01"})
    CAF_CHECK_EQUAL(refused("daily", bad), "date is not a day such as \"2026-11-21\"");
}

CAF_TEST(a time is in one part) {
  time_slices when{{10, 20, 30}, 40};
  CAF_CHECK_EQUAL(when.find(9), -1);
  CAF_CHECK_EQUAL(when.find(10), 0);
  CAF_CHECK_EQUAL(when.find(19), 0);
  CAF_CHECK_EQUAL(when.find(20), 1);
  CAF_CHECK_EQUAL(when.find(39), 2);
  CAF_CHECK_EQUAL(when.find(40), -1);
}

CAF_TEST(times read well) {
  CAF_CHECK_EQUAL(utc_text(saturday + 15 * hour + 61000), "2026-11-21 15:01");
  CAF_CHECK_EQUAL(utc_text(0), "1970-01-01 00:00");
}

CAF_TEST_FIXTURE_SCOPE(report_tests, fixture)

CAF_TEST(a report has the figures of the trail and the summaries) {
  all->counts[saturday + 3 * hour] = {5, {{"login", 3}, {"delete", 2}}, {{"user", 5}}, {{"ann", 4}, {"", 1}}};
  all->counts[saturday + 4 * hour] = {2, {{"delete", 2}}, {{"doc", 2}}, {{"bob", 2}}};
  summary(saturday - 1, 100, 1, 0, 1000);
  summary(saturday + 3 * hour, 10, 50.5, 2, 9);
  summary(saturday + 3 * hour + 1, 5, 10, -1, 4);
  summary(saturday + 5 * hour, 1, 7, 7, 7);
  summary(saturday + 5 * hour, 1, 7, 7, 7, "another's");
  summary(saturday + day, 100, 1, 0, 1000);
  outgoing_record junk;
  junk.topic = "events-summary-table";
  junk.timestamp_ms = saturday + hour;
  for (const char* text : {"", "no", "[]", "7", R"({"timestamp":"x","aggregation":7,"statistics":[]})"}) {
    junk.value = text;
    all->log->append(junk);
  }
  auto sut = make();
  auto result = sut.push(ask({{"reportType", "daily"}, {"date", "2026-11-21"}}));
  CAF_REQUIRE_EQUAL(describe(result.error), describe(caf::error{}));
  CAF_REQUIRE_EQUAL(all->kept.size(), 1u);
  auto body = json::parse(all->kept.front().json);
  auto same = [](const json& is, const json& wanted) {
    if (is != wanted)
      CAF_ERROR(is.dump() << " is not " << wanted.dump());
  };
  CAF_CHECK_EQUAL(all->counted, 24);
  same(body.at("from"), saturday);
  same(body.at("to"), saturday + day);
  same(body.at("complete"), true);
  const auto& audit = body.at("audit");
  same(audit.at("total"), 7);
  same(audit.at("byAction"), {{{"name", "delete"}, {"count", 4}}, {{"name", "login"}, {"count", 3}}});
  same(audit.at("byResource"), {{{"name", "user"}, {"count", 5}}, {{"name", "doc"}, {"count", 2}}});
  same(audit.at("byUser"), {{{"name", "ann"}, {"count", 4}}, {{"name", "bob"}, {"count", 2}}});
  same(audit.at("overTime").at(3), {{"from", saturday + 3 * hour}, {"count", 5}});
  CAF_REQUIRE_EQUAL(body.at("aggregations").size(), 1u);
  const auto& figures = body.at("aggregations").at(0);
  same(figures.at("name"), "default");
  same(figures.at("summaries"), 3);
  same(figures.at("totalEvents"), 16);
  same(figures.at("sumOfValues"), 67.5);
  same(figures.at("minValue"), -1.0);
  same(figures.at("maxValue"), 9.0);
  same(figures.at("averageValue"), 67.5 / 16);
  same(figures.at("overTime").at(3).at("totalEvents"), 15);
}

CAF_TEST(a report is told of on its topic and by one notification) {
  cfg.report.base_url = "https://events.example.com";
  all->counts[saturday - 9 * hour] = {5, {{"login", 5}}, {}, {}};
  auto sut = make();
  auto result = sut.push(ask({{"type", "report.generate"},
                              {"data", {{"reportType", "daily"}}},
                              {"metadata", {{"eventId", "req"}, {"correlationId", "c"}}}}));
  CAF_REQUIRE_EQUAL(result.emitted.size(), 2u);
  auto ready = value_of(result.emitted[0]);
  CAF_CHECK_EQUAL(result.emitted[0].topic, "report.ready");
  CAF_CHECK_EQUAL(ready.at("data").dump(), json({{"id", "id-1"},
                                                 {"reportType", "daily"},
                                                 {"from", saturday - 9 * hour},
                                                 {"to", saturday + 15 * hour},
                                                 {"url", "https://events.example.com/reports/id-1"}})
                                               .dump());
  CAF_CHECK_EQUAL(ready.at("metadata").at("correlationId").get<std::string>(), "c");
  auto told = value_of(result.emitted[1]);
  CAF_CHECK_EQUAL(result.emitted[1].topic, "notification.send");
  CAF_CHECK_EQUAL(told.at("data").at("title").get<std::string>(), "Daily report");
  CAF_CHECK_EQUAL(told.at("data").at("body").get<std::string>(),
                  "2026-11-20 15:00 to 2026-11-21 15:00 UTC\nAudit entries: 5, most often login\n"
                  "https://events.example.com/reports/id-1");
  CAF_CHECK_EQUAL(*find_header(result.emitted[1].headers, "sluice-event-id"), "req/notification");
}

CAF_TEST(a request that comes again has its report already) {
  auto sut = make();
  auto first = sut.push(ask({{"reportType", "weekly"}}));
  auto second = sut.push(ask({{"reportType", "weekly"}}));
  CAF_CHECK_EQUAL(all->kept.size(), 1u);
  CAF_REQUIRE_EQUAL(second.emitted.size(), 2u); // it may be that nobody was told
  CAF_CHECK_EQUAL(*first.emitted[0].value, *second.emitted[0].value);
  CAF_CHECK_EQUAL(*first.emitted[1].value, *second.emitted[1].value);
  sut.push(ask({{"reportType", "weekly"}}, "another"));
  CAF_CHECK_EQUAL(all->kept.size(), 2u);
}

CAF_TEST(what is no request is a dead letter and what is away is waited for) {
  auto sut = make();
  auto code = [&](const json& value) { return code_of(sut.push(ask(value)).error); };
  CAF_CHECK(code("text") == ec::malformed_record);
  CAF_CHECK(code(json::object()) == ec::malformed_record);
  CAF_CHECK(code({{"reportType", 7}}) == ec::malformed_record);
  CAF_CHECK(code({{"reportType", "yearly"}}) == ec::malformed_record);
  CAF_CHECK(code({{"reportType", "daily"}, {"date", 7}}) == ec::malformed_record);
  CAF_CHECK(all->kept.empty());
  all->broken = make_failure(ec::store_unavailable, "gone");
  CAF_CHECK(code({{"reportType", "daily"}}) == ec::store_unavailable);
  all->broken = {};
  all->log->away = true;
  CAF_CHECK(code({{"reportType", "daily"}}) == ec::kafka_unreachable);
  all->log->away = false;
  CAF_CHECK(code({{"reportType", "daily"}}) == ec::no_error);
}

CAF_TEST(a report that nobody waits for is not finished) {
  time_slices when{{saturday}, saturday + day};
  summary(saturday, 1, 1, 1, 1);
  testing::log_source source{all->log};
  read_budget budget{std::chrono::seconds{5}, 1000000};
  auto read = [&](bool cancelled) {
    return read_summaries(source, {"events-summary-table"}, {"default"}, when, true, budget,
                          [cancelled] { return cancelled; });
  };
  auto given_up = read(true);
  CAF_CHECK(!given_up && code_of(given_up.error()) == ec::shutting_down);
  auto whole = read(false);
  CAF_REQUIRE(whole);
  CAF_CHECK(whole->complete);
  CAF_CHECK_EQUAL(whole->all.size(), 1u);
  budget.spend(1000000);
  auto part = read(false);
  CAF_REQUIRE(part);
  CAF_CHECK(!part->complete);
}

CAF_TEST(nothing in a page comes from the data as markup) {
  const std::vector<std::string> vectors{"<script>alert(1)</script>",
                                         "\"><img src=x onerror=alert(1)>",
                                         "</title><svg onload=alert(1)>",
                                         "' onmouseover='alert(1)",
                                         "javascript:alert(1)",
                                         "<!--",
                                         "]]>",
                                         "&lt;script&gt;"};
  for (const auto& bad : vectors) {
    cfg.aggregations.front().name = bad;
    all->counts[saturday] = {1, {{bad, 1}}, {{bad, 1}}, {{bad, 1}}};
    summary(saturday, 1, 1, 1, 1, bad);
    auto sut = make();
    sut.push(ask({{"reportType", "daily"}, {"date", "2026-11-21"}}, bad));
    const auto& page = all->kept.back().html;
    auto is_markup = bad.find_first_of("<>\"'&") != std::string::npos;
    if (is_markup && page.find(bad) != std::string::npos)
      CAF_ERROR("unescaped: " << bad);
    for (const char* never : {"<script", "<img", "<svg onload", "<!--", "href=", "@import", "url("})
      if (page.find(never) != std::string::npos)
        CAF_ERROR(never << " in the page for " << bad);
  }
}

CAF_TEST_FIXTURE_SCOPE_END()
