#define CAF_SUITE store

#include "store/store.hpp"

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include <caf/test/unit_test.hpp>
#include <rapidcheck.h>
#include <sys/wait.h>
#include <unistd.h>

#include "store/record_bytes.hpp"

// SQLite always; PostgreSQL and Redis where tests/store/servers.py has started them.

using namespace sluice;
using namespace std::chrono_literals;
using state = standing::state;

namespace {

struct folder {
  folder() {
    std::filesystem::remove_all(path);
    std::filesystem::create_directories(path);
  }
  ~folder() { std::filesystem::remove_all(path); }
  std::string path = std::filesystem::temp_directory_path() / ("sluice-store-" + std::to_string(getpid()));
};

std::vector<std::string> urls(const folder& in) {
  std::vector<std::string> all{"sqlite:" + in.path + "/deep/store.db", "sqlite::memory:"};
  for (const auto* variable : {"SLUICE_TEST_POSTGRES", "SLUICE_TEST_REDIS"})
    if (const auto* url = std::getenv(variable))
      all.emplace_back(url);
  return all;
}

/// No other test's, nor another run's.
std::string fresh_scope() {
  return "test-" + std::to_string(std::random_device{}()) + "-" + std::to_string(getpid());
}

struct asked {
  std::unique_ptr<idempotency_store> store;
  std::string scope = fresh_scope();

  standing begin(const std::string& id, const std::string& owner, const std::string& fingerprint = "f",
                 milliseconds lease = 60s) {
    auto found = store->begin({{scope, id, owner, fingerprint, lease}});
    CAF_REQUIRE_EQUAL(text_of(found ? caf::error{} : found.error()), "");
    return found->front();
  }
  void done(const std::string& id, const std::string& owner, const std::string& answer, milliseconds ttl = 60s) {
    CAF_REQUIRE(!store->settle({{scope, id, owner, true, answer, ttl}}));
  }
  void release(const std::string& id, const std::string& owner) {
    CAF_REQUIRE(!store->settle({{scope, id, owner, false}}));
  }
};

/// By value, so that what is looked at outlives the expression.
template <class T>
T must(caf::expected<T> outcome) {
  CAF_REQUIRE_EQUAL(text_of(outcome ? caf::error{} : outcome.error()), "");
  return std::move(*outcome);
}

outgoing_record record(const std::string& value, const std::string& topic = "t") {
  outgoing_record one;
  one.topic = topic;
  one.value = value;
  return one;
}

std::unique_ptr<outbox_log> open(const folder& in) {
  return must(store::open_outbox(in.path));
}

} // namespace

CAF_TEST(a claim is granted once until it is settled) {
  folder in;
  for (const auto& url : urls(in)) {
    CAF_MESSAGE(url.substr(0, url.find(':')));
    asked sut{store::make_idempotency_store(url)};
    CAF_CHECK(sut.begin("a", "one").what == state::granted);
    auto other = sut.begin("a", "two", "g");
    CAF_CHECK(other.what == state::busy);
    CAF_CHECK_EQUAL(other.fingerprint, "f"); // of who is at it
    CAF_CHECK(sut.begin("b", "two").what == state::granted);
    sut.done("a", "one", "{\"x\":\"\xc3\xa4 'quoted'\"}");
    auto after = sut.begin("a", "two", "g");
    CAF_CHECK(after.what == state::done);
    CAF_CHECK_EQUAL(after.answer, "{\"x\":\"\xc3\xa4 'quoted'\"}");
    CAF_CHECK_EQUAL(after.fingerprint, "f");
    CAF_CHECK(sut.begin("a", "one").what == state::done); // for its owner too
  }
}

CAF_TEST(an owner that comes again has its claim still) {
  folder in;
  for (const auto& url : urls(in)) {
    asked sut{store::make_idempotency_store(url)};
    CAF_CHECK(sut.begin("a", "one").what == state::granted);
    CAF_CHECK(sut.begin("a", "one").what == state::granted);
    CAF_CHECK(sut.begin("a", "two").what == state::busy);
  }
}

CAF_TEST(a released claim is free and only its owner may settle it) {
  folder in;
  for (const auto& url : urls(in)) {
    asked sut{store::make_idempotency_store(url)};
    CAF_CHECK(sut.begin("a", "one").what == state::granted);
    sut.release("a", "two");
    sut.done("a", "two", "wrong");
    CAF_CHECK(sut.begin("a", "two").what == state::busy);
    sut.release("a", "one");
    CAF_CHECK(sut.begin("a", "two").what == state::granted);
    sut.done("a", "two", "");
    sut.release("a", "two"); // what is done stays done
    auto found = sut.begin("a", "three");
    CAF_CHECK(found.what == state::done);
    CAF_CHECK_EQUAL(found.answer, "");
  }
}

