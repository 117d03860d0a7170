#include "letter_reader.hpp"

#include <algorithm>

#include <nlohmann/json.hpp>

namespace sluice {

namespace {

using nlohmann::json;

constexpr std::chrono::milliseconds read_wait{100};
/// Reading a few records too many is quicker than to begin elsewhere.
constexpr int64_t worth_a_jump = 1000;

std::string mark_key(const std::string& topic, letter_id id) {
  return topic + "/" + to_string(id);
}

void take_mark(std::map<std::string, redrive_marks>& all, const record_view& record,
               const std::set<std::string, std::less<>>& topics) {
  auto slash = record.key.rfind('/');
  auto topic = topics.find(record.key.substr(0, slash));
  if (slash == std::string_view::npos || topic == topics.end())
    return;
  auto& marks = all[*topic];
  auto id = parse_letter_id(record.key.substr(slash + 1));
  if (!id)
    return;
  auto body = record.has_value ? json::parse(record.value, nullptr, false) : json();
  if (!body.is_object()) {
    marks.erase(*id);
    return;
  }
  auto number = [&](const char* name) {
    auto it = body.find(name);
    return it != body.end() && it->is_number_integer() ? it->get<int64_t>() : -1;
  };
  auto text = [&](const char* name) {
    auto it = body.find(name);
    return it != body.end() && it->is_string() ? it->get<std::string>() : std::string{};
  };
  marks[*id] = {number("letterTimestamp"),
                number("redrivenAt"),
                text("by"),
                {text("topic"), static_cast<int32_t>(number("partition")), number("offset")}};
}

} // namespace

void range_reader::begin_range() {
  if (finished() || started_ == at_)
    return;
  started_ = at_;
  source_.start({{topic_, ranges_[at_].partition, ranges_[at_].begin}});
}

bool range_reader::is_mine(const record_batch& batch) const {
  return !finished() && batch.topic() == topic_ && batch.partition() == ranges_[at_].partition;
}

void range_reader::reached(const topic_partition& where) {
  // The end of what there is, be it before the end asked for.
  if (!finished() && where.topic == topic_ && where.partition == ranges_[at_].partition &&
      where.offset >= ranges_[at_].begin) {
    ++at_;
    skip_empty();
  }
}

bool range_reader::advance_to(int64_t offset) {
  auto& range = ranges_[at_];
  if (offset < range.begin)
    return false;
  auto inside = offset < range.end;
  range.begin = offset + 1;
  skip_empty();
  return inside;
}

void range_reader::skip_empty() {
  while (at_ < ranges_.size() && ranges_[at_].begin >= ranges_[at_].end)
    ++at_;
}

std::vector<replay_source::partition_bounds> bounds_of(const std::vector<replay_source::partition_bounds>& all,
                                                       const std::string& topic) {
  std::vector<replay_source::partition_bounds> result;
  std::copy_if(all.begin(), all.end(), std::back_inserter(result), [&](const auto& x) { return x.topic == topic; });
  return result;
}

caf::expected<known_marks> read_marks(replay_source& source, const std::string& marks_topic,
                                      const std::vector<replay_source::partition_bounds>& bounds,
                                      const std::set<std::string, std::less<>>& topics, read_budget budget) {
  std::vector<offset_range> ranges;
  for (const auto& one : bounds_of(bounds, marks_topic))
    ranges.push_back({one.partition, one.first, one.end});
  range_reader reader{source, marks_topic, std::move(ranges)};
  known_marks marks;
  while (!reader.finished()) {
    if (budget.spent()) {
      marks.complete = false;
      break;
    }
    auto error = reader.step(read_wait, [&](const record_batch& batch, size_t i) {
      const auto& record = batch.records()[i];
      budget.spend(record.key.size() + record.value.size());
      take_mark(marks.by_topic, record, topics);
      return true;
    });
    if (error)
      return error;
  }
  return marks;
}

outgoing_record mark_record(const std::string& marks_topic, const std::string& topic, letter_id id,
                            const std::optional<redrive_mark>& mark) {
  outgoing_record record;
  record.topic = marks_topic;
  record.key = mark_key(topic, id);
  if (mark)
    record.value = json{{"letterTimestamp", mark->letter_ms},
                        {"redrivenAt", mark->at_ms},
                        {"by", mark->by},
                        {"topic", mark->target.topic},
                        {"partition", mark->target.partition},
                        {"offset", mark->target.offset}}
                       .dump(-1, ' ', false, json::error_handler_t::replace);
  return record;
}

std::vector<offset_range> ranges_of(const dlq_query& query, const std::vector<replay_source::partition_bounds>& bounds,
                                    const std::vector<topic_partition>& since) {
  std::vector<offset_range> ranges;
  auto sorted = bounds_of(bounds, query.topic);
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.partition < b.partition; });
  for (const auto& one : sorted) {
    if (!query.ids.empty()) {
      for (const auto& id : query.ids) { // in order, each once
        if (id.partition != one.partition || id.offset < one.first || id.offset >= one.end)
          continue;
        if (!ranges.empty() && ranges.back().partition == id.partition && id.offset - ranges.back().end < worth_a_jump)
          ranges.back().end = id.offset + 1;
        else
          ranges.push_back({id.partition, id.offset, id.offset + 1});
      }
      continue;
    }
    auto begin = one.first;
    if (query.after && one.partition < query.after->partition)
      continue;
    if (query.after && one.partition == query.after->partition)
      begin = std::max(begin, query.after->offset + 1);
    auto at = std::find_if(since.begin(), since.end(),
                           [&](const auto& x) { return x.topic == one.topic && x.partition == one.partition; });
    if (at != since.end())
      begin = at->offset < 0 ? one.end : std::max(begin, at->offset); // none is that late
    ranges.push_back({one.partition, begin, one.end});
  }
  return ranges;
}

} // namespace sluice
