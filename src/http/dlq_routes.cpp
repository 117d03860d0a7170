// Dead letters: what there is, one by one, and back to where they came from.
#include <algorithm>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "sluice/config_check.hpp"
#include "sluice/json_text.hpp"
#include "sluice/utf8.hpp"

#include "crypto.hpp"
#include "live_requests.hpp"
#include "numbers.hpp"
#include "routes.hpp"
#include "ws_frames.hpp"

namespace sluice::http {

namespace {

using nlohmann::json;

constexpr uint32_t max_letters = 1000; ///< In one answer, or sent back by one request.
constexpr uint32_t max_rate = 100000;
constexpr uint64_t preview_bytes = 1024;
constexpr size_t preview_headers = 100;
const std::string role = "admin";

// -- letters as JSON --------------------------------------------------------------------------------------------------

/// Cuts a character off that is not whole.
void cut_character(std::string& text) {
  auto begin = text.size();
  while (begin > 0 && text.size() - begin < 4 && (static_cast<unsigned char>(text[begin - 1]) & 0xc0) == 0x80)
    --begin;
  if (begin > 0 && !is_utf8(std::string_view{text}.substr(begin - 1)))
    text.resize(begin - 1);
}

/// Bytes as text where they are text, else in base64; says which.
std::pair<std::string, const char*> shown(std::string bytes, bool cut) {
  if (cut)
    cut_character(bytes);
  if (is_utf8(bytes))
    return {std::move(bytes), "text"};
  return {base64(bytes), "base64"};
}

void put_headers(json& into, const std::vector<record_header>& headers, bool whole) {
  into["headers"] = json::array();
  for (const auto& header : headers) {
    if (!whole && into["headers"].size() == preview_headers) {
      into["headersCut"] = true;
      break;
    }
    auto cut = !whole && header.value.size() > preview_bytes;
    json one{{"name", header.name}, {"value", nullptr}};
    if (header.has_value) {
      auto [text, encoding] = shown(cut ? header.value.substr(0, preview_bytes) : header.value, cut);
      one["value"] = std::move(text);
      if (std::string_view{encoding} != "text")
        one["encoding"] = encoding;
      if (cut)
        one["bytes"] = header.value.size();
    }
    into["headers"].push_back(std::move(one));
  }
}

json place(const topic_partition& where) {
  return {{"topic", where.topic}, {"partition", where.partition}, {"offset", where.offset}};
}

/// `ms` as it is, or null where it is not known.
json time_or_null(int64_t ms) {
  return ms < 0 ? json() : json(ms);
}

/// A value that is JSON stands there as it is, to the digit.
std::string to_json(const dlq_page::entry& entry, bool whole) {
  const auto& letter = entry.letter;
  json body{{"id", to_string(letter.id)},
            {"topic", letter.topic},
            {"partition", letter.id.partition},
            {"offset", letter.id.offset},
            {"timestamp", time_or_null(letter.timestamp_ms)},
            {"origin", nullptr},
            {"processor", letter.processor},
            {"error", letter.error},
            {"reason", whole ? letter.reason : letter.reason.substr(0, preview_bytes)},
            {"attempts", letter.attempts},
            {"firstFailure", letter.first_failure_ms},
            {"lastFailure", letter.last_failure_ms},
            {"eventId", letter.event_id},
            {"redrives", letter.redrives},
            {"redriven", nullptr},
            {"key", nullptr}};
  if (!letter.origin.topic.empty()) {
    body["origin"] = place(letter.origin);
    body["origin"]["timestamp"] = time_or_null(letter.origin_timestamp_ms);
  }
  if (!letter.missing.empty())
    body["missing"] = letter.missing;
  if (letter.redriven)
    body["redriven"] = {{"at", letter.redriven->at_ms},
                        {"by", letter.redriven->by.empty() ? json() : json(letter.redriven->by)},
                        {"to", place(letter.redriven->target)}};
  if (letter.key) {
    auto cut = letter.key->size() < entry.key_bytes;
    auto [text, encoding] = shown(*letter.key, cut);
    body["key"] = std::move(text);
    body["keyEncoding"] = encoding;
    if (cut)
      body["keyBytes"] = entry.key_bytes;
  }
  put_headers(body, letter.headers, whole);
  body["valueBytes"] = letter.value ? json(entry.value_bytes) : json();
  auto cut = letter.value && letter.value->size() < entry.value_bytes;
  if (cut)
    body["valueCut"] = true;
  auto is_json = letter.value && !cut && is_utf8(*letter.value) && !is_nested_deeper(*letter.value, max_depth) &&
                 json::accept(*letter.value);
  std::string value = "null";
  if (is_json) {
    value = *letter.value;
    body["valueEncoding"] = "json";
  } else if (letter.value) {
    auto [text, encoding] = shown(*letter.value, cut);
    value.clear();
    append_string(value, text);
    body["valueEncoding"] = encoding;
  }
  auto out = body.dump(-1, ' ', false, json::error_handler_t::replace);
  out.pop_back();
  return out + ",\"value\":" + value + "}";
}

// -- reading requests -------------------------------------------------------------------------------------------------

/// Takes one member of a filter, from a URL or a body. False: there is none of that name.
bool take_member(letter_filter& into, const std::string& name, const std::string& text, const std::string& field,
                 std::optional<response>& wrong) {
  auto time = [&](std::optional<int64_t>& ms) {
    ms = number_of<int64_t>(text, 0, int64_t{1} << 52);
    if (!ms)
      wrong = wrong_field(field, "must be a time in Unix milliseconds");
  };
  if (name == "error")
    into.error = text;
  else if (name == "processor")
    into.processor = text;
  else if (name == "key")
    into.key = text;
  else if (name == "text")
    into.text = text;
  else if (name == "from")
    time(into.from_ms);
  else if (name == "to")
    time(into.to_ms);
  else if (name == "redriven" && (text == "true" || text == "false"))
    into.redriven = text == "true";
  else if (name == "redriven")
    wrong = wrong_field(field, "must be true or false");
  else
    return false;
  return true;
}

constexpr const char* filter_members = "error, processor, key, text, from, to and redriven";

std::optional<response> check_topic(const request& req, dlq_query& query) {
  query.topic = req.params.at("topic");
  if (!is_topic_name(query.topic) || !query.topic.ends_with(dlq_suffix) || query.topic.size() == dlq_suffix.size())
    return wrong_field("topic", "is no dead-letter topic: their names end in .dlq; GET /kafka/dlq lists them");
  return std::nullopt;
}

std::optional<response> read_query(const request& req, dlq_query& query) {
  auto wrong = check_topic(req, query);
  for (const auto& [name, text] : req.query) {
    if (wrong)
      return wrong;
    if (name == "limit") {
      auto limit = number_of<uint32_t>(text, 1, max_letters);
      if (!limit)
        return wrong_field(name, "must be a number from 1 to 1000");
      query.limit = *limit;
    } else if (name == "after") {
      query.after = parse_letter_id(text);
      if (!query.after)
        return wrong_field(name, "must be the id of a letter, such as 0-17");
    } else if (!take_member(query.filter, name, text, name, wrong) && name != "ticket") {
      return wrong_field(name, std::string{"is no parameter of this; there are "} + filter_members +
                                   ", besides limit and after");
    }
  }
  return wrong;
}

std::optional<response> read_ids(const json& ids, dlq_query& query) {
  if (!ids.is_array() || ids.empty() || ids.size() > max_letters)
    return wrong_field("/ids", "must be a list of 1 to 1000 ids of letters");
  std::set<letter_id> all;
  for (size_t i = 0; i < ids.size(); ++i) {
    auto id = ids[i].is_string() ? parse_letter_id(ids[i].get_ref<const std::string&>()) : std::nullopt;
    if (!id)
      return wrong_field("/ids/" + std::to_string(i), "must be the id of a letter, such as \"0-17\"");
    all.insert(*id);
  }
  query.ids.assign(all.begin(), all.end());
  query.limit = static_cast<uint32_t>(query.ids.size());
  return std::nullopt;
}

std::optional<response> read_filter(const json& filter, letter_filter& into) {
  if (!filter.is_object())
    return wrong_field("/filter", "must be an object; {} stands for all letters");
  std::optional<response> wrong;
  for (const auto& [name, value] : filter.items()) {
    auto field = "/filter/" + name;
    auto fits = name == "from" || name == "to" ? value.is_number_integer()
                : name == "redriven"           ? value.is_boolean()
                                               : value.is_string();
    if (!take_member(into, name, value.is_string() ? value.get<std::string>() : value.dump(), field, wrong))
      return wrong_field(field, std::string{"is no member of a filter; there are "} + filter_members);
    if (!wrong && !fits)
      return wrong_field(field, name == "from" || name == "to" ? "must be a time in Unix milliseconds"
                                : name == "redriven"           ? "must be true or false"
                                                               : "must be a string");
    if (wrong)
      return wrong;
  }
  return std::nullopt;
}

std::optional<response> read_switch(const json& body, const char* name, bool& into) {
  auto it = body.find(name);
  if (it == body.end())
    return std::nullopt;
  if (!it->is_boolean())
    return wrong_field(std::string{"/"} + name, "must be true or false");
  into = it->get<bool>();
  return std::nullopt;
}

std::optional<response> read_count(const json& body, const char* name, uint32_t most, uint32_t& into) {
  auto it = body.find(name);
  if (it == body.end())
    return std::nullopt;
  if (!it->is_number_unsigned() || it->get<uint64_t>() < 1 || it->get<uint64_t>() > most)
    return wrong_field(std::string{"/"} + name, "must be a number from 1 to " + std::to_string(most));
  into = it->get<uint32_t>();
  return std::nullopt;
}

std::optional<response> read_order(const request& req, redrive_order& order) {
  auto& query = order.which;
  if (auto wrong = check_topic(req, query))
    return wrong;
  std::optional<response> wrong;
  auto body = read_json(req, wrong);
  if (wrong)
    return wrong;
  if (!body.is_object() || body.contains("ids") == body.contains("filter"))
    return wrong_field("body", R"(must be an object with either "ids", as in {"ids":["0-17"]}, or "filter")");
  for (const auto& [name, ignored] : body.items()) {
    static const std::set<std::string, std::less<>> members{"ids",   "filter", "value", "dryRun",
                                                            "again", "rate",   "limit", "after"};
    if (!members.contains(name))
      return wrong_field("/" + name,
                         "is no member of this; there are ids, filter, value, dryRun, again, rate, limit and after");
  }
  query.limit = max_letters;
  wrong = read_count(body, "limit", max_letters, query.limit);
  if (!wrong)
    wrong = body.contains("ids") ? read_ids(body["ids"], query) : read_filter(body["filter"], query.filter);
  if (!wrong)
    wrong = read_switch(body, "dryRun", order.dry_run);
  if (!wrong)
    wrong = read_switch(body, "again", order.again);
  if (!wrong)
    wrong = read_count(body, "rate", max_rate, order.rate);
  if (wrong)
    return wrong;
  if (auto after = body.find("after"); after != body.end()) {
    query.after = after->is_string() ? parse_letter_id(after->get_ref<const std::string&>()) : std::nullopt;
    if (!query.after || !query.ids.empty())
      return wrong_field("/after", "must be the id of a letter, such as \"0-17\", and goes with a filter");
  }
  if (auto value = body.find("value"); value != body.end()) {
    if (query.ids.size() != 1)
      return wrong_field("/value", "goes with exactly one id");
    order.replace = true;
    if (value->is_string())
      order.value = value->get<std::string>();
    else if (!value->is_null())
      order.value = value->dump();
  }
  // Letters that come back while this goes on are not meant.
  if (query.ids.empty() && !query.filter.to_ms)
    query.filter.to_ms = system_time_ms();
  order.user = req.who.user;
  order.remote = req.remote;
  return std::nullopt;
}

// -- answers ----------------------------------------------------------------------------------------------------------

response json_text(std::string text) {
  response out{200, "application/json", std::move(text), {}};
  out.headers.emplace_back("Cache-Control", "no-store");
  return out;
}

response topics_answer(const dlq_overview& all) {
  json topics = json::array();
  for (const auto& one : all.topics) {
    json errors = json::object();
    for (const auto& [code, count] : one.errors)
      errors[code.empty() ? "unknown" : code] = count;
    topics.push_back({{"topic", one.topic},
                      {"partitions", one.partitions},
                      {"letters", one.letters},
                      {"redriven", one.redriven ? json(*one.redriven) : json()},
                      {"oldest", one.oldest_ms ? json(*one.oldest_ms) : json()},
                      {"newest", one.newest_ms ? json(*one.newest_ms) : json()},
                      {"errors", std::move(errors)},
                      {"complete", one.complete}});
  }
  json body{{"ok", true}, {"topics", std::move(topics)}};
  if (all.left_out > 0)
    body["leftOut"] = all.left_out;
  return ok(200, body);
}

response page_answer(const std::string& topic, const dlq_page& page) {
  json head{{"ok", true}, {"topic", topic}, {"complete", page.complete}, {"scanned", page.scanned}};
  if (!page.knows_redriven)
    head["redrivenKnown"] = false;
  if (page.after)
    head["after"] = to_string(*page.after);
  auto out = head.dump();
  out.pop_back();
  out += ",\"letters\":[";
  for (size_t i = 0; i < page.letters.size(); ++i)
    out += (i == 0 ? "" : ",") + to_json(page.letters[i], false);
  return json_text(out + "]}");
}

/// The status for a reason that holds for all letters.
int status_of(const std::string& error) {
  if (error == "already_redriven" || error == "loop_guard")
    return 409;
  if (error == "not_found" || error == "unknown_topic")
    return 404;
  return error == "no_origin" || error == "incomplete" || error == "kafka_refused" || error == "too_large" ? 422 : 503;
}

response report_answer(const redrive_order& order, const redrive_report& report) {
  json results = json::array();
  std::set<std::string> errors;
  size_t failed = 0;
  for (const auto& one : report.results) {
    json result{{"id", to_string(one.id)}, {"ok", one.error.empty()}};
    if (!one.error.empty()) {
      ++failed;
      errors.insert(one.error);
      result["error"] = one.error;
      result["detail"] = one.detail;
    } else {
      result["eventId"] = one.event_id;
      result["redrives"] = one.redrives;
      result["topic"] = one.target.topic;
      result["partition"] = one.target.partition;
      if (!order.dry_run)
        result["offset"] = one.target.offset;
      if (!one.recorded)
        result["warning"] = "it was sent back, but its mark or its audit entry may be missing; see the log";
    }
    results.push_back(std::move(result));
  }
  auto done = report.results.size() - failed;
  json body{{"ok", failed == 0},
            {"topic", order.which.topic},
            {"dryRun", order.dry_run},
            {"redriven", done},
            {"failed", failed},
            {"skipped", report.skipped},
            {"complete", report.complete},
            {"results", std::move(results)}};
  if (report.after)
    body["after"] = to_string(*report.after);
  if (order.which.ids.empty())
    body["to"] = *order.which.filter.to_ms;
  if (failed == 0 || done > 0 || errors.size() > 1)
    return ok(failed == 0 ? 200 : 207, body);
  auto status = status_of(*errors.begin());
  const auto& first = report.results.front();
  auto answer = problem(status, "no letter was sent back; " + to_string(first.id) + ": " + first.detail);
  if (status == 503)
    answer.headers.emplace_back("Retry-After", "5");
  auto full = json::parse(answer.body);
  full.update(body);
  answer.body = full.dump(-1, ' ', false, json::error_handler_t::replace);
  return answer;
}

/// Answers an error, or what `good` makes of the rest.
template <class T, class Good>
std::function<void(caf::expected<T>)> answer_with(const responder& respond, Good good) {
  return [respond, good](const caf::expected<T>& got) {
    if (!got && code_of(got.error()) == ec::unknown_topic)
      respond(problem(404, text_of(got.error()) + "; GET /kafka/dlq lists the dead-letter topics", "topic"));
    else if (!got && code_of(got.error()) == ec::target_unavailable)
      respond(problem(503, text_of(got.error()), {}, {{"Retry-After", "5"}}));
    else if (!got)
      respond(failure(code_of(got.error()), text_of(got.error())));
    else
      respond(good(**got));
  };
}

void list(const api& with, const request& req, const responder& respond) {
  dlq_query query;
  query.preview_bytes = preview_bytes;
  if (auto wrong = read_query(req, query)) {
    respond(std::move(*wrong));
    return;
  }
  auto answer = [topic = query.topic](const dlq_page& page) { return page_answer(topic, page); };
  with.find_letters(std::move(query), answer_with<dlq_page_ptr>(respond, answer));
}

void show(const api& with, const request& req, const responder& respond) {
  dlq_query query;
  auto wrong = check_topic(req, query);
  auto id = parse_letter_id(req.params.at("id"));
  if (!wrong && !id)
    wrong = wrong_field("id", "must be the id of a letter, such as 0-17");
  if (wrong) {
    respond(std::move(*wrong));
    return;
  }
  query.ids = {*id};
  query.limit = 1;
  auto answer = [id = *id](const dlq_page& page) {
    return page.letters.empty() ? problem(404, "there is no letter " + to_string(id) + " (any more)", "id")
                                : json_text("{\"ok\":true,\"letter\":" + to_json(page.letters.front(), true) + "}");
  };
  with.find_letters(std::move(query), answer_with<dlq_page_ptr>(respond, answer));
}

void redrive(const api& with, const request& req, const responder& respond) {
  redrive_order order;
  if (auto wrong = read_order(req, order)) {
    respond(std::move(*wrong));
    return;
  }
  auto answer = [order](const redrive_report& report) { return report_answer(order, report); };
  with.redrive(std::move(order), answer_with<redrive_report_ptr>(respond, answer));
}

} // namespace

void add_dlq_routes(router& routes, const api& with) {
  auto add = [&](const char* method, const char* path, const handler& answer) {
    routes.add(method, path, authorized(with, answer, role));
  };
  add("GET", "/kafka/dlq", [with](const request&, const responder& respond) {
    with.dlq_topics(answer_with<dlq_overview_ptr>(respond, topics_answer));
  });
  add("GET", "/kafka/dlq/:topic", [with](const request& req, const responder& respond) { list(with, req, respond); });
  add("GET", "/kafka/dlq/:topic/:id",
      [with](const request& req, const responder& respond) { show(with, req, respond); });
  add("POST", "/kafka/dlq/:topic/redrive",
      [with](const request& req, const responder& respond) { redrive(with, req, respond); });
}

} // namespace sluice::http
