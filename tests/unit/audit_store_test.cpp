// The audit trail and the reports in real databases: SQLite always, PostgreSQL where tests/store/servers.py has started
// it.
#define CAF_SUITE audit_store

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <random>
#include <set>
#include <thread>

#include <caf/test/unit_test.hpp>
#include <openssl/evp.h>
#include <unistd.h>

#include "store/sql.hpp"
#include "store/store.hpp"

using namespace sluice;

namespace {

/// A database without a trail in it.
struct place {
  std::string url;
  caf::error run(const std::string& statement) const {
    store::database base{{.url = url, .setting = "test", .exclusive = false, .schema = "test", .migrations = {}}};
    return base.execute(statement);
  }
  void sql(const std::string& statement) const {
    if (auto error = run(statement))
      CAF_FAIL(statement << ": " << text_of(error));
  }
  void clear() const {
    for (const char* table : {"sluice_audit", "sluice_audit_head", "sluice_report"})
      sql(std::string{"drop table if exists "} + table);
    sql("delete from sluice_schema where name in ('audit', 'report')");
  }
  /// As somebody would who owns the database.
  void tamper(const std::string& statement) const {
    if (url.starts_with("sqlite:")) {
      sql("drop trigger if exists sluice_audit_no_update");
      sql("drop trigger if exists sluice_audit_no_delete");
    } else {
      sql("drop trigger if exists sluice_audit_no_change on sluice_audit");
    }
    sql(statement);
  }
};

struct folder {
  folder() { std::filesystem::create_directories(path); }
  ~folder() { std::filesystem::remove_all(path); }
  std::string path = std::filesystem::temp_directory_path() / ("sluice-audit-" + std::to_string(getpid()));
};

void everywhere(const std::function<void(const place&)>& test) {
  {
    folder in;
    CAF_MESSAGE("sqlite");
    place sqlite{"sqlite:" + in.path + "/audit.db"};
    test(sqlite);
  }
  if (const auto* url = std::getenv("SLUICE_TEST_POSTGRES")) {
    CAF_MESSAGE("postgresql");
    place postgres{url};
    postgres.clear();
    test(postgres);
    postgres.clear();
  }
}

template <class T>
T must(caf::expected<T> outcome) {
  CAF_REQUIRE_EQUAL(text_of(outcome ? caf::error{} : outcome.error()), "");
  return std::move(*outcome);
}

audit_entry entry(const std::string& id, int64_t time_ms = 1000, const std::string& action = "a") {
  audit_entry one;
  one.event_id = id;
  one.time_ms = time_ms;
  one.action = action;
  one.resource = "document";
  one.resource_id = "17";
  one.user = "ann";
  one.details = R"({"note":"it's \u0000 fine"})";
  return one;
}

std::vector<audit_entry> entries(int count, int from = 0) {
  std::vector<audit_entry> all;
  for (int i = from; i < from + count; ++i)
    all.push_back(entry("e" + std::to_string(i), 1000 + i));
  return all;
}

std::vector<int64_t> numbers(const audit_page& page) {
  std::vector<int64_t> all;
  for (const auto& one : page.entries)
    all.push_back(one.number);
  return all;
}

/// The first entry that is broken; 0 = none.
int64_t broken(audit_log& log) {
  auto found = must(log.verify(0, 1000));
  if (found.broken)
    CAF_MESSAGE(found.broken->number << ": " << found.broken->reason);
  return found.broken ? found.broken->number : 0;
}

std::string sha256(const std::string& text) {
  unsigned char digest[32];
  EVP_Digest(text.data(), text.size(), digest, nullptr, EVP_sha256(), nullptr);
  std::string out;
  char hex[3];
  for (auto byte : digest) {
    std::snprintf(hex, sizeof(hex), "%02x", byte);
    out += hex;
  }
  return out;
}

} // namespace

