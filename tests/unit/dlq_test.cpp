// Dead letters: read, found, sent back.
#define CAF_SUITE dlq

#include <caf/test/dsl.hpp>

#include <nlohmann/json.hpp>

#include "dlq_fakes.hpp"
#include "dlq_job.hpp"
#include "dlq_workbench.hpp"
#include "fixture.hpp"

using namespace sluice;
using namespace sluice::testing;
using nlohmann::json;

namespace {

const std::string dlq = "orders.dlq";
const std::string marks = "sluice-redrives";

dlq_letter read(const outgoing_record& record) {
  return read_dead_letter(log_batch{record.topic, 4, 9, {record}}, 0);
}

std::vector<std::string> names(const std::vector<record_header>& headers) {
  std::vector<std::string> result;
  for (const auto& one : headers)
    result.push_back(one.name);
  return result;
}

struct fixture : actor_fixture {
  std::shared_ptr<log_fake> log = std::make_shared<log_fake>();
  std::shared_ptr<role<kafka_producer_actor>> producer = std::make_shared<role<kafka_producer_actor>>();
  std::vector<outgoing_record> written;
  ec refuse = ec::no_error; ///< What the producer says to records of "orders".
  dlq_settings settings;
  dlq_workbench_actor sut;
  int jobs = 0;

  fixture() {
    log->add_partition(dlq);
    log->add_partition(marks);
    log->add_partition(audit_topic);
    settings.make_id = [] { return std::string{"audit-id"}; };
    settings.unix_ms = [] { return int64_t{5000}; };
    producer->set(keep(sys.spawn([this](kafka_producer_actor::pointer) -> kafka_producer_actor::behavior_type {
      return {
          [this](const outgoing_ptr& records) -> deliveries {
            auto results = std::make_shared<std::vector<delivery>>();
            for (const auto& one : *records) {
              if (one.topic == "orders" && refuse != ec::no_error) {
                results->push_back({one.topic, -1, -1, refuse, "as told"});
                continue;
              }
              written.push_back(one);
              auto partition = std::max(one.partition, 0);
              results->push_back({one.topic, partition, log->append(one, partition), ec::no_error, ""});
            }
            return results;
          },
          [](const publications&) {},
          [](atom::drain) { return atom::done_v; },
          [](atom::wake) {},
          [](atom::tick) {},
      };
    })));
    sut = keep(sys.spawn(dlq_workbench, [this] {
      ++jobs;
      return sys.spawn(
          dlq_job, settings, [log = log] { return std::make_unique<log_source>(log); }, producer, &counters);
    }));
  }

  redrive_order order(std::vector<letter_id> ids = {}) {
    redrive_order result;
    result.which.topic = dlq;
    result.which.ids = std::move(ids);
    result.which.limit = 1000;
    result.user = "ann";
    result.remote = "::1";
    return result;
  }
  /// What comes of it; sends no answer on.
  caf::expected<redrive_report_ptr> redrive(const redrive_order& what, std::chrono::milliseconds time = 1ms) {
    auto answer = self->request(sut, caf::infinite, redrive_order_ptr{std::make_shared<redrive_order>(what)});
    pass(time);
    caf::expected<redrive_report_ptr> result{caf::error{}};
    answer.receive([&](const redrive_report_ptr& got) { result = got; }, [&](caf::error& error) { result = error; });
    return result;
  }
  std::vector<outgoing_record> written_to(const std::string& topic) const {
    std::vector<outgoing_record> result;
    for (const auto& one : written)
      if (one.topic == topic)
        result.push_back(one);
    return result;
  }
  caf::expected<dlq_page> find(dlq_query query) {
    query.topic = dlq;
    log_source source{log};
    return find_letters(source, query, settings);
  }
  std::vector<std::string> found(dlq_query query) {
    auto page = find(std::move(query));
    std::vector<std::string> result;
    if (page)
      for (const auto& one : page->letters)
        result.push_back(to_string(one.letter.id));
    else
      result.push_back(describe(page.error()));
    return result;
  }
};

using texts = std::vector<std::string>;

} // namespace

