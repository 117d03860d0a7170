#include "sluice/dead_letters.hpp"

#include <algorithm>
#include <charconv>

#include "sluice/processor.hpp"

namespace sluice {

namespace {

constexpr std::string_view dlq_prefix = "sluice-dlq-";
constexpr std::string_view deadline_header = "sluice-deadline";

template <class Number>
std::optional<Number> read_number(std::string_view text) {
  Number result{};
  const auto* end = text.data() + text.size();
  auto [at, error] = std::from_chars(text.data(), end, result);
  return error == std::errc{} && at == end && !text.empty() ? std::optional{result} : std::nullopt;
}

template <class Number>
void read_number(std::string_view text, Number& into) {
  if (auto number = read_number<Number>(text))
    into = *number;
}

void read_member(dlq_letter& into, std::string_view name, const std::string& value) {
  if (name == "topic")
    into.origin.topic = value;
  else if (name == "partition")
    read_number(value, into.origin.partition);
  else if (name == "offset")
    read_number(value, into.origin.offset);
  else if (name == "timestamp")
    read_number(value, into.origin_timestamp_ms);
  else if (name == "processor")
    into.processor = value;
  else if (name == "error")
    into.error = value;
  else if (name == "reason")
    into.reason = value;
  else if (name == "missing")
    into.missing = value;
  else if (name == "attempts")
    read_number(value, into.attempts);
  else if (name == "first-failure")
    read_number(value, into.first_failure_ms);
  else if (name == "last-failure")
    read_number(value, into.last_failure_ms);
}

bool contains(const std::optional<std::string>& where, const std::string& text) {
  return where && where->find(text) != std::string::npos;
}

} // namespace

std::string to_string(letter_id id) {
  return std::to_string(id.partition) + "-" + std::to_string(id.offset);
}

std::optional<letter_id> parse_letter_id(std::string_view text) {
  auto hyphen = text.find('-');
  if (hyphen == std::string_view::npos)
    return std::nullopt;
  auto partition = read_number<int32_t>(text.substr(0, hyphen));
  auto offset = read_number<int64_t>(text.substr(hyphen + 1));
  if (!partition || !offset || *partition < 0 || *offset < 0)
    return std::nullopt;
  return letter_id{*partition, *offset};
}

dlq_letter read_dead_letter(const record_batch& batch, std::size_t index) {
  const auto& record = batch.records()[index];
  dlq_letter letter;
  letter.topic = batch.topic();
  letter.id = {batch.partition(), record.offset};
  letter.timestamp_ms = record.timestamp_ms;
  if (record.has_key)
    letter.key = std::string{record.key};
  if (record.has_value)
    letter.value = std::string{record.value};
  letter.headers = batch.headers(index);
  // They were appended, and begin with the topic: what stands before it is the record's own, whatever its name.
  auto first = std::find_if(letter.headers.rbegin(), letter.headers.rend(),
                            [](const auto& x) { return x.name == "sluice-dlq-topic"; });
  if (first != letter.headers.rend()) {
    auto begin = std::prev(first.base());
    for (auto it = begin; it != letter.headers.end(); ++it)
      if (it->name.starts_with(dlq_prefix))
        read_member(letter, std::string_view{it->name}.substr(dlq_prefix.size()), it->value);
    letter.headers.erase(
        std::remove_if(begin, letter.headers.end(), [](const auto& x) { return x.name.starts_with(dlq_prefix); }),
        letter.headers.end());
  }
  if (const auto* redrives = find_header(letter.headers, redrives_header))
    read_number(*redrives, letter.redrives);
  letter.event_id =
      event_id_of(letter.headers, record.value, letter.origin.topic, letter.origin.partition, letter.origin.offset);
  return letter;
}

outgoing_record redriven_record(const dlq_letter& letter, int64_t now_ms) {
  outgoing_record record;
  record.topic = letter.origin.topic;
  record.partition = letter.origin.partition;
  record.key = letter.key;
  record.value = letter.value;
  for (const auto& header : letter.headers) {
    auto passed = header.name == deadline_header && read_number<int64_t>(header.value).value_or(now_ms + 1) <= now_ms;
    if (header.name != redrives_header && !passed)
      record.headers.push_back(header);
  }
  if (find_header(record.headers, event_id_header) == nullptr)
    record.headers.push_back({std::string{event_id_header}, letter.event_id});
  record.headers.push_back({std::string{redrives_header}, std::to_string(letter.redrives + 1)});
  return record;
}

bool letter_filter::fits(const dlq_letter& letter) const {
  return (!error || letter.error == *error) && (!processor || letter.processor == *processor) &&
         (!key || letter.key == *key) && (!from_ms || letter.timestamp_ms >= *from_ms) &&
         (!to_ms || letter.timestamp_ms <= *to_ms) && (!redriven || letter.redriven.has_value() == *redriven) &&
         (text.empty() || contains(letter.key, text) || contains(letter.value, text) ||
          letter.reason.find(text) != std::string::npos);
}

} // namespace sluice
