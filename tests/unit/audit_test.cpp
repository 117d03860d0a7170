// The audit processor: what it takes of records, and how entries come to the archive. The archive with ports that only
// remember.
#define CAF_SUITE audit

#include "audit.hpp"

#include <nlohmann/json.hpp>

#include "archive.hpp"
#include "fixture.hpp"

using namespace sluice;
using namespace sluice::testing;
using nlohmann::json;

namespace {

struct trail_fake : audit_log {
  caf::expected<std::vector<audit_fate>> append(const std::vector<audit_entry>& entries) override {
    batches.push_back(entries.size());
    at_append();
    if (broken)
      return broken;
    all.insert(all.end(), entries.begin(), entries.end());
    std::vector<audit_fate> fates;
    for (const auto& one : entries)
      fates.push_back(one.event_id == "known"     ? audit_fate::known
                      : one.event_id == "differs" ? audit_fate::differs
                                                  : audit_fate::added);
    return fates;
  }
  caf::expected<audit_page> find(const audit_query&) override {
    if (broken)
      return broken;
    return audit_page{all, true};
  }
  caf::expected<audit_check> verify(int64_t after, std::size_t) override {
    audit_check found;
    found.last = after + 1;
    return found;
  }
  caf::expected<audit_counts> count(int64_t from, int64_t to) override {
    audit_counts found;
    found.total = static_cast<uint64_t>(to - from);
    return found;
  }
  std::vector<size_t> batches;
  std::vector<audit_entry> all;
  caf::error broken;
  std::function<void()> at_append = [] {};
};

struct shelf_fake : report_shelf {
  caf::expected<report> keep(const report& fresh) override { return fresh; }
  caf::expected<report_page> find(const report_query&) override { return report_page{}; }
};

struct fixture : actor_fixture {
  fixture() {
    role_->set(keep(sys.spawn(archive, trail, std::make_shared<shelf_fake>(), &counters)));
    logger = keep(sys.spawn(audit_logger, role_));
  }
  /// One attempt; what became of it.
  caf::error push(const std::string& value, const std::string& id = "e") {
    auto job = std::make_shared<context>("audit");
    job->begin(record{"audit.event", 0, 7, "", value, {{"sluice-event-id", id}}, 1000}, 1);
    auto asked = self->request(logger, caf::infinite, context_ptr{job});
    consume_messages();
    caf::error result;
    asked.receive([](atom::done) {}, [&result](caf::error& error) { result = std::move(error); });
    return result;
  }

  std::shared_ptr<trail_fake> trail = std::make_shared<trail_fake>();
  std::shared_ptr<role<archive_actor>> role_ = std::make_shared<role<archive_actor>>();
  processor_actor logger;
};

audit_entry must(const record& what) {
  auto found = audit_entry_of(what);
  CAF_REQUIRE_EQUAL(found ? "" : describe(found.error()), "");
  return *found;
}

record in(const std::string& value) {
  return {"audit.event", 2, 7, "", value, {}, 1000};
}

std::string refused(const std::string& value) {
  auto found = audit_entry_of(in(value));
  if (found)
    return "taken";
  CAF_CHECK(code_of(found.error()) == ec::malformed_record);
  return text_of(found.error());
}

const std::string good = R"({"action":"a","resource":"r"})";

} // namespace

CAF_TEST(an event may stand alone) {
  auto found = must(
      in(R"({"action":"a","resource":"r","resourceId":123,"user":"ann","tenant":"t","details":{"z":1,"a":[1.5]}})"));
  CAF_CHECK_EQUAL(found.event_id, "audit.event/2/7");
  CAF_CHECK_EQUAL(found.time_ms, 1000);
  CAF_CHECK_EQUAL(found.action, "a");
  CAF_CHECK_EQUAL(found.resource, "r");
  CAF_CHECK_EQUAL(found.resource_id, "123");
  CAF_CHECK_EQUAL(found.user, "ann");
  CAF_CHECK_EQUAL(found.tenant, "t");
  CAF_CHECK_EQUAL(found.details, R"({"z":1,"a":[1.5]})"); // in its order
}

