// The audit trail: what is in it, whether it is whole, and a way to try it.
#include <chrono>
#include <cmath>
#include <memory>
#include <utility>

#include <nlohmann/json.hpp>

#include "sluice/dead_letters.hpp"
#include "sluice/json_text.hpp"
#include "sluice/utf8.hpp"

#include "contracts.hpp"
#include "live_requests.hpp"
#include "numbers.hpp"

namespace sluice::http {

namespace {

using nlohmann::json;

constexpr uint32_t max_entries = 1000; ///< In one answer.
constexpr int64_t max_time_ms = int64_t{1} << 52;
constexpr int64_t max_number = int64_t{1} << 62;
constexpr std::size_t max_text_bytes = 1000;
constexpr int max_depth = 64;
/// A request looks at as much of the chain as it can in this time; then the client goes on.
constexpr std::chrono::seconds verify_time{4};
const std::string role = "admin";

response no_trail() {
  return problem(404, "this node keeps no audit trail; set audit.enabled = true to have one");
}

// -- entries ----------------------------------------------------------------------------------------------------------

/// JSON as it was stored, to the digit; as a text where somebody has made something else of it.
void append_json(std::string& out, const std::string& text) {
  if (text.empty())
    out += "null";
  else if (!is_nested_deeper(text, max_depth) && json::accept(text))
    out += text;
  else
    append_string(out, text);
}

void append_entry(std::string& out, const audit_entry& one) {
  auto text = [&out](const char* name, const std::string& value) {
    out += name;
    if (value.empty())
      out += "null";
    else
      append_string(out, value);
  };
  out += "{\"number\":" + std::to_string(one.number) + ",\"time\":" + std::to_string(one.time_ms);
  text(",\"eventId\":", one.event_id);
  text(",\"tenant\":", one.tenant);
  text(",\"user\":", one.user);
  text(",\"action\":", one.action);
  text(",\"resource\":", one.resource);
  out += ",\"resourceId\":";
  append_json(out, one.resource_id);
  out += ",\"details\":";
  append_json(out, one.details);
  text(",\"previousHash\":", one.previous_hash);
  text(",\"hash\":", one.hash);
  out += '}';
}

response page_answer(const audit_page& page) {
  std::string out = R"({"ok":true,"entries":[)";
  for (size_t i = 0; i < page.entries.size(); ++i) {
    if (i > 0)
      out += ',';
    append_entry(out, page.entries[i]);
  }
  out += "],\"next\":";
  if (page.more)
    out += "\"" + std::to_string(page.entries.back().time_ms) + "-" + std::to_string(page.entries.back().number) + "\"";
  else
    out += "null";
  return {200, "application/json", out + "}", {{"Cache-Control", "no-store"}}};
}

std::optional<audit_place> place_of(const std::string& text) {
  auto dash = text.find('-');
  if (dash == std::string::npos)
    return std::nullopt;
  auto time = number_of<int64_t>(text.substr(0, dash), 0, max_time_ms);
  auto number = number_of<int64_t>(text.substr(dash + 1), 1, max_number);
  return time && number ? std::optional{audit_place{*time, *number}} : std::nullopt;
}

std::optional<response> read_query(const request& req, audit_query& query) {
  const std::map<std::string, std::optional<std::string>*> texts{{"action", &query.action},
                                                                 {"resource", &query.resource},
                                                                 {"resourceId", &query.resource_id},
                                                                 {"user", &query.user},
                                                                 {"tenant", &query.tenant}};
  for (const auto& [name, text] : req.query) {
    if (auto found = texts.find(name); found != texts.end()) {
      if (text.size() > max_text_bytes || text.find('\0') != std::string::npos || !is_utf8(text))
        return wrong_field(name, "must be a text in UTF-8 of at most 1,000 bytes, without NULs");
      *found->second = text;
    } else if (name == "from" || name == "to") {
      auto& time = name == "from" ? query.from_ms : query.to_ms;
      time = number_of<int64_t>(text, 0, max_time_ms);
      if (!time)
        return wrong_field(name, "must be a time in Unix milliseconds");
    } else if (name == "limit") {
      auto limit = number_of<uint32_t>(text, 1, max_entries);
      if (!limit)
        return wrong_field(name, "must be a number from 1 to 1000");
      query.limit = *limit;
    } else if (name == "after") {
      query.after = place_of(text);
      if (!query.after)
        return wrong_field(name, "must be what \"next\" was in an answer");
    } else if (name != "ticket") {
      return wrong_field(name, "is no parameter of this; there are action, resource, resourceId, user, tenant, from, "
                               "to, limit and after");
    }
  }
  return std::nullopt;
}

void list(const api& with, const request& req, const responder& respond) {
  audit_query query;
  auto wrong = with.find_audit ? read_query(req, query) : no_trail();
  if (wrong) {
    respond(std::move(*wrong));
    return;
  }
  with.find_audit(std::move(query), [respond](const caf::expected<audit_page_ptr>& got) {
    respond(got ? page_answer(**got) : failure(code_of(got.error()), text_of(got.error())));
  });
}

// -- the chain --------------------------------------------------------------------------------------------------------

/// One request's look at the chain: piece by piece, for as long as there is time.
struct look : std::enable_shared_from_this<look> {
  look(const api& with, int64_t after, responder respond) : with(with), after(after), respond(std::move(respond)) {}
  void go_on() {
    with.verify_audit(after, [me = shared_from_this()](const caf::expected<audit_check_ptr>& got) {
      if (!got)
        me->respond(failure(code_of(got.error()), text_of(got.error())));
      else
        me->take(**got);
    });
  }
  void take(const audit_check& piece) {
    checked += piece.checked;
    after = piece.last;
    if (!piece.broken && !piece.complete && std::chrono::steady_clock::now() < end) {
      go_on();
      return;
    }
    json body{{"ok", true},
              {"valid", !piece.broken.has_value()},
              {"complete", piece.complete || piece.broken.has_value()},
              {"checked", checked},
              {"last", piece.last},
              {"head", {{"number", piece.head}, {"hash", piece.head_hash}}},
              {"broken", nullptr}};
    if (piece.broken)
      body["broken"] = {{"number", piece.broken->number}, {"reason", piece.broken->reason}};
    auto answer = ok(200, body);
    answer.headers.emplace_back("Cache-Control", "no-store");
    respond(std::move(answer));
  }