CAF_TEST(ids are read back as they are written) {
  CAF_CHECK_EQUAL(to_string(letter_id{3, 17}), "3-17");
  CAF_CHECK(parse_letter_id("3-17") == (letter_id{3, 17}));
  for (const auto* wrong : {"", "3", "3-", "-17", "3-17x", "a-1", "3--1", "-1-3", "99999999999-1", " 3-1"})
    CAF_CHECK(!parse_letter_id(wrong));
}

CAF_TEST(a letter is taken apart into what it was and what became of it) {
  auto record =
      letter("v", ec::attempt_timeout, 1234, {{"a", "1"}, {"a", ""}, {"n", "", false}, {"sluice-event-id", "e"}});
  auto got = read(record);
  CAF_CHECK_EQUAL(got.topic, dlq);
  CAF_CHECK_EQUAL(to_string(got.id), "4-9");
  CAF_CHECK_EQUAL(got.timestamp_ms, 1234);
  CAF_CHECK_EQUAL(names(got.headers), (texts{"a", "a", "n", "sluice-event-id"}));
  CAF_CHECK(!got.headers[2].has_value);
  CAF_CHECK_EQUAL(got.origin.topic, "orders");
  CAF_CHECK_EQUAL(got.origin.partition, 2);
  CAF_CHECK_EQUAL(got.origin.offset, 70);
  CAF_CHECK_EQUAL(got.origin_timestamp_ms, 500);
  CAF_CHECK_EQUAL(got.error, "attempt_timeout");
  CAF_CHECK_EQUAL(got.reason, "because");
  CAF_CHECK_EQUAL(got.processor, "price");
  CAF_CHECK_EQUAL(got.attempts, 3u);
  CAF_CHECK_EQUAL(got.first_failure_ms, 600);
  CAF_CHECK_EQUAL(got.last_failure_ms, 700);
}

CAF_TEST(a dead letter of a dead letter keeps the headers of the first) {
  auto first = letter("v");
  failed_record again;
  again.topic = dlq;
  again.headers = first.headers;
  auto got = read(make_dead_letter(again));
  CAF_CHECK_EQUAL(got.origin.topic, dlq);
  CAF_CHECK_EQUAL(names(got.headers), names(first.headers));
}

CAF_TEST(what goes back is the record as it was) {
  auto record = letter("v", ec::rejected, 1, {{"b", "2"}, {"n", "", false}, {"sluice-event-id", "e"}, {"b", "1"}});
  record.key.reset();
  record.value.reset();
  auto back = redriven_record(read(record), 5000);
  CAF_CHECK_EQUAL(back.topic, "orders");
  CAF_CHECK_EQUAL(back.partition, 2);
  CAF_CHECK(!back.key && !back.value);
  CAF_CHECK_EQUAL(names(back.headers), (texts{"b", "n", "sluice-event-id", "b", "sluice-redrives"}));
  CAF_CHECK(!back.headers[1].has_value);
  CAF_CHECK_EQUAL(back.headers[4].value, "1");
  auto keyed = letter(std::string("\0\xff", 2));
  keyed.key = "";
  back = redriven_record(read(keyed), 5000);
  CAF_CHECK(back.key == std::string{} && back.value == std::string("\0\xff", 2));
}

CAF_TEST(each redrive counts up and a number that is none counts as none) {
  auto headers = [](const std::string& before) {
    return redriven_record(read(letter("v", ec::rejected, 1, {{"sluice-redrives", before}})), 5000).headers;
  };
  auto third = headers("2");
  CAF_REQUIRE_EQUAL(third.size(), 2u);
  CAF_CHECK_EQUAL(third[0].value, "orders/2/70"); // its event id
  CAF_CHECK_EQUAL(third[1].value, "3");
  auto first = headers("x");
  CAF_CHECK_EQUAL(first[1].value, "1");
}

CAF_TEST(a record without an event id gets what stood for it) {
  auto back = redriven_record(read(letter("v", ec::rejected, 1, {})), 5000);
  CAF_CHECK_EQUAL(back.headers[0].name, "sluice-event-id");
  CAF_CHECK_EQUAL(back.headers[0].value, "orders/2/70");
}

CAF_TEST(a deadline goes back only if it is still to come) {
  auto with = [](const std::string& deadline) {
    auto back = redriven_record(read(letter("v", ec::expired, 1, {{"sluice-deadline", deadline}})), 5000);
    return std::string{back.headers.at(0).name};
  };
  CAF_CHECK_EQUAL(with("5001"), "sluice-deadline");
  CAF_CHECK_EQUAL(with("5000"), "sluice-event-id");
  CAF_CHECK_EQUAL(with("soon"), "sluice-deadline");
}

