#include <nlohmann/json.hpp>

#include "sluice/ascii.hpp"
#include "sluice/envelope.hpp"
#include "sluice/json_text.hpp"

#include "crypto.hpp"
#include "routes.hpp"

namespace sluice::http {

namespace {

constexpr size_t max_documents = 10000;

// "application/json; charset=utf-8" -> "application/json"
std::string media_type(const request& req) {
  auto type = req.header("content-type");
  return lower(trimmed(type.substr(0, type.find(';'))));
}

bool is_json(std::string_view type) {
  return type.empty() || type == "application/json" || type.ends_with("+json");
}

response wrong_body(int status, const std::string& detail, const std::string& field = {}) {
  return problem(status, detail, field);
}

// W3C Trace Context: 2, 32, 16 and 2 lower-case hexadecimal digits, joined by hyphens.
bool is_traceparent(std::string_view text) {
  if (text.size() != 55)
    return false;
  for (size_t i = 0; i < text.size(); ++i) {
    bool hyphen = i == 2 || i == 35 || i == 52;
    bool digit = (text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f');
    if (hyphen ? text[i] != '-' : !digit)
      return false;
  }
  return true;
}

nlohmann::json parse(std::string_view text, const std::string& where, std::optional<response>& wrong) {
  if (is_nested_deeper(text, max_depth)) {
    wrong = wrong_body(400, where + " is nested deeper than 64 levels; flatten it", where);
    return {};
  }
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& e) {
    std::string what = e.what(); // "[json.exception.parse_error.101] parse error at line 1, column 2: …"
    auto text_at = what.find("] ");
    wrong = wrong_body(
        400, where + " is not valid JSON: " + (text_at == std::string::npos ? what : what.substr(text_at + 2)), where);
    return {};
  }
}

// Takes one event; its text is kept as it came where it stands alone.
bool take(json_body& body, const nlohmann::json& document, std::string_view text, const std::string& where) {
  if (!document.is_object()) {
    body.wrong = wrong_body(
        400, where + " must be a JSON object such as {\"payload\":{\"times\":42}}, not " + document.type_name(), where);
    return false;
  }
  body.documents.push_back(text.empty() ? document.dump() : std::string{text});
  return true;
}

void take_lines(json_body& body, std::string_view text) {
  size_t line = 0;
  while (!text.empty()) {
    auto end = text.find('\n');
    auto one = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (!one.empty() && one.back() == '\r')
      one.remove_suffix(1);
    ++line;
    if (one.find_first_not_of(" \t") == std::string_view::npos)
      continue;
    auto where = "line " + std::to_string(line);
    auto document = parse(one, where, body.wrong);
    if (body.wrong || !take(body, document, one, where))
      return;
    if (body.documents.size() > max_documents) {
      body.wrong = wrong_body(413, "more than 10,000 events in one request; send them in several");
      return;
    }
  }
}

} // namespace

nlohmann::json read_json(const request& req, std::optional<response>& wrong) {
  auto type = media_type(req);
  if (!is_json(type)) {
    wrong = wrong_body(415, "send the body with Content-Type: application/json, not " + type, "Content-Type");
    return {};
  }
  if (req.body.find_first_not_of(" \t\r\n") == std::string::npos) {
    wrong = wrong_body(400, "the body is empty; send JSON", "body");
    return {};
  }
  return parse(req.body, "body", wrong);
}

json_body read_documents(const request& req) {
  json_body body;
  auto type = media_type(req);
  if (type == "application/x-ndjson" || type == "application/ndjson" || type == "application/jsonl") {
    body.many = true;
    take_lines(body, req.body);
    if (!body.wrong && body.documents.empty())
      body.wrong = wrong_body(400, "the body is empty; send one JSON object a line", "body");
    return body;
  }
  // One event alone is what most bodies are. It goes on as it came, so it need only be valid, not be read.
  if (auto first = req.body.find_first_not_of(" \t\r\n"); first != std::string::npos && req.body[first] == '{' &&
                                                          is_json(type) && !is_nested_deeper(req.body, max_depth) &&
                                                          nlohmann::json::accept(req.body)) {
    body.documents.push_back(req.body);
    return body;
  }
  auto document = read_json(req, body.wrong);
  if (body.wrong)
    return body;
  if (!document.is_array()) {
    take(body, document, req.body, "body");
    return body;
  }
  body.many = true;
  if (document.empty())
    body.wrong = wrong_body(400, "the array is empty; send at least one event", "body");
  else if (document.size() > max_documents)
    body.wrong = wrong_body(413, "more than 10,000 events in one request; send them in several");
  for (size_t i = 0; i < document.size() && !body.wrong; ++i)
    take(body, document[i], {}, "/" + std::to_string(i));
  return body;
}

std::string make_event_id(const request& req, size_t index) {
  if (req.event_seed.empty())
    return make_uuid();
  constexpr const char* hex = "0123456789abcdef";
  auto digest = sha256(req.event_seed + std::to_string(index));
  std::string out;
  for (size_t i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10)
      out += '-';
    auto byte = static_cast<unsigned char>(digest[i]);
    if (i == 6)
      byte = static_cast<unsigned char>(0x80 | (byte & 0x0f)); // version
    if (i == 8)
      byte = static_cast<unsigned char>(0x80 | (byte & 0x3f)); // variant
    out += hex[byte >> 4];
    out += hex[byte & 15];
  }
  return out;
}

std::vector<record_header> tracing_headers(const request& req, const std::string& event_id) {
  std::vector<record_header> headers{{event_id_header, event_id}};
  auto trace = req.header("traceparent");
  if (is_traceparent(trace))
    headers.push_back({"traceparent", std::string{trace}});
  return headers;
}

} // namespace sluice::http