  const api with;
  int64_t after;
  responder respond;
  uint64_t checked = 0;
  std::chrono::steady_clock::time_point end = std::chrono::steady_clock::now() + verify_time;
};

void verify(const api& with, const request& req, const responder& respond) {
  std::optional<int64_t> after = 0;
  std::optional<response> wrong;
  if (!with.verify_audit)
    wrong = no_trail();
  for (const auto& [name, text] : req.query) {
    if (wrong)
      break;
    if (name == "after") {
      after = number_of<int64_t>(text, 0, max_number);
      if (!after)
        wrong = wrong_field(name, "must be the number of an entry: what \"last\" was in an answer");
    } else if (name != "ticket") {
      wrong = wrong_field(name, "is no parameter of this; there is after");
    }
  }
  if (wrong)
    respond(std::move(*wrong));
  else
    std::make_shared<look>(with, *after, respond)->go_on();
}

// -- a way to try it --------------------------------------------------------------------------------------------------

std::string check_name(const json& value) {
  if (!value.is_string() || value.get_ref<const std::string&>().empty() ||
      value.get_ref<const std::string&>().size() > max_text_bytes ||
      value.get_ref<const std::string&>().find('\0') != std::string::npos)
    return "must be a string of 1 to 1,000 bytes, without NULs";
  return "";
}

std::string check_id(const json& value) {
  constexpr double exact = 9007199254740992.0; // 2^53
  if (value.is_number_float() && std::abs(value.get<double>()) >= exact)
    return "is too large a number to be kept as it is; send it as a string";
  return value.is_number() || value.is_null() || check_name(value).empty()
             ? ""
             : "must be a number, or a string of 1 to 1,000 bytes without NULs";
}

void record_action(const api& with, const request& req, const responder& respond) {
  static const std::vector<member> members{{"action", true, check_name},
                                           {"resource", true, check_name},
                                           {"resourceId", false, check_id},
                                           {"details", false, check_anything}};
  std::optional<response> wrong;
  auto body = read_json(req, wrong);
  if (!wrong)
    wrong = check_members(body, members, "an audit event");
  if (wrong) {
    respond(std::move(*wrong));
    return;
  }
  body["userId"] = req.who.user.empty() ? json() : json(req.who.user);
  publish_event(with, req, audit_topic, std::move(body), {{"ok", true}, {"message", "Audit event published to Kafka"}},
                respond);
}

} // namespace

void add_audit_routes(router& routes, const api& with) {
  auto to = [&with](void (*answer)(const api&, const request&, const responder&)) {
    return [with, answer](const request& req, const responder& respond) { answer(with, req, respond); };
  };
  routes.add("GET", "/audit", authorized(with, to(list), role));
  routes.add("GET", "/audit/verify", authorized(with, to(verify), role));
  routes.add("POST", "/kafka/test/audit", publishing(with, to(record_action)));
}

} // namespace sluice::http
