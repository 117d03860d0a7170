#include "parsing/parsing.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include "sluice/ascii.hpp"
#include "sluice/utf8.hpp"

namespace sluice::parsing {

namespace {

struct named {
  std::string_view name;
  char32_t point;
};
/// Those that pages use where UTF-8 would do; any other stays as it is written.
constexpr std::array<named, 40> references{{
    {"amp", '&'},      {"lt", '<'},       {"gt", '>'},       {"quot", '"'},     {"apos", '\''},    {"nbsp", 0xa0},
    {"copy", 0xa9},    {"reg", 0xae},     {"deg", 0xb0},     {"middot", 0xb7},  {"laquo", 0xab},   {"raquo", 0xbb},
    {"sect", 0xa7},    {"para", 0xb6},    {"pound", 0xa3},   {"euro", 0x20ac},  {"ndash", 0x2013}, {"mdash", 0x2014},
    {"lsquo", 0x2018}, {"rsquo", 0x2019}, {"ldquo", 0x201c}, {"rdquo", 0x201d}, {"bdquo", 0x201e}, {"hellip", 0x2026},
    {"bull", 0x2022},  {"trade", 0x2122}, {"auml", 0xe4},    {"ouml", 0xf6},    {"uuml", 0xfc},    {"Auml", 0xc4},
    {"Ouml", 0xd6},    {"Uuml", 0xdc},    {"szlig", 0xdf},   {"eacute", 0xe9},  {"egrave", 0xe8},  {"agrave", 0xe0},
    {"ccedil", 0xe7},  {"ntilde", 0xf1},  {"aring", 0xe5},   {"times", 0xd7},
}};
constexpr size_t longest_reference = 32;

/// Tags whose content nobody sees.
constexpr std::array<std::string_view, 7> hidden{"script", "style", "template", "noscript", "svg", "iframe", "object"};
/// Tags within a line; all others end one.
constexpr std::array<std::string_view, 22> within_line{"a",      "abbr", "b",    "bdi", "cite", "code", "em",    "font",
                                                       "i",      "kbd",  "mark", "q",   "s",    "samp", "small", "span",
                                                       "strong", "sub",  "sup",  "u",   "var",  "wbr"};

size_t find_caseless(std::string_view text, std::string_view what, size_t from) {
  const auto found = std::search(text.begin() + static_cast<std::ptrdiff_t>(std::min(from, text.size())), text.end(),
                                 what.begin(), what.end(), [](char a, char b) { return lower(a) == lower(b); });
  return found == text.end() ? std::string_view::npos : static_cast<size_t>(found - text.begin());
}

/// Appends what the reference at the beginning of `text` stands for; returns its length, or 0 where it is none.
size_t append_reference(std::string& out, std::string_view text) {
  const auto end = text.substr(0, longest_reference).find(';');
  if (end == std::string_view::npos || end < 2)
    return 0;
  auto name = text.substr(1, end - 1);
  if (name.front() == '#') {
    name.remove_prefix(1);
    const auto is_hex = name.starts_with('x') || name.starts_with('X');
    name.remove_prefix(is_hex ? 1 : 0);
    uint32_t point = 0;
    const auto read = std::from_chars(name.data(), name.data() + name.size(), point, is_hex ? 16 : 10);
    if (name.empty() || read.ptr != name.data() + name.size())
      return 0;
    append_utf8(out, read.ec == std::errc{} ? point : 0xfffd);
    return end + 1;
  }
  for (const auto& one : references)
    if (one.name == name) {
      append_utf8(out, one.point);
      return end + 1;
    }
  return 0;
}

/// The end of the tag that begins at `at`, behind its ">"; quoted values may hold one.
size_t end_of_tag(std::string_view html, size_t at) {
  char quote = 0;
  for (; at < html.size(); ++at) {
    const char c = html[at];
    if (quote != 0)
      quote = c == quote ? '\0' : quote;
    else if ((c == '"' || c == '\'') && html[at - 1] == '=')
      quote = c;
    else if (c == '>')
      return at + 1;
  }
  return html.size();
}

std::string tag_name(std::string_view html, size_t at) {
  std::string name;
  for (; at < html.size() && is_letter_or_digit(html[at]); ++at)
    name += lower(html[at]);
  return name;
}

} // namespace

std::string html_text(std::string_view html) {
  std::string out;
  out.reserve(html.size() / 2);
  size_t at = 0;
  while (at < html.size()) {
    const char c = html[at];
    if (c == '&') {
      const auto length = append_reference(out, html.substr(at));
      if (length == 0)
        out += c;
      at += std::max<size_t>(length, 1);
    } else if (c != '<') {
      // A line end in the source is a blank on the page.
      out += c == '\n' || c == '\r' ? ' ' : c;
      ++at;
    } else if (html.substr(at).starts_with("<!--")) {
      const auto end = html.find("-->", at + 4);
      at = end == std::string_view::npos ? html.size() : end + 3;
    } else {
      const auto is_end = html.substr(at + 1).starts_with('/');
      const auto name = tag_name(html, at + (is_end ? 2 : 1));
      const auto is_mark = html.substr(at + 1).starts_with('!') || html.substr(at + 1).starts_with('?');
      if (name.empty() && !is_end && !is_mark) {
        out += c; // "a < b"
        ++at;
        continue;
      }
      at = end_of_tag(html, at + 1);
      // Of those only this one may be closed in itself.
      const auto is_closed = name == "svg" && html.substr(0, at).ends_with("/>");
      if (!is_end && !is_closed && std::find(hidden.begin(), hidden.end(), name) != hidden.end()) {
        const auto end = find_caseless(html, "</" + name, at);
        at = end == std::string_view::npos ? html.size() : end_of_tag(html, end + 1);
      }
      if (name == "td" || name == "th")
        out += ' ';
      else if (!name.empty() && std::find(within_line.begin(), within_line.end(), name) == within_line.end())
        out += '\n';
    }
  }
  return out;
}

} // namespace sluice::parsing
