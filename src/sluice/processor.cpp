#include "sluice/processor.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <exception>
#include <span>

#include <nlohmann/json.hpp>

#include "sluice/json_text.hpp"

namespace sluice {

namespace {

constexpr std::string_view deadline_header = "sluice-deadline";
/// What goes on from hop to hop.
constexpr std::array<std::string_view, 4> inherited{"traceparent", "tracestate", "sluice-correlation-id",
                                                    deadline_header};
constexpr std::size_t max_envelope_id = 200;
constexpr int max_envelope_depth = 65;

std::optional<std::string> id_in_envelope(std::string_view value) {
  if (value.find("\"eventId\"") == std::string_view::npos || is_nested_deeper(value, max_envelope_depth))
    return std::nullopt;
  const auto body = nlohmann::json::parse(value, nullptr, false);
  const auto metadata = body.is_object() ? body.find("metadata") : body.end();
  if (metadata == body.end() || !metadata->is_object())
    return std::nullopt;
  const auto id = metadata->find("eventId");
  if (id == metadata->end() || !id->is_string())
    return std::nullopt;
  const auto& text = id->get_ref<const std::string&>();
  return text.empty() || text.size() > max_envelope_id ? std::nullopt : std::optional{text};
}

} // namespace

const std::string* find_header(const std::vector<record_header>& headers, std::string_view name) noexcept {
  auto it = std::find_if(headers.begin(), headers.end(), [name](const auto& one) { return one.name == name; });
  return it == headers.end() ? nullptr : &it->value;
}

std::string event_id_of(const std::vector<record_header>& headers, std::string_view value, std::string_view topic,
                        int32_t partition, int64_t offset) {
  if (const auto* id = find_header(headers, event_id_header))
    return *id;
  if (auto id = id_in_envelope(value))
    return *std::move(id);
  return std::string{topic} + "/" + std::to_string(partition) + "/" + std::to_string(offset);
}

std::optional<int64_t> deadline_of(const std::vector<record_header>& headers) noexcept {
  const auto* text = find_header(headers, deadline_header);
  if (text == nullptr)
    return std::nullopt;
  int64_t unix_ms = 0;
  const auto* last = text->data() + text->size();
  auto [end, error] = std::from_chars(text->data(), last, unix_ms);
  return error == std::errc{} && end == last ? std::optional{unix_ms} : std::nullopt;
}

context::context(std::string processor, cancel_flag cancelled)
    : processor_(std::move(processor)), cancelled_(std::move(cancelled)) {}

std::string context::event_id() const {
  if (event_id_.empty())
    event_id_ = event_id_of(input_.headers, input_.value, input_.topic, input_.partition, input_.offset);
  return event_id_;
}

void context::emit(outgoing_record what) {
  ++emissions_;
  emitted_bytes_ += (what.key ? what.key->size() : 0) + (what.value ? what.value->size() : 0);
  if (emissions_ > max_emitted || emitted_bytes_ > max_emitted_bytes)
    return; // `take_emitted` says so
  for (auto name : inherited)
    if (const auto* value = find_header(input_.headers, name))
      if (find_header(what.headers, name) == nullptr)
        what.headers.push_back({std::string{name}, *value});
  if (find_header(what.headers, event_id_header) == nullptr)
    what.headers.push_back({std::string{event_id_header}, event_id() + "/" + std::to_string(emissions_)});
  emitted_.push_back(std::move(what));
}

void context::log(log_level level, std::string_view text, std::initializer_list<log_field> fields) const {
  if (!log_enabled(level))
    return;
  std::vector<log_field> all{{"eventId", event_id()}};
  all.insert(all.end(), fields.begin(), fields.end());
  sluice::log(level, processor_, text, std::span<const log_field>{all});
}

void context::begin(record input, uint32_t attempt) {
  input_ = std::move(input);
  begin(attempt);
}

void context::begin(const record_batch& batch, std::size_t index, uint32_t attempt) {
  // Into the strings of the record before: no allocation where they are long enough.
  const auto& from = batch.records()[index];
  input_.topic = batch.topic();
  input_.partition = batch.partition();
  input_.offset = from.offset;
  input_.timestamp_ms = from.timestamp_ms;
  input_.key.assign(from.key);
  input_.value.assign(from.value);
  input_.headers = batch.headers(index);
  begin(attempt);
}

void context::begin(uint32_t attempt) {
  attempt_ = attempt;
  deadline_ms_ = deadline_of(input_.headers);
  emitted_.clear();
  emissions_ = 0;
  emitted_bytes_ = 0;
  event_id_.clear();
}

caf::expected<std::vector<outgoing_record>> context::take_emitted() {
  if (emissions_ > max_emitted)
    return make_failure(ec::processor_failed, "it emitted " + std::to_string(emissions_) +
                                                  " records for one; emit at most " + std::to_string(max_emitted));
  if (emitted_bytes_ > max_emitted_bytes)
    return make_failure(ec::processor_failed, "it emitted " + std::to_string(emitted_bytes_) +
                                                  " bytes for one record; emit at most " +
                                                  std::to_string(max_emitted_bytes));
  return std::exchange(emitted_, {});
}

caf::error process(const processor_function& function, context& attempt) noexcept {
  try {
    return function(attempt.input(), attempt);
  } catch (const std::exception& e) {
    return make_failure(ec::processor_failed, e.what());
  } catch (...) {
    return make_failure(ec::processor_failed, "it threw something that is not a std::exception");
  }
}

} // namespace sluice
