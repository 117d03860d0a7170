#include "report_page.hpp"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>

#include <nlohmann/json.hpp>

#include "sluice/json_text.hpp"
#include "sluice/text_template.hpp"

namespace sluice {

namespace {

using json = nlohmann::ordered_json;

constexpr const char* style = R"(<style>
:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}
body{max-width:60rem;margin:2rem auto;padding:0 1rem}
h1,h2,h3{line-height:1.2}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}
th,td{text-align:left;padding:.2rem 1.5rem .2rem 0;border-bottom:1px solid #8886}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
svg{width:100%;height:auto;margin:.5rem 0 1.5rem}
svg rect{fill:#2a78d6}
svg text{font-size:11px;fill:currentColor}
.note{opacity:.75}
</style>)";

std::string number_text(const json& value) {
  std::string out;
  if (value.is_number())
    append_number(out, value.get<double>());
  return out.empty() || out == "null" ? "–" : out;
}

std::string text(const json& value) {
  return escape_html(value.is_string() ? value.get<std::string>() : std::string{});
}

/// Bars of `[{"from":ms,"<count>":n}]`; each says its figures where a pointer rests on it.
std::string chart(const json& slices, const char* count, const std::string& title, bool by_hour) {
  constexpr int width = 960, height = 160, foot = 20, head = 16;
  uint64_t most = 1;
  for (const auto& one : slices)
    most = std::max(most, one.at(count).get<uint64_t>());
  std::string out = "<svg viewBox=\"0 0 " + std::to_string(width) + " " + std::to_string(head + height + foot) +
                    R"(" role="img" aria-label=")" + escape_html(title) + "\"><text x=\"0\" y=\"11\">" +
                    std::to_string(most) + "</text>";
  const auto all = static_cast<int>(std::max<size_t>(slices.size(), 1));
  const auto step = width / all;
  for (int i = 0; i < static_cast<int>(slices.size()); ++i) {
    const auto& one = slices[static_cast<size_t>(i)];
    const auto value = one.at(count).get<uint64_t>();
    auto tall = static_cast<int>(static_cast<double>(value) / static_cast<double>(most) * height);
    if (value > 0)
      tall = std::max(tall, 1);
    const auto when = utc_text(one.at("from").get<int64_t>());
    out += "<g><title>" + when + " UTC: " + std::to_string(value) + "</title><rect x=\"" +
           std::to_string(i * step + 1) + "\" y=\"" + std::to_string(head + height - tall) + "\" width=\"" +
           std::to_string(step - 2) + "\" height=\"" + std::to_string(tall) + "\"/>";
    if (all <= 12 || i % 3 == 0)
      out += "<text x=\"" + std::to_string(i * step + 1) + "\" y=\"" + std::to_string(head + height + 14) + "\">" +
             (by_hour ? when.substr(11) : when.substr(5, 5)) + "</text>";
    out += "</g>";
  }
  return out + "</svg>";
}

std::string names_table(const json& names, const char* title) {
  std::string out = std::string{"<h3>"} + title + "</h3>";
  if (names.empty())
    return out + "<p class=\"note\">none</p>";
  out += "<table><thead><tr><th>Name</th><th class=\"n\">Entries</th></tr></thead><tbody>";
  for (const auto& one : names)
    out += "<tr><td>" + text(one.at("name")) + "</td><td class=\"n\">" + number_text(one.at("count")) + "</td></tr>";
  return out + "</tbody></table>";
}

} // namespace

std::string utc_text(int64_t unix_ms) {
  namespace chrono = std::chrono;
  const chrono::sys_time<chrono::milliseconds> when{chrono::milliseconds{unix_ms}};
  const auto day = chrono::floor<chrono::days>(when);
  const chrono::year_month_day date{day};
  const chrono::hh_mm_ss time{chrono::floor<chrono::minutes>(when - day)};
  char out[64];
  std::snprintf(out, sizeof(out), "%04d-%02u-%02u %02d:%02d", static_cast<int>(date.year()),
                static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                static_cast<int>(time.hours().count()), static_cast<int>(time.minutes().count()));
  return out;
}

std::string report_page_of(const json& report) {
  const auto by_hour = report.at("reportType") == "daily";
  const auto& audit = report.at("audit");
  std::string out = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                    "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>";
  out += text(report.at("title")) + "</title>" + style + "</head><body><h1>" + text(report.at("title")) + "</h1>";
  out += "<p>" + utc_text(report.at("from").get<int64_t>()) + " to " + utc_text(report.at("to").get<int64_t>()) +
         " UTC</p><h2>Audit trail</h2><p>Entries: " + number_text(audit.at("total")) + "</p>";
  out += chart(audit.at("overTime"), "count", "Audit entries over time", by_hour);
  out += names_table(audit.at("byAction"), "By action") + names_table(audit.at("byResource"), "By resource") +
         names_table(audit.at("byUser"), "By user");
  out += "<h2>Aggregations</h2>";
  if (!report.at("complete").get<bool>())
    out += "<p class=\"note\">There were more summaries than could be read; these figures are too low.</p>";
  if (report.at("aggregations").empty())
    out += "<p class=\"note\">no summaries in this time</p>";
  for (const auto& one : report.at("aggregations")) {
    out += "<h3>" + text(one.at("name")) + "</h3><table><tbody>";
    for (auto [name, label] :
         {std::pair{"totalEvents", "Events"}, std::pair{"sumOfValues", "Sum"}, std::pair{"averageValue", "Average"},
          std::pair{"minValue", "Least"}, std::pair{"maxValue", "Most"}, std::pair{"summaries", "Summaries"}})
      out += std::string{"<tr><th>"} + label + "</th><td class=\"n\">" + number_text(one.at(name)) + "</td></tr>";
    out += "</tbody></table>" + chart(one.at("overTime"), "totalEvents", "Events over time", by_hour);
  }
  return out + "<p class=\"note\">Made at " + utc_text(report.at("createdAt").get<int64_t>()) +
         " UTC</p></body></html>\n";
}

} // namespace sluice
