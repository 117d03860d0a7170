#include "sluice/documents.hpp"
#include "sluice/ascii.hpp"

#include <algorithm>
#include <array>
#include <utility>

namespace sluice {

namespace {

constexpr std::size_t looked_at = 1024;

constexpr std::array<std::pair<document_state, const char*>, 4> names{{
    {document_state::uploaded, "uploaded"},
    {document_state::parsed, "parsed"},
    {document_state::embedded, "embedded"},
    {document_state::failed, "failed"},
}};

/// As browsers tell (WHATWG, MIME Sniffing): one of these tags comes first.
bool is_html(const std::string& beginning) {
  static constexpr std::array<std::string_view, 12> tags{
      "<!doctype html", "<html",  "<head", "<body",  "<script", "<title",
      "<div",           "<table", "<h1",   "<style", "<p>",     "<!--"};
  return std::any_of(tags.begin(), tags.end(), [&](auto tag) { return beginning.starts_with(tag); });
}

/// Text in any encoding that leaves ASCII alone: no NUL, and no control characters but those of lines.
bool is_text(std::string_view beginning) {
  return std::none_of(beginning.begin(), beginning.end(), [](char c) {
    auto byte = static_cast<unsigned char>(c);
    return (byte < 0x20 && c != '\n' && c != '\r' && c != '\t' && c != '\f' && c != '\x1b') || byte == 0x7f;
  });
}

/// Whether text that nobody calls JSON is so: an object or array from its first to its last character.
bool is_json(std::string_view bytes, std::string_view trimmed) {
  auto last = bytes.find_last_not_of(" \t\r\n");
  auto inner = trimmed.find_first_not_of(" \t\r\n", 1);
  if (last == std::string_view::npos || inner == std::string_view::npos)
    return false;
  auto next = trimmed[inner];
  return (trimmed.front() == '{' && bytes[last] == '}' && (next == '"' || next == '}')) ||
         (trimmed.front() == '[' && bytes[last] == ']' &&
          std::string_view{"{[]\"-0123456789"}.find(next) != std::string_view::npos);
}

} // namespace

std::string to_string(document_state state) {
  for (const auto& [value, name] : names)
    if (value == state)
      return name;
  return "failed";
}

document_state document_state_of(std::string_view text) {
  for (const auto& [value, name] : names)
    if (text == name)
      return value;
  return document_state::failed;
}

std::string sniff_document(std::string_view bytes, std::string_view declared, std::string_view name) {
  auto beginning = bytes.substr(0, looked_at);
  if (beginning.find("%PDF-") != std::string_view::npos)
    return "application/pdf";
  const auto is_utf16 = beginning.starts_with("\xff\xfe") || beginning.starts_with("\xfe\xff");
  if (!is_utf16 && !is_text(beginning))
    return {};
  if (beginning.starts_with("\xef\xbb\xbf"))
    beginning.remove_prefix(3);
  beginning.remove_prefix(std::min(beginning.find_first_not_of(" \t\r\n\f"), beginning.size()));
  const auto claim = lower(declared.substr(0, declared.find(';')));
  const auto file = lower(name);
  auto is_called = [&](std::string_view type, std::initializer_list<std::string_view> ends) {
    return claim == type || std::any_of(ends.begin(), ends.end(), [&](auto end) { return file.ends_with(end); });
  };
  if (is_html(lower(beginning.substr(0, 16))) || is_called("text/html", {".html", ".htm"}))
    return "text/html";
  if (is_called("text/markdown", {".md", ".markdown"}))
    return "text/markdown";
  if (is_called("text/csv", {".csv", ".tsv"}))
    return "text/csv";
  if (is_called("application/json", {".json"}) ||
      (claim != "text/plain" && !beginning.empty() && is_json(bytes, beginning)))
    return "application/json";
  return "text/plain";
}

} // namespace sluice
