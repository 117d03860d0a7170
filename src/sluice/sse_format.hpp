/// Server-sent events on the wire: pure functions from text to bytes (WHATWG HTML, 9.2). Any thread, nothing throws but
/// std::bad_alloc.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice {

/// Encodes one event, with its closing blank line. `data` is split on CR, LF and CRLF, so that no byte of it can become
/// a field; empty data still fires an event. Empty `event` and `id` are left out (an empty id would clear the client's
/// cursor). Returns nothing where `event` or `id` has CR, LF or NUL: they would cut the field or be ignored by clients.
std::optional<std::string> encode_event(std::string_view data, std::string_view event = {}, std::string_view id = {});

/// The time a client waits before it connects again, in milliseconds. Ends with a blank line; fires no event.
std::string encode_retry(uint64_t ms);

/// A comment, ignored by clients; several lines become several comments. Ends with a blank line.
std::string encode_comment(std::string_view text);

/// A block of only an id: moves the client's cursor without an event. Returns nothing for an id with CR, LF or NUL.
std::optional<std::string> encode_cursor(std::string_view id);

} // namespace sluice