CAF_TEST_FIXTURE_SCOPE(dlq_tests, fixture)

CAF_TEST(letters come in the order of their ids and page by page) {
  log->batch_size = 2;
  for (int i = 0; i < 5; ++i)
    log->append(letter("v" + std::to_string(i)), 1);
  log->append(letter("w"));
  CAF_CHECK_EQUAL(found({}), (texts{"0-0", "1-0", "1-1", "1-2", "1-3", "1-4"}));
  dlq_query query;
  query.limit = 4;
  auto page = find(query);
  CAF_REQUIRE(page);
  CAF_CHECK_EQUAL(page->letters.size(), 4u);
  CAF_CHECK(!page->complete);
  query.after = page->after;
  CAF_CHECK_EQUAL(found(query), (texts{"1-3", "1-4"}));
  CAF_CHECK(find(query)->complete);
  CAF_CHECK(!find(query)->after);
}

CAF_TEST(a filter names letters by what is known of them) {
  log->append(letter("apple", ec::rejected, 1000));
  log->append(letter("pear", ec::attempt_timeout, 2000));
  auto other = letter("plum", ec::rejected, 3000);
  other.key = "x";
  log->append(other);
  auto by = [this](auto set) {
    dlq_query query;
    set(query.filter);
    return found(query);
  };
  CAF_CHECK_EQUAL(by([](auto& f) { f.error = "rejected"; }), (texts{"0-0", "0-2"}));
  CAF_CHECK_EQUAL(by([](auto& f) { f.key = "x"; }), texts{"0-2"});
  CAF_CHECK_EQUAL(by([](auto& f) { f.text = "ear"; }), texts{"0-1"});
  CAF_CHECK_EQUAL(by([](auto& f) { f.text = "because"; }).size(), 3u);
  CAF_CHECK_EQUAL(by([](auto& f) { f.processor = "other"; }), texts{});
  CAF_CHECK_EQUAL(by([](auto& f) { f.from_ms = 2000; }), (texts{"0-1", "0-2"}));
  CAF_CHECK_EQUAL(by([](auto& f) { f.from_ms = 3001; }), texts{});
  CAF_CHECK_EQUAL(by([](auto& f) { f.to_ms = 2000; }), (texts{"0-0", "0-1"}));
  CAF_CHECK_EQUAL(by([](auto& f) { f.redriven = true; }), texts{});
  CAF_CHECK_EQUAL(by([](auto& f) { f.redriven = false; }).size(), 3u);
}

CAF_TEST(letters are found by their ids however far apart) {
  for (int i = 0; i < 5000; ++i)
    log->append(letter("v"));
  log->append(letter("v"), 3);
  dlq_query query;
  query.ids = {{0, 1}, {0, 2}, {0, 4998}, {0, 9999}, {3, 0}, {7, 0}};
  auto before = log->starts;
  CAF_CHECK_EQUAL(found(query), (texts{"0-1", "0-2", "0-4998", "3-0"}));
  CAF_CHECK_EQUAL(log->starts - before, 3); // two places of one partition, one of another
}

CAF_TEST(what retention has taken is not waited for) {
  for (int i = 0; i < 5; ++i)
    log->append(letter("v"));
  log->first[{dlq, 0}] = 3;
  CAF_CHECK_EQUAL(found({}), (texts{"0-3", "0-4"}));
  dlq_query query;
  query.ids = {{0, 1}, {0, 4}};
  CAF_CHECK_EQUAL(found(query), texts{"0-4"});
}

CAF_TEST(values are cut for a list and whole for one) {
  log->append(letter(std::string(5000, 'x')));
  dlq_query query;
  query.preview_bytes = 10;
  auto page = find(query);
  CAF_REQUIRE(page);
  CAF_CHECK_EQUAL(page->letters[0].letter.value->size(), 10u);
  CAF_CHECK_EQUAL(page->letters[0].value_bytes, 5000u);
  query.preview_bytes = 0;
  CAF_CHECK_EQUAL(find(query)->letters[0].letter.value->size(), 5000u);
}

