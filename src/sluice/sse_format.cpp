#include "sluice/sse_format.hpp"

namespace sluice {

namespace {

/// One `name: line` for each line of `text`. A bare CR ends a line for clients, so it does here.
void put_lines(std::string& out, std::string_view name, std::string_view text) {
  for (;;) {
    auto end = text.find_first_of("\r\n");
    out.append(name).append(text.substr(0, end)).push_back('\n');
    if (end == std::string_view::npos)
      return;
    auto crlf = text[end] == '\r' && end + 1 < text.size() && text[end + 1] == '\n';
    text.remove_prefix(end + (crlf ? 2 : 1));
  }
}

bool fits_one_line(std::string_view text) {
  return text.find_first_of(std::string_view{"\r\n\0", 3}) == std::string_view::npos;
}

} // namespace

std::optional<std::string> encode_event(std::string_view data, std::string_view event, std::string_view id) {
  if (!fits_one_line(event) || !fits_one_line(id))
    return std::nullopt;
  std::string out;
  out.reserve(data.size() + event.size() + id.size() + 32);
  if (!id.empty())
    out.append("id: ").append(id).push_back('\n');
  if (!event.empty())
    out.append("event: ").append(event).push_back('\n');
  put_lines(out, "data: ", data);
  out.push_back('\n');
  return out;
}

std::string encode_retry(uint64_t ms) {
  return "retry: " + std::to_string(ms) + "\n\n";
}

std::string encode_comment(std::string_view text) {
  std::string out;
  put_lines(out, text.empty() ? ":" : ": ", text);
  out.push_back('\n');
  return out;
}

std::optional<std::string> encode_cursor(std::string_view id) {
  if (!fits_one_line(id))
    return std::nullopt;
  return "id: " + std::string{id} + "\n\n";
}

} // namespace sluice