CAF_TEST(leases and what is remembered come to an end) {
  folder in;
  for (const auto& url : urls(in)) {
    asked sut{store::make_idempotency_store(url)};
    CAF_CHECK(sut.begin("a", "one", "f", 1ms).what == state::granted);
    CAF_CHECK(sut.begin("b", "one").what == state::granted);
    sut.done("b", "one", "x", 1ms);
    std::this_thread::sleep_for(5ms); // the databases' own time cannot be turned on
    CAF_CHECK(sut.begin("a", "two", "g").what == state::granted);
    sut.done("a", "one", "too late");
    CAF_CHECK(sut.begin("a", "three").what == state::busy);
    auto again = sut.begin("b", "two", "g");
    CAF_CHECK(again.what == state::granted);
    CAF_CHECK_EQUAL(again.answer, "");
    CAF_CHECK(sut.begin("b", "three").fingerprint == "g");
  }
}

CAF_TEST(many claims go in one call and of the same id twice the first counts) {
  folder in;
  for (const auto& url : urls(in)) {
    auto sut = store::make_idempotency_store(url);
    auto scope = fresh_scope();
    std::vector<claim> claims;
    std::vector<settlement> settlements;
    for (int i = 0; i < 500; ++i) {
      claims.push_back({scope, std::to_string(i % 250), "owner-" + std::to_string(i), "", 60s});
      settlements.push_back({scope, std::to_string(i % 250), "owner-" + std::to_string(i)});
    }
    auto found = sut->begin(claims);
    CAF_REQUIRE(found);
    for (size_t i = 0; i < 500; ++i)
      CAF_CHECK((*found)[i].what == (i < 250 ? state::granted : state::busy));
    CAF_CHECK(!sut->settle(settlements));
    found = sut->begin(claims);
    CAF_REQUIRE(found);
    for (const auto& one : *found)
      CAF_CHECK(one.what == state::done);
  }
}

CAF_TEST(ids may be any bytes of any length) {
  folder in;
  for (const auto& url : urls(in)) {
    asked sut{store::make_idempotency_store(url)};
    std::vector<std::string> ids{
        "",
        std::string(1, '\0'),
        std::string("a\0b", 3),
        std::string("a\0c", 3),
        "\xff\xfe",
        "'; drop table sluice_idempotency; --",
        "%s %n",
        "sha256:b3d510ef04275ca8e698e5b3cbb0ece3949ef9252f0cdc839e9ee347409a2209", // how one of these is kept
        std::string(100000, 'x'),
        std::string(100001, 'x')};
    for (const auto& id : ids)
      CAF_CHECK(sut.begin(id, "one").what == state::granted);
    for (const auto& id : ids)
      CAF_CHECK(sut.begin(id, "two").what == state::busy);
    auto other = sut.store->begin({{sut.scope + "2", ids[2], "two", "", 60s}});
    CAF_REQUIRE(other);
    CAF_CHECK(other->front().what == state::granted); // another scope is another matter
  }
}

CAF_TEST(what is over is swept within a bound) {
  folder in;
  for (const auto& url : urls(in)) {
    if (url.starts_with("redis"))
      continue; // does it by itself
    asked sut{store::make_idempotency_store(url)};
    while (must(sut.store->sweep(1000)) > 0) {
    }
    for (const auto* id : {"a", "b", "c"})
      sut.begin(id, "one", "f", 1ms);
    sut.begin("d", "one");
    std::this_thread::sleep_for(5ms);
    CAF_CHECK_EQUAL(must(sut.store->sweep(2)), 2u);
    CAF_CHECK_EQUAL(must(sut.store->sweep(2)), 1u);
    CAF_CHECK(sut.begin("d", "two").what == state::busy);
  }
}

CAF_TEST(two stores on one database see each other) {
  folder in;
  for (const auto& url : urls(in)) {
    if (url == "sqlite::memory:")
      continue;
    asked one{store::make_idempotency_store(url)}, two{store::make_idempotency_store(url)};
    two.scope = one.scope;
    CAF_CHECK(one.begin("a", "one").what == state::granted);
    CAF_CHECK(two.begin("a", "two").what == state::busy);
    one.done("a", "one", "x");
    CAF_CHECK(two.begin("a", "two").what == state::done);
  }
}