CAF_TEST(entries read back as they were and newest first) {
  everywhere([](const place& where) {
    auto log = store::make_audit_log(where.url);
    auto first = entry("one", 5000);
    first.tenant = "t \xc3\xa4";
    first.resource_id = R"("x'y")";
    auto second = entry(std::string(300, 'x'), 4000);
    CAF_CHECK(must(log->append({first, second})) == (std::vector{audit_fate::added, audit_fate::added}));
    auto page = must(log->find({}));
    CAF_CHECK_EQUAL(page.more, false);
    CAF_CHECK_EQUAL(numbers(page), (std::vector<int64_t>{1, 2}));
    const auto& found = page.entries.front();
    CAF_CHECK_EQUAL(found.event_id, "one");
    CAF_CHECK_EQUAL(found.time_ms, 5000);
    CAF_CHECK_EQUAL(found.tenant, first.tenant);
    CAF_CHECK_EQUAL(found.resource_id, first.resource_id);
    CAF_CHECK_EQUAL(found.details, first.details);
    CAF_CHECK_EQUAL(found.previous_hash, std::string(64, '0'));
    CAF_CHECK_EQUAL(page.entries.back().previous_hash, found.hash);
    CAF_CHECK(page.entries.back().event_id.starts_with("sha256:"));
  });
}

CAF_TEST(the hash is the documented one) {
  everywhere([](const place& where) {
    auto log = store::make_audit_log(where.url);
    auto one = entry("one", 5000, "say");
    one.details = "";
    must(log->append({one}));
    auto zeros = std::string(64, '0');
    auto page = must(log->find({}));
    CAF_CHECK_EQUAL(page.entries.front().hash,
                    sha256("14:sluice-audit-1,1:1,3:one,4:5000,0:,3:ann,3:say,8:document,2:17,0:,64:" + zeros + ","));
  });
}

CAF_TEST(an event is there once and another one of its id is told apart) {
  everywhere([](const place& where) {
    auto log = store::make_audit_log(where.url);
    auto same = entry("one");
    same.time_ms = 7; // a record without a time of its own, written again
    auto other = entry("one", 1000, "b");
    using enum audit_fate;
    CAF_CHECK(must(log->append({entry("one"), same, entry("two"), other})) ==
              (std::vector{added, known, added, differs}));
    CAF_CHECK(must(log->append({entry("two"), entry("three")})) == (std::vector{known, added}));
    CAF_CHECK_EQUAL(must(log->find({})).entries.size(), 3u);
    CAF_CHECK_EQUAL(broken(*log), 0);
    auto again = store::make_audit_log(where.url);
    CAF_CHECK(must(again->append(entries(1))) == std::vector{added});
    CAF_CHECK(must(again->append(entries(2))) == (std::vector{known, added}));
    auto all = must(again->verify(0, 1000));
    CAF_CHECK(all.complete);
    CAF_CHECK_EQUAL(all.checked, 5u);
    CAF_CHECK_EQUAL(all.head, 5);
  });
}

CAF_TEST(entries are found by what they say and page by page) {
  everywhere([](const place& where) {
    auto log = store::make_audit_log(where.url);
    auto all = entries(10);
    for (auto& one : all)
      one.time_ms = 1000 + (one.time_ms - 1000) / 2; // two of each
    all[3].action = "special";
    all[4].user = "bob";
    all[5].tenant = "acme";
    all[6].resource = "invoice";
    all[7].resource_id = R"("17")";
    all[8].resource_id = R"("a\"b")";
    must(log->append(all));
    auto by = [&](auto change) {
      audit_query query;
      change(query);
      return numbers(must(log->find(query)));
    };
    using list = std::vector<int64_t>;
    CAF_CHECK_EQUAL(by([](auto& q) { q.action = "special"; }), (list{4}));
    CAF_CHECK_EQUAL(by([](auto& q) { q.user = "bob"; }), (list{5}));
    CAF_CHECK_EQUAL(by([](auto& q) { q.tenant = "acme"; }), (list{6}));
    CAF_CHECK_EQUAL(by([](auto& q) { q.resource = "invoice"; }), (list{7}));
    CAF_CHECK_EQUAL(by([](auto& q) { q.resource_id = "17"; }), (list{10, 8, 7, 6, 5, 4, 3, 2, 1}));
    CAF_CHECK_EQUAL(by([](auto& q) { q.resource_id = "a\"b"; }), (list{9}));
    CAF_CHECK_EQUAL(by([](auto& q) { q.from_ms = 1001, q.to_ms = 1003; }), (list{6, 5, 4, 3}));
    CAF_CHECK_EQUAL(by([](auto& q) { q.action = "special", q.user = "bob"; }), (list{}));
    CAF_CHECK_EQUAL(by([](auto& q) { q.action = "' or 1=1 --"; }), (list{}));
    list walked;
    audit_query query;
    query.limit = 3;
    for (bool more = true; more;) {
      auto page = must(log->find(query));
      for (auto number : numbers(page))
        walked.push_back(number);
      more = page.more;
      query.after = {page.entries.back().time_ms, page.entries.back().number};
    }
    CAF_CHECK_EQUAL(walked, (list{10, 9, 8, 7, 6, 5, 4, 3, 2, 1}));
    CAF_CHECK_EQUAL(by([](auto& q) { q.max_bytes = 1; }), (list{10})); // one at least
  });
}

