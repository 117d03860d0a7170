// Documents: in by upload, found by search.
#include <algorithm>
#include <charconv>
#include <chrono>
#include <memory>
#include <utility>

#include <nlohmann/json.hpp>

#include "sluice/envelope.hpp"
#include "sluice/utf8.hpp"

#include "crypto.hpp"
#include "live_requests.hpp"
#include "multipart.hpp"
#include "routes.hpp"
#include "url.hpp"

namespace sluice::http {

namespace {

using nlohmann::json;

const std::string uploaded_topic = "document.uploaded";
constexpr size_t max_name_bytes = 200;
constexpr size_t max_title_bytes = 500;
constexpr size_t max_query_bytes = 1000;
constexpr size_t id_size = 64;
constexpr uint32_t max_page = 200;
constexpr uint32_t max_hits = 100;
/// What a form has around its file.
constexpr uint32_t form_bytes = 65536;

// -- in ---------------------------------------------------------------------------------------------------------------

const std::string digest_mark = "sha256:";

std::string owner_of(const identity& who) {
  // Any name, in a form that every database takes, and none in the form of another's.
  constexpr size_t longest = 150;
  const auto& user = who.user;
  auto is_plain = std::all_of(user.begin(), user.end(), [](char c) { return c >= ' ' && c <= '~'; });
  return user.size() <= longest && is_plain && !user.starts_with(digest_mark) ? user : digest_mark + hex(sha256(user));
}

bool sees_all(const identity& who) {
  return who.all || who.has_role("admin");
}

/// A line of text of at most so many bytes; nothing dangerous, whatever was sent.
std::string plain_line(std::string_view text, size_t most) {
  auto clean = repair_utf8(text);
  std::erase_if(clean, [](char c) { return (c >= 0 && c < ' ') || c == 0x7f; });
  clean.resize(whole_characters(clean, most));
  return clean;
}

/// The last part of a path, of any system.
std::string file_name(std::string_view path) {
  path.remove_prefix(path.find_last_of("/\\") + 1);
  auto name = plain_line(path, max_name_bytes);
  return name.empty() || name == "." || name == ".." ? "document" : name;
}

/// What a request brings. Its bytes are those of the request's body, which is not copied.
struct incoming {
  std::string bytes, name, title, declared;
};

/// Takes the file out of a form; or the answer that says what is wrong with that.
std::optional<response> take_form(request& req, incoming& into) {
  const auto read = read_form(req.header("content-type"), req.body);
  if (!read.wrong.empty())
    return problem(400, read.wrong, "body");
  const form_part* file = nullptr;
  for (const auto& part : read.parts) {
    if (part.file_name && file == nullptr)
      file = &part;
    else if (!part.file_name && part.name == "title")
      into.title = part.content;
  }
  if (file == nullptr)
    return problem(400, "the form has no file; send one, e.g. by curl -F file=@report.pdf", "body");
  into.name = *file->file_name;
  into.declared = file->content_type;
  const auto begin = static_cast<size_t>(file->content.data() - req.body.data());
  const auto size = file->content.size();
  req.body.resize(begin + size); // the views end here
  req.body.erase(0, begin);
  into.bytes = std::move(req.body);
  return std::nullopt;
}

std::optional<response> take_body(request& req, incoming& into) {
  const auto type = read_parameters(req.header("content-type"));
  if (type.value == "multipart/form-data") {
    if (auto wrong = take_form(req, into))
      return wrong;
  } else if (type.value.starts_with("multipart/")) {
    return problem(415, "of the multipart types only multipart/form-data is taken", "Content-Type");
  } else {
    into.bytes = std::move(req.body);
    // What curl says of any body is no claim.
    into.declared = type.value == "application/x-www-form-urlencoded" ? "" : type.value;
    auto named = read_parameters(req.header("content-disposition")).parameters;
    into.name = named["filename"];
  }
  if (const auto name = parameter(req, "name"); !name.empty())
    into.name = name;
  if (const auto title = parameter(req, "title"); !title.empty())
    into.title = title;
  into.name = file_name(into.name);
  into.title = plain_line(into.title, max_title_bytes);
  return std::nullopt;
}

// -- out --------------------------------------------------------------------------------------------------------------

json shown(const document& what) {
  json body{{"documentId", what.id},
            {"name", what.name},
            {"title", what.title},
            {"contentType", what.content_type},
            {"size", what.size},
            {"sha256", what.sha256},
            {"owner", what.owner},
            {"state", to_string(what.state)},
            {"chunks", what.chunks},
            {"truncated", what.is_cut},
            {"embeddings", what.model.empty() ? json() : json(what.model)},
            {"uploadedAt", what.uploaded_ms},
            {"changedAt", what.changed_ms},
            {"url", "/documents/" + what.id}};
  if (!what.reason.empty())
    body["reason"] = what.reason;
  return body;
}

response not_found(const std::string& id) {
  return problem(404, "there is no document \"" + id + "\"; GET /documents lists those there are", "id");
}

response failure_of(const caf::error& error) {
  return failure(code_of(error), text_of(error));
}

using api_ptr = std::shared_ptr<const api>;
using replied = std::function<void(const document_reply&)>;

/// Asks; errors are answered here.
template <class What>
void ask(const api_ptr& with, const identity& who, What what, const responder& respond, replied reply) {
  auto wish = std::make_shared<document_request>();
  wish->user = owner_of(who);
  wish->everyones = sees_all(who);
  wish->what = std::move(what);
  with->documents(std::move(wish), [respond, reply = std::move(reply)](const caf::expected<document_reply_ptr>& got) {
    if (got)
      reply(**got);
    else
      respond(failure_of(got.error()));
  });
}

/// Has a document processed, and answers once the broker knows.
void announce(const api_ptr& with, const request& req, const document& what, bool is_new, const responder& respond) {
  json data{{"documentId", what.id}, {"name", what.name},     {"title", what.title}, {"contentType", what.content_type},
            {"size", what.size},     {"sha256", what.sha256}, {"owner", what.owner}, {"node", with->node}};
  event_metadata metadata;
  metadata.event_id = make_event_id(req);
  metadata.correlation_id = req.header("x-correlation-id");
  auto record = to_record(uploaded_topic, create_event(uploaded_topic, data.dump(), metadata), what.id);
  for (auto& header : tracing_headers(req, metadata.event_id))
    if (header.name != "sluice-event-id")
      record.headers.push_back(std::move(header));
  auto body = shown(what);
  body["ok"] = true;
  body["existing"] = !is_new;
  body["eventId"] = metadata.event_id;
  body["topic"] = uploaded_topic;
  with->publish({std::move(record)},
                [respond, body = std::move(body), is_new](const caf::expected<std::vector<delivery>>& outcome) mutable {
                  if (!outcome) {
                    respond(failure_of(outcome.error()));
                    return;
                  }
                  const auto& one = outcome->front();
                  if (one.error != ec::no_error) {
                    respond(failure(one.error, one.reason));
                    return;
                  }
                  if (one.queued) {
                    body["queued"] = true;
                  } else {
                    body["partition"] = one.partition;
                    body["offset"] = one.offset;
                  }
                  auto answer = ok(is_new ? 202 : 200, body);
                  answer.headers.emplace_back("Location", body["url"].get<std::string>());
                  respond(std::move(answer));
                });
}

void upload(const api_ptr& with, request req, const responder& respond) {
  if (!req.who.may_publish(uploaded_topic)) {
    respond(forbidden("publish to the topic", uploaded_topic, ""));
    return;
  }
  incoming file;
  if (auto wrong = take_body(req, file)) {
    respond(std::move(*wrong));
    return;
  }
  if (file.bytes.empty()) {
    respond(problem(400, "the file is empty; send one with something in it", "body"));
    return;
  }
  if (file.bytes.size() > with->max_document_bytes) {
    respond(problem(413,
                    "the file has more than " + std::to_string(with->max_document_bytes) +
                        " bytes; send a smaller one, or raise documents.maxBytes",
                    "body"));
    return;
  }
  document what;
  what.content_type = sniff_document(file.bytes, file.declared, file.name);
  if (what.content_type.empty()) {
    respond(problem(415,
                    "the file is none of text, Markdown, HTML, CSV, JSON and PDF, whatever it is called; convert it, "
                    "e.g. to PDF",
                    "body"));
    return;
  }
  what.owner = owner_of(req.who);
  what.name = std::move(file.name);
  what.title = std::move(file.title);
  what.size = file.bytes.size();
  what.uploaded_ms = what.changed_ms = system_time_ms();
  const auto who = req.who;
  auto kept = [with, req = std::move(req), respond](const document_reply& reply) {
    const auto& doc = reply.documents.front();
    // One that is not done yet is announced again: whoever uploaded it first may not have come so far.
    if (reply.is_new || doc.state != document_state::embedded) {
      announce(with, req, doc, reply.is_new, respond);
      return;
    }
    auto body = shown(doc);
    body["ok"] = true;
    body["existing"] = true;
    respond(ok(200, body));
  };
  ask(with, who, document_upload{std::move(what), std::move(file.bytes)}, respond, std::move(kept));
}

/// A whole number of the query; `fallback` where absent, nothing where it is none or beyond the bounds.
std::optional<int64_t> number(const request& req, const std::string& name, int64_t fallback, int64_t least,
                              int64_t most) {
  const auto text = parameter(req, name);
  if (text.empty())
    return fallback;
  int64_t value = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), value);
  if (read.ec != std::errc{} || read.ptr != text.data() + text.size() || value < least || value > most)
    return std::nullopt;
  return value;
}