CAF_TEST(a page ends where its bytes are spent and says so) {
  log->batch_size = 1;
  for (int i = 0; i < 5; ++i)
    log->append(letter(std::string(100, 'x')));
  settings.bytes = 150;
  auto page = find({});
  CAF_REQUIRE(page);
  CAF_CHECK_EQUAL(page->letters.size(), 2u);
  CAF_CHECK(!page->complete);
  CAF_CHECK_EQUAL(to_string(*page->after), "0-1");
}

CAF_TEST(a topic that is not there and a broker that is away are errors) {
  log->partitions.erase({dlq, 0});
  CAF_CHECK_EQUAL(found({}), texts{"unknown_topic: there is no topic \"orders.dlq\""});
  log->away = true;
  CAF_CHECK_EQUAL(found({}), texts{"kafka_unreachable: away"});
}

CAF_TEST(a broker that falls silent is an error and no endless wait) {
  log->append(letter("v"));
  log->silent = true;
  settings.time = 1ms;
  CAF_CHECK_EQUAL(found({}), texts{"kafka_unreachable: the dead-letter topic could not be read in time"});
  auto report = redrive(order());
  CAF_REQUIRE(!report);
  CAF_CHECK_EQUAL(code_of(report.error()), ec::kafka_unreachable);
}

CAF_TEST(the survey counts letters by error code) {
  log->append(letter("a", ec::rejected, 2000));
  log->append(letter("b", ec::expired, 1000));
  log->append(letter("c", ec::rejected, 3000), 1);
  log->add_partition("empty.dlq");
  log_source source{log};
  auto all = survey(source, {dlq, "empty.dlq", "gone.dlq"}, settings);
  CAF_REQUIRE(all);
  CAF_REQUIRE_EQUAL(all->topics.size(), 2u);
  const auto& empty = all->topics.at(0);
  CAF_CHECK_EQUAL(empty.topic, "empty.dlq");
  CAF_CHECK(empty.complete && empty.letters == 0 && !empty.oldest_ms);
  const auto& full = all->topics.at(1);
  CAF_CHECK_EQUAL(full.partitions, 2u);
  CAF_CHECK_EQUAL(full.letters, 3u);
  CAF_CHECK(full.complete && full.oldest_ms == 1000 && full.newest_ms == 3000);
  CAF_REQUIRE_EQUAL(full.errors.size(), 2u);
  CAF_CHECK_EQUAL(full.errors[0].first, "expired");
  CAF_CHECK_EQUAL(full.errors[1].second, 2u);
}

CAF_TEST(a redrive sends the record back and writes down that it did) {
  log->append(letter("v"));
  auto report = redrive(order({{0, 0}}));
  CAF_REQUIRE(report);
  CAF_REQUIRE_EQUAL((*report)->results.size(), 1u);
  const auto& result = (*report)->results[0];
  CAF_CHECK(result.error.empty() && result.recorded && (*report)->complete);
  CAF_CHECK_EQUAL(result.event_id, "e");
  CAF_CHECK_EQUAL(result.redrives, 1u);
  CAF_CHECK(result.target == (topic_partition{"orders", 2, 0}));
  auto back = written_to("orders");
  CAF_REQUIRE_EQUAL(back.size(), 1u);
  CAF_CHECK(back[0].value == "v" && back[0].key == "k");
  auto audit = written_to(audit_topic);
  CAF_REQUIRE_EQUAL(audit.size(), 1u);
  auto entry = json::parse(*audit[0].value);
  CAF_CHECK_EQUAL(entry["data"]["userId"].get<std::string>(), "ann");
  CAF_CHECK_EQUAL(entry["data"]["resourceId"].get<std::string>(), "orders.dlq/0-0");
  CAF_CHECK_EQUAL(entry["data"]["details"]["to"]["topic"].get<std::string>(), "orders");
  CAF_CHECK_EQUAL(entry["metadata"]["eventId"].get<std::string>(), "audit-id");
  CAF_CHECK_EQUAL(entry["metadata"]["timestamp"].get<int64_t>(), 5000);
  CAF_CHECK_EQUAL(counters.dead_letters_redriven.get(), 1u);
  auto page = find({});
  CAF_REQUIRE(page && page->letters[0].letter.redriven);
  CAF_CHECK_EQUAL(page->letters[0].letter.redriven->by, "ann");
  CAF_CHECK_EQUAL(page->letters[0].letter.redriven->at_ms, 5000);
}