CAF_TEST(a page ends at its bytes and says that there is more) {
  everywhere([](const place& where) {
    auto log = store::make_audit_log(where.url);
    auto all = entries(5);
    for (auto& one : all)
      one.details = "\"" + std::string(10000, 'x') + "\"";
    must(log->append(all));
    audit_query query;
    query.max_bytes = 25000;
    auto page = must(log->find(query));
    CAF_CHECK_EQUAL(page.entries.size(), 2u);
    CAF_CHECK(page.more);
  });
}

CAF_TEST(the database refuses to change or remove entries) {
  everywhere([](const place& where) {
    auto log = store::make_audit_log(where.url);
    must(log->append(entries(3)));
    for (const char* statement : {"update sluice_audit set action = 'b'", "delete from sluice_audit"})
      CAF_CHECK(text_of(where.run(statement)).find("only added to") != std::string::npos);
    CAF_CHECK_EQUAL(broken(*log), 0);
    CAF_CHECK_EQUAL(must(log->find({})).entries.size(), 3u);
  });
}

CAF_TEST(whatever is done to the chain shows) {
  struct one {
    std::string statement;
    int64_t broken;
  };
  const std::vector<one> all{
      {"update sluice_audit set action = 'b' where number = 4", 4},
      {"update sluice_audit set details = '' where number = 1", 1},
      {"update sluice_audit set time_ms = 1 where number = 10", 10},
      {"update sluice_audit set hash = previous_hash where number = 4", 4},
      {"delete from sluice_audit where number = 4", 4},
      {"delete from sluice_audit where number = 1", 1},
      {"delete from sluice_audit where number = 10", 10}, // at the end, where the chain itself does not tell
      {"delete from sluice_audit", 1},
      {"update sluice_audit set number = 11 where number = 4", 4},
      {"insert into sluice_audit select 11, 'new', time_ms, tenant, user_id, action, resource, resource_id, details,"
       " hash, hash from sluice_audit where number = 10",
       11},
      {"update sluice_audit_head set hash = '" + std::string(64, 'f') + "'", 10},
  };
  for (const auto& [statement, wanted] : all)
    everywhere([&statement = statement, wanted = wanted](const place& where) {
      auto log = store::make_audit_log(where.url);
      must(log->append(entries(10)));
      CAF_CHECK_EQUAL(broken(*log), 0);
      where.tamper(statement);
      CAF_MESSAGE(statement);
      CAF_CHECK_EQUAL(broken(*log), wanted);
    });
}

CAF_TEST(two entries that change places show) {
  everywhere([](const place& where) {
    auto log = store::make_audit_log(where.url);
    must(log->append(entries(5)));
    where.tamper("update sluice_audit set number = 100 where number = 2");
    where.tamper("update sluice_audit set number = 2 where number = 3");
    where.tamper("update sluice_audit set number = 3 where number = 100");
    CAF_CHECK_EQUAL(broken(*log), 2);
  });
}

CAF_TEST(the chain is walked a piece at a time) {
  everywhere([](const place& where) {
    auto log = store::make_audit_log(where.url);
    must(log->append(entries(25)));
    int64_t at = 0;
    int pieces = 0;
    uint64_t checked = 0;
    for (bool complete = false; !complete; ++pieces) {
      auto found = must(log->verify(at, 10));
      CAF_REQUIRE(!found.broken);
      at = found.last;
      checked += found.checked;
      complete = found.complete;
    }
    CAF_CHECK_EQUAL(pieces, 3);
    CAF_CHECK_EQUAL(checked, 25u);
    auto beyond = must(log->verify(99, 10));
    CAF_REQUIRE(beyond.broken.has_value());
    CAF_CHECK_EQUAL(beyond.broken->number, 99);
  });
}

CAF_TEST(an empty trail is whole) {
  everywhere([](const place& where) {
    auto found = must(store::make_audit_log(where.url)->verify(0, 10));
    CAF_CHECK(found.complete && !found.broken);
    CAF_CHECK_EQUAL(found.head, 0);
  });
}

