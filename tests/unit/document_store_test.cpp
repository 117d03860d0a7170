// Documents in SQLite always; in PostgreSQL where tests/store/servers.py has started one.
#define CAF_SUITE document_store

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <thread>

#include <caf/test/unit_test.hpp>
#include <unistd.h>

#include "sluice/error.hpp"
#include "store/store.hpp"

using namespace sluice;
using state = document_state;

namespace {

struct folder {
  folder() { std::filesystem::remove_all(path); }
  ~folder() { std::filesystem::remove_all(path); }
  std::string path = std::filesystem::temp_directory_path() / ("sluice-documents-" + std::to_string(getpid()));
};

std::vector<std::string> urls(const folder& in) {
  std::vector<std::string> all{"sqlite:" + in.path + "/documents.db", "sqlite::memory:"};
  if (const auto* url = std::getenv("SLUICE_TEST_POSTGRES"))
    all.emplace_back(url);
  return all;
}

/// By value, so that what is looked at outlives the expression.
template <class T>
T must(caf::expected<T> outcome) {
  CAF_REQUIRE_EQUAL(text_of(outcome ? caf::error{} : outcome.error()), "");
  return std::move(*outcome);
}

/// A word, or the beginning of an id or a name, that no other test has.
std::string fresh(const std::string& what) {
  static std::random_device random;
  return what + std::to_string(random()) + "x" + std::to_string(random());
}

document make(const std::string& name, const std::string& owner = "") {
  document what;
  what.id = fresh("id").substr(0, 60);
  what.owner = owner;
  what.name = name;
  what.title = "A \"title\" with 'quotes'";
  what.content_type = "text/plain";
  what.sha256 = "abc";
  what.size = 3;
  what.uploaded_ms = what.changed_ms = 1000;
  return what;
}

std::vector<document_chunk> chunks(const std::string& id, const std::vector<std::string>& texts) {
  std::vector<document_chunk> all;
  for (const auto& text : texts) {
    const auto position = static_cast<int32_t>(all.size());
    all.push_back({id.substr(0, 50) + "-" + std::to_string(std::hash<std::string>{}(text) % 100000) + "-" +
                       std::to_string(position),
                   position,
                   text,
                   {}});
  }
  return all;
}

const document_store::viewer everyone;

std::string reason_of(document_store& sut, const std::string& id) {
  return must(sut.find(id))->reason;
}

int64_t change_of(document_store& sut, const std::string& id) {
  return must(sut.find(id))->changed_ms;
}

template <class Test>
void on_all(Test test) {
  folder in;
  for (const auto& url : urls(in)) {
    CAF_MESSAGE(url.substr(0, url.find(':')));
    auto sut = store::make_document_store(url);
    test(*sut);
  }
}

} // namespace

CAF_TEST(a document is kept once with all its bytes) {
  on_all([](document_store& sut) {
    auto what = make("a.bin");
    std::string bytes;
    for (int i = 0; i < 1000000; ++i)
      bytes += static_cast<char>(i * 7 + i / 256);
    auto first = must(sut.add(what, bytes, {}));
    CAF_CHECK(first.is_new);
    auto other = what;
    other.name = "another name";
    auto again = must(sut.add(other, "other bytes", {}));
    CAF_CHECK(!again.is_new);
    CAF_CHECK_EQUAL(again.what.name, "a.bin");
    CAF_CHECK(must(sut.bytes_of(what.id)) == bytes);
    auto kept = must(sut.find(what.id));
    CAF_REQUIRE(kept.has_value());
    CAF_CHECK_EQUAL(kept->title, what.title);
    CAF_CHECK(kept->state == state::uploaded);
    CAF_CHECK_EQUAL(kept->uploaded_ms, 1000);
    CAF_CHECK(!must(sut.find(fresh("none"))).has_value());
  });
}

