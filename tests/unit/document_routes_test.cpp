// Uploads as forms and as they are, and what is asked of documents, with a desk that answers from a map.
#define CAF_SUITE document_routes

#include <cstdio>

#include <caf/test/unit_test.hpp>
#include <nlohmann/json.hpp>
#include <rapidcheck.h>
#include <unistd.h>

#include "http/auth.hpp"
#include "http/multipart.hpp"
#include "http/routes.hpp"

#include "route_call.hpp"

using namespace sluice;
using nlohmann::json;

namespace {

const std::string form_type = "multipart/form-data; boundary=AaB03x";

std::string part(const std::string& head, const std::string& content) {
  return "--AaB03x\r\n" + head + "\r\n\r\n" + content + "\r\n";
}

std::string file_part(const std::string& content, const std::string& name = "a.txt") {
  return part("Content-Disposition: form-data; name=\"file\"; filename=\"" + name + "\"\r\nContent-Type: text/plain",
              content);
}

std::string wrong(const std::string& body, const std::string& type = form_type) {
  return http::read_form(type, body).wrong;
}

struct fixture {
  fixture() {
    config cfg;
    with.access = *http::authenticator::make(cfg);
    with.max_document_bytes = 1000;
    with.embeddings = "words";
    with.node = "here";
    with.documents = [this](const document_request_ptr& wish, const auto& answer) {
      asked = wish;
      if (trouble) {
        answer(trouble);
        return;
      }
      auto made = std::make_shared<document_reply>(reply);
      if (auto* upload = std::get_if<document_upload>(&wish->what); upload != nullptr && made->documents.empty()) {
        made->documents.push_back(upload->what);
        made->documents.back().id = "d";
        made->is_new = true;
      }
      answer(document_reply_ptr{std::move(made)});
    };
    with.publish = [this](const auto& records, const auto& answer) {
      published.insert(published.end(), records.begin(), records.end());
      answer(std::vector<delivery>(records.size(), delivery{"document.uploaded", 1, 2, refusal, "why"}));
    };
  }

  http::response call(const std::string& method, const std::string& path, const std::string& body = {},
                      std::map<std::string, std::string> headers = {}, std::map<std::string, std::string> query = {}) {
    http::request req;
    req.method = method;
    req.path = path;
    req.body = body;
    req.headers = std::move(headers);
    req.query = std::move(query);
    return call_route(with, std::move(req));
  }
  const document_upload& upload() const { return std::get<document_upload>(asked->what); }

  http::api with;
  document_reply reply;
  document_request_ptr asked;
  caf::error trouble;
  ec refusal = ec::no_error;
  std::vector<outgoing_record> published;
};

} // namespace

// -- forms ------------------------------------------------------------------------------------------------------------

CAF_TEST(a form is taken apart) {
  const auto body =
      "preamble\r\n" + part("Content-Disposition: form-data; name=title", "Ti\r\n-- tle") +
      file_part("one\r\ntwo\r\n") +
      part("content-disposition: FORM-DATA; name=\"x\"; filename*=UTF-8''%e2%82%ac.md; filename=\"e.md\"", "") +
      "--AaB03x--\r\nepilogue";
  auto read = http::read_form(form_type, body);
  CAF_CHECK_EQUAL(read.wrong, "");
  CAF_REQUIRE_EQUAL(read.parts.size(), 3u);
  CAF_CHECK_EQUAL(read.parts[0].name, "title");
  CAF_CHECK(!read.parts[0].file_name.has_value());
  CAF_CHECK_EQUAL(std::string{read.parts[0].content}, "Ti\r\n-- tle");
  CAF_CHECK_EQUAL(read.parts[1].file_name.value_or(""), "a.txt");
  CAF_CHECK_EQUAL(std::string{read.parts[1].content}, "one\r\ntwo\r\n");
  CAF_CHECK_EQUAL(read.parts[1].content_type, "text/plain");
  CAF_CHECK_EQUAL(read.parts[2].file_name.value_or(""), "\xe2\x82\xac.md");
  CAF_CHECK(read.parts[2].content.empty());
}