CAF_TEST(a letter goes back a second time only on demand) {
  log->append(letter("v"));
  CAF_REQUIRE(redrive(order({{0, 0}})));
  auto second = redrive(order({{0, 0}}));
  CAF_REQUIRE(second);
  CAF_CHECK_EQUAL((*second)->results.at(0).error, "already_redriven");
  auto all = redrive(order());
  CAF_REQUIRE(all);
  CAF_CHECK((*all)->results.empty() && (*all)->skipped == 1);
  auto again = order({{0, 0}});
  again.again = true;
  CAF_CHECK((*redrive(again))->results.at(0).error.empty());
  CAF_CHECK_EQUAL(written_to("orders").size(), 2u);
}

CAF_TEST(with more marks than can be read letters are shown and sent back only on demand) {
  log->append(letter("v"));
  CAF_REQUIRE(redrive(order({{0, 0}})));
  settings.mark_bytes = 1;
  log->append(log->partitions[{marks, 0}].front());
  log->batch_size = 1; // the budget is looked at between batches
  auto page = find({});
  CAF_REQUIRE(page);
  CAF_CHECK(!page->knows_redriven && page->letters.size() == 1);
  dlq_query query;
  query.filter.redriven = false;
  CAF_CHECK(code_of(find(query).error()) == ec::target_unavailable);
  CAF_CHECK(code_of(redrive(order()).error()) == ec::target_unavailable);
  auto again = order();
  again.again = true;
  auto report = redrive(again);
  CAF_REQUIRE(report);
  CAF_CHECK_EQUAL((*report)->results.size(), 1u);
}

CAF_TEST(marks of letters that are gone are removed as fast as others come) {
  for (int i = 0; i < 1000; ++i)
    log->append(letter("v"));
  auto all = redrive(order(), 1s);
  CAF_REQUIRE(all && (*all)->results.size() == 1000);
  for (int i = 0; i < 1000; ++i)
    log->append(letter("v"));
  log->first[{dlq, 0}] = 1000; // retention
  written.clear();
  CAF_REQUIRE(redrive(order(), 1s));
  auto with_value = [](const auto& one) { return one.value.has_value(); };
  auto made = written_to(marks);
  CAF_CHECK_EQUAL(made.size(), 2000u);
  CAF_CHECK_EQUAL(std::count_if(made.begin(), made.end(), with_value), 1000);
}

CAF_TEST(a mark is not for another letter in its place) {
  log->append(letter("v"));
  CAF_REQUIRE(redrive(order({{0, 0}})));
  log->partitions[{dlq, 0}] = {letter("w", ec::rejected, 4000)}; // the topic was made anew
  CAF_CHECK((*redrive(order({{0, 0}})))->results.at(0).error.empty());
}

CAF_TEST(a dry run writes nothing and says the same) {
  log->append(letter("v"));
  log->append(letter("w", ec::rejected, 1000, {{"sluice-redrives", "3"}}));
  auto dry = order();
  dry.dry_run = true;
  auto report = redrive(dry);
  CAF_REQUIRE(report);
  CAF_REQUIRE_EQUAL((*report)->results.size(), 2u);
  CAF_CHECK((*report)->results[0].error.empty());
  CAF_CHECK_EQUAL((*report)->results[1].error, "loop_guard");
  CAF_CHECK(written.empty());
}

CAF_TEST(a record that keeps coming back stays) {
  log->append(letter("v", ec::rejected, 1, {{"sluice-redrives", "2"}}));
  log->append(letter("v", ec::rejected, 1, {{"sluice-redrives", "3"}}));
  auto report = redrive(order());
  CAF_REQUIRE(report);
  CAF_CHECK((*report)->results[0].error.empty());
  CAF_CHECK_EQUAL((*report)->results[1].error, "loop_guard");
  CAF_CHECK_EQUAL(written_to("orders").size(), 1u);
}