CAF_TEST(an event may come in an envelope as a redrive writes it) {
  auto found = must(in(R"({"type":"AUDIT_EVENT","data":{"action":"dlq.redrive","resource":"dead_letter",)"
                       R"("resourceId":"orders.dlq/0-17","userId":null,"details":{"edited":false}},)"
                       R"("metadata":{"eventId":"id-1","timestamp":5000,"source":"sluice/n","version":1,)"
                       R"("tenantId":"acme"}})"));
  CAF_CHECK_EQUAL(found.event_id, "id-1");
  CAF_CHECK_EQUAL(found.time_ms, 5000);
  CAF_CHECK_EQUAL(found.action, "dlq.redrive");
  CAF_CHECK_EQUAL(found.resource_id, "\"orders.dlq/0-17\"");
  CAF_CHECK_EQUAL(found.user, "");
  CAF_CHECK_EQUAL(found.tenant, "acme");
}

CAF_TEST(a user may be a number and what is null is not there) {
  auto found = must(in(R"({"action":"a","resource":"r","resourceId":null,"userId":7,"details":null})"));
  CAF_CHECK_EQUAL(found.user, "7");
  CAF_CHECK_EQUAL(found.resource_id, "");
  CAF_CHECK_EQUAL(found.details, "");
}

CAF_TEST(what is wrong is named) {
  CAF_CHECK_EQUAL(refused("not json"), "the value is not JSON");
  CAF_CHECK_EQUAL(refused("[]").substr(0, 29), "an audit event is a JSON obje");
  CAF_CHECK_EQUAL(refused(R"({"resource":"r"})"), "action is missing");
  CAF_CHECK_EQUAL(refused(R"({"action":"a"})"), "resource is missing");
  CAF_CHECK_EQUAL(refused(R"({"action":7,"resource":"r"})"), "action is not a text with at least one character");
  CAF_CHECK_EQUAL(refused(R"({"action":"","resource":"r"})"), "action is not a text with at least one character");
  CAF_CHECK_EQUAL(refused(R"({"action":"a\u0000","resource":"r"})"), "action holds a NUL character");
  CAF_CHECK_EQUAL(refused(json{{"action", std::string(1001, 'x')}, {"resource", "r"}}.dump()),
                  "action is longer than 1,000 bytes");
  CAF_CHECK_EQUAL(refused(R"({"action":"a","resource":"r","resourceId":{}})"),
                  "resourceId is neither a text nor a number");
  CAF_CHECK_EQUAL(refused(R"({"action":"a","resource":"r","resourceId":123456789012345678901234567890})"),
                  "resourceId is too large a number to be kept as it is; send it as a text");
  CAF_CHECK_EQUAL(refused(R"({"action":"a","resource":"r","userId":[]})"),
                  "userId is neither a text nor a whole number");
  CAF_CHECK_EQUAL(refused(json{{"action", "a"}, {"resource", "r"}, {"details", std::string(256 * 1024, 'x')}}.dump()),
                  "details is longer than 256 KiB");
  CAF_CHECK_EQUAL(
      refused(R"({"type":"x","data":{"action":"a","resource":"r"},"metadata":{"timestamp":1e3}})").substr(0, 18),
      "metadata.timestamp");
  CAF_CHECK_EQUAL(
      refused(R"({"type":"x","data":{"action":"a","resource":"r"},"metadata":{"timestamp":18446744073709551615}})"),
      "metadata.timestamp is no time in Unix milliseconds");
  CAF_CHECK_EQUAL(refused(R"({"type":"x","data":{"action":"a","resource":"r"},"metadata":{"tenantId":"a\u0000"}})"),
                  "metadata.tenantId holds a NUL character");
  CAF_CHECK_EQUAL(refused(R"({"action":"a","resource":"r","details":)" + std::string(100000, '[')),
                  "the value is nested deeper than 64 levels");
}

CAF_TEST_FIXTURE_SCOPE(audit_tests, fixture)