CAF_TEST(chunks and vectors come back in their order and only once) {
  on_all([](document_store& sut) {
    auto what = make("a.txt");
    must(sut.add(what, "x", {}));
    auto all = chunks(what.id, {"one", "two", "three \xe2\x82\xac"});
    CAF_CHECK(!sut.set_chunks(what.id, all, true));
    CAF_CHECK(!sut.set_chunks(what.id, all, true));
    auto kept = must(sut.find(what.id));
    CAF_CHECK(kept->state == state::parsed);
    CAF_CHECK_EQUAL(kept->chunks, 3u);
    CAF_CHECK(kept->is_cut);
    auto open = must(sut.unembedded(what.id, "m", 2));
    CAF_REQUIRE_EQUAL(open.size(), 2u);
    CAF_CHECK_EQUAL(open[0].text, "one");
    for (auto& one : open)
      one.vector = {0.5F, -1.25F, 3e-7F};
    CAF_CHECK(!sut.set_vectors("m", open));
    auto rest = must(sut.unembedded(what.id, "m", 10));
    CAF_REQUIRE_EQUAL(rest.size(), 1u);
    CAF_CHECK_EQUAL(rest[0].text, "three \xe2\x82\xac");
    CAF_CHECK_EQUAL(must(sut.unembedded(what.id, "another", 10)).size(), 3u);
    CAF_CHECK(!sut.set_embedded(what.id, "m"));
    CAF_CHECK(must(sut.find(what.id))->state == state::embedded);
    auto page = must(sut.chunks(what.id, 1, 1));
    CAF_REQUIRE_EQUAL(page.size(), 1u);
    CAF_CHECK_EQUAL(page[0].text, "two");
    CAF_CHECK((page[0].vector == std::vector<float>{0.5F, -1.25F, 3e-7F}));
  });
}

CAF_TEST(chunks that stay the same keep their vectors) {
  on_all([](document_store& sut) {
    auto what = make("a.txt");
    must(sut.add(what, "x", {}));
    auto all = chunks(what.id, {"one", "two", "three"});
    CAF_CHECK(!sut.set_chunks(what.id, all, false));
    for (auto& one : all)
      one.vector = {1};
    CAF_CHECK(!sut.set_vectors("m", all));
    CAF_CHECK(!sut.set_chunks(what.id, chunks(what.id, {"one", "changed"}), false));
    auto kept = must(sut.chunks(what.id, 0, 10));
    CAF_REQUIRE_EQUAL(kept.size(), 2u);
    CAF_CHECK_EQUAL(kept[0].vector.size(), 1u);
    CAF_CHECK_EQUAL(kept[1].vector.size(), 0u);
    CAF_CHECK(!must(sut.search(everyone, "changed", 1000)).empty());
  });
}

CAF_TEST(words are found wherever they stand and what is gone is not ) {
  on_all([](document_store& sut) {
    const auto word = fresh("word"), name = fresh("name"), other = fresh("other");
    auto what = make(name + ".txt");
    must(sut.add(
        what, "x",
        chunks(what.id, {"a text with " + word + ", and more", "nothing", "http://" + other + ".example/path"})));
    for (const auto& [text, position] : std::vector<std::pair<std::string, int>>{
             {word, 0}, {"no such " + word + "? \"'", 0}, {name, -1}, {other, 2}, {word + "|&!:*()", 0}}) {
      auto found = must(sut.search(everyone, text, 10));
      CAF_REQUIRE(!found.empty());
      CAF_CHECK_EQUAL(found[0].what.id, what.id);
      CAF_CHECK_EQUAL(found[0].chunk.position, position);
      CAF_CHECK(found[0].relevance > 0);
    }
    CAF_CHECK(must(sut.search(everyone, "?!\"'", 10)).empty());
    CAF_CHECK(!sut.set_chunks(what.id, chunks(what.id, {"quite another text"}), false));
    CAF_CHECK(must(sut.search(everyone, word, 10)).empty());
    CAF_CHECK_EQUAL(must(sut.search(everyone, name, 10)).size(), 1u);
    CAF_CHECK(must(sut.remove(what.id)));
    CAF_CHECK(!must(sut.remove(what.id)));
    CAF_CHECK(must(sut.search(everyone, name, 10)).empty());
    CAF_CHECK(must(sut.bytes_of(what.id)).empty());
    CAF_CHECK(!sut.set_chunks(what.id, chunks(what.id, {"too late " + word}), false));
    CAF_CHECK(must(sut.search(everyone, word, 10)).empty());
  });
}

