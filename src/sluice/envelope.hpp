/// Events as services exchange them: what happened, its data, and where it comes from.
///
///     {"type":"USER_CREATED","data":{"userId":"123"},
///      "metadata":{"eventId":"2f09b494-…","timestamp":1795244255286,"source":"auth-service","version":1}}
///
/// Pure functions: any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <caf/expected.hpp>

#include "sluice/processor.hpp"
#include "sluice/record.hpp"

namespace sluice {

/// Where an event comes from. What is empty, or 0, is filled in by `create_event`, or left out where it says so.
struct event_metadata {
  std::string event_id{};        ///< A new UUID.
  int64_t timestamp_ms = 0;      ///< Unix milliseconds; now.
  std::string source = "sluice"; ///< The service it comes from.
  std::string tenant_id{};       ///< Left out.
  std::string correlation_id{};  ///< Left out.
  uint32_t version = 1;          ///< Of the data's shape.
};

struct event {
  std::string type; ///< What happened, e.g. `USER_CREATED`.
  std::string data; ///< JSON.
  event_metadata metadata;
};

/// Levels of objects and arrays in each other that `data` may have.
constexpr int max_event_depth = 64;

/// A random (version 4) UUID.
std::string make_uuid();

/// An event that happened now. Throws `std::invalid_argument` where `type` is empty or `data` is not JSON.
event create_event(std::string type, std::string data, event_metadata metadata = {});

/// The envelope's text.
std::string to_json(const event& what);

/// The record that carries the event; its id and correlation id are in the headers, too.
outgoing_record to_record(std::string_view topic, const event& what, std::optional<std::string> key = std::nullopt);

/// The event that a record carries. JSON without an envelope is an event, too: its data is the value, its type the
/// topic, its id and correlation id are the headers `sluice-event-id` and `sluice-correlation-id`. Where there is no id
/// it is "topic/partition/offset". `malformed_record` where the value is no JSON, or a field of the envelope is wrong.
caf::expected<event> event_of(const record& what);

/// A processor of events: `handler` takes `(const event&, context&)` and returns nothing, or a `caf::error`. It gets
/// what `event_of` makes of each record; what is none becomes a dead letter.
template <class Handler>
processor make_event_processor(Handler handler) {
  return make_processor([handler = std::move(handler)](const record& in, context& out) mutable -> caf::error {
    auto what = event_of(in);
    if (!what)
      return std::move(what.error());
    if constexpr (std::is_void_v<std::invoke_result_t<Handler&, const event&, context&>>) {
      handler(*what, out);
      return {};
    } else {
      return handler(*what, out);
    }
  });
}

} // namespace sluice