CAF_TEST(what is wrong with a form is named) {
  const auto good = file_part("x");
  CAF_CHECK(wrong(good + "--AaB03x--").empty());
  CAF_CHECK(wrong(good, "multipart/form-data").find("boundary") != std::string::npos);
  CAF_CHECK(wrong(good, "multipart/form-data; boundary=\"\"").find("boundary") != std::string::npos);
  CAF_CHECK(wrong(good, "multipart/form-data; boundary=other").find("--other, is nowhere") != std::string::npos);
  CAF_CHECK(wrong("").find("nowhere") != std::string::npos);
  CAF_CHECK(wrong(good).find("part 1 does not end") != std::string::npos);
  CAF_CHECK(wrong(good + "--AaB03x").find("the body ends where part 2 should begin") != std::string::npos);
  CAF_CHECK(wrong(good.substr(0, good.size() - 2)).find("part 1 does not end") != std::string::npos);
  CAF_CHECK(wrong("--AaB03x\r\nContent-Disposition: form-data; name=a\r\n").find("no blank line") != std::string::npos);
  CAF_CHECK(wrong("--AaB03x junk\r\n\r\nx\r\n--AaB03x--").find("something else") != std::string::npos);
  CAF_CHECK(wrong(part("Content-Type: text/plain", "x") + "--AaB03x--").find("no Content-Disposition") !=
            std::string::npos);
  CAF_CHECK(wrong(part("Content-Disposition: attachment; name=a", "x") + "--AaB03x--").find("not form-data") !=
            std::string::npos);
  CAF_CHECK(wrong(part("nonsense", "x") + "--AaB03x--").find("no colon") != std::string::npos);
  CAF_CHECK(
      wrong(part("Content-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: base64", "eA==") + "--AaB03x--")
          .find("base64") != std::string::npos);
  CAF_CHECK(wrong("--AaB03x\r\n\r\nx\r\n--AaB03x--").find("no Content-Disposition") != std::string::npos);
  CAF_CHECK(wrong(part("X: " + std::string(9000, 'y'), "x") + "--AaB03x--").find("8 KiB") != std::string::npos);
  std::string many;
  for (int i = 0; i < 101; ++i)
    many += good;
  CAF_CHECK(wrong(many + "--AaB03x--").find("100 parts") != std::string::npos);
}

CAF_TEST(a form in any pieces is survived) {
  const std::vector<std::string> pieces{
      "--AaB03x", "\r\n", "--", "Content-Disposition: form-data; name=a", "; filename=\"b\"", ":", ";", "\"", "=",
      "x",        " ",    "\n"};
  auto check = rc::check("forms survive anything", [&pieces](const std::vector<uint8_t>& choice) {
    std::string body = "--AaB03x\r\n";
    for (auto one : choice)
      body += pieces[one % pieces.size()];
    const auto read = http::read_form(form_type, body);
    RC_ASSERT(read.wrong.empty() || read.parts.empty());
    for (const auto& one : read.parts)
      RC_ASSERT(one.content.data() >= body.data() &&
                one.content.data() + one.content.size() <= body.data() + body.size());
  });
  CAF_CHECK(check);
}

// -- uploads ----------------------------------------------------------------------------------------------------------

