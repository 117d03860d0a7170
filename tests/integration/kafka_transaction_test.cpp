// Transactions, fencing and compacted topics against a real broker (SLUICE_TEST_KAFKA=host:port).
#define CAF_SUITE kafka_transaction

#include "integration/kafka_harness.hpp"

using namespace sluice;
using namespace sluice::kafka;
using namespace sluice::kafka::testing;

CAF_TEST_FIXTURE_SCOPE(real_broker, fixture)

CAF_TEST(records and offsets of a transaction are committed together) {
  if (skipped())
    return;
  auto in = topic(2);
  auto out = topic(2);
  auto group = fresh("g");
  write({record(in, "", "0", 0), record(in, "", "1", 0), record(in, "", "2", 1)});
  {
    auto source = member(group, in);
    auto log = make_transaction_log(cfg, fresh("tx"), source, book().sink());
    reader first{std::move(source)};
    CAF_REQUIRE_EQUAL(describe(log->open(always)), "no error");
    CAF_REQUIRE(eventually([&] { return first.count() == 3; }));
    auto error =
        log->commit({record(out, "a", "summary 1"), record(out, "b", "summary 2")}, {{in, 0, 1}, {in, 1, 1}}, always);
    CAF_REQUIRE_EQUAL(describe(error), "no error");
    CAF_CHECK_EQUAL(describe(log->commit({record(out, "a", "summary 3")}, {}, always)), "no error");
    CAF_CHECK_EQUAL(describe(log->commit({}, {{in, 1, 1}}, always)), "no error");
  }
  CAF_CHECK(sorted(committed_values(out, 3)) == std::vector<std::string>({"summary 1", "summary 2", "summary 3"}));
  reader second{member(group, in)};
  CAF_CHECK(eventually([&] { return second.count() == 1; }));
  std::this_thread::sleep_for(300ms);
  CAF_CHECK(second.values() == std::vector<std::string>{"1"});
}

CAF_TEST(a transaction that fails leaves nothing behind and the next one works) {
  if (skipped())
    return;
  auto in = topic(1);
  auto out = topic(1);
  auto source = member(fresh("g"), in);
  auto log = make_transaction_log(cfg, fresh("tx"), source, book().sink());
  reader first{std::move(source)};
  CAF_REQUIRE(eventually([&] { return first.owned().size() == 1; }));
  CAF_REQUIRE_EQUAL(describe(log->open(always)), "no error");
  auto error = log->commit({record(out, "a", "never"), record(fresh("none"), "a", "x")}, {}, always);
  CAF_CHECK_EQUAL(code_of(error), ec::unknown_topic);
  error = log->commit({record(out, "a", "never"), record(out, "a", std::string(3000000, 'x'))}, {}, always);
  CAF_CHECK_EQUAL(code_of(error), ec::too_large);
  error = log->commit({record(out, "a", "never")}, {{"not-ours", 0, 1}}, always);
  CAF_CHECK_EQUAL(code_of(error), ec::fenced);
  CAF_CHECK_EQUAL(describe(log->commit({record(out, "a", "once")}, {{in, 0, 0}}, always)), "no error");
  CAF_CHECK(committed_values(out, 1) == std::vector<std::string>{"once"});
}

CAF_TEST(a second owner of a transactional id fences the first) {
  if (skipped())
    return;
  auto in = topic(1);
  auto out = topic(1);
  auto id = fresh("tx");
  auto source = member(fresh("g"), in);
  auto first = make_transaction_log(cfg, id, source, book().sink());
  auto second = make_transaction_log(cfg, id, source, book().sink());
  reader keep{std::move(source)};
  CAF_REQUIRE(!first->open(always));
  CAF_REQUIRE(!first->commit({record(out, "", "first")}, {}, always));
  CAF_REQUIRE(!second->open(always));
  CAF_CHECK_EQUAL(code_of(first->commit({record(out, "", "zombie")}, {}, always)), ec::fenced);
  CAF_CHECK_EQUAL(code_of(first->commit({record(out, "", "zombie")}, {}, always)), ec::fenced);
  CAF_CHECK(!second->commit({record(out, "", "second")}, {}, always));
  CAF_CHECK(committed_values(out, 2) == std::vector<std::string>({"first", "second"}));
}

CAF_TEST(partitions that went to another member cannot be committed any more) {
  if (skipped())
    return;
  auto in = topic(2);
  auto out = topic(1);
  auto group = fresh("g");
  auto source = member(group, in);
  auto log = make_transaction_log(cfg, fresh("tx"), source, book().sink());
  reader first{std::move(source)};
  CAF_REQUIRE(!log->open(always));
  CAF_REQUIRE(eventually([&] { return first.owned().size() == 2; }));
  reader second{member(group, in)};
  CAF_REQUIRE(eventually([&] { return first.owned().size() == 1 && second.owned().size() == 1; }, 30s));
  auto mine = first.owned()[0].partition;
  CAF_CHECK_EQUAL(code_of(log->commit({record(out, "", "stale")}, {{in, 1 - mine, 0}}, always)), ec::fenced);
  CAF_CHECK_EQUAL(describe(log->commit({record(out, "", "good")}, {{in, mine, 0}}, always)), "no error");
  CAF_CHECK(committed_values(out, 1) == std::vector<std::string>{"good"});
}

CAF_TEST(a compacted topic reads as the latest value of each key) {
  if (skipped())
    return;
  auto t = topic(2, true);
  auto source = member(fresh("g"), t);
  auto log = make_transaction_log(cfg, fresh("tx"), source, book().sink());
  reader keep{std::move(source)};
  CAF_REQUIRE(!log->open(always));
  auto rows = log->read_compacted(t, 0);
  CAF_REQUIRE(rows);
  CAF_CHECK(rows->empty());
  auto gone = record(t, "b", "", 0);
  gone.value.reset();
  CAF_REQUIRE(!log->commit({record(t, "a", "1", 0), record(t, "b", "1", 0), record(t, "x", "other", 1)}, {}, always));
  CAF_REQUIRE(!log->commit({record(t, "a", "2", 0), gone, record(t, "c", "3", 0)}, {}, always));
  const auto start = clock::now();
  rows = log->read_compacted(t, 0);
  CAF_REQUIRE(rows);
  CAF_REQUIRE_EQUAL(rows->size(), 2u);
  CAF_CHECK_EQUAL(*(*rows)[0].key + *(*rows)[0].value, "a2");
  CAF_CHECK_EQUAL(*(*rows)[1].key + *(*rows)[1].value, "c3");
  CAF_CHECK_EQUAL((*rows)[0].topic, t);
  CAF_CHECK(clock::now() - start < 3s);
  CAF_CHECK_EQUAL(code_of(log->read_compacted(fresh("none"), 0).error()), ec::unknown_topic);
  CAF_CHECK_EQUAL(code_of(log->read_compacted(t, 2).error()), ec::unknown_topic);
}

CAF_TEST_FIXTURE_SCOPE_END()
