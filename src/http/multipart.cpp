#include "http/multipart.hpp"

#include <algorithm>

#include "sluice/ascii.hpp"

#include "http/url.hpp"

namespace sluice::http {

namespace {

constexpr size_t max_parts = 100;
constexpr size_t max_head = 8192;
constexpr size_t max_boundary = 70; // RFC 2046

/// Takes `"…"` or a word, up to the next semicolon.
std::string take_value(std::string_view& text) {
  std::string out;
  if (!text.starts_with('"')) {
    const auto end = std::min(text.find(';'), text.size());
    out = trimmed(text.substr(0, end));
    text.remove_prefix(end);
    return out;
  }
  size_t at = 1;
  for (; at < text.size() && text[at] != '"'; ++at) {
    // Browsers escape quotes as %22; backslashes are left to Windows' paths.
    if (text[at] == '\\' && at + 1 < text.size() && text[at + 1] == '"')
      ++at;
    out += text[at];
  }
  text.remove_prefix(std::min(text.find(';', std::min(at + 1, text.size())), text.size()));
  return out;
}

/// Reads the headers of a part; what is wrong with them, or "".
std::string read_head(std::string_view head, form_part& part) {
  bool is_named = false;
  while (!head.empty()) {
    const auto end = std::min(head.find("\r\n"), head.size());
    const auto line = head.substr(0, end);
    head.remove_prefix(std::min(end + 2, head.size()));
    const auto colon = line.find(':');
    if (colon == std::string_view::npos)
      return "a line of its headers has no colon";
    const auto name = lower(trimmed(line.substr(0, colon)));
    const auto value = trimmed(line.substr(colon + 1));
    if (name == "content-type")
      part.content_type = value;
    if (name == "content-transfer-encoding" && lower(value) != "binary" && lower(value) != "8bit" &&
        lower(value) != "7bit")
      return "Content-Transfer-Encoding " + std::string{value} + " is not supported; send the bytes as they are";
    if (name != "content-disposition")
      continue;
    auto read = read_parameters(value);
    if (read.value != "form-data")
      return "its Content-Disposition is not form-data";
    is_named = read.parameters.contains("name");
    part.name = read.parameters["name"];
    if (const auto file = read.parameters.find("filename"); file != read.parameters.end())
      part.file_name = file->second;
  }
  return is_named ? "" : "it has no Content-Disposition with a name";
}

} // namespace

header_parameters read_parameters(std::string_view text) {
  header_parameters out;
  const auto end = std::min(text.find(';'), text.size());
  out.value = lower(trimmed(text.substr(0, end)));
  text.remove_prefix(end);
  while (!text.empty()) {
    text.remove_prefix(1); // the semicolon
    const auto equals = text.find_first_of("=;");
    if (equals == std::string_view::npos || text[equals] == ';') {
      text.remove_prefix(std::min(text.find(';'), text.size()));
      continue;
    }
    auto name = lower(trimmed(text.substr(0, equals)));
    text.remove_prefix(equals + 1);
    text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
    auto value = take_value(text);
    if (name.ends_with('*')) {
      const auto quote = value.find('\'');
      const auto second = quote == std::string::npos ? quote : value.find('\'', quote + 1);
      if (second == std::string::npos || lower(value.substr(0, quote)) != "utf-8")
        continue;
      if (auto decoded = percent_decode(std::string_view{value}.substr(second + 1))) {
        name.pop_back();
        out.parameters[name] = std::move(*decoded);
      }
    } else {
      out.parameters.try_emplace(std::move(name), std::move(value));
    }
  }
  return out;
}

form read_form(std::string_view content_type, std::string_view body) {
  form out;
  auto wrong = [&out](std::string text) {
    out.parts.clear();
    out.wrong = std::move(text);
    return out;
  };
  const auto boundary = read_parameters(content_type).parameters["boundary"];
  if (boundary.empty() || boundary.size() > max_boundary)
    return wrong("Content-Type multipart/form-data needs a boundary of 1 to 70 characters");
  const auto delimiter = "\r\n--" + boundary;
  // The first one stands at the beginning; what is before it is to be ignored.
  auto at = body.starts_with(std::string_view{delimiter}.substr(2)) ? 0 : body.find(delimiter);
  if (at == std::string_view::npos)
    return wrong("the boundary of Content-Type, --" + boundary + ", is nowhere in the body");
  body.remove_prefix(at + delimiter.size() - (at == 0 && !body.starts_with("\r\n") ? 2 : 0));
  while (!body.starts_with("--")) {
    const auto where = "part " + std::to_string(out.parts.size() + 1);
    if (out.parts.size() == max_parts)
      return wrong("there are more than 100 parts");
    const auto line = body.find("\r\n");
    if (line == std::string_view::npos)
      return wrong("the body ends where " + where + " should begin: it was cut off, or lacks --" + boundary + "--");
    if (!trimmed(body.substr(0, line)).empty())
      return wrong("the boundary before " + where + " is followed by something else");
    body.remove_prefix(line); // an empty head begins with the blank line's end
    const auto head = body.substr(0, max_head).find("\r\n\r\n");
    if (head == std::string_view::npos)
      return wrong(where + " has no blank line behind its headers, or more than 8 KiB of them");
    form_part part;
    if (auto text = read_head(head < 2 ? std::string_view{} : body.substr(2, head - 2), part); !text.empty())
      return wrong(where + ": " + text);
    body.remove_prefix(head + 4);
    // A part without content: its delimiter's line end is the blank line's.
    const auto end =
        body.starts_with(std::string_view{delimiter}.substr(2)) ? std::string_view::npos : body.find(delimiter);
    const auto is_empty = body.starts_with(std::string_view{delimiter}.substr(2));
    if (end == std::string_view::npos && !is_empty)
      return wrong(where + " does not end: the body was cut off, or lacks --" + boundary + "--");
    part.content = body.substr(0, is_empty ? 0 : end);
    out.parts.push_back(part);
    body.remove_prefix(is_empty ? delimiter.size() - 2 : end + delimiter.size());
  }
  return out;
}

} // namespace sluice::http