CAF_TEST(a form is kept and announced) {
  fixture f;
  auto got = f.call("POST", "/upload",
                    part("Content-Disposition: form-data; name=title", "The title") +
                        file_part("# hello", "C:\\docs\\read.md") + "--AaB03x--\r\n",
                    {{"content-type", form_type}});
  CAF_REQUIRE_EQUAL(got.status, 202);
  CAF_CHECK_EQUAL(f.upload().bytes, "# hello");
  CAF_CHECK_EQUAL(f.upload().what.name, "read.md");
  CAF_CHECK_EQUAL(f.upload().what.title, "The title");
  CAF_CHECK_EQUAL(f.upload().what.content_type, "text/markdown");
  auto body = json::parse(got.body);
  CAF_CHECK_EQUAL(body["documentId"].get<std::string>(), "d");
  CAF_CHECK_EQUAL(body["state"].get<std::string>(), "uploaded");
  CAF_CHECK(!body["existing"].get<bool>());
  CAF_CHECK_EQUAL(body["offset"].get<int>(), 2);
  CAF_REQUIRE_EQUAL(f.published.size(), 1u);
  CAF_CHECK_EQUAL(f.published[0].topic, "document.uploaded");
  CAF_CHECK_EQUAL(f.published[0].key.value_or(""), "d");
  auto event = json::parse(f.published[0].value.value_or(""));
  CAF_CHECK_EQUAL(event["data"]["documentId"].get<std::string>(), "d");
  CAF_CHECK_EQUAL(event["data"]["node"].get<std::string>(), "here");
  CAF_CHECK_EQUAL(event["metadata"]["eventId"].get<std::string>(), body["eventId"].get<std::string>());
}

CAF_TEST(a body is kept as it is under the name it is given) {
  fixture f;
  CAF_CHECK_EQUAL(f.call("POST", "/upload", "{\"a\":1}", {{"content-type", "application/x-www-form-urlencoded"}},
                         {{"name", "x/y.json"}, {"title", "T"}})
                      .status,
                  202);
  CAF_CHECK_EQUAL(f.upload().what.name, "y.json");
  CAF_CHECK_EQUAL(f.upload().what.content_type, "application/json");
  CAF_CHECK_EQUAL(f.call("POST", "/upload", "hi", {{"content-disposition", "attachment; filename=\"b.txt\""}}).status,
                  202);
  CAF_CHECK_EQUAL(f.upload().what.name, "b.txt");
  CAF_CHECK_EQUAL(f.call("POST", "/upload", "hi", {}, {{"name", "../..\x01\xff"}}).status, 202);
  CAF_CHECK_EQUAL(f.upload().what.name, "..\xef\xbf\xbd");
  CAF_CHECK_EQUAL(f.call("POST", "/upload", "hi", {}, {{"name", "a/.."}}).status, 202);
  CAF_CHECK_EQUAL(f.upload().what.name, "document");
}

CAF_TEST(what cannot be taken is refused before it is kept) {
  fixture f;
  CAF_CHECK_EQUAL(f.call("POST", "/upload", "").status, 400);
  CAF_CHECK_EQUAL(f.call("POST", "/upload", std::string(1001, 'x')).status, 413);
  CAF_CHECK_EQUAL(f.call("POST", "/upload", "\x89PNG\r\n\x1a\n", {{"content-type", "text/plain"}}).status, 415);
  CAF_CHECK_EQUAL(f.call("POST", "/upload", "x", {{"content-type", "multipart/mixed; boundary=x"}}).status, 415);
  CAF_CHECK_EQUAL(f.call("POST", "/upload", "x", {{"content-type", form_type}}).status, 400);
  CAF_CHECK_EQUAL(f.call("POST", "/upload", part("Content-Disposition: form-data; name=title", "x") + "--AaB03x--",
                         {{"content-type", form_type}})
                      .status,
                  400);
  CAF_CHECK(f.asked == nullptr);
  CAF_CHECK(f.published.empty());
  CAF_CHECK_EQUAL(f.call("POST", "/upload", std::string(1000, 'x')).status, 202);
}

CAF_TEST(the same bytes are announced again only where they are not done) {
  fixture f;
  document known;
  known.id = "k";
  known.state = document_state::embedded;
  f.reply.documents.push_back(known);
  auto got = f.call("POST", "/upload", "hi");
  CAF_CHECK_EQUAL(got.status, 200);
  CAF_CHECK(json::parse(got.body)["existing"].get<bool>());
  CAF_CHECK(f.published.empty());
  f.reply.documents[0].state = document_state::failed;
  CAF_CHECK_EQUAL(f.call("POST", "/upload", "hi").status, 200);
  CAF_CHECK_EQUAL(f.published.size(), 1u);
}

