#include "http/wire.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

#include "sluice/ascii.hpp"

namespace sluice::http {

namespace {

bool is_token(std::string_view name) {
  auto fits = [](char c) {
    return is_letter_or_digit(c) || std::string_view{"!#$%&'*+-.^_`|~"}.find(c) != std::string_view::npos;
  };
  return !name.empty() && std::all_of(name.begin(), name.end(), fits);
}

bool is_clean(std::string_view value) {
  return std::none_of(value.begin(), value.end(),
                      [](char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f; });
}

/// Framing is ours: a second length or connection header would let two readers of one response disagree.
bool is_ours(std::string_view name) {
  for (auto ours : {"connection", "content-length", "content-type", "date", "server", "transfer-encoding"})
    if (same_but_for_case(name, ours))
      return true;
  return false;
}

void put_start(std::string& out, int status, std::string_view date) {
  out.append("HTTP/1.1 ").append(std::to_string(status)).append(" ").append(reason_phrase(status));
  out.append("\r\nServer: sluice\r\nDate: ").append(date).append("\r\n");
}

void put_headers(std::string& out, const header_list& headers, const dropped_header& dropped) {
  for (const auto& [name, value] : headers) {
    if (is_token(name) && is_clean(value) && !is_ours(name))
      out.append(name).append(": ").append(value).append("\r\n");
    else if (dropped)
      dropped(name);
  }
}

} // namespace

std::string_view reason_phrase(int status) {
  switch (status) {
  case 101:
    return "Switching Protocols";
  case 200:
    return "OK";
  case 201:
    return "Created";
  case 202:
    return "Accepted";
  case 204:
    return "No Content";
  case 206:
    return "Partial Content";
  case 207:
    return "Multi-Status";
  case 301:
    return "Moved Permanently";
  case 302:
    return "Found";
  case 303:
    return "See Other";
  case 304:
    return "Not Modified";
  case 307:
    return "Temporary Redirect";
  case 308:
    return "Permanent Redirect";
  case 400:
    return "Bad Request";
  case 401:
    return "Unauthorized";
  case 403:
    return "Forbidden";
  case 404:
    return "Not Found";
  case 405:
    return "Method Not Allowed";
  case 406:
    return "Not Acceptable";
  case 408:
    return "Request Timeout";
  case 409:
    return "Conflict";
  case 410:
    return "Gone";
  case 412:
    return "Precondition Failed";
  case 413:
    return "Content Too Large";
  case 415:
    return "Unsupported Media Type";
  case 422:
    return "Unprocessable Content";
  case 426:
    return "Upgrade Required";
  case 428:
    return "Precondition Required";
  case 429:
    return "Too Many Requests";
  case 431:
    return "Request Header Fields Too Large";
  case 500:
    return "Internal Server Error";
  case 501:
    return "Not Implemented";
  case 502:
    return "Bad Gateway";
  case 503:
    return "Service Unavailable";
  case 504:
    return "Gateway Timeout";
  case 505:
    return "HTTP Version Not Supported";
  case 507:
    return "Insufficient Storage";
  default:
    return "Unknown";
  }
}

std::string http_date(std::time_t now) {
  static constexpr std::array<const char*, 7> days{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr std::array<const char*, 12> months{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                      "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  std::tm t{};
  gmtime_r(&now, &t);
  std::array<char, 64> out{};
  auto n =
      std::snprintf(out.data(), out.size(), "%s, %02d %s %04d %02d:%02d:%02d GMT", days[static_cast<size_t>(t.tm_wday)],
                    t.tm_mday, months[static_cast<size_t>(t.tm_mon)], t.tm_year + 1900, t.tm_hour, t.tm_min, t.tm_sec);
  return {out.data(), static_cast<size_t>(n)};
}

std::string render(const response& what, const rendering& how, const dropped_header& dropped) {
  // Anything outside would not be a status line that clients can read.
  auto status = what.status >= 200 && what.status <= 599 ? what.status : 500;
  auto bodyless = status == 204 || status == 304;
  std::string out;
  out.reserve(256 + (how.head_only ? 0 : what.body.size()));
  put_start(out, status, how.date);
  if (!bodyless) {
    if (!what.content_type.empty() && is_clean(what.content_type))
      out.append("Content-Type: ").append(what.content_type).append("\r\n");
    out.append("Content-Length: ").append(std::to_string(what.body.size())).append("\r\n");
  }
  put_headers(out, what.headers, dropped);
  put_headers(out, how.more, dropped);
  if (!how.keep_alive)
    out.append("Connection: close\r\n");
  else if (how.confirm_keep_alive)
    out.append("Connection: keep-alive\r\n");
  out.append("\r\n");
  if (!bodyless && !how.head_only)
    out.append(what.body);
  return out;
}

std::string render_stream_head(std::string_view date, bool chunked, const header_list& headers,
                               const dropped_header& dropped) {
  std::string out;
  put_start(out, 200, date);
  out.append("Content-Type: text/event-stream\r\n"
             "Cache-Control: no-cache, no-store, no-transform\r\n"
             "X-Accel-Buffering: no\r\n"
             "Connection: close\r\n");
  if (chunked)
    out.append("Transfer-Encoding: chunked\r\n");
  put_headers(out, headers, dropped);
  out.append("\r\n");
  return out;
}

std::string render_socket_head(std::string_view date, std::string_view accept, std::string_view subprotocol,
                               const header_list& headers, const dropped_header& dropped) {
  std::string out;
  put_start(out, 101, date);
  out.append("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ").append(accept).append("\r\n");
  if (!subprotocol.empty())
    out.append("Sec-WebSocket-Protocol: ").append(subprotocol).append("\r\n");
  put_headers(out, headers, dropped);
  out.append("\r\n");
  return out;
}

std::string chunk_head(size_t size) {
  std::array<char, 24> out{};
  auto n = std::snprintf(out.data(), out.size(), "%zx\r\n", size);
  return {out.data(), static_cast<size_t>(n)};
}

} // namespace sluice::http
