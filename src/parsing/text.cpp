#include "parsing/parsing.hpp"

#include <algorithm>
#include <utility>

#include "sluice/ascii.hpp"
#include "sluice/error.hpp"
#include "sluice/utf8.hpp"

namespace sluice::parsing {

namespace {

/// Of Markdown; what is longer stays as it is. Looking further would take forever on a file made for that.
constexpr size_t longest_link = 2000;

std::string from_utf16(std::string_view bytes, bool big_endian) {
  std::string out;
  auto unit = [&](size_t at) {
    const auto a = static_cast<unsigned char>(bytes[at]), b = static_cast<unsigned char>(bytes[at + 1]);
    return static_cast<char32_t>(big_endian ? a << 8 | b : b << 8 | a);
  };
  for (size_t at = 0; at + 1 < bytes.size(); at += 2) {
    auto point = unit(at);
    if (point >= 0xd800 && point <= 0xdbff && at + 3 < bytes.size())
      if (auto low = unit(at + 2); low >= 0xdc00 && low <= 0xdfff) {
        point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
        at += 2;
      }
    append_utf8(out, point);
  }
  return out;
}

/// The line and its end; empties `text` with the last one.
std::string_view take_line(std::string_view& text) {
  const auto size = std::min(text.find('\n'), text.size() - 1) + 1;
  auto line = text.substr(0, size);
  text.remove_prefix(size);
  return line;
}

/// A line of Markdown without emphasis, code marks and links' targets.
void append_inline(std::string& out, std::string_view line) {
  for (size_t at = 0; at < line.size(); ++at) {
    const char c = line[at];
    if (c == '\\' && at + 1 < line.size() &&
        std::string_view{"\\`*_{}[]()#+-.!|"}.find(line[at + 1]) != std::string_view::npos) {
      out += line[++at];
    } else if (c == '*' || c == '`' || (c == '!' && line.substr(at + 1).starts_with('['))) {
      continue;
    } else if (c == '_' && at + 1 < line.size() && line[at + 1] == '_') {
      ++at;
    } else if (c == '[') {
      const auto near = line.substr(at, longest_link);
      const auto close = near.find(']');
      const auto is_link = close != std::string_view::npos && near.substr(close + 1).starts_with('(');
      const auto target = is_link ? near.find(')', close) : std::string_view::npos;
      if (target == std::string_view::npos) {
        out += c;
        continue;
      }
      out += near.substr(1, close - 1);
      at += target;
    } else {
      out += c;
    }
  }
}

} // namespace

caf::expected<std::string> to_utf8(std::string_view bytes) {
  if (bytes.starts_with("\xff\xfe"))
    return from_utf16(bytes.substr(2), false);
  if (bytes.starts_with("\xfe\xff"))
    return from_utf16(bytes.substr(2), true);
  if (bytes.starts_with("\xef\xbb\xbf"))
    bytes.remove_prefix(3);
  if (!is_utf8(bytes))
    return make_failure(ec::rejected,
                        "the text is neither UTF-8 nor UTF-16 with a byte order mark; convert it, e.g. by "
                        "iconv -f WINDOWS-1252 -t UTF-8");
  return std::string{bytes};
}

std::string tidy(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  size_t blanks = 0, lines = 0;
  for (size_t at = 0; at < text.size(); ++at) {
    auto c = text[at];
    if (c == '\r' || c == '\f' || c == '\v')
      c = '\n';
    if (c == '\n') {
      lines += !(text[at] == '\n' && at > 0 && text[at - 1] == '\r');
    } else if (c == ' ' || c == '\t' || text.substr(at).starts_with("\xc2\xa0")) {
      at += c != ' ' && c != '\t'; // a no-break space
      ++blanks;
    } else if (static_cast<unsigned char>(c) >= 0x20 && c != 0x7f) {
      if (lines > 0 && !out.empty())
        out.append(std::min<size_t>(lines, 2), '\n');
      else if (blanks > 0 && !out.empty())
        out += ' ';
      blanks = lines = 0;
      out += c;
    }
  }
  return out;
}

std::string markdown_text(std::string_view markdown) {
  std::string out;
  out.reserve(markdown.size());
  bool is_code = false;
  while (!markdown.empty()) {
    const auto whole = take_line(markdown);
    auto line = trimmed(whole, " \t\r\n");
    if (line.starts_with("```") || line.starts_with("~~~")) {
      is_code = !is_code;
      continue;
    }
    if (is_code) {
      out += whole;
      continue;
    }
    if (line.starts_with('#'))
      line.remove_prefix(std::min(line.find_first_not_of("# "), line.size()));
    while (line.starts_with('>'))
      line = trimmed(line.substr(1), " \t\r\n");
    if (line.size() >= 3 && line.find_first_not_of("-=* |:") == std::string_view::npos)
      line = {}; // a rule, or what underlines a heading
    append_inline(out, line);
    out += '\n';
  }
  return out;
}

document_parser make_parser(const documents_config& cfg) {
  return [pdftotext = find_program("pdftotext"),
          time = cfg.pdf_timeout](const std::string& type, std::string_view bytes,
                                  const std::function<bool()>& cancelled) -> caf::expected<parsed_text> {
    std::string text;
    bool is_cut = false;
    if (type == "application/pdf") {
      auto read = pdf_text(pdftotext, bytes, time, cancelled);
      if (!read)
        return read.error();
      is_cut = read->size() > max_document_text;
      text = tidy(repair_utf8(*read)); // fonts may say anything
      if (text.empty())
        return make_failure(ec::rejected, "the PDF has no text; perhaps its pages are pictures");
      return parsed_text{std::move(text), is_cut};
    }
    auto decoded = to_utf8(bytes);
    if (!decoded)
      return decoded.error();
    if (type == "text/html") {
      text = html_text(*decoded);
    } else if (type == "text/markdown") {
      text = markdown_text(*decoded);
    } else if (type == "application/json" || type == "text/csv") {
      auto read = type == "text/csv" ? csv_text(*decoded) : json_text(*decoded);
      if (!read)
        return read.error();
      is_cut = read->size() > max_document_text;
      text = std::move(*read);
    } else {
      text = std::move(*decoded);
    }
    text = tidy(text);
    if (text.empty())
      return make_failure(ec::rejected, "the document is empty: there is no text in it");
    return parsed_text{std::move(text), is_cut};
  };
}

} // namespace sluice::parsing