CAF_TEST(what goes wrong behind the routes is answered) {
  fixture f;
  f.refusal = ec::kafka_unreachable;
  CAF_CHECK_EQUAL(f.call("POST", "/upload", "hi").status, 503);
  f.trouble = make_failure(ec::storage_full, "no space left");
  CAF_CHECK_EQUAL(f.call("POST", "/upload", "hi").status, 507);
  f.trouble = make_failure(ec::store_unavailable, "locked");
  CAF_CHECK_EQUAL(f.call("GET", "/documents").status, 503);
  f.with.documents = nullptr;
  CAF_CHECK_EQUAL(f.call("GET", "/documents").status, 404);
  CAF_CHECK_EQUAL(f.call("POST", "/upload", "hi").status, 404);
}

// -- looking ----------------------------------------------------------------------------------------------------------

CAF_TEST(a document is shown with its chunks by pages) {
  fixture f;
  CAF_CHECK_EQUAL(f.call("GET", "/documents/nope").status, 404);
  document known;
  known.id = "k";
  known.name = "<script>alert(1)</script>\xff";
  known.chunks = 3;
  known.state = document_state::failed;
  known.reason = "damaged";
  f.reply.documents.push_back(known);
  f.reply.chunks.push_back({"c", 1, "text", {}});
  auto got = f.call("GET", "/documents/k", {}, {}, {{"from", "1"}, {"limit", "1"}});
  CAF_REQUIRE_EQUAL(got.status, 200);
  CAF_CHECK_EQUAL(got.content_type, "application/json");
  const auto& look = std::get<document_lookup>(f.asked->what);
  CAF_CHECK_EQUAL(look.from, 1);
  CAF_CHECK_EQUAL(look.chunks, 1u);
  auto body = json::parse(got.body);
  CAF_CHECK_EQUAL(body["state"].get<std::string>(), "failed");
  CAF_CHECK_EQUAL(body["reason"].get<std::string>(), "damaged");
  CAF_CHECK_EQUAL(body["chunkList"][0]["text"].get<std::string>(), "text");
  CAF_CHECK_EQUAL(body["next"].get<std::string>(), "/documents/k?from=2");
  for (const auto& [name, value] : std::vector<std::pair<std::string, std::string>>{
           {"limit", "201"}, {"limit", "-1"}, {"from", "x"}, {"from", "99999999999"}})
    CAF_CHECK_EQUAL(f.call("GET", "/documents/k", {}, {}, {{name, value}}).status, 400);
}

CAF_TEST(lists go on where they ended) {
  fixture f;
  document known;
  known.id = std::string(64, 'a');
  known.uploaded_ms = 1234;
  f.reply.documents.push_back(known);
  auto body = json::parse(f.call("GET", "/documents", {}, {}, {{"limit", "1"}}).body);
  auto next = body["next"].get<std::string>();
  CAF_CHECK_EQUAL(f.call("GET", "/documents", {}, {}, {{"after", next}}).status, 200);
  const auto& which = std::get<document_listing>(f.asked->what);
  CAF_CHECK_EQUAL(which.before_ms, 1234);
  CAF_CHECK_EQUAL(which.before_id, known.id);
  for (const std::string& bad :
       {std::string{"x"}, std::string{"1-2"}, std::string{"-"}, std::string{"x-aaaa"}, "1-" + std::string(64, '\xff')})
    CAF_CHECK_EQUAL(f.call("GET", "/documents", {}, {}, {{"after", bad}}).status, 400);
}

