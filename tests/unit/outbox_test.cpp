#define CAF_SUITE outbox

#include "outbox.hpp"

#include <algorithm>

#include "fixture.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

/// What the outbox has on disk. Lives longer than the actor, as a disk does.
struct log_fake : outbox_log {
  struct row {
    outgoing_record record;
    bool refused = false;
  };
  caf::expected<std::vector<uint64_t>> commit(const std::vector<const outgoing_record*>& fresh,
                                              const std::vector<int64_t>& written,
                                              const std::vector<refusal>& refused) override {
    ++commits;
    if (broken)
      return broken;
    for (auto id : written)
      rows.erase(id);
    for (const auto& one : refused)
      rows.at(one.id).refused = true;
    for (const auto* one : fresh)
      rows[next_id++] = {*one};
    return std::vector<uint64_t>(fresh.size(), 10);
  }
  caf::expected<std::vector<entry>> read(int64_t after, size_t records, size_t) override {
    std::vector<entry> found;
    for (const auto& [id, one] : rows)
      if (id > after && !one.refused && found.size() < records)
        found.push_back({id, one.record, 10});
    return found;
  }
  caf::expected<std::map<std::string, usage>> contents() override {
    if (broken)
      return broken;
    std::map<std::string, usage> all;
    for (const auto& [id, one] : rows) {
      auto& sum = all[one.refused ? "" : one.record.topic];
      ++sum.records;
      sum.bytes += 10;
    }
    return all;
  }
  caf::error readmit() override { return {}; }

  std::map<int64_t, row> rows;
  int64_t next_id = 1;
  int commits = 0;
  caf::error broken;
};

struct sink_fake : record_sink {
  void on_ready(std::function<void()> wake) override { wake_up = std::move(wake); }
  caf::error send(const outgoing_record& record, uint64_t tag) override {
    if (full)
      return make_failure(ec::queue_full, "full");
    if (unknown == record.topic)
      return make_failure(ec::unknown_topic, "there is no such topic");
    sent.push_back({tag, *record.value});
    return {};
  }
  std::vector<outcome> poll() override { return std::exchange(outcomes, {}); }
  caf::error fatal() const override { return broken; }
  /// The outcome of what was sent in place `index`.
  void answer(size_t index, ec error = ec::no_error) {
    outcomes.push_back({sent.at(index).first, {"t", 0, static_cast<int64_t>(index), error, "no"}});
    wake_up();
  }
  std::vector<std::string> values() const {
    std::vector<std::string> all;
    for (const auto& [tag, value] : sent)
      all.push_back(value);
    return all;
  }
  std::vector<std::pair<uint64_t, std::string>> sent;
  std::vector<outcome> outcomes;
  std::function<void()> wake_up;
  std::string unknown;
  bool full = false;
  caf::error broken;
};

using texts = std::vector<std::string>;

struct fixture : actor_fixture {
  void start() {
    auto contents = *file->contents();
    gate->reset(contents);
    sut = keep(sys.spawn(
        outbox, file, contents,
        [this]() -> std::shared_ptr<record_sink> {
          ++sinks;
          return sink;
        },
        gate,
        [this](const auto& fresh, bool alone) {
          for (const auto* one : fresh)
            kept.push_back(one->value.value_or(""));
          kept_alone = alone;
        },
        &counters));
    consume_messages();
  }
  outgoing_record record(const std::string& value, const std::string& topic = "t") {
    outgoing_record one;
    one.topic = topic;
    one.value = value;
    return one;
  }
  /// A publication of one record; its answer is written to `answers` as "value:queued" or "value:<error>".
  publication ask(const std::string& value, const std::string& topic = "t") {
    return {{record(value, topic)}, [answers = answers, value](const publication::outcome& what) {
              if (!what)
                answers->push_back(value + ":" + to_string(code_of(what.error())));
              else if (const auto& one = what->front(); one.error != ec::no_error)
                answers->push_back(value + ":" + to_string(one.error));
              else
                answers->push_back(value + (one.queued ? ":queued" : ":written"));
            }};
  }
  void put(publication what, std::vector<delivery> so_far = {}) {
    auto place = gate->enter(what.records);
    CAF_REQUIRE(place);
    anon_send(sut, std::make_shared<outbox_job>(std::move(what), std::move(so_far), std::move(*place)));
  }
  void put(const std::string& value, const std::string& topic = "t") { put(ask(value, topic)); }
  bool holds(const std::string& topic) { return gate->holds({record("", topic)}); }

