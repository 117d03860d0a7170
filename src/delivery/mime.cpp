#include "delivery/mime.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>

#include "sluice/ascii.hpp"

#include "delivery/signature.hpp"

namespace sluice::outbound {

namespace {

/// Bytes of text in an encoded word: 52 characters of Base64, with which the longest header's first line has 76.
constexpr size_t word_bytes = 39;
constexpr size_t max_plain_header = 60;
constexpr size_t max_line = 75; // one is left for the '=' of a soft break
constexpr size_t max_address = 254;
constexpr size_t max_local_part = 64;
constexpr size_t max_id = 200;

bool is_atom_character(char c) {
  return is_letter_or_digit(c) || std::string_view{"!#$%&'*+-/=?^_`{|}~"}.find(c) != std::string_view::npos;
}

/// Dots between parts of characters that `fits` accepts.
template <class Predicate>
bool is_dotted(std::string_view text, Predicate fits) {
  char before = '.';
  for (char c : text) {
    if (c == '.' ? before == '.' : !fits(c))
      return false;
    before = c;
  }
  return before != '.';
}

std::string date_of(int64_t unix_s) {
  static constexpr std::array<const char*, 7> days{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr std::array<const char*, 12> months{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                      "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const auto when = static_cast<std::time_t>(unix_s);
  std::tm parts{};
  gmtime_r(&when, &parts);
  std::array<char, 128> text{};
  std::snprintf(text.data(), text.size(), "%s, %02d %s %04d %02d:%02d:%02d +0000",
                days.at(static_cast<size_t>(parts.tm_wday)), parts.tm_mday,
                months.at(static_cast<size_t>(parts.tm_mon)), parts.tm_year + 1900, parts.tm_hour, parts.tm_min,
                parts.tm_sec);
  return text.data();
}

/// What a Message-ID may have before its '@'.
std::string id_text(std::string_view id) {
  std::string result{id.substr(0, max_id)};
  for (auto& c : result)
    if (!is_atom_character(c) && c != '.')
      c = '_';
  return is_dotted(result, is_atom_character) ? result : "m" + std::to_string(id.size());
}

std::string part(std::string_view type, std::string_view text) {
  return "Content-Type: " + std::string{type} +
         "; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n" + quoted_printable(text) + "\r\n";
}

} // namespace

mailbox read_mailbox(std::string_view text) {
  auto open = text.rfind('<');
  if (open == std::string_view::npos || text.back() != '>')
    return {"", std::string{trimmed(text)}};
  auto name = trimmed(text.substr(0, open));
  if (name.size() >= 2 && name.front() == '"' && name.back() == '"')
    name = name.substr(1, name.size() - 2);
  return {std::string{name}, std::string{text.substr(open + 1, text.size() - open - 2)}};
}

bool is_mail_address(std::string_view text) {
  auto at = text.find('@');
  if (at == std::string_view::npos || text.size() > max_address || at > max_local_part)
    return false;
  auto domain = text.substr(at + 1);
  auto fits_domain = [](char c) { return is_letter_or_digit(c) || c == '-'; };
  return is_dotted(text.substr(0, at), is_atom_character) && is_dotted(domain, fits_domain) && domain.front() != '-' &&
         domain.back() != '-';
}

std::string encode_header(std::string_view text) {
  auto is_plain = [](char c) { return c >= ' ' && c <= '~'; };
  if (text.size() <= max_plain_header && std::all_of(text.begin(), text.end(), is_plain) &&
      text.find("=?") == std::string_view::npos)
    return std::string{trimmed(text)};
  std::string cleaned{text};
  for (auto& c : cleaned) // line ends are no news in one line
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7f)
      c = ' ';
  std::string result;
  std::string_view rest = cleaned;
  while (!rest.empty()) {
    auto size = std::min(word_bytes, rest.size());
    // Each word holds whole characters.
    while (size < rest.size() && size > 1 && (static_cast<unsigned char>(rest[size]) & 0xC0U) == 0x80U)
      --size;
    result += (result.empty() ? "=?UTF-8?B?" : "\r\n =?UTF-8?B?") + base64(rest.substr(0, size)) + "?=";
    rest.remove_prefix(size);
  }
  return result;
}

std::string quoted_printable(std::string_view text) {
  static constexpr std::string_view hex = "0123456789ABCDEF";
  std::string result;
  size_t column = 0;
  auto add = [&](std::string_view token) {
    if (column + token.size() > max_line) {
      result += "=\r\n";
      column = 0;
    }
    result += token;
    column += token.size();
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n' || (c == '\r' && i + 1 < text.size() && text[i + 1] == '\n')) {
      i += c == '\r' ? 1 : 0;
      result += "\r\n";
      column = 0;
      continue;
    }
    const auto at_end = i + 1 == text.size() || text[i + 1] == '\n' || text[i + 1] == '\r';
    if ((c > ' ' && c <= '~' && c != '=') || ((c == ' ' || c == '\t') && !at_end))
      add({&c, 1});
    else
      add(std::string{'='} + hex[byte >> 4U] + hex[byte & 15U]);
  }
  return result;
}

std::string make_mail(const mail& what) {
  const auto domain = what.from.address.substr(what.from.address.find('@') + 1);
  const auto id = id_text(what.id);
  std::string from = what.from.name.empty() ? what.from.address : "";
  if (from.empty()) {
    auto name = encode_header(what.from.name);
    if (!name.starts_with("=?")) { // in quotes a name may have what else would be syntax
      std::string quoted = "\"";
      for (char c : name)
        quoted += c == '"' || c == '\\' ? std::string{'\\', c} : std::string{c};
      name = quoted + '"';
    }
    from = name + "\r\n <" + what.from.address + ">";
  }
  std::string result = "Date: " + date_of(what.unix_s) + "\r\nFrom: " + from + "\r\nTo: " + what.to +
                       "\r\nSubject: " + encode_header(what.subject) + "\r\nMessage-ID: <" + id + "@" + domain +
                       ">\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n";
  if (what.html.empty())
    return result + part("text/plain", what.text);
  // "=_" is nothing that quoted-printable text could hold.
  const std::string boundary = "=_sluice";
  result += "Content-Type: multipart/alternative; boundary=\"" + boundary + "\"\r\n\r\n";
  for (const auto& [type, text] : {std::pair{"text/plain", &what.text}, std::pair{"text/html", &what.html}})
    result += "--" + boundary + "\r\n" + part(type, *text);
  return result + "--" + boundary + "--\r\n";
}

} // namespace sluice::outbound
