#include "sluice/text_template.hpp"
#include "sluice/ascii.hpp"

#include <algorithm>

namespace sluice {

namespace {

bool is_field_name(std::string_view name) {
  return !name.empty() && name.front() != '.' && name.back() != '.' &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return is_letter_or_digit(c) || c == '.' || c == '_' || c == '-'; });
}

} // namespace

caf::expected<std::string> expand(std::string_view text, const field_finder& find) {
  std::string result;
  for (auto open = text.find("{{"); open != std::string_view::npos; open = text.find("{{")) {
    result += text.substr(0, open);
    auto close = text.find("}}", open);
    if (close == std::string_view::npos)
      return make_failure(ec::malformed_record, "\"{{\" is never closed by \"}}\"");
    auto name = trimmed(text.substr(open + 2, close - open - 2));
    if (!is_field_name(name))
      return make_failure(ec::malformed_record,
                          "{{" + std::string{name} + "}} is no field: letters, digits, '_' and '-', with '.' between");
    auto value = find(name);
    if (!value)
      return value.error();
    result += *value;
    text.remove_prefix(close + 2);
  }
  result += text;
  return result;
}

std::string template_problem(std::string_view text) {
  auto expanded = expand(text, [](std::string_view) { return caf::expected<std::string>{std::string{}}; });
  return expanded ? std::string{} : text_of(expanded.error());
}

std::string escape_html(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (char c : text) {
    switch (c) {
    case '&':
      result += "&amp;";
      break;
    case '<':
      result += "&lt;";
      break;
    case '>':
      result += "&gt;";
      break;
    case '"':
      result += "&quot;";
      break;
    case '\'':
      result += "&#39;";
      break;
    default:
      result += c;
    }
  }
  return result;
}

} // namespace sluice
