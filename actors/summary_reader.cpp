#include "summary_reader.hpp"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "sluice/error.hpp"
#include "sluice/json_text.hpp"

namespace sluice {

namespace {

using nlohmann::json;

constexpr std::chrono::milliseconds read_wait{100};
constexpr int max_depth = 64;

const json* member(const json& of, const char* name) {
  auto it = of.is_object() ? of.find(name) : of.end();
  return it == of.end() ? nullptr : &*it;
}

void take(const std::string_view value, const std::set<std::string, std::less<>>& names, const time_slices& when,
          summary_book& book) {
  if (is_nested_deeper(value, max_depth))
    return;
  auto body = json::parse(value, nullptr, false);
  const auto* name = member(body, "aggregation");
  const auto* time = member(body, "timestamp");
  const auto* figures = member(body, "statistics");
  if (name == nullptr || time == nullptr || figures == nullptr || !name->is_string() || !time->is_number_integer())
    return;
  auto known = names.find(name->get_ref<const std::string&>());
  auto slice = when.find(time->get<int64_t>());
  if (known == names.end() || slice < 0)
    return;
  const auto* events = member(*figures, "totalEvents");
  if (events == nullptr || !events->is_number_unsigned() || events->get<uint64_t>() == 0)
    return;
  auto number = [&](const char* which) {
    const auto* found = member(*figures, which);
    return found != nullptr && found->is_number() ? found->get<double>() : 0;
  };
  auto& total = book.all[*known];
  total.slices.resize(when.begins.size());
  total.least = total.events == 0 ? number("minValue") : std::min(total.least, number("minValue"));
  total.most = total.events == 0 ? number("maxValue") : std::max(total.most, number("maxValue"));
  ++total.summaries;
  total.events += events->get<uint64_t>();
  total.sum += number("sumOfValues");
  total.slices[static_cast<size_t>(slice)] += events->get<uint64_t>();
}

} // namespace

int time_slices::find(int64_t ms) const {
  if (begins.empty() || ms < begins.front() || ms >= end)
    return -1;
  return static_cast<int>(std::upper_bound(begins.begin(), begins.end(), ms) - begins.begin()) - 1;
}

caf::expected<summary_book> read_summaries(replay_source& source, const std::vector<std::string>& sinks,
                                           const std::set<std::string, std::less<>>& names, const time_slices& when,
                                           bool seek_by_time, read_budget& budget,
                                           const std::function<bool()>& cancelled) {
  summary_book book;
  auto bounds = source.bounds(sinks);
  if (!bounds)
    return bounds.error();
  std::vector<topic_partition> since;
  if (seek_by_time && !when.begins.empty()) {
    // A record's time is that of its summary or a little later.
    auto found = source.at_time(sinks, when.begins.front());
    if (!found)
      return found.error();
    since = std::move(*found);
  }
  for (const auto& sink : sinks) {
    dlq_query all;
    all.topic = sink;
    range_reader reader{source, sink, ranges_of(all, *bounds, since)};
    while (!reader.finished()) {
      if (cancelled())
        return make_failure(ec::shutting_down, "nobody waits for the summaries any more");
      if (budget.spent()) {
        book.complete = false;
        return book;
      }
      auto error = reader.step(read_wait, [&](const record_batch& batch, size_t i) {
        const auto& record = batch.records()[i];
        budget.spend(record.key.size() + record.value.size());
        take(record.value, names, when, book);
        return true;
      });
      if (error)
        return error;
    }
  }
  return book;
}

} // namespace sluice
