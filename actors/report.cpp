#include "report.hpp"

#include <algorithm>
#include <chrono>
#include <set>

#include <nlohmann/json.hpp>

#include "sluice/date.hpp"
#include "sluice/envelope.hpp"

#include "notification.hpp"
#include "report_page.hpp"

namespace sluice {

namespace {

using json = nlohmann::ordered_json;
namespace chrono = std::chrono;

constexpr int64_t hour = 3600000;
constexpr int64_t day = 24 * hour;
constexpr int64_t max_time_ms = 253402300799999; // the end of the year 9999
/// For the summaries of one report.
constexpr milliseconds read_time{30000};
constexpr uint64_t read_bytes = 512 * 1024 * 1024;
/// Names shown of each kind.
constexpr size_t shown = 20;

caf::error malformed(const std::string& member, const std::string& text) {
  return make_failure(ec::malformed_record, member + " " + text);
}

std::string to_text(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

int64_t ms_of(chrono::sys_days when) {
  return chrono::duration_cast<milliseconds>(when.time_since_epoch()).count();
}

time_slices slices_of(int64_t from, int64_t to, int64_t step) {
  time_slices all;
  for (auto at = from; at < to; at += step)
    all.begins.push_back(at);
  all.end = to;
  return all;
}

struct wish {
  std::string event_id;
  std::string type;
  json correlation; ///< Null where there is none.
  time_slices when;
};

caf::expected<wish> read(const record& in, int64_t now_ms) {
  auto found = event_of(in);
  if (!found)
    return found.error();
  auto data = json::parse(found->data, nullptr, false);
  if (!data.is_object())
    return make_failure(ec::malformed_record, R"(a request is a JSON object such as {"reportType":"daily"})");
  wish result;
  result.event_id = found->metadata.event_id;
  if (!found->metadata.correlation_id.empty())
    result.correlation = found->metadata.correlation_id;
  if (found->metadata.timestamp_ms < 0 || found->metadata.timestamp_ms > max_time_ms)
    return malformed("metadata.timestamp", "is no time in Unix milliseconds");
  auto type = data.find("reportType");
  if (type == data.end() || !type->is_string())
    return malformed("reportType", type == data.end() ? "is missing" : "is not a text");
  result.type = type->get<std::string>();
  std::optional<std::string> date;
  if (auto it = data.find("date"); it != data.end() && !it->is_null()) {
    if (!it->is_string())
      return malformed("date", "is not a text such as \"2026-11-21\"");
    date = it->get<std::string>();
  }
  auto when = report_time(result.type, date, found->metadata.timestamp_ms > 0 ? found->metadata.timestamp_ms : now_ms);
  if (!when)
    return when.error();
  result.when = std::move(*when);
  return result;
}

void add(name_counts& to, const name_counts& more) {
  for (const auto& [name, count] : more)
    to[name] += count;
}

/// The most frequent ones first.
json top(const name_counts& counts) {
  std::vector<std::pair<std::string, uint64_t>> all{counts.begin(), counts.end()};
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  json result = json::array();
  for (size_t i = 0; i < std::min(all.size(), shown); ++i)
    result.push_back({{"name", all[i].first}, {"count", all[i].second}});
  return result;
}

class report_processor {
public:
  report_processor(const config& cfg, report_tools tools) : tools_(std::move(tools)), base_url_(cfg.report.base_url) {
    std::set<std::string> sinks;
    for (const auto& one : cfg.aggregations) {
      names_.insert(one.name);
      sinks.insert(one.sink);
    }
    sinks_.assign(sinks.begin(), sinks.end());
  }

  caf::error process(const record& in, context& out) const {
    auto what = read(in, tools_.unix_ms());
    if (!what)
      return what.error();
    auto before = tools_.find({.id = {}, .event_id = what->event_id});
    if (!before)
      return before.error();
    if (!before->reports.empty()) {
      announce(before->reports.front(), *what, out);
      return {};
    }
    auto fresh = make(*what, [&out] { return out.cancelled(); });
    if (!fresh)
      return fresh.error();
    auto kept = tools_.keep(std::move(*fresh));
    if (!kept)
      return kept.error();
    announce(*kept, *what, out);
    return {};
  }

private:
  caf::expected<report> make(const wish& what, const std::function<bool()>& cancelled) const {
    report fresh;
    fresh.id = tools_.make_id();
    fresh.event_id = what.event_id;
    fresh.type = what.type;
    fresh.from_ms = what.when.begins.front();
    fresh.to_ms = what.when.end;
    fresh.created_ms = tools_.unix_ms();
    auto audit = audit_figures(what.when, cancelled);
    if (!audit)
      return audit.error();
    auto book = summaries(what.when, cancelled);
    if (!book)
      return book.error();
    json body{{"id", fresh.id},
              {"reportType", fresh.type},
              {"from", fresh.from_ms},
              {"to", fresh.to_ms},
              {"createdAt", fresh.created_ms}};
    body["title"] = std::string{fresh.type == "daily"    ? "Daily"
                                : fresh.type == "weekly" ? "Weekly"
                                                         : "Monthly"} +
                    " report";
    body["text"] = "";
    body["complete"] = book->complete;
    body["audit"] = std::move(*audit);
    body["aggregations"] = aggregation_figures(*book, what.when);
    body["text"] = main_figures(body);
    fresh.json = to_text(body);
    fresh.html = report_page_of(body);
    return fresh;
  }

  /// Part by part, so that no question to the database takes long.
  caf::expected<json> audit_figures(const time_slices& when, const std::function<bool()>& cancelled) const {
    audit_counts all;
    json over_time = json::array();
    for (size_t i = 0; i < when.begins.size(); ++i) {
      if (cancelled())
        return make_failure(ec::shutting_down, "nobody waits for the report any more");
      auto part = tools_.count(when.begins[i], i + 1 < when.begins.size() ? when.begins[i + 1] : when.end);
      if (!part)
        return part.error();
      all.total += part->total;
      add(all.actions, part->actions);
      add(all.resources, part->resources);
      add(all.users, part->users);
      over_time.push_back({{"from", when.begins[i]}, {"count", part->total}});
    }
    all.users.erase(""); // nobody's
    return json{{"total", all.total},
                {"byAction", top(all.actions)},
                {"byResource", top(all.resources)},
                {"byUser", top(all.users)},
                {"overTime", std::move(over_time)}};
  }

  caf::expected<summary_book> summaries(const time_slices& when, const std::function<bool()>& cancelled) const {
    if (sinks_.empty())
      return summary_book{};
    auto source = tools_.make_source();
    read_budget budget{read_time, read_bytes};
    return read_summaries(*source, sinks_, names_, when, tools_.seek_by_time, budget, cancelled);
  }

  static json aggregation_figures(const summary_book& book, const time_slices& when) {
    json all = json::array();
    for (const auto& [name, total] : book.all) {
      json over_time = json::array();
      for (size_t i = 0; i < when.begins.size(); ++i)
        over_time.push_back({{"from", when.begins[i]}, {"totalEvents", total.slices[i]}});
      all.push_back({{"name", name},
                     {"summaries", total.summaries},
                     {"totalEvents", total.events},
                     {"sumOfValues", total.sum},
                     {"averageValue", total.sum / static_cast<double>(total.events)},
                     {"minValue", total.least},
                     {"maxValue", total.most},
                     {"overTime", std::move(over_time)}});
    }
    return all;
  }

  /// What a message says of the report.
  std::string main_figures(const json& body) const {
    const auto& audit = body.at("audit");
    auto text = utc_text(body.at("from").get<int64_t>()) + " to " + utc_text(body.at("to").get<int64_t>()) +
                " UTC\nAudit entries: " + audit.at("total").dump();
    if (!audit.at("byAction").empty())
      text += ", most often " + audit.at("byAction").at(0).at("name").get<std::string>();
    for (const auto& one : body.at("aggregations"))
      text += "\n" + one.at("name").get<std::string>() + ": " + one.at("totalEvents").dump() + " events, sum " +
              one.at("sumOfValues").dump();
    return text + "\n" + url_of(body.at("id").get<std::string>());
  }

  std::string url_of(const std::string& id) const { return base_url_ + "/reports/" + id; }

  void announce(const report& there, const wish& what, context& out) const {
    const auto body = json::parse(there.json);
    emit(reports_out, what.event_id + "/ready",
         {{"id", there.id},
          {"reportType", there.type},
          {"from", there.from_ms},
          {"to", there.to_ms},
          {"url", url_of(there.id)}},
         what, there, out);
    emit(notifications_in, what.event_id + "/notification", {{"title", body.at("title")}, {"body", body.at("text")}},
         what, there, out);
  }

  /// The same event however often the request comes: of two notifications with one id the second is not sent.
  static void emit(const std::string& topic, const std::string& id, json data, const wish& what, const report& there,
                   context& out) {
    json metadata{{"eventId", id}, {"timestamp", there.created_ms}, {"source", "sluice"}, {"version", 1}};
    if (!what.correlation.is_null())
      metadata["correlationId"] = what.correlation;
    outgoing_record record;
    record.topic = topic;
    record.key = there.id;
    record.value = to_text({{"type", topic}, {"data", std::move(data)}, {"metadata", std::move(metadata)}});
    record.headers.push_back({"sluice-event-id", id});
    out.emit(std::move(record));
  }

  const report_tools tools_;
  const std::string base_url_;
  std::set<std::string, std::less<>> names_; ///< Of the aggregations.
  std::vector<std::string> sinks_;
};

} // namespace

processor_config report_settings(const config& cfg) {
  processor_config settings;
  settings.name = "report";
  settings.topics = {reports_in};
  settings.outputs = {reports_out, notifications_in};
  settings.group = "paka-report-generator";
  settings.concurrency = 1; // it reads much
  settings.timeout = chrono::minutes{5};
  settings.max_attempts = 1000000; // the budget ends it
  settings.retry_initial = milliseconds{1000};
  settings.retry_max = milliseconds{60000};
  settings.retry_budget = chrono::hours{24};
  settings.remember = cfg.idempotency.ttl;
  return settings;
}

caf::expected<time_slices> report_time(const std::string& type, const std::optional<std::string>& date,
                                       int64_t now_ms) {
  if (type != "daily" && type != "weekly" && type != "monthly")
    return malformed("reportType", "is none of daily, weekly and monthly");
  const auto step = type == "daily" ? hour : day;
  if (!date)
    return slices_of(now_ms - (type == "daily" ? day : type == "weekly" ? 7 * day : 30 * day), now_ms, step);
  const auto found = parse_date(*date);
  if (!found)
    return malformed("date", "is not a day such as \"2026-11-21\"");
  if (type == "daily")
    return slices_of(ms_of(*found), ms_of(*found) + day, step);
  if (type == "weekly") {
    const auto monday = *found - (chrono::weekday{*found} - chrono::Monday);
    return slices_of(ms_of(monday), ms_of(monday) + 7 * day, step);
  }
  const chrono::year_month_day in_month{*found};
  const auto first = in_month.year() / in_month.month() / 1;
  return slices_of(ms_of(chrono::sys_days{first}), ms_of(chrono::sys_days{first + chrono::months{1}}), step);
}

processor_function report_function(const config& cfg, report_tools tools) {
  auto shared = std::make_shared<const report_processor>(cfg, std::move(tools));
  return [shared](const record& in, context& out) { return shared->process(in, out); };
}

} // namespace sluice