  std::shared_ptr<log_fake> file = std::make_shared<log_fake>();
  std::shared_ptr<sink_fake> sink = std::make_shared<sink_fake>();
  std::shared_ptr<outbox_gate> gate = std::make_shared<outbox_gate>(100000);
  std::shared_ptr<texts> answers = std::make_shared<texts>(); ///< Shared with callbacks of the test's end.
  outbox_actor sut;
  int sinks = 0;
  texts kept; ///< What was told of as being on disk.
  bool kept_alone = false;
};

} // namespace

CAF_TEST_FIXTURE_SCOPE(outbox_tests, fixture)

CAF_TEST(what comes together shares a transaction and is answered after it) {
  start();
  put("a");
  put("b");
  put("c");
  consume_messages();
  CAF_CHECK_EQUAL(file->commits, 1);
  CAF_CHECK_EQUAL(file->rows.size(), 3u);
  CAF_CHECK_EQUAL(*answers, (texts{"a:queued", "b:queued", "c:queued"}));
  CAF_CHECK_EQUAL(counters.outbox_records.get(), 3u);
  CAF_CHECK_EQUAL(counters.outbox_bytes.get(), 30u);
  CAF_CHECK(file->rows.begin()->second.record.timestamp_ms > 0); // when it happened
  CAF_CHECK_EQUAL(kept, (texts{"a", "b", "c"}));
  CAF_CHECK(kept_alone);
  put("d");
  consume_messages();
  CAF_CHECK_EQUAL(kept.back(), "d");
  CAF_CHECK(!kept_alone);
}

CAF_TEST(what the disk does not take is not told of) {
  start();
  file->broken = make_failure(ec::storage_full, "full");
  put("a");
  consume_messages();
  CAF_CHECK(kept.empty());
}

CAF_TEST(events go to Kafka in order and are gone from disk once acknowledged) {
  start();
  for (const auto* value : {"a", "b", "c"})
    put(value);
  consume_messages();
  CAF_CHECK_EQUAL(sink->values(), (texts{"a", "b", "c"}));
  sink->answer(0);
  sink->answer(1);
  consume_messages();
  CAF_CHECK_EQUAL(file->rows.size(), 1u);
  CAF_CHECK(holds("t"));
  sink->answer(2);
  consume_messages();
  CAF_CHECK(file->rows.empty());
  CAF_CHECK(!holds("t"));
  CAF_CHECK_EQUAL(counters.outbox_replayed.get(), 3u);
  CAF_CHECK_EQUAL(counters.outbox_records.get(), 0u);
  CAF_CHECK_EQUAL(counters.outbox_bytes.get(), 0u);
}

CAF_TEST(only topics with events that wait are held) {
  start();
  CAF_CHECK(!holds("t"));
  put("a");
  CAF_CHECK(holds("t")); // from the moment it is on its way
  consume_messages();
  CAF_CHECK(holds("t"));
  CAF_CHECK(!holds("other"));
}

CAF_TEST(a restart goes on where Kafka has acknowledged) {
  start();
  for (const auto* value : {"a", "b", "c"})
    put(value);
  consume_messages();
  sink->answer(0);
  consume_messages();
  anon_send_exit(sut, caf::exit_reason::kill);
  consume_messages();
  sink = std::make_shared<sink_fake>();
  start();
  CAF_CHECK_EQUAL(sink->values(), (texts{"b", "c"}));
  CAF_CHECK(holds("t"));
  CAF_CHECK_EQUAL(counters.outbox_records.get(), 2u);
}