CAF_TEST(a letter without its value goes back with another one only) {
  auto without = letter("v");
  without.value.reset();
  without.headers.push_back({"sluice-dlq-missing", "value"});
  log->append(without);
  without.headers.back().value = "value,key,headers";
  log->append(without);
  auto report = redrive(order());
  CAF_REQUIRE(report);
  CAF_CHECK_EQUAL((*report)->results[0].error, "incomplete");
  CAF_CHECK((*report)->results[0].detail.find("orders/2/70") != std::string::npos);
  CAF_CHECK(written.empty());
  for (int64_t offset : {0, 1}) {
    auto mended = order({{0, offset}});
    mended.replace = true;
    mended.value = "mended";
    report = redrive(mended);
    CAF_REQUIRE(report);
    CAF_CHECK_EQUAL((*report)->results[0].error, offset == 0 ? "" : "incomplete");
  }
  CAF_CHECK_EQUAL(written_to("orders").size(), 1u);
}

CAF_TEST(a letter that claims to be from elsewhere stays) {
  auto forged = letter("v");
  for (auto& header : forged.headers)
    if (header.name == "sluice-dlq-topic")
      header.value = "secrets";
  log->append(forged);
  outgoing_record plain;
  plain.topic = dlq;
  plain.value = "no letter at all";
  log->append(plain);
  auto report = redrive(order());
  CAF_REQUIRE(report);
  CAF_CHECK_EQUAL((*report)->results[0].error, "no_origin");
  CAF_CHECK_EQUAL((*report)->results[1].error, "no_origin");
  CAF_CHECK(written.empty());
}

CAF_TEST(an edited value goes in place of the old one) {
  log->append(letter("v"));
  auto edited = order({{0, 0}});
  edited.replace = true;
  edited.value = "better";
  CAF_REQUIRE(redrive(edited));
  CAF_CHECK(written_to("orders").at(0).value == "better");
  auto gone = order({{0, 0}});
  gone.again = gone.replace = true;
  CAF_REQUIRE(redrive(gone));
  CAF_CHECK(!written_to("orders").at(1).value);
}

CAF_TEST(ids that are not there are named) {
  log->append(letter("v"));
  auto report = redrive(order({{0, 0}, {0, 5}}));
  CAF_REQUIRE(report);
  CAF_REQUIRE_EQUAL((*report)->results.size(), 2u);
  CAF_CHECK((*report)->results[0].error.empty());
  CAF_CHECK_EQUAL((*report)->results[1].error, "not_found");
}

CAF_TEST(a redrive ends at its limit and goes on from there) {
  for (int i = 0; i < 10; ++i)
    log->append(letter("v" + std::to_string(i)));
  auto some = order();
  some.which.limit = 4;
  auto report = redrive(some);
  CAF_REQUIRE(report);
  CAF_CHECK_EQUAL((*report)->results.size(), 4u);
  CAF_CHECK(!(*report)->complete);
  some.which.after = (*report)->after;
  some.which.limit = 100;
  report = redrive(some);
  CAF_CHECK_EQUAL((*report)->results.size(), 6u);
  CAF_CHECK((*report)->complete);
  CAF_CHECK_EQUAL(written_to("orders").size(), 10u);
}

CAF_TEST(a rate spreads a redrive over time) {
  for (int i = 0; i < 30; ++i)
    log->append(letter("v"));
  auto slow = order();
  slow.rate = 100; // ten each 100 ms
  auto answer = self->request(sut, caf::infinite, redrive_order_ptr{std::make_shared<redrive_order>(slow)});
  pass(50ms);
  CAF_CHECK_EQUAL(written_to("orders").size(), 10u);
  pass(100ms);
  CAF_CHECK_EQUAL(written_to("orders").size(), 20u);
  pass(300ms);
  CAF_CHECK_EQUAL(written_to("orders").size(), 30u);
  answer.receive([](const redrive_report_ptr& report) { CAF_CHECK_EQUAL(report->results.size(), 30u); },
                 [&](caf::error& error) { CAF_FAIL(describe(error)); });
}

CAF_TEST(a broker that takes nothing ends the redrive early) {
  for (int i = 0; i < 500; ++i)
    log->append(letter("v"));
  refuse = ec::delivery_timeout;
  auto report = redrive(order());
  CAF_REQUIRE(report);
  CAF_CHECK_EQUAL((*report)->results.size(), 200u); // not another delivery timeout for the next ones
  CAF_CHECK_EQUAL((*report)->results[0].error, "delivery_timeout");
  CAF_CHECK(!(*report)->complete);
  CAF_CHECK(written.empty()); // no mark, no audit entry
}