CAF_TEST(nobody sees what is not theirs) {
  on_all([](document_store& sut) {
    const auto word = fresh("word"), ann = fresh("ann"), bob = fresh("bob");
    auto what = make("a.txt", ann);
    must(sut.add(what, "x", chunks(what.id, {word})));
    CAF_CHECK_EQUAL(must(sut.search({ann, false}, word, 10)).size(), 1u);
    CAF_CHECK_EQUAL(must(sut.search({bob, false}, word, 10)).size(), 0u);
    CAF_CHECK_EQUAL(must(sut.search({bob, true}, word, 10)).size(), 1u);
    CAF_CHECK_EQUAL(must(sut.list({ann, false}, {})).size(), 1u);
    CAF_CHECK_EQUAL(must(sut.list({bob, false}, {})).size(), 0u);
  });
}

CAF_TEST(lists go on behind the last one and the latest comes first) {
  on_all([](document_store& sut) {
    const auto owner = fresh("owner");
    for (int i = 0; i < 5; ++i) {
      auto what = make(std::to_string(i), owner);
      what.uploaded_ms = 1000 + i / 2;
      must(sut.add(what, "x", {}));
    }
    std::vector<document> all;
    document_listing which;
    which.limit = 2;
    for (;;) {
      auto page = must(sut.list({owner, false}, which));
      all.insert(all.end(), page.begin(), page.end());
      if (page.size() < 2)
        break;
      which.before_ms = page.back().uploaded_ms;
      which.before_id = page.back().id;
    }
    CAF_REQUIRE_EQUAL(all.size(), 5u);
    CAF_CHECK_EQUAL(all.front().name, "4");
    for (size_t i = 1; i < all.size(); ++i)
      CAF_CHECK(all[i].uploaded_ms <= all[i - 1].uploaded_ms);
  });
}

CAF_TEST(a reason is kept until it is over and never spoils what is done) {
  on_all([](document_store& sut) {
    auto what = make("a.txt");
    must(sut.add(what, "x", {}));
    CAF_CHECK(!sut.note(what.id, "away", false));
    CAF_CHECK_EQUAL(reason_of(sut, what.id), "away");
    CAF_CHECK(must(sut.find(what.id))->state == state::uploaded);
    CAF_CHECK(!sut.note(what.id, "damaged", true));
    CAF_CHECK(must(sut.find(what.id))->state == state::failed);
    auto before = change_of(sut, what.id);
    CAF_CHECK(!sut.note(what.id, "damaged", true));
    CAF_CHECK(!sut.note(what.id, "away", false));
    CAF_CHECK_EQUAL(reason_of(sut, what.id), "damaged");
    CAF_CHECK_EQUAL(change_of(sut, what.id), before);
    CAF_CHECK(!sut.set_chunks(what.id, chunks(what.id, {"x"}), false));
    CAF_CHECK_EQUAL(reason_of(sut, what.id), "");
    CAF_CHECK(!sut.set_embedded(what.id, "m"));
    CAF_CHECK(!sut.note(what.id, "damaged", true));
    CAF_CHECK(must(sut.find(what.id))->state == state::embedded);
  });
}

CAF_TEST(nothing stays of a document that is removed while it is processed) {
  on_all([](document_store& sut) {
    for (int i = 0; i < 20; ++i) {
      const auto what = make("a.txt");
      must(sut.add(what, "abc", {}));
      std::thread processor{[&] {
        sut.set_chunks(what.id, chunks(what.id, {"one", "two"}), false);
        sut.note(what.id, "late", true);
      }};
      must(sut.remove(what.id));
      processor.join();
      CAF_CHECK(!must(sut.find(what.id)));
      CAF_CHECK(must(sut.chunks(what.id, 0, 10)).empty());
    }
  });
}

CAF_TEST(many threads may use one store) {
  on_all([](document_store& sut) {
    const auto owner = fresh("owner");
    std::vector<std::thread> threads;
    std::atomic<int> failures{0};
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&, t] {
        for (int i = 0; i < 10; ++i) {
          auto what = make(std::to_string(t * 100 + i), owner);
          what.id = owner + "-" + std::to_string(t) + "-" + std::to_string(i);
          if (!sut.add(what, "x", {}) || sut.set_chunks(what.id, chunks(what.id, {"text"}), false))
            ++failures;
        }
      });
    for (auto& one : threads)
      one.join();
    CAF_CHECK_EQUAL(failures.load(), 0);
    document_listing which;
    which.limit = 100;
    CAF_CHECK_EQUAL(must(sut.list({owner, false}, which)).size(), 40u);
  });
}