response wrong_number(const std::string& name, int64_t least, int64_t most) {
  return wrong_field(name, "must be a whole number from " + std::to_string(least) + " to " + std::to_string(most));
}

void look_up(const api_ptr& with, const request& req, const responder& respond) {
  const auto id = req.params.at("id");
  if (!is_utf8(id)) { // no database takes that
    respond(not_found(id));
    return;
  }
  const auto limit = number(req, "limit", 20, 0, max_page);
  const auto from = number(req, "from", 0, 0, INT32_MAX);
  if (!limit || !from) {
    respond(limit ? wrong_number("from", 0, INT32_MAX) : wrong_number("limit", 0, max_page));
    return;
  }
  auto found = [respond, id, from = *from](const document_reply& reply) {
    if (reply.documents.empty()) {
      respond(not_found(id));
      return;
    }
    const auto& doc = reply.documents.front();
    auto body = shown(doc);
    body["ok"] = true;
    body["chunkList"] = json::array();
    for (const auto& chunk : reply.chunks)
      body["chunkList"].push_back({{"id", chunk.id}, {"position", chunk.position}, {"text", chunk.text}});
    const auto next = from + static_cast<int64_t>(reply.chunks.size());
    if (!reply.chunks.empty() && next < static_cast<int64_t>(doc.chunks))
      body["next"] = "/documents/" + doc.id + "?from=" + std::to_string(next);
    respond(ok(200, body));
  };
  ask(with, req.who, document_lookup{id, static_cast<int32_t>(*from), static_cast<uint32_t>(*limit)}, respond,
      std::move(found));
}

