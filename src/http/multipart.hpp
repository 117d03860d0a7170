/// multipart/form-data (RFC 7578) taken apart. Pure functions.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::http {

/// A header's value with parameters: `form-data; name="a"; filename*=UTF-8''b.txt`.
struct header_parameters {
  std::string value; ///< Lower case.
  /// Names in lower case; quotes are gone, `name*` (RFC 8187, UTF-8) is decoded and comes before `name`.
  std::map<std::string, std::string> parameters;
};
header_parameters read_parameters(std::string_view text);

struct form_part {
  std::string name;
  std::optional<std::string> file_name; ///< Where it is a file.
  std::string content_type;             ///< As it is given; may be empty.
  std::string_view content;             ///< Within the body.
};

struct form {
  std::vector<form_part> parts;
  std::string wrong; ///< What keeps the body from being a form; empty = nothing.
};

/// At most 100 parts with headers of 8 KiB each.
form read_form(std::string_view content_type, std::string_view body);

} // namespace sluice::http
