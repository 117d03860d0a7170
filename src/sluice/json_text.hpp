/// Writes JSON text for hot paths, where building a document first would cost more than the event is worth.
/// Pure functions: any thread.
#pragma once

#include <string>
#include <string_view>

namespace sluice {

/// Appends `value` as a JSON number: integers below 2^53 without a fraction, others in their shortest exact form, NaN
/// and infinities (which JSON has no word for) as `null`.
void append_number(std::string& out, double value);

/// Appends `text` as a JSON string, quoted and escaped. Bytes from 0x80 on pass through: UTF-8 in, UTF-8 out.
void append_string(std::string& out, std::string_view text);

/// Whether objects and arrays lie in each other deeper than `levels`. What recurses over a document asks before it
/// reads one: linear in `text`, which need not be JSON.
bool is_nested_deeper(std::string_view text, int levels);

} // namespace sluice