/// "<time>-<id>", as `next` of a listing has it.
bool read_place(const std::string& text, document_listing& into) {
  const auto dash = text.find('-');
  if (dash == std::string::npos || text.size() - dash - 1 != id_size)
    return false;
  const auto read = std::from_chars(text.data(), text.data() + dash, into.before_ms);
  into.before_id = text.substr(dash + 1);
  return is_utf8(into.before_id) && read.ec == std::errc{} && read.ptr == text.data() + dash && into.before_ms >= 0;
}

void list(const api_ptr& with, const request& req, const responder& respond) {
  document_listing which;
  const auto limit = number(req, "limit", 50, 1, max_page);
  const auto after = parameter(req, "after");
  if (!limit) {
    respond(wrong_number("limit", 1, max_page));
    return;
  }
  if (!after.empty() && !read_place(after, which)) {
    respond(wrong_field("after", "must be what an answer has as next"));
    return;
  }
  which.limit = static_cast<uint32_t>(*limit);
  auto found = [respond, limit = which.limit](const document_reply& reply) {
    json body{{"ok", true}, {"documents", json::array()}};
    for (const auto& one : reply.documents)
      body["documents"].push_back(shown(one));
    if (reply.documents.size() == limit) {
      const auto& last = reply.documents.back();
      body["next"] = std::to_string(last.uploaded_ms) + "-" + last.id;
    }
    respond(ok(200, body));
  };
  ask(with, req.who, which, respond, std::move(found));
}