CAF_TEST(a record is done once its entry is in the trail) {
  CAF_CHECK(!push(good));
  CAF_REQUIRE_EQUAL(trail->all.size(), 1u);
  CAF_CHECK_EQUAL(trail->all.front().event_id, "e");
  CAF_CHECK(!push(good, "known"));
}

CAF_TEST(another event of a known id is refused for good) {
  auto error = push(good, "differs");
  CAF_CHECK(code_of(error) == ec::rejected);
  CAF_CHECK(text_of(error).find("differs") != std::string::npos);
}

CAF_TEST(a database that is away is no reason to give a record up) {
  trail->broken = make_failure(ec::store_unavailable, "store.url: gone");
  auto error = push(good);
  CAF_CHECK(code_of(error) == ec::store_unavailable);
  CAF_CHECK(is_retryable(code_of(error)));
  CAF_CHECK_EQUAL(counters.store_errors.get(), 1u);
  trail->broken = {};
  CAF_CHECK(!push(good));
}

CAF_TEST(what gathers while the database works shares a transaction) {
  std::vector<processor_actor> loggers;
  for (int i = 0; i < 10; ++i)
    loggers.push_back(keep(sys.spawn(audit_logger, role_)));
  for (auto& one : loggers) {
    auto job = std::make_shared<context>("audit");
    job->begin(in(good), 1);
    self->send(one, context_ptr{job});
  }
  consume_messages();
  CAF_CHECK_EQUAL(trail->batches, (std::vector<size_t>{10}));
}

CAF_TEST(a transaction has a bound and the rest goes into the next) {
  auto many = std::make_shared<std::vector<audit_entry>>(600);
  for (int i = 0; i < 3; ++i)
    self->send(role_->get(), audit_entries_ptr{many});
  consume_messages();
  CAF_CHECK_EQUAL(trail->batches, (std::vector<size_t>{1200, 600}));
}

CAF_TEST(the archive answers questions and passes errors on) {
  push(good);
  auto found = self->request(role_->get(), caf::infinite, audit_query_ptr{std::make_shared<audit_query>()});
  auto piece = self->request(role_->get(), caf::infinite, atom::verify_v, int64_t{16});
  auto counts = self->request(role_->get(), caf::infinite, atom::count_v, int64_t{10}, int64_t{17});
  consume_messages();
  auto fail = [](const caf::error& error) { CAF_FAIL(describe(error)); };
  found.receive([](const audit_page_ptr& page) { CAF_CHECK_EQUAL(page->entries.size(), 1u); }, fail);
  piece.receive([](const audit_check_ptr& check) { CAF_CHECK_EQUAL(check->last, 17); }, fail);
  counts.receive([](const audit_counts_ptr& all) { CAF_CHECK_EQUAL(all->total, 7u); }, fail);
  trail->broken = make_failure(ec::store_unavailable, "gone");
  auto failing = self->request(role_->get(), caf::infinite, audit_query_ptr{std::make_shared<audit_query>()});
  consume_messages();
  failing.receive([](const audit_page_ptr&) { CAF_FAIL("it is gone"); },
                  [](const caf::error& error) { CAF_CHECK(code_of(error) == ec::store_unavailable); });
}

CAF_TEST(who waits is answered when the archive ends) {
  consume_messages();
  auto many = std::make_shared<std::vector<audit_entry>>(1000); // a transaction each
  auto first = self->request(role_->get(), caf::infinite, audit_entries_ptr{many});
  auto second = self->request(role_->get(), caf::infinite, audit_entries_ptr{many});
  trail->at_append = [this] { anon_send_exit(role_->get(), caf::exit_reason::user_shutdown); };
  consume_messages();
  first.receive([](const audit_fates_ptr& fates) { CAF_CHECK_EQUAL(fates->size(), 1000u); },
                [](const caf::error& error) { CAF_FAIL(describe(error)); });
  second.receive([](const audit_fates_ptr&) { CAF_FAIL("it has ended"); },
                 [](const caf::error& error) { CAF_CHECK(code_of(error) == ec::shutting_down); });
}

CAF_TEST_FIXTURE_SCOPE_END()