CAF_TEST(of many who claim at once one is granted) {
  folder in;
  for (const auto& url : urls(in)) {
    if (url == "sqlite::memory:")
      continue;
    auto scope = fresh_scope();
    store::make_idempotency_store(url)->sweep(1); // the schema is there
    std::atomic<int> granted{0}, failed{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&, t] {
        auto sut = store::make_idempotency_store(url);
        for (int i = 0; i < 50; ++i) {
          // Each in another order.
          std::vector<claim> claims{{scope, std::to_string(i), "owner-" + std::to_string(t), "", 60s},
                                    {scope, "x" + std::to_string(i), "owner-" + std::to_string(t), "", 60s}};
          if (t % 2 == 0)
            std::swap(claims[0], claims[1]);
          auto found = sut->begin(claims);
          if (!found)
            ++failed;
          else
            for (const auto& one : *found)
              granted += one.what == state::granted ? 1 : 0;
        }
      });
    for (auto& one : threads)
      one.join();
    CAF_CHECK_EQUAL(failed.load(), 0);
    CAF_CHECK_EQUAL(granted.load(), 100);
  }
}

CAF_TEST(what is settled outlives the process) {
  folder in;
  auto url = urls(in).front();
  asked first{store::make_idempotency_store(url)};
  first.begin("a", "one");
  first.done("a", "one", "x");
  asked second{store::make_idempotency_store(url), first.scope};
  CAF_CHECK_EQUAL(second.begin("a", "two").answer, "x");
}

CAF_TEST(an error names the option and shows no secret) {
  for (const auto* url : {"postgresql://me:hunter2@127.0.0.1:1/db", "redis://me:hunter2@127.0.0.1:1/0",
                          "postgresql://me:hunter2@127.0.0.1:notaport/db", "sqlite:/proc/nowhere/store.db"}) {
    auto sut = store::make_idempotency_store(url);
    auto found = sut->begin({{"s", "a", "o", "", 1s}});
    CAF_REQUIRE(!found);
    CAF_CHECK(code_of(found.error()) == ec::store_unavailable);
    auto text = text_of(found.error());
    CAF_MESSAGE(text);
    CAF_CHECK(text.starts_with("store.url: "));
    CAF_CHECK(text.find(';') != std::string::npos); // the mend
    CAF_CHECK(text.find("hunter2") == std::string::npos);
  }
}

CAF_TEST(a database of a newer sluice is left alone) {
  folder in;
  auto url = "sqlite:" + in.path + "/store.db";
  store::make_idempotency_store(url)->sweep(1);
  CAF_REQUIRE_EQUAL(std::system(("python3 -c \"import sqlite3; c = sqlite3.connect('" + in.path +
                                 "/store.db'); c.execute('update sluice_schema set version = 99'); c.commit()\"")
                                    .c_str()),
                    0);
  auto found = store::make_idempotency_store(url)->sweep(1);
  CAF_REQUIRE(!found);
  CAF_CHECK(text_of(found.error()).find("newer") != std::string::npos);
}

CAF_TEST(a database that is removed is noticed and made anew) {
  folder in;
  auto url = "sqlite:" + in.path + "/store.db";
  asked sut{store::make_idempotency_store(url)};
  sut.begin("a", "one");
  for (const auto* name : {"/store.db", "/store.db-wal", "/store.db-shm"})
    std::filesystem::remove(in.path + name);
  auto found = sut.store->begin({{sut.scope, "a", "two", "", 1s}});
  CAF_REQUIRE(!found);
  CAF_CHECK(text_of(found.error()).find("removed") != std::string::npos);
  CAF_CHECK(sut.begin("a", "two").what == state::granted);
}

// -- the outbox -------------------------------------------------------------------------------------------------------

CAF_TEST(records read back as they were written) {
  auto held = rc::check("records read back", [](const std::string& value, const std::string& key, bool has_key,
                                                bool has_value, int32_t partition, int64_t time,
                                                const std::vector<std::pair<std::string, std::string>>& headers) {
    outgoing_record one;
    if (has_key)
      one.key = key;
    if (has_value)
      one.value = value;
    one.partition = partition;
    one.timestamp_ms = time;
    for (const auto& [name, text] : headers)
      one.headers.push_back({name, text});
    auto bytes = store::to_bytes(one);
    auto back = store::from_bytes(bytes);
    RC_ASSERT(back.has_value());
    RC_ASSERT(back->key == one.key);
    RC_ASSERT(back->value == one.value);
    RC_ASSERT(back->partition == partition);
    RC_ASSERT(back->timestamp_ms == time);
    RC_ASSERT(back->headers.size() == headers.size());
    for (size_t i = 0; i < headers.size(); ++i)
      RC_ASSERT(back->headers[i].name == headers[i].first && back->headers[i].value == headers[i].second);
    auto cut = *rc::gen::inRange(size_t{0}, bytes.size());
    RC_ASSERT(!store::from_bytes(bytes.substr(0, cut)).has_value());
  });
  CAF_CHECK(held);
}

