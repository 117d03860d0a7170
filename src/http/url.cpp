#include "http/url.hpp"

namespace sluice::http {

namespace {

int hex_value(char c) {
  if (c >= '0' && c <= '9')
    return c - '0';
  if (c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  if (c >= 'A' && c <= 'F')
    return c - 'A' + 10;
  return -1;
}

} // namespace

std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%') {
      auto high = i + 2 < text.size() ? hex_value(text[i + 1]) : -1;
      auto low = i + 2 < text.size() ? hex_value(text[i + 2]) : -1;
      if (high < 0 || low < 0 || high + low == 0)
        return std::nullopt;
      out.push_back(static_cast<char>(high * 16 + low));
      i += 2;
    } else {
      out.push_back(plus_is_space && text[i] == '+' ? ' ' : text[i]);
    }
  }
  return out;
}

target_parts split_target(std::string_view target) {
  if (auto scheme = target.find("://"); scheme != std::string_view::npos && scheme < target.find_first_of("/?#")) {
    target.remove_prefix(scheme + 3);
    auto path = target.find_first_of("/?#");
    target = path == std::string_view::npos ? std::string_view{} : target.substr(path);
  }
  target = target.substr(0, target.find('#'));
  auto mark = target.find('?');
  target_parts out{target.substr(0, mark), {}};
  if (mark != std::string_view::npos)
    out.query = target.substr(mark + 1);
  if (out.path.empty())
    out.path = "/";
  return out;
}

std::optional<std::map<std::string, std::string>> parse_query(std::string_view query) {
  std::map<std::string, std::string> out;
  while (!query.empty()) {
    auto end = query.find('&');
    auto pair = query.substr(0, end);
    query = end == std::string_view::npos ? std::string_view{} : query.substr(end + 1);
    if (pair.empty())
      continue;
    auto equals = pair.find('=');
    auto name = percent_decode(pair.substr(0, equals), true);
    auto value = percent_decode(equals == std::string_view::npos ? std::string_view{} : pair.substr(equals + 1), true);
    if (!name || !value)
      return std::nullopt;
    out.insert_or_assign(std::move(*name), std::move(*value));
  }
  return out;
}

} // namespace sluice::http
