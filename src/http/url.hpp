/// Request targets: percent decoding and taking apart. Pure functions.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::http {

/// Decodes `%41`; with `plus_is_space` also `+`. Nothing for a `%` without two hex digits after it, and for `%00`.
std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space = false);

/// "/a/b?x=1", "http://host/a/b?x=1" and "*" taken apart. Views into the target.
struct target_parts {
  std::string_view path;  ///< As on the wire, at least "/".
  std::string_view query; ///< Without the question mark.
};
target_parts split_target(std::string_view target);

/// "a=1&b" as {a: "1", b: ""}, decoded; the last of duplicates wins. Nothing where the encoding is broken.
std::optional<std::map<std::string, std::string>> parse_query(std::string_view query);

} // namespace sluice::http