CAF_TEST(a search needs words and shows what it found) {
  fixture f;
  for (const std::string& bad : {std::string{}, std::string{" "}, std::string(1001, 'x'), std::string{"\xff"}})
    CAF_CHECK_EQUAL(f.call("GET", "/documents/search", {}, {}, {{"q", bad}}).status, 400);
  CAF_CHECK_EQUAL(f.call("GET", "/documents/search", {}, {}, {{"q", "a"}, {"limit", "101"}}).status, 400);
  document known;
  known.id = "k";
  f.reply.hits.push_back({known, {"c", 0, "text", {}}, 0.5});
  f.reply.hits.push_back({known, {"", -1, "title", {}}, 0.25});
  auto body = json::parse(f.call("GET", "/documents/search", {}, {}, {{"q", "some words"}}).body);
  CAF_CHECK_EQUAL(std::get<document_search>(f.asked->what).text, "some words");
  CAF_CHECK_EQUAL(body["embeddings"].get<std::string>(), "words");
  CAF_CHECK_EQUAL(body["results"][0]["chunk"]["text"].get<std::string>(), "text");
  CAF_CHECK(body["results"][1]["chunk"].is_null());
}

CAF_TEST(a document is removed once) {
  fixture f;
  CAF_CHECK_EQUAL(f.call("DELETE", "/documents/k").status, 404);
  f.reply.documents.emplace_back();
  CAF_CHECK_EQUAL(f.call("DELETE", "/documents/k").status, 200);
  CAF_CHECK_EQUAL(std::get<document_removal>(f.asked->what).id, "k");
}

CAF_TEST(no store is asked for what is no text) {
  fixture f;
  f.reply.documents.emplace_back();
  CAF_CHECK_EQUAL(f.call("GET", "/documents/%ff").status, 404);
  CAF_CHECK_EQUAL(f.call("DELETE", "/documents/%ff").status, 404);
  CAF_CHECK(!f.asked);
}

CAF_TEST(users have documents of their own) {
  fixture f;
  const std::string bobs_owner = "sha256:58f1e1563652fedbd74cd10b64ec48bdf2afe8d7e21f1a81201a79b2b6c91ab7";
  auto tokens = std::string{"/tmp/sluice-document-tokens-"} + std::to_string(getpid());
  {
    auto* file = fopen(tokens.c_str(), "w");
    fputs(R"([{"token":"ann-ann-ann-ann-ann-ann","user":"ann","publish":["document.*"]},
                       {"token":"bob-bob-bob-bob-bob-bob","user":"b\u00f6b","publish":["*"]},
                       {"token":"eve-eve-eve-eve-eve-eve","user":"eve"},
                       {"token":"mal-mal-mal-mal-mal-mal","publish":["*"],"user":")",
          file);
    fputs((bobs_owner + "\"}]").c_str(), file);
    fclose(file);
  }
  config cfg;
  cfg.auth.tokens_file = tokens;
  auto access = http::authenticator::make(cfg);
  CAF_REQUIRE_EQUAL(access ? "" : describe(access.error()), "");
  f.with.access = *access;
  unlink(tokens.c_str());
  auto as = [](const std::string& name) {
    return std::map<std::string, std::string>{
        {"authorization", "Bearer " + name + "-" + name + "-" + name + "-" + name + "-" + name + "-" + name}};
  };
  CAF_CHECK_EQUAL(f.call("POST", "/upload", "hi").status, 401);
  CAF_CHECK_EQUAL(f.call("POST", "/upload", "hi", as("eve")).status, 403);
  CAF_CHECK_EQUAL(f.call("POST", "/upload", "hi", as("ann")).status, 202);
  CAF_CHECK_EQUAL(f.upload().what.owner, "ann");
  CAF_CHECK(!f.asked->everyones);
  CAF_CHECK_EQUAL(f.call("POST", "/upload", "hi", as("bob")).status, 202);
  CAF_CHECK_EQUAL(f.upload().what.owner, bobs_owner);
  CAF_CHECK_EQUAL(f.call("POST", "/upload", "hi", as("mal")).status, 202);
  CAF_CHECK(f.upload().what.owner.starts_with("sha256:"));
  CAF_CHECK_NOT_EQUAL(f.upload().what.owner, bobs_owner);
}