CAF_TEST(a disk that fails is an error for who asks and nothing else) {
  start();
  put("a");
  consume_messages();
  file->broken = make_failure(ec::storage_full, "store.path: full");
  put("b");
  consume_messages();
  CAF_CHECK_EQUAL(*answers, (texts{"a:queued", "b:storage_full"}));
  CAF_CHECK_EQUAL(counters.store_errors.get(), 1u);
  sink->answer(0); // cannot be noted now
  consume_messages();
  file->broken = {};
  pass(2s);
  CAF_CHECK(file->rows.empty()); // noted once the disk works, and not sent again
  CAF_CHECK_EQUAL(sink->values(), (texts{"a"}));
  CAF_CHECK(!holds("t"));
  put("c");
  consume_messages();
  CAF_CHECK_EQUAL(answers->back(), "c:queued");
}

CAF_TEST(a log that is another one afterwards is begun anew) {
  start();
  put("a");
  put("b");
  consume_messages();
  file->broken = make_failure(ec::store_unavailable, "store.path: removed");
  put("c");
  consume_messages();
  CAF_CHECK_EQUAL(answers->back(), "c:store_unavailable");
  file->broken = {};
  file->rows.clear();
  file->next_id = 1; // the ids of the old one's again
  auto old = sink;
  sink = std::make_shared<sink_fake>();
  put("d");
  consume_messages();
  CAF_CHECK_EQUAL(answers->back(), "d:queued");
  CAF_CHECK_EQUAL(counters.outbox_records.get(), 1u);
  old->answer(0); // of an event that is no longer there
  pass(2s);
  CAF_CHECK_EQUAL(file->rows.size(), 1u);
  CAF_CHECK_EQUAL(sink->values(), (texts{"d"}));
  CAF_CHECK(holds("t"));
  sink->answer(0);
  consume_messages();
  CAF_CHECK(!holds("t"));
}

CAF_TEST(of what was tried before only the rest is queued) {
  start();
  std::vector<delivery> results;
  publication both{{record("a"), record("b"), record("c")},
                   [&](publication::outcome what) { results = std::move(*what); }};
  put(std::move(both), {{"t", 0, 7, ec::no_error, ""},
                        {"t", -1, -1, ec::delivery_timeout, "late"},
                        {"t", -1, -1, ec::kafka_refused, "too large"}});
  consume_messages();
  CAF_REQUIRE_EQUAL(results.size(), 3u);
  CAF_CHECK(results[0].error == ec::no_error && !results[0].queued && results[0].offset == 7);
  CAF_CHECK(results[1].error == ec::no_error && results[1].queued);
  CAF_CHECK(results[2].error == ec::kafka_refused);
  CAF_CHECK_EQUAL(sink->values(), (texts{"b"}));
}

CAF_TEST(what times out is sent again from the oldest on in order) {
  start();
  for (const auto* value : {"a", "b", "c"})
    put(value);
  consume_messages();
  sink->answer(0);
  sink->answer(1, ec::delivery_timeout);
  consume_messages();
  pass(3s);
  CAF_CHECK_EQUAL(sink->values(), (texts{"a", "b", "c"})); // c has no outcome yet
  sink->answer(2, ec::delivery_timeout);
  pass(3s);
  CAF_CHECK_EQUAL(sink->values(), (texts{"a", "b", "c", "b", "c"}));
}

CAF_TEST(what Kafka refuses stays on disk out of the way of the others) {
  start();
  for (const auto* value : {"a", "b"})
    put(value);
  consume_messages();
  sink->answer(0, ec::kafka_refused);
  sink->answer(1);
  consume_messages();
  CAF_REQUIRE_EQUAL(file->rows.size(), 1u);
  CAF_CHECK(file->rows.begin()->second.refused);
  CAF_CHECK_EQUAL(counters.outbox_refused.get(), 1u);
  CAF_CHECK_EQUAL(counters.outbox_records.get(), 0u);
  CAF_CHECK_EQUAL(counters.outbox_bytes.get(), 10u); // it still takes room
  CAF_CHECK(!holds("t"));
}