CAF_TEST(many who write at once make one chain with each event once) {
  everywhere([](const place& where) {
    must(store::make_audit_log(where.url)->append({})); // makes the tables
    constexpr int writers = 4, rounds = 10, each = 5;
    std::atomic<int> added{0};
    std::vector<std::thread> threads;
    for (int w = 0; w < writers; ++w)
      threads.emplace_back([&, w] {
        auto log = store::make_audit_log(where.url);
        for (int r = 0; r < rounds; ++r) {
          auto some = entries(each, r * each); // the same ones for all
          some.push_back(entry("own-" + std::to_string(w) + "-" + std::to_string(r)));
          auto fates = log->append(some);
          while (!fates)
            fates = log->append(some);
          for (auto fate : *fates)
            added += fate == audit_fate::added ? 1 : 0;
        }
      });
    for (auto& one : threads)
      one.join();
    auto log = store::make_audit_log(where.url);
    auto found = must(log->verify(0, 1000));
    CAF_CHECK(found.complete && !found.broken);
    CAF_CHECK_EQUAL(found.checked, static_cast<uint64_t>(rounds * each + writers * rounds));
    CAF_CHECK_EQUAL(added.load(), rounds * each + writers * rounds);
  });
}

CAF_TEST(entries are counted by name within a time) {
  everywhere([](const place& where) {
    auto log = store::make_audit_log(where.url);
    auto all = entries(10); // at 1000 to 1009
    all[2].action = all[3].action = "b";
    all[4].user = "";
    must(log->append(all));
    auto found = must(log->count(1002, 1008));
    CAF_CHECK_EQUAL(found.total, 6u);
    CAF_CHECK_EQUAL(found.actions, (name_counts{{"a", 4}, {"b", 2}}));
    CAF_CHECK_EQUAL(found.resources, (name_counts{{"document", 6}}));
    CAF_CHECK_EQUAL(found.users, (name_counts{{"", 1}, {"ann", 5}}));
    CAF_CHECK_EQUAL(uint64_t{must(log->count(5000, 6000)).total}, 0u);
  });
}

CAF_TEST(an error names the option and nothing of it is there) {
  auto log = store::make_audit_log("sqlite:/proc/none/audit.db");
  auto outcome = log->append(entries(1));
  CAF_REQUIRE(!outcome);
  CAF_CHECK(code_of(outcome.error()) == ec::store_unavailable);
  CAF_CHECK(text_of(outcome.error()).starts_with("store.url: "));
}

CAF_TEST(there is one report for an event) {
  everywhere([](const place& where) {
    auto shelf = store::make_report_shelf(where.url);
    report one{"id-1", "event", "daily", 1, 2, 1000, R"({"a":"ä'"})", "<p>ä</p>"};
    auto kept = must(shelf->keep(one));
    CAF_CHECK_EQUAL(kept.id, "id-1");
    CAF_CHECK_EQUAL(kept.json, one.json);
    auto second = one;
    second.id = "id-2";
    CAF_CHECK_EQUAL(std::string{must(shelf->keep(second)).id}, "id-1");
    auto found = must(shelf->find({.id = "id-1", .event_id = {}}));
    CAF_CHECK_EQUAL(found.reports.front().html, one.html);
    CAF_CHECK(must(shelf->find({.id = "id-2", .event_id = {}})).reports.empty());
    CAF_CHECK_EQUAL(must(shelf->find({.id = {}, .event_id = "event"})).reports.size(), 1u);
  });
}

CAF_TEST(reports are listed newest first and page by page) {
  everywhere([](const place& where) {
    auto shelf = store::make_report_shelf(where.url);
    for (int i = 0; i < 5; ++i)
      must(shelf->keep({"id-" + std::to_string(i), "e" + std::to_string(i), "daily", 1, 2, 1000 + i / 2, "{}", "x"}));
    std::vector<std::string> walked;
    report_query query;
    query.limit = 2;
    for (bool more = true; more;) {
      auto page = must(shelf->find(query));
      for (const auto& one : page.reports) {
        walked.push_back(one.id);
        CAF_CHECK(one.json.empty());
      }
      more = page.more;
      query.after = {page.reports.back().created_ms, page.reports.back().id};
    }
    CAF_CHECK_EQUAL(walked, (std::vector<std::string>{"id-4", "id-3", "id-2", "id-1", "id-0"}));
  });
}
