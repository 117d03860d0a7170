// Reports: those that there are, and a way to ask for one.
#include <utility>

#include <nlohmann/json.hpp>

#include "sluice/date.hpp"
#include "sluice/utf8.hpp"

#include "contracts.hpp"
#include "live_requests.hpp"
#include "numbers.hpp"

namespace sluice::http {

namespace {

using nlohmann::json;

constexpr uint32_t max_reports = 1000; ///< In one answer.
constexpr int64_t max_time_ms = int64_t{1} << 52;
constexpr size_t max_id_bytes = 64;
const std::string role = "admin"; // they tell who did how much
const std::string topic = "report.generate";

response no_reports() {
  return problem(404, "this node keeps no reports; set report.enabled = true to have them");
}

/// Whether a browser asks, rather than a program.
bool wants_page(const request& req, std::optional<response>& wrong) {
  auto format = parameter(req, "format");
  if (!format.empty() && format != "json" && format != "html")
    wrong = wrong_field("format", "must be json or html");
  return format.empty() ? req.header("accept").find("text/html") != std::string_view::npos : format == "html";
}

/// Nothing in the page may run or load anything; its style stands in it.
response page(std::string html) {
  return {200,
          "text/html; charset=utf-8",
          std::move(html),
          {{"Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
                                       "form-action 'none'; frame-ancestors 'none'; sandbox"},
           {"X-Content-Type-Options", "nosniff"},
           {"Referrer-Policy", "no-referrer"},
           {"Vary", "Accept"},
           {"Cache-Control", "private, no-store"}}};
}

void show(const api& with, const request& req, const responder& respond) {
  report_query query;
  query.id = req.params.at("id");
  std::optional<response> wrong;
  auto html = wants_page(req, wrong);
  if (!with.find_reports)
    wrong = no_reports();
  else if (query.id.empty() || query.id.size() > max_id_bytes || query.id.find('\0') != std::string::npos ||
           !is_utf8(query.id))
    wrong = problem(404, "there is no report of that id; GET /reports lists them", "id");
  if (wrong) {
    respond(std::move(*wrong));
    return;
  }
  with.find_reports(std::move(query), [respond, html](const caf::expected<report_page_ptr>& got) {
    if (!got)
      respond(failure(code_of(got.error()), text_of(got.error())));
    else if ((*got)->reports.empty())
      respond(problem(404, "there is no report of that id; GET /reports lists them", "id"));
    else if (html)
      respond(page((*got)->reports.front().html));
    else
      respond({200,
               "application/json",
               R"({"ok":true,"report":)" + (*got)->reports.front().json + "}",
               {{"Vary", "Accept"}, {"Cache-Control", "private, no-store"}}});
  });
}

std::optional<response> read_query(const request& req, report_query& query) {
  for (const auto& [name, text] : req.query) {
    if (name == "limit") {
      auto limit = number_of<uint32_t>(text, 1, max_reports);
      if (!limit)
        return wrong_field(name, "must be a number from 1 to 1000");
      query.limit = *limit;
    } else if (name == "after") {
      auto dash = text.find('-');
      auto time = number_of<int64_t>(text.substr(0, dash), 0, max_time_ms);
      if (!time || dash == std::string::npos || text.size() - dash > max_id_bytes ||
          text.find('\0') != std::string::npos || !is_utf8(text))
        return wrong_field(name, "must be what \"next\" was in an answer");
      query.after = {*time, text.substr(dash + 1)};
    } else if (name != "ticket") {
      return wrong_field(name, "is no parameter of this; there are limit and after");
    }
  }
  return std::nullopt;
}

void list(const api& with, const request& req, const responder& respond) {
  report_query query;
  auto wrong = with.find_reports ? read_query(req, query) : no_reports();
  if (wrong) {
    respond(std::move(*wrong));
    return;
  }
  with.find_reports(std::move(query), [respond](const caf::expected<report_page_ptr>& got) {
    if (!got) {
      respond(failure(code_of(got.error()), text_of(got.error())));
      return;
    }
    json all = json::array();
    for (const auto& one : (*got)->reports)
      all.push_back({{"id", one.id},
                     {"reportType", one.type},
                     {"from", one.from_ms},
                     {"to", one.to_ms},
                     {"createdAt", one.created_ms},
                     {"url", "/reports/" + one.id}});
    json body{{"ok", true}, {"reports", std::move(all)}, {"next", nullptr}};
    if ((*got)->more)
      body["next"] = std::to_string((*got)->reports.back().created_ms) + "-" + (*got)->reports.back().id;
    auto answer = ok(200, body);
    answer.headers.emplace_back("Cache-Control", "private, no-store");
    respond(std::move(answer));
  });
}

std::string check_type(const json& value) {
  return value == "daily" || value == "weekly" || value == "monthly" ? "" : "must be daily, weekly or monthly";
}

std::string check_date(const json& value) {
  return value.is_string() && parse_date(value.get_ref<const std::string&>()) ? "" : "must be a day such as 2026-11-21";
}

void ask_for(const api& with, const request& req, const responder& respond) {
  static const std::vector<member> members{{"reportType", true, check_type}, {"date", false, check_date}};
  std::optional<response> wrong;
  auto body = read_json(req, wrong);
  if (!wrong)
    wrong = check_members(body, members, "a request for a report");
  if (wrong) {
    respond(std::move(*wrong));
    return;
  }
  const auto* note = with.makes_reports
                         ? "Report will be generated async and sent to Telegram"
                         : "This node makes no reports (report.enabled); the request waits for one that does";
  publish_event(with, req, topic, std::move(body),
                {{"ok", true}, {"message", "Report generation request published to Kafka"}, {"note", note}}, respond);
}

} // namespace

void add_report_routes(router& routes, const api& with) {
  auto to = [&with](void (*answer)(const api&, const request&, const responder&)) {
    return [with, answer](const request& req, const responder& respond) { answer(with, req, respond); };
  };
  routes.add("GET", "/reports", authorized(with, to(list), role));
  routes.add("GET", "/reports/:id", authorized(with, to(show), role));
  routes.add("POST", "/kafka/test/report", publishing(with, to(ask_for)));
}

} // namespace sluice::http