CAF_TEST(the outbox keeps order and bytes across restarts) {
  folder in;
  outgoing_record odd = record(std::string("a\0b\xff", 4), "topic");
  odd.key = std::string("\0", 1);
  odd.headers = {{"h", std::string("\0\xff", 2)}, {"empty", ""}};
  odd.partition = 3;
  odd.timestamp_ms = 1234;
  auto plain = record("x"), tombstone = record("");
  tombstone.value.reset();
  {
    auto sut = open(in);
    auto sizes = sut->commit({&odd, &plain, &tombstone}, {}, {});
    CAF_REQUIRE(sizes);
    CAF_CHECK_EQUAL(sizes->size(), 3u);
  }
  auto sut = open(in);
  auto found = sut->read(0, 10, 1000000);
  CAF_REQUIRE(found);
  CAF_REQUIRE_EQUAL(found->size(), 3u);
  const auto& first = found->at(0).record;
  CAF_CHECK(first.topic == "topic" && first.key == odd.key && first.value == odd.value);
  CAF_CHECK(first.headers.size() == 2 && first.headers[0].value == odd.headers[0].value);
  CAF_CHECK(first.partition == 3 && first.timestamp_ms == 1234);
  CAF_CHECK(!found->at(2).record.value);
  CAF_CHECK_EQUAL(must(sut->read(0, 2, 1000000)).size(), 2u);
  CAF_CHECK_EQUAL(must(sut->read(0, 10, 1)).size(), 1u); // one at least, however large
  CAF_CHECK_EQUAL(must(sut->read(found->at(1).id, 10, 1000000)).size(), 1u);
  // What is written is gone, what is refused is aside, what is new comes last.
  CAF_REQUIRE(sut->commit({&plain}, {found->at(1).id}, {{found->at(0).id, "too large"}}));
  auto left = sut->read(0, 10, 1000000);
  CAF_REQUIRE_EQUAL(left->size(), 2u);
  CAF_CHECK_EQUAL(left->at(0).id, found->at(2).id);
  CAF_CHECK(left->at(1).id > found->at(2).id);
  auto contents = sut->contents();
  CAF_CHECK_EQUAL(contents->at("").records, 1u);
  CAF_CHECK_EQUAL(contents->at("t").records, 2u);
  CAF_CHECK(contents->at("").bytes > 0);
  CAF_CHECK(!sut->readmit());
  auto again = must(sut->read(0, 10, 1000000));
  CAF_CHECK_EQUAL(again.front().id, found->at(0).id); // in its old place
}

CAF_TEST(an outbox has one owner) {
  folder in;
  auto first = open(in);
  // Another process: within one, SQLite knows of its own locks.
  auto pid = fork();
  if (pid == 0) {
    auto second = store::open_outbox(in.path);
    auto ok = !second && code_of(second.error()) == ec::invalid_config &&
              text_of(second.error()).find("store.path") == 0 &&
              text_of(second.error()).find("locked") != std::string::npos;
    _exit(ok ? 0 : 1);
  }
  int status = 1;
  waitpid(pid, &status, 0);
  CAF_CHECK_EQUAL(status, 0);
}

CAF_TEST(an outbox that cannot be opened says what to do) {
  for (const auto* where : {"/proc/nowhere", "/dev/null/x"}) {
    auto file = store::open_outbox(where);
    CAF_REQUIRE(!file);
    CAF_MESSAGE(text_of(file.error()));
    CAF_CHECK(text_of(file.error()).starts_with("store.path: "));
    CAF_CHECK(text_of(file.error()).find("outbox.enabled") != std::string::npos);
  }
  folder in;
  std::ofstream{in.path + "/outbox.db"} << std::string(5000, 'x');
  auto file = store::open_outbox(in.path);
  CAF_REQUIRE(!file);
  CAF_CHECK(text_of(file.error()).find("no SQLite database") != std::string::npos);
}

CAF_TEST(an outbox gives the disk back once it is empty) {
  folder in;
  auto sut = open(in);
  auto large = record(std::string(100000, 'x'));
  std::vector<const outgoing_record*> many(100, &large);
  CAF_REQUIRE(sut->commit(many, {}, {}));
  std::vector<int64_t> ids;
  auto found = must(sut->read(0, 1000, 100000000));
  for (const auto& one : found)
    ids.push_back(one.id);
  CAF_CHECK_EQUAL(ids.size(), 100u);
  CAF_REQUIRE(sut->commit({}, ids, {}));
  sut.reset(); // the log goes into the file
  CAF_CHECK(std::filesystem::file_size(in.path + "/outbox.db") < 1000000);
}
