/// Texts with fields: "Hello {{user.name}}". Pure functions, from any thread.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include <caf/expected.hpp>

#include "sluice/error.hpp"

namespace sluice {

/// A field's text by its name; an error where there is none. The text goes in as it is: escape it here if need be.
using field_finder = std::function<caf::expected<std::string>(std::string_view)>;

/// `text` with its fields filled in. A field is a name in double braces, blanks around it do not count; names have
/// letters, digits, '_', '-', and '.' between. An error is the finder's, or `malformed_record` for what is no field.
caf::expected<std::string> expand(std::string_view text, const field_finder& find);

/// What is wrong with the fields of `text`; "" = nothing.
std::string template_problem(std::string_view text);

/// For texts that become part of HTML, attributes included.
std::string escape_html(std::string_view text);

} // namespace sluice
