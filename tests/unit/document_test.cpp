// Documents: what they are, how they are cut, their vectors, the processor with a store that is only a map.
#define CAF_SUITE document

#include "document.hpp"

#include <map>

#include <caf/all.hpp>
#include <caf/test/unit_test.hpp>
#include <nlohmann/json.hpp>
#include <rapidcheck.h>

#include "document_desk.hpp"
#include "document_fakes.hpp"
#include "sluice/testing.hpp"
#include "sluice/utf8.hpp"

using namespace sluice;
using namespace sluice::testing;
using nlohmann::json;
using state = document_state;

namespace {

size_t characters(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

/// Vectors as they come from outside, with an error first where there is one.
class outside : public embedder {
public:
  const std::string& model() const override { return name; }
  std::size_t batch() const override { return 3; }
  bool is_local() const override { return false; }
  caf::expected<std::vector<std::vector<float>>> embed(const std::vector<std::string>& texts,
                                                       const std::function<bool()>&) override {
    batches.push_back(texts.size());
    if (trouble && batches.size() > works)
      return trouble;
    return std::vector<std::vector<float>>(texts.size(), {1, 2});
  }
  std::string name = "model-1";
  std::vector<size_t> batches;
  caf::error trouble;
  size_t works = 0; ///< Batches before the trouble.
};

struct fixture {
  std::shared_ptr<document_map> store = std::make_shared<document_map>();
  std::shared_ptr<outside> embeddings = std::make_shared<outside>();
  int parses = 0;
  caf::error unreadable;
  bool is_cut = false;

  document add(const std::string& text, const std::string& id = "d1") {
    document what;
    what.id = id;
    what.name = "a.txt";
    what.content_type = "text/plain";
    what.size = text.size();
    CAF_REQUIRE(store->add(what, text, {}));
    return what;
  }
  processed push(const std::string& topic, const json& data = {{"documentId", "d1"}, {"node", "here"}}) {
    auto parse = [this](const std::string&, std::string_view bytes,
                        const std::function<bool()>&) -> caf::expected<parsed_text> {
      ++parses;
      if (unreadable)
        return unreadable;
      return parsed_text{std::string{bytes}, is_cut};
    };
    processor_harness sut{make_processor(document_function({"here", false}, {store, parse, embeddings, fake_digest}))};
    return sut.push({topic, 0, 7, "d1", data.dump(), {{"sluice-event-id", "e1"}}, 1000});
  }
};

std::string lines(size_t count) {
  std::string text;
  for (size_t i = 0; i < count; ++i)
    text += "This is sentence number " + std::to_string(i) + ", which says nothing. ";
  return text;
}

} // namespace

// -- types ------------------------------------------------------------------------------------------------------------

CAF_TEST(what a document is its bytes say) {
  CAF_CHECK_EQUAL(sniff_document("%PDF-1.7\n", "text/plain", "a.txt"), "application/pdf");
  CAF_CHECK_EQUAL(sniff_document(" <!DOCTYPE HTML><p>", "application/pdf", "a.pdf"), "text/html");
  CAF_CHECK_EQUAL(sniff_document("hello", "application/pdf", "a.pdf"), "text/plain");
  CAF_CHECK_EQUAL(sniff_document("# hello", "", "README.MD"), "text/markdown");
  CAF_CHECK_EQUAL(sniff_document("a,b\n1,2", "text/csv; charset=utf-8", ""), "text/csv");
  CAF_CHECK_EQUAL(sniff_document("{\"a\": 1}\n", "", ""), "application/json");
  CAF_CHECK_EQUAL(sniff_document("{\"a\": 1}\n", "text/plain", ""), "text/plain");
  CAF_CHECK_EQUAL(sniff_document("{braces} in a text", "", ""), "text/plain");
  CAF_CHECK_EQUAL(sniff_document("\xff\xfeh\0i\0", "", ""), "text/plain");
  for (const auto* bytes : {"\x89PNG\r\n\x1a\n", "PK\x03\x04",
                            "\x7f"
                            "ELF",
                            "\x1f\x8b\x08"})
    CAF_CHECK_EQUAL(sniff_document(bytes, "text/plain", "a.txt"), "");
  CAF_CHECK_EQUAL(sniff_document(std::string_view{"a\0b", 3}, "text/plain", "a.txt"), "");
}

CAF_TEST(states are told by name) {
  for (auto one : {state::uploaded, state::parsed, state::embedded, state::failed})
    CAF_CHECK(document_state_of(to_string(one)) == one);
}

// -- chunks -----------------------------------------------------------------------------------------------------------

CAF_TEST(no text is lost between chunks and none is too long) {
  auto check = rc::check("chunks cover the text", [] {
    const auto letters = *rc::gen::container<std::string>(*rc::gen::inRange<size_t>(0, 6000),
                                                          rc::gen::elementOf(std::string{"abcdefghij .\n"}));
    const auto gaps = *rc::gen::inRange(1, 200);
    std::string text;
    for (size_t i = 0; i < letters.size(); ++i) {
      text += letters[i];
      if (i % static_cast<size_t>(gaps) == 0)
        text += "\xe2\x82\xac"; // three bytes, which nobody may cut
    }
    size_t covered = 0;
    for (auto piece : cut_text(text)) {
      const auto begin = static_cast<size_t>(piece.data() - text.data());
      RC_ASSERT(!piece.empty() && is_utf8(piece));
      RC_ASSERT(begin <= covered && begin + piece.size() > covered);
      RC_ASSERT(characters(piece) <= chunk_characters);
      RC_ASSERT(covered == 0 || characters(std::string_view{text}.substr(begin, covered - begin)) <= chunk_overlap);
      covered = begin + piece.size();
    }
    RC_ASSERT(covered == text.size());
  });
  CAF_CHECK(check);
}

CAF_TEST(chunks end with sentences and overlap at words) {
  const auto text = lines(100);
  auto pieces = cut_text(text);
  CAF_REQUIRE(pieces.size() > 3);
  for (size_t i = 0; i + 1 < pieces.size(); ++i) {
    CAF_CHECK(pieces[i].ends_with(". "));
    const auto next = pieces[i + 1].data();
    CAF_CHECK(next < pieces[i].data() + pieces[i].size()); // it begins within the one before
    CAF_CHECK(*(next - 1) == ' ' && *next != ' ');
  }
  CAF_CHECK_EQUAL(cut_text("short").size(), 1u);
  CAF_CHECK(cut_text("").empty());
  CAF_CHECK_EQUAL(cut_text(std::string(2500, 'x')).size(), 3u); // one word: cut anywhere, without an overlap
}

CAF_TEST(ids of chunks are those of their texts) {
  auto one = make_chunks("d", lines(50), fake_digest), again = make_chunks("d", lines(50), fake_digest);
  auto other = make_chunks("e", lines(50), fake_digest);
  CAF_REQUIRE(one.size() > 1 && one.size() == again.size());
  for (size_t i = 0; i < one.size(); ++i) {
    CAF_CHECK_EQUAL(one[i].id, again[i].id);
    CAF_CHECK_NOT_EQUAL(one[i].id, other[i].id);
    CAF_CHECK_EQUAL(one[i].position, static_cast<int32_t>(i));
  }
}

// -- vectors ----------------------------------------------------------------------------------------------------------

CAF_TEST(texts with the same words are alike) {
  auto sut = make_lexical_embedder();
  auto made =
      sut->embed({"The cat sat on the mat", "on the mat the CAT sat!", "Quarterly revenue of the company grew", ""},
                 [] { return false; });
  CAF_REQUIRE(made);
  const auto& v = *made;
  CAF_CHECK(cosine(v[0], v[0]) > 0.999);
  CAF_CHECK(cosine(v[0], v[1]) > 0.7);
  CAF_CHECK(cosine(v[0], v[2]) < 0.5);
  CAF_CHECK_EQUAL(cosine(v[0], v[3]), 0.0);
  CAF_CHECK_EQUAL(cosine(v[0], {1.0F}), 0.0);
}

CAF_TEST(vectors rank what the words found and only those of the same model) {
  auto hit = [](const std::string& id, double relevance, const std::string& model, std::vector<float> vector) {
    document_store::candidate one;
    one.what.id = id;
    one.what.model = model;
    one.chunk.vector = std::move(vector);
    one.relevance = relevance;
    return one;
  };
  document_search what{"q", "m", {1, 0}, 2};
  auto hits = rank({hit("far", 10, "m", {0, 1}), hit("near", 9, "m", {1, 0}), hit("other", 1, "n", {1, 0})}, what);
  CAF_REQUIRE_EQUAL(hits.size(), 2u);
  CAF_CHECK_EQUAL(hits[0].what.id, "near");
  CAF_CHECK_EQUAL(hits[1].what.id, "far");
  what.vector.clear();
  hits = rank({hit("far", 10, "m", {0, 1}), hit("near", 9, "m", {1, 0})}, what);
  CAF_CHECK_EQUAL(hits[0].what.id, "far");
  CAF_CHECK_EQUAL(hits[0].score, 1.0);
}

// -- the processor ----------------------------------------------------------------------------------------------------

CAF_TEST(a document is parsed and then embedded) {
  fixture f;
  f.add(lines(100));
  auto first = f.push(documents_in);
  CAF_REQUIRE_EQUAL(describe(first.error), "no error");
  CAF_REQUIRE_EQUAL(first.emitted.size(), 1u);
  CAF_CHECK_EQUAL(first.emitted[0].topic, documents_parsed);
  CAF_CHECK_EQUAL(first.emitted[0].key.value_or(""), "d1");
  auto said = json::parse(first.emitted[0].value.value_or(""));
  CAF_CHECK_EQUAL(said["type"].get<std::string>(), documents_parsed);
  CAF_CHECK_EQUAL(said["data"]["documentId"].get<std::string>(), "d1");
  const auto count = f.store->kept["d1"].chunks.size();
  CAF_CHECK(count > 3);
  CAF_CHECK_EQUAL(said["data"]["chunks"].get<size_t>(), count);
  CAF_CHECK(f.store->kept["d1"].what.state == state::parsed);
  auto second = f.push(documents_parsed);
  CAF_REQUIRE_EQUAL(describe(second.error), "no error");
  CAF_CHECK_EQUAL(second.emitted.at(0).topic, documents_out);
  CAF_CHECK(f.store->kept["d1"].what.state == state::embedded);
  for (const auto& chunk : f.store->kept["d1"].chunks)
    CAF_CHECK_EQUAL(chunk.vector.size(), 2u);
  CAF_CHECK_EQUAL(f.embeddings->batches.front(), 3u);
}

CAF_TEST(what comes again is said again and not done again) {
  fixture f;
  f.add(lines(100));
  auto first = f.push(documents_in);
  f.push(documents_parsed);
  const auto writes = f.store->writes;
  const auto batches = f.embeddings->batches.size();
  auto again = f.push(documents_in);
  CAF_REQUIRE_EQUAL(again.emitted.size(), 1u);
  auto id_of = [](const processed& what) {
    return json::parse(what.emitted.at(0).value.value_or(""))["metadata"]["eventId"].get<std::string>();
  };
  CAF_CHECK_EQUAL(id_of(again), id_of(first));
  CAF_CHECK_EQUAL(f.push(documents_parsed).emitted.size(), 1u);
  CAF_CHECK_EQUAL(f.parses, 1);
  CAF_CHECK_EQUAL(f.store->writes, writes);
  CAF_CHECK_EQUAL(f.embeddings->batches.size(), batches);
}

CAF_TEST(a document that cannot be read has failed with the reason) {
  fixture f;
  f.add("x");
  f.unreadable = make_failure(ec::rejected, "the PDF is damaged");
  auto result = f.push(documents_in);
  CAF_CHECK_EQUAL(describe(result.error), "rejected: the PDF is damaged");
  CAF_CHECK(f.store->kept["d1"].what.state == state::failed);
  CAF_CHECK_EQUAL(f.store->kept["d1"].what.reason, "the PDF is damaged");
  CAF_CHECK(code_of(f.push(documents_parsed).error) == ec::rejected);
  // A dead letter that is sent back after the mend.
  f.unreadable = {};
  CAF_CHECK(f.push(documents_in));
  CAF_CHECK(f.store->kept["d1"].what.state == state::parsed);
}

CAF_TEST(what has its vectors keeps them when embeddings go away) {
  fixture f;
  f.add(lines(300));
  f.push(documents_in);
  f.embeddings->trouble = make_failure(ec::target_unavailable, "the embeddings answered 500");
  f.embeddings->works = 2;
  CAF_CHECK(code_of(f.push(documents_parsed).error) == ec::target_unavailable);
  auto& kept = f.store->kept["d1"];
  CAF_CHECK(kept.what.state == state::parsed);
  CAF_CHECK_EQUAL(kept.what.reason, "the embeddings answered 500");
  CAF_CHECK_EQUAL(
      std::count_if(kept.chunks.begin(), kept.chunks.end(), [](const auto& one) { return !one.vector.empty(); }), 6);
  f.embeddings->trouble = {};
  f.embeddings->batches.clear();
  CAF_CHECK(f.push(documents_parsed));
  CAF_CHECK(kept.what.state == state::embedded);
  CAF_CHECK_EQUAL(kept.what.reason, "");
  size_t asked = 0;
  for (auto one : f.embeddings->batches)
    asked += one;
  CAF_CHECK_EQUAL(asked, kept.chunks.size() - 6);
}

CAF_TEST(embeddings that refuse a text fail the document) {
  fixture f;
  f.add("some text");
  f.push(documents_in);
  f.embeddings->trouble = make_failure(ec::rejected, "the embeddings answered 400");
  CAF_CHECK(code_of(f.push(documents_parsed).error) == ec::rejected);
  CAF_CHECK(f.store->kept["d1"].what.state == state::failed);
}

CAF_TEST(a document that is gone is done and one that is elsewhere is not ) {
  fixture f;
  auto gone = f.push(documents_in);
  CAF_CHECK(gone);
  CAF_CHECK(gone.emitted.empty());
  auto elsewhere = f.push(documents_in, {{"documentId", "d1"}, {"node", "there"}});
  CAF_CHECK(describe(elsewhere.error).starts_with("rejected: the document is kept by node there"));
}

CAF_TEST(a record without a document is malformed) {
  fixture f;
  for (const auto& data : {json(1), json::object(), json{{"documentId", 1}}})
    CAF_CHECK(code_of(f.push(documents_in, data).error) == ec::malformed_record);
}

CAF_TEST(a text that is too long is cut and says so) {
  fixture f;
  f.add(std::string(max_document_text + 10, 'x'));
  CAF_CHECK(f.push(documents_in));
  CAF_CHECK(f.store->kept["d1"].what.is_cut);
  size_t bytes = 0;
  for (const auto& chunk : f.store->kept["d1"].chunks)
    bytes += chunk.text.size();
  CAF_CHECK_EQUAL(bytes, max_document_text);
}

CAF_TEST(a text that was not read to its end says so) {
  fixture f;
  f.is_cut = true;
  f.add("short");
  CAF_CHECK(f.push(documents_in));
  CAF_CHECK(f.store->kept["d1"].what.is_cut);
}

// -- the desk ---------------------------------------------------------------------------------------------------------

namespace {

/// Asks a desk, as HTTP does.
struct desk_fixture : fixture {
  document_reply ask(decltype(document_request::what) what, const std::string& user = "", bool everyones = true) {
    actor_config<caf::id_block::sluice> cfg{1};
    caf::actor_system system{cfg};
    auto parse = [](const std::string&, std::string_view bytes, const std::function<bool()>&) {
      return caf::expected<parsed_text>{parsed_text{std::string{bytes}}};
    };
    auto sut = system.spawn<caf::detached>(document_desk, document_tools{store, parse, embeddings, fake_digest});
    auto wish = std::make_shared<document_request>();
    wish->user = user;
    wish->everyones = everyones;
    wish->what = std::move(what);
    document_reply got;
    caf::scoped_actor self{system};
    self->request(sut, std::chrono::seconds{10}, wish)
        .receive([&](const document_reply_ptr& reply) { got = *reply; },
                 [](const caf::error& error) { CAF_ERROR(describe(error)); });
    caf::anon_send_exit(sut, caf::exit_reason::user_shutdown);
    return got;
  }
  document upload(const std::string& bytes, const std::string& owner, const std::string& type = "text/plain") {
    document_upload wish;
    wish.what.owner = owner;
    wish.what.content_type = type;
    wish.bytes = bytes;
    return ask(wish).documents.at(0);
  }
};

} // namespace

CAF_TEST(the same bytes of one owner are one document) {
  desk_fixture f;
  const auto ann = f.upload("hi", "ann"), again = f.upload("hi", "ann"), bob = f.upload("hi", "bob");
  const auto nobody = f.upload("hi", ""), other = f.upload("ho", "");
  CAF_CHECK_EQUAL(ann.id, again.id);
  CAF_CHECK_NOT_EQUAL(ann.id, bob.id);
  CAF_CHECK_EQUAL(ann.sha256, bob.sha256);
  CAF_CHECK_EQUAL(nobody.id, nobody.sha256);
  CAF_CHECK_NOT_EQUAL(nobody.id, other.id);
  CAF_CHECK_EQUAL(f.store->kept.size(), 4u);
}

CAF_TEST(text is found at once by its beginning and a PDF is not ) {
  desk_fixture f;
  const auto text = f.upload("needle" + std::string(500000, ' ') + "late", "");
  f.upload("%PDF-needle", "", "application/pdf");
  document_search what;
  what.text = "needle";
  auto found = f.ask(what);
  CAF_REQUIRE_EQUAL(found.hits.size(), 1u);
  CAF_CHECK_EQUAL(found.hits[0].what.id, text.id);
  what.text = "late";
  CAF_CHECK(f.ask(what).hits.empty());
}

CAF_TEST(nobody is shown what is not theirs) {
  desk_fixture f;
  const auto id = f.upload("hi", "ann").id;
  CAF_CHECK_EQUAL(f.ask(document_lookup{id, 0, 10}, "ann", false).chunks.size(), 1u);
  CAF_CHECK(f.ask(document_lookup{id, 0, 10}, "bob", false).documents.empty());
  CAF_CHECK(f.ask(document_removal{id}, "bob", false).documents.empty());
  CAF_CHECK_EQUAL(f.store->kept.size(), 1u);
  CAF_CHECK_EQUAL(f.ask(document_listing{}, "bob", false).documents.size(), 0u);
  CAF_CHECK_EQUAL(f.ask(document_removal{id}, "bob", true).documents.size(), 1u);
  CAF_CHECK(f.store->kept.empty());
}