CAF_TEST(without a place to write it down nothing is sent back) {
  log->append(letter("v"));
  log->partitions.erase({audit_topic, 0});
  auto report = redrive(order());
  CAF_REQUIRE(!report);
  CAF_CHECK_EQUAL(code_of(report.error()), ec::target_unavailable);
  CAF_CHECK(written.empty());
}

CAF_TEST(marks of letters that are gone are removed) {
  for (int i = 0; i < 3; ++i)
    log->append(letter("v"));
  CAF_REQUIRE(redrive(order()));
  log->first[{dlq, 0}] = 2;
  log->append(letter("w"));
  written.clear();
  CAF_REQUIRE(redrive(order({{0, 3}})));
  std::vector<std::string> removed;
  for (const auto& one : written_to(marks))
    if (!one.value)
      removed.push_back(*one.key);
  CAF_CHECK_EQUAL(removed, (texts{"orders.dlq/0-0", "orders.dlq/0-1"}));
}

CAF_TEST(one redrive a topic at a time and a few jobs in all) {
  for (int i = 0; i < 30; ++i)
    log->append(letter("v"));
  auto slow = order();
  slow.rate = 10;
  auto send = [this](const redrive_order& what) {
    return self->request(sut, caf::infinite, redrive_order_ptr{std::make_shared<redrive_order>(what)});
  };
  auto first = send(slow);
  pass(10ms);
  auto second = redrive(order());
  CAF_REQUIRE(!second);
  CAF_CHECK_EQUAL(code_of(second.error()), ec::busy);
  auto dry = order();
  dry.dry_run = true;
  CAF_CHECK(redrive(dry)); // looks only
  auto elsewhere = slow;
  for (const auto* topic : {"a", "b", "c"}) {
    log->partitions[{std::string{topic} + ".dlq", 0}] = log->partitions[{dlq, 0}];
    for (auto& record : log->partitions[{std::string{topic} + ".dlq", 0}])
      for (auto& header : record.headers)
        if (header.name == "sluice-dlq-topic")
          header.value = topic;
    elsewhere.which.topic = std::string{topic} + ".dlq";
    caf::anon_send(sut, redrive_order_ptr{std::make_shared<redrive_order>(elsewhere)});
    pass(1ms);
  }
  auto fifth = redrive(dry);
  CAF_REQUIRE(!fifth);
  CAF_CHECK_EQUAL(code_of(fifth.error()), ec::queue_full);
  for (int i = 0; i < 5; ++i)
    pass(1s);
  first.receive([](const redrive_report_ptr& report) { CAF_CHECK_EQUAL(report->results.size(), 30u); },
                [&](caf::error& error) { CAF_FAIL(describe(error)); });
  CAF_CHECK(redrive(dry)); // all are done
}

CAF_TEST(a stop answers who waits) {
  log->append(letter("v"));
  log->append(letter("v"));
  auto slow = order();
  slow.rate = 1;
  auto answer = self->request(sut, caf::infinite, redrive_order_ptr{std::make_shared<redrive_order>(slow)});
  pass(10ms);
  caf::anon_send_exit(sut, caf::exit_reason::user_shutdown);
  consume_messages();
  answer.receive([](const redrive_report_ptr&) { CAF_FAIL("it cannot be done"); },
                 [](caf::error& error) { CAF_CHECK_EQUAL(code_of(error), ec::shutting_down); });
}

CAF_TEST(the workbench answers questions by jobs that end) {
  log->append(letter("v"));
  for (int i = 0; i < 10; ++i) {
    auto query = std::make_shared<dlq_query>();
    query->topic = dlq;
    auto page = self->request(sut, caf::infinite, dlq_query_ptr{query});
    consume_messages();
    page.receive([](const dlq_page_ptr& got) { CAF_CHECK_EQUAL(got->letters.size(), 1u); },
                 [&](caf::error& error) { CAF_FAIL(describe(error)); });
    auto all = self->request(sut, caf::infinite, atom::state_v, channel_names{dlq});
    consume_messages();
    all.receive([](const dlq_overview_ptr& got) { CAF_CHECK_EQUAL(got->topics.size(), 1u); },
                [&](caf::error& error) { CAF_FAIL(describe(error)); });
  }
  CAF_CHECK_EQUAL(jobs, 20);
}

CAF_TEST_FIXTURE_SCOPE_END()