CAF_TEST(a topic that does not exist is waited for and then holds up nobody) {
  start();
  sink->unknown = "gone";
  put("a", "gone");
  put("b");
  consume_messages();
  CAF_CHECK(sink->sent.empty());
  CAF_CHECK_EQUAL(counters.outbox_refused.get(), 0u);
  pass(5s);
  CAF_CHECK_EQUAL(sink->values(), (texts{"b"}));
  CAF_CHECK_EQUAL(counters.outbox_refused.get(), 1u);
}

CAF_TEST(a full producer is no error) {
  start();
  sink->full = true;
  put("a");
  consume_messages();
  sink->full = false;
  pass(2s);
  CAF_CHECK_EQUAL(sink->values(), (texts{"a"}));
}

CAF_TEST(a producer that cannot go on is replaced) {
  start();
  put("a");
  consume_messages();
  auto first = sink;
  first->broken = make_failure(ec::fenced, "over");
  sink = std::make_shared<sink_fake>();
  first->wake_up();
  pass(2s);
  CAF_CHECK_EQUAL(sinks, 2);
  CAF_CHECK_EQUAL(sink->values(), (texts{"a"}));
}

CAF_TEST(many more events than fit into memory go through a window) {
  for (int i = 0; i < 5000; ++i)
    file->rows[file->next_id++] = {record(std::to_string(i))};
  start();
  CAF_CHECK_EQUAL(sink->sent.size(), 2000u);
  for (size_t i = 0; i < 5000; ++i) {
    sink->answer(i);
    if (i % 500 == 499)
      consume_messages();
  }
  consume_messages();
  CAF_CHECK(file->rows.empty());
  CAF_REQUIRE_EQUAL(sink->sent.size(), 5000u);
  for (size_t i = 0; i < 5000; ++i)
    CAF_REQUIRE_EQUAL(sink->sent[i].second, std::to_string(i));
}

CAF_TEST(beyond the bound nothing is taken until there is room) {
  gate = std::make_shared<outbox_gate>(200);
  start();
  std::vector<outgoing_record> large{record(std::string(100, 'x'))};
  auto first = gate->enter(large);
  CAF_REQUIRE(first);
  auto second = gate->enter(large);
  CAF_REQUIRE(!second);
  CAF_CHECK(code_of(second.error()) == ec::storage_full);
  CAF_CHECK(text_of(second.error()).find("outbox.maxBytes") != std::string::npos);
  *first = {};
  CAF_CHECK(gate->enter(large));
  CAF_CHECK(!holds("t")); // all places are given back
}

CAF_TEST(a drain answers what was taken and takes nothing more) {
  start();
  put("a");
  consume_messages();
  auto done = self->request(sut, caf::infinite, atom::drain_v);
  consume_messages();
  sink->answer(0); // comes in time to be noted
  consume_messages();
  done.receive([](atom::done) {}, [](const caf::error&) { CAF_FAIL("no drain"); });
  CAF_CHECK(file->rows.empty());
  put("b");
  consume_messages();
  CAF_CHECK_EQUAL(*answers, (texts{"a:queued", "b:shutting_down"}));
}

CAF_TEST(a drain does not wait for a Kafka that is away) {
  start();
  counters.kafka_away.set(1);
  put("a");
  consume_messages();
  auto done = self->request(sut, caf::infinite, atom::drain_v);
  consume_messages();
  done.receive([](atom::done) {}, [](const caf::error&) { CAF_FAIL("no drain"); });
  CAF_CHECK_EQUAL(file->rows.size(), 1u);
}

CAF_TEST_FIXTURE_SCOPE_END()