void search(const api_ptr& with, const request& req, const responder& respond) {
  document_search what;
  what.text = parameter(req, "q");
  const auto limit = number(req, "limit", 10, 1, max_hits);
  if (what.text.find_first_not_of(" \t\r\n") == std::string::npos || what.text.size() > max_query_bytes ||
      !is_utf8(what.text)) {
    respond(wrong_field("q", "must be 1 to 1,000 bytes of text to look for"));
    return;
  }
  if (!limit) {
    respond(wrong_number("limit", 1, max_hits));
    return;
  }
  what.limit = static_cast<uint32_t>(*limit);
  auto found = [respond, text = what.text, model = with->embeddings](const document_reply& reply) {
    json body{{"ok", true}, {"query", text}, {"embeddings", model}, {"results", json::array()}};
    for (const auto& hit : reply.hits) {
      json one{{"documentId", hit.what.id},
               {"name", hit.what.name},
               {"title", hit.what.title},
               {"contentType", hit.what.content_type},
               {"state", to_string(hit.what.state)},
               {"score", hit.score},
               {"chunk", nullptr},
               {"url", "/documents/" + hit.what.id}};
      if (hit.chunk.position >= 0)
        one["chunk"] = {{"id", hit.chunk.id}, {"position", hit.chunk.position}, {"text", hit.chunk.text}};
      body["results"].push_back(std::move(one));
    }
    respond(ok(200, body));
  };
  ask(with, req.who, std::move(what), respond, std::move(found));
}

void remove(const api_ptr& with, const request& req, const responder& respond) {
  const auto id = req.params.at("id");
  if (!is_utf8(id)) {
    respond(not_found(id));
    return;
  }
  auto removed = [respond, id](const document_reply& reply) {
    if (reply.documents.empty())
      respond(not_found(id));
    else
      respond(ok(200, {{"ok", true}, {"documentId", id}}));
  };
  ask(with, req.who, document_removal{id}, respond, std::move(removed));
}

} // namespace

void add_document_routes(router& routes, const api& with) {
  auto shared = std::make_shared<const api>(with); // too much to be copied for each request
  auto add = [&](const char* method, const char* path, auto handle, uint32_t max_body_bytes = 0) {
    auto enabled = [shared, handle](request req, const responder& respond) {
      if (shared->documents)
        handle(shared, std::move(req), respond);
      else
        respond(problem(404, "documents are not taken here; set documents.enabled"));
    };
    routes.add(method, path, authorized(with, std::move(enabled)), max_body_bytes);
  };
  add("POST", "/upload", upload, with.documents ? with.max_document_bytes + form_bytes : 0);
  add("GET", "/documents", list);
  add("GET", "/documents/search", search);
  add("GET", "/documents/:id", look_up);
  add("DELETE", "/documents/:id", remove);
}

} // namespace sluice::http
