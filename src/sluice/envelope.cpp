#include "sluice/envelope.hpp"

#include <chrono>
#include <random>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include <nlohmann/json.hpp>

#include "sluice/json_text.hpp"

namespace sluice {

namespace {

using json = nlohmann::ordered_json; // data stays in its sender's order

constexpr std::string_view correlation_id_header = "sluice-correlation-id";

std::string to_text(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

int64_t unix_now() {
  auto since = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(since).count();
}

bool is_json(const std::string& text) {
  return !is_nested_deeper(text, max_event_depth) && json::accept(text);
}

/// Takes field `name` of the metadata over to `to`; the error names one that is something else.
template <class T>
caf::error take(const json& metadata, const char* name, T& to) {
  auto it = metadata.find(name);
  if (it == metadata.end() || it->is_null())
    return {};
  constexpr auto is_text = std::is_same_v<T, std::string>;
  if (is_text ? !it->is_string() : !it->is_number_unsigned())
    return make_failure(ec::malformed_record, std::string{"metadata."} + name + " must be a " +
                                                  (is_text ? "string" : "whole number") + ", not " + to_text(*it));
  to = it->get<T>();
  return {};
}

caf::error take_all(const json& metadata, event_metadata& to) {
  if (!metadata.is_object())
    return make_failure(ec::malformed_record, std::string{"metadata must be an object, not "} + metadata.type_name());
  for (auto error : {take(metadata, "eventId", to.event_id), take(metadata, "timestamp", to.timestamp_ms),
                     take(metadata, "source", to.source), take(metadata, "tenantId", to.tenant_id),
                     take(metadata, "correlationId", to.correlation_id), take(metadata, "version", to.version)})
    if (error)
      return error;
  return {};
}

} // namespace

std::string make_uuid() {
  static thread_local std::mt19937_64 random = [] {
    std::random_device device;
    std::seed_seq seed{device(), device(), device(), device(), device(), device(), device(), device()};
    return std::mt19937_64{seed};
  }();
  constexpr const char* hex = "0123456789abcdef";
  std::string out;
  out.reserve(36);
  uint64_t bits = 0;
  for (int i = 0; i < 32; ++i) {
    if (i % 16 == 0)
      bits = random();
    if (i == 8 || i == 12 || i == 16 || i == 20)
      out += '-';
    auto digit = bits & 15;
    bits >>= 4;
    if (i == 12)
      digit = 4; // version
    if (i == 16)
      digit = 8 | (digit & 3); // variant
    out += hex[digit];
  }
  return out;
}

event create_event(std::string type, std::string data, event_metadata metadata) {
  if (type.empty())
    throw std::invalid_argument("an event needs a type, such as USER_CREATED");
  if (!is_json(data))
    throw std::invalid_argument("the data of event " + type +
                                " is not JSON of at most 64 levels: " + data.substr(0, 100));
  if (metadata.event_id.empty())
    metadata.event_id = make_uuid();
  if (metadata.timestamp_ms == 0)
    metadata.timestamp_ms = unix_now();
  return {std::move(type), std::move(data), std::move(metadata)};
}

std::string to_json(const event& what) {
  const auto& from = what.metadata;
  json metadata{
      {"eventId", from.event_id}, {"timestamp", from.timestamp_ms}, {"source", from.source}, {"version", from.version}};
  if (!from.tenant_id.empty())
    metadata["tenantId"] = from.tenant_id;
  if (!from.correlation_id.empty())
    metadata["correlationId"] = from.correlation_id;
  // The data as it came: numbers beyond 2^53 and the order of fields are the sender's.
  return R"({"type":)" + to_text(what.type) + R"(,"data":)" + what.data + R"(,"metadata":)" + to_text(metadata) + "}";
}

outgoing_record to_record(std::string_view topic, const event& what, std::optional<std::string> key) {
  outgoing_record out;
  out.topic = topic;
  out.key = std::move(key);
  out.value = to_json(what);
  out.headers.push_back({std::string{event_id_header}, what.metadata.event_id});
  if (!what.metadata.correlation_id.empty())
    out.headers.push_back({std::string{correlation_id_header}, what.metadata.correlation_id});
  return out;
}

caf::expected<event> event_of(const record& what) {
  if (is_nested_deeper(what.value, max_event_depth + 1)) // data is one level below the envelope
    return make_failure(ec::malformed_record, "the value is nested deeper than 64 levels");
  auto value = json::parse(what.value, nullptr, false);
  if (value.is_discarded())
    return make_failure(ec::malformed_record, "the value is not JSON");
  event found;
  found.metadata.source.clear();
  auto type = value.is_object() ? value.find("type") : value.end();
  auto is_envelope = value.is_object() && type != value.end() && type->is_string() && value.contains("data");
  if (is_envelope) {
    found.type = type->get<std::string>();
    found.data = to_text(value["data"]);
    if (auto metadata = value.find("metadata"); metadata != value.end())
      if (auto error = take_all(*metadata, found.metadata))
        return error;
  } else {
    found.type = what.topic;
    found.data = what.value;
  }
  auto& metadata = found.metadata;
  auto from_header = [&](std::string_view name, std::string& to) {
    if (const auto* text = find_header(what.headers, name); text != nullptr && to.empty())
      to = *text;
  };
  if (metadata.event_id.empty())
    metadata.event_id = event_id_of(what.headers, what.value, what.topic, what.partition, what.offset);
  from_header(correlation_id_header, metadata.correlation_id);
  if (metadata.timestamp_ms == 0 && what.timestamp_ms > 0)
    metadata.timestamp_ms = what.timestamp_ms;
  return found;
}

} // namespace sluice
