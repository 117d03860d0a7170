#define CAF_SUITE kafka_actors

#include "dead_letter.hpp"
#include "kafka_admin.hpp"
#include "kafka_consumer.hpp"
#include "kafka_producer.hpp"
#include "sluice/processor.hpp"

#include <deque>
#include <stdexcept>

#include "fixture.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

struct sink_fake : record_sink {
  void on_ready(std::function<void()> wake) override { wake_up = std::move(wake); }
  caf::error send(const outgoing_record& record, uint64_t tag) override {
    if (full)
      return make_failure(ec::queue_full, "full");
    sent.push_back({tag, record});
    return {};
  }
  std::vector<outcome> poll() override {
    if (crash)
      throw std::runtime_error("crash");
    return std::exchange(outcomes, {});
  }
  caf::error fatal() const override { return broken; }
  void acknowledge(size_t index, ec error = ec::no_error) {
    outcomes.push_back({sent[index].first, {sent[index].second.topic, 0, static_cast<int64_t>(index), error, ""}});
    wake_up();
  }
  std::vector<std::pair<uint64_t, outgoing_record>> sent;
  std::vector<outcome> outcomes;
  std::function<void()> wake_up;
  caf::error broken;
  bool full = false;
  bool crash = false;
};

struct cluster_fake : cluster_admin {
  cluster_view probe() override {
    cluster_view seen;
    seen.connected = !away;
    seen.topics = topics;
    return seen;
  }
  caf::error create(const std::vector<topic_spec>&) override {
    ++created;
    return refusal;
  }
  std::vector<cluster_view::topic> topics;
  caf::error refusal;
  int created = 0;
  bool away = false;
};

struct source_fake : record_source {
  void on_ready(std::function<void()> wake) override { wake_up = std::move(wake); }
  source_event poll(bool want_records) override {
    for (auto it = events.begin(); it != events.end(); ++it)
      if (want_records || !std::holds_alternative<batch_ptr>(*it)) {
        auto event = std::move(*it);
        events.erase(it);
        return event;
      }
    return {};
  }
  void assign(const partition_list& partitions) override { assigned = partitions; }
  void unassign(const partition_list& partitions) override { unassigned = partitions; }
  void commit(const partition_list& next_offsets) override { last_commit = next_offsets; }
  caf::expected<partition_list> committed(const partition_list&) override { return last_commit; }
  void bring(source_event event) {
    events.push_back(std::move(event));
    wake_up();
  }
  std::deque<source_event> events;
  std::function<void()> wake_up;
  partition_list assigned, unassigned, last_commit;
};

/// Stands for an aggregator or a hub: takes all, answers revocations only when told to.
struct handler_state {
  std::vector<batch_ptr> batches;
  std::vector<caf::typed_response_promise<atom::done>> waiting;
  bool hold = false;
  kafka_consumer_actor consumer;
};
using steered_handler = record_handler_actor::extend<caf::reacts_to<atom::retry>>;
steered_handler::behavior_type handler_fake(steered_handler::stateful_pointer<handler_state> self) {
  return {
      [self](const batch_ptr& batch) {
        self->state.batches.push_back(batch);
        self->state.consumer = caf::actor_cast<kafka_consumer_actor>(self->current_sender());
      },
      [](atom::assigned, partition_list partitions) {
        for (auto& one : partitions)
          one.offset = 7;
        return partitions;
      },
      [self](atom::revoked, const partition_list&, bool) -> caf::result<atom::done> {
        auto promise = self->make_response_promise<atom::done>();
        if (self->state.hold)
          self->state.waiting.push_back(promise);
        else
          promise.deliver(atom::done_v);
        return promise;
      },
      [](atom::reached, const topic_partition&) {},
      [self](atom::retry) { self->state.waiting.at(0).deliver(atom::done_v); }, // only its own actor may keep a promise
  };
}

/// Shared with the callbacks, the last of which may be called at the end of a test.
using answer_list = std::shared_ptr<std::vector<std::string>>;
answer_list no_answers() {
  return std::make_shared<std::vector<std::string>>();
}

struct fixture : actor_fixture {
  std::shared_ptr<sink_fake> sink = std::make_shared<sink_fake>();
  std::shared_ptr<source_fake> source = std::make_shared<source_fake>();
  steered_handler handler;
  kafka_consumer_actor consumer;

  kafka_producer_actor make_producer() { return keep(sys.spawn(kafka_producer, sink, &counters)); }
  void make_consumer(uint32_t credit) {
    handler = keep(sys.spawn(handler_fake));
    consumer = keep(sys.spawn(kafka_consumer, source, record_handler_actor{handler}, credit, &counters));
    consume_messages();
  }
  handler_state& seen() { return deref<stateful<steered_handler, handler_state>>(handler).state; }
  /// `n` publications of one record each, in one message; what becomes of them, by their place in it.
  void publish(const kafka_producer_actor& to, size_t n, const answer_list& answers) {
    auto all = std::make_shared<std::vector<publication>>();
    for (size_t i = 0; i < n; ++i)
      all->emplace_back(*records(1), [answers, i](const publication::outcome& what) {
        auto error = what ? what->front().error : code_of(what.error());
        answers->push_back(
            std::to_string(i) + ": " +
            (error == ec::no_error ? "offset " + std::to_string(what->front().offset) : to_string(error)));
      });
    caf::anon_send(to, publications{std::move(all)});
    consume_messages();
  }
  outgoing_ptr records(size_t n) {
    auto all = std::make_shared<std::vector<outgoing_record>>(n);
    for (auto& one : *all) {
      one.topic = "t";
      one.value = "v";
    }
    return all;
  }
};

} // namespace

CAF_TEST_FIXTURE_SCOPE(kafka_actors_tests, fixture)

CAF_TEST(the producer answers once every record has its outcome) {
  auto sut = make_producer();
  auto answer = self->request(sut, caf::infinite, records(2));
  consume_messages();
  sink->acknowledge(1);
  consume_messages();
  CAF_CHECK_EQUAL(counters.records_queued.get(), 1u);
  sink->acknowledge(0, ec::delivery_timeout);
  consume_messages();
  answer.receive(
      [](const deliveries& results) {
        CAF_CHECK_EQUAL((*results)[0].error, ec::delivery_timeout);
        CAF_CHECK_EQUAL((*results)[1].error, ec::no_error);
        CAF_CHECK_EQUAL((*results)[1].offset, 1);
      },
      [&](caf::error& err) { CAF_FAIL(describe(err)); });
  CAF_CHECK_EQUAL(counters.records_sent.get(), 1u);
  CAF_CHECK_EQUAL(counters.records_failed.get(), 1u);
}

CAF_TEST(a full queue is said at once) {
  auto sut = make_producer();
  sink->full = true;
  auto answer = self->request(sut, caf::infinite, records(1));
  consume_messages();
  answer.receive([](const deliveries& results) { CAF_CHECK_EQUAL((*results)[0].error, ec::queue_full); },
                 [&](caf::error& err) { CAF_FAIL(describe(err)); });
}

CAF_TEST(publications in one message are answered each by itself) {
  auto sut = make_producer();
  auto answers = no_answers();
  publish(sut, 3, answers);
  CAF_REQUIRE_EQUAL(sink->sent.size(), 3u);
  sink->acknowledge(2);
  consume_messages();
  CAF_CHECK_EQUAL(*answers, (std::vector<std::string>{"2: offset 2"}));
  sink->acknowledge(0, ec::delivery_timeout);
  sink->acknowledge(1);
  consume_messages();
  CAF_CHECK_EQUAL(*answers, (std::vector<std::string>{"2: offset 2", "0: delivery_timeout", "1: offset 1"}));
  CAF_CHECK_EQUAL(counters.records_queued.get(), 0u);
}

CAF_TEST(a publication that finds no broker goes elsewhere with its records and outcomes) {
  auto sut = make_producer();
  auto answers = std::make_shared<std::vector<std::string>>();
  std::vector<publication> diverted;
  std::vector<delivery> so_far;
  diversion divert = [&](publication what, std::vector<delivery> outcomes) {
    diverted.push_back(std::move(what));
    so_far = std::move(outcomes);
  };
  auto all = std::make_shared<std::vector<publication>>();
  auto answer = [answers](const publication::outcome& what) {
    answers->push_back(what ? to_string(what->front().error) : to_string(code_of(what.error())));
  };
  all->emplace_back(*records(2), answer, &divert);
  all->emplace_back(*records(1), answer, &divert);
  caf::anon_send(sut, publications{std::move(all)});
  consume_messages();
  sink->acknowledge(0);
  sink->acknowledge(1, ec::delivery_timeout);
  sink->acknowledge(2, ec::kafka_refused);
  consume_messages();
  CAF_CHECK_EQUAL(*answers, (std::vector<std::string>{"kafka_refused"})); // that one another try would not mend
  CAF_REQUIRE_EQUAL(diverted.size(), 1u);
  CAF_CHECK_EQUAL(diverted[0].records.size(), 2u);
  CAF_CHECK_EQUAL(so_far.at(0).error, ec::no_error);
  CAF_CHECK_EQUAL(so_far.at(1).error, ec::delivery_timeout);
  diverted[0].answer(so_far); // the second time it is final
  CAF_CHECK_EQUAL(*answers, (std::vector<std::string>{"kafka_refused", "no_error"}));
}

CAF_TEST(what comes while records are on their way goes out together once they have arrived) {
  auto sut = make_producer();
  auto answers = no_answers();
  publish(sut, 2, answers);
  publish(sut, 1, answers);
  self->send(sut, records(2));
  consume_messages();
  CAF_CHECK_EQUAL(sink->sent.size(), 2u);
  sink->acknowledge(0);
  consume_messages();
  CAF_CHECK_EQUAL(sink->sent.size(), 2u);
  sink->acknowledge(1);
  consume_messages();
  CAF_CHECK_EQUAL(sink->sent.size(), 5u);
}

CAF_TEST(records that stay on their way do not hold up others for long) {
  auto sut = make_producer();
  auto answers = no_answers();
  publish(sut, 1, answers);
  publish(sut, 1, answers);
  advance_time(1ms);
  consume_messages();
  CAF_CHECK_EQUAL(sink->sent.size(), 1u);
  pass(2ms);
  CAF_CHECK_EQUAL(sink->sent.size(), 2u);
  sink->acknowledge(1);
  consume_messages();
  CAF_CHECK_EQUAL(*answers, (std::vector<std::string>{"0: offset 1"}));
}

CAF_TEST(after a large batch the next one takes a moment to grow) {
  auto sut = make_producer();
  auto answers = no_answers();
  publish(sut, 8, answers);
  publish(sut, 1, answers);
  for (size_t i = 0; i < 8; ++i)
    sink->acknowledge(i);
  consume_messages();
  CAF_CHECK_EQUAL(answers->size(), 8u);
  publish(sut, 1, answers);
  CAF_CHECK_EQUAL(sink->sent.size(), 8u);
  pass(1ms);
  CAF_CHECK_EQUAL(sink->sent.size(), 10u);
}

CAF_TEST(a drained producer first hands over what it has gathered) {
  auto sut = make_producer();
  auto answers = no_answers();
  publish(sut, 1, answers);
  publish(sut, 1, answers);
  auto drained = self->request(sut, caf::infinite, atom::drain_v);
  consume_messages();
  CAF_REQUIRE_EQUAL(sink->sent.size(), 2u);
  publish(sut, 1, answers);
  CAF_CHECK_EQUAL(*answers, (std::vector<std::string>{"0: shutting_down"}));
  sink->acknowledge(0);
  sink->acknowledge(1);
  consume_messages();
  CAF_CHECK_EQUAL(answers->size(), 3u);
  drained.receive([](atom::done) {}, [&](caf::error& err) { CAF_FAIL(describe(err)); });
}

CAF_TEST(a producer that ends answers all publications and writes no more) {
  auto sut = make_producer();
  auto answers = no_answers();
  publish(sut, 1, answers);
  publish(sut, 1, answers); // gathered
  sink->acknowledge(0);
  sink->outcomes.clear(); // it never comes
  caf::anon_send_exit(sut, caf::exit_reason::user_shutdown);
  consume_messages();
  CAF_CHECK_EQUAL(*answers, (std::vector<std::string>{"0: shutting_down", "0: shutting_down"}));
  CAF_CHECK_EQUAL(sink->sent.size(), 1u);
  publish(sut, 1, answers); // nobody is there to take it
  CAF_CHECK_EQUAL(answers->back(), "0: kafka_unreachable");
}

CAF_TEST(publications are answered when the producer crashes) {
  auto sut = make_producer();
  auto answers = no_answers();
  publish(sut, 1, answers);
  publish(sut, 1, answers); // gathered
  sink->crash = true;
  sink->wake_up();
  consume_messages();
  CAF_CHECK_EQUAL(*answers, (std::vector<std::string>{"0: kafka_unreachable", "0: kafka_unreachable"}));
}

CAF_TEST(a drained producer waits for what is in flight and takes no more) {
  auto sut = make_producer();
  auto first = self->request(sut, caf::infinite, records(1));
  auto drained = self->request(sut, caf::infinite, atom::drain_v);
  auto second = self->request(sut, caf::infinite, records(1));
  consume_messages();
  second.receive([](const deliveries&) { CAF_FAIL("taken although draining"); },
                 [](caf::error& err) { CAF_CHECK_EQUAL(code_of(err), ec::shutting_down); });
  sink->acknowledge(0);
  consume_messages();
  first.receive([](const deliveries&) {}, [&](caf::error& err) { CAF_FAIL(describe(err)); });
  drained.receive([](atom::done) {}, [&](caf::error& err) { CAF_FAIL(describe(err)); });
}

CAF_TEST(a fatal producer error ends the actor and answers all that wait) {
  auto sut = make_producer();
  auto answer = self->request(sut, caf::infinite, records(1));
  self->monitor(sut);
  consume_messages();
  sink->broken = make_failure(ec::fenced, "fenced off");
  sink->wake_up();
  consume_messages();
  answer.receive([](const deliveries&) { CAF_FAIL("no error"); },
                 [](caf::error& err) { CAF_CHECK_EQUAL(code_of(err), ec::fenced); });
  self->receive([](const caf::down_msg& down) { CAF_CHECK_EQUAL(code_of(down.reason), ec::fenced); });
}

CAF_TEST(the consumer begins where its handler says) {
  make_consumer(10);
  source->bring(partitions_assigned{{{"t", 0}, {"t", 1}}});
  consume_messages();
  CAF_REQUIRE_EQUAL(source->assigned.size(), 2u);
  CAF_CHECK_EQUAL(source->assigned[1].offset, 7);
}

CAF_TEST(without credit nothing is read) {
  make_consumer(2);
  source->bring(batch("t", 0, 0, {"a", "b"}));
  source->bring(batch("t", 0, 2, {"c"}));
  consume_messages();
  CAF_CHECK_EQUAL(seen().batches.size(), 1u);
  self->send(consumer, atom::credit_v, uint32_t{2});
  consume_messages();
  CAF_CHECK_EQUAL(seen().batches.size(), 2u);
}

CAF_TEST(partitions are handed over only once the handler is done with them) {
  make_consumer(100);
  source->bring(partitions_assigned{{{"t", 0}}});
  consume_messages();
  seen().hold = true;
  source->bring(partitions_revoked{{{"t", 0}}, false});
  source->bring(batch("t", 0, 0, {"a"}));
  consume_messages();
  CAF_CHECK(source->unassigned.empty());
  CAF_CHECK(seen().batches.empty());
  self->send(handler, atom::retry_v);
  consume_messages();
  CAF_CHECK_EQUAL(source->unassigned.size(), 1u);
}

CAF_TEST(a drained consumer hands all over and leaves) {
  make_consumer(100);
  source->bring(partitions_assigned{{{"t", 0}}});
  consume_messages();
  auto drained = self->request(consumer, caf::infinite, atom::drain_v);
  consume_messages();
  drained.receive([](atom::done) {}, [&](caf::error& err) { CAF_FAIL(describe(err)); });
  CAF_CHECK_EQUAL(source.use_count(), 1);
}

CAF_TEST(the consumer dies with its handler) {
  make_consumer(100);
  self->monitor(consumer);
  caf::anon_send_exit(handler, caf::exit_reason::kill);
  consume_messages();
  self->receive([](const caf::down_msg& down) { CAF_CHECK(down.reason); });
}

CAF_TEST(a dead letter keeps key and value and headers and says where it came from) {
  failed_record failed;
  failed.topic = "events-topic";
  failed.partition = 3;
  failed.offset = 42;
  failed.key = "k";
  failed.headers = {{"traceparent", "x"}};
  failed.error = ec::malformed_record;
  failed.reason = "not JSON";
  auto record = make_dead_letter(failed);
  CAF_CHECK_EQUAL(record.topic, "events-topic.dlq");
  CAF_CHECK(record.key == "k");
  CAF_CHECK(!record.value);
  CAF_CHECK_EQUAL(record.headers.front().name, "traceparent");
  std::map<std::string, std::string> headers;
  for (const auto& one : record.headers)
    headers[one.name] = one.value;
  CAF_CHECK_EQUAL(headers["sluice-dlq-topic"], "events-topic");
  CAF_CHECK_EQUAL(headers["sluice-dlq-partition"], "3");
  CAF_CHECK_EQUAL(headers["sluice-dlq-offset"], "42");
  CAF_CHECK_EQUAL(headers["sluice-dlq-error"], "malformed_record");
}

CAF_TEST(a dead letter is written again until the broker takes it) {
  auto producer = std::make_shared<role<kafka_producer_actor>>();
  producer->set(make_producer());
  auto sut = keep(sys.spawn(dead_letter, producer, &counters));
  auto failed = std::make_shared<failed_record>();
  failed->topic = "t";
  auto answer = self->request(sut, caf::infinite, failed_ptr{failed});
  consume_messages();
  sink->acknowledge(0, ec::delivery_timeout);
  consume_messages();
  CAF_CHECK_EQUAL(sink->sent.size(), 1u);
  pass(400ms);
  CAF_REQUIRE_EQUAL(sink->sent.size(), 2u);
  sink->acknowledge(1);
  consume_messages();
  answer.receive([](atom::done) {}, [&](caf::error& err) { CAF_FAIL(describe(err)); });
  CAF_CHECK_EQUAL(counters.dead_letters.get(), 1u);
}

CAF_TEST(a dead letter that is too large is written without what is large) {
  auto producer = std::make_shared<role<kafka_producer_actor>>();
  producer->set(make_producer());
  auto sut = keep(sys.spawn(dead_letter, producer, &counters));
  auto failed = std::make_shared<failed_record>();
  failed->topic = "t";
  failed->key = "k";
  failed->value = "v";
  failed->headers = {{"a", "1"}};
  failed->reason = std::string(5000, 'x') + "\u00e4";
  auto answer = self->request(sut, caf::infinite, failed_ptr{failed});
  consume_messages();
  auto header = [this](size_t nth, const std::string& name) {
    auto found = find_header(sink->sent.at(nth).second.headers, name);
    return found == nullptr ? "" : *found;
  };
  CAF_CHECK_EQUAL(header(0, "sluice-dlq-reason").size(), 4096u);
  CAF_CHECK_EQUAL(header(0, "sluice-dlq-missing"), "");
  sink->acknowledge(0, ec::too_large);
  consume_messages();
  CAF_REQUIRE_EQUAL(sink->sent.size(), 2u);
  CAF_CHECK(!sink->sent[1].second.value && sink->sent[1].second.key == "k");
  CAF_CHECK_EQUAL(header(1, "sluice-dlq-missing"), "value");
  CAF_CHECK_EQUAL(header(1, "a"), "1");
  sink->acknowledge(1, ec::too_large);
  consume_messages();
  CAF_REQUIRE_EQUAL(sink->sent.size(), 3u);
  CAF_CHECK(!sink->sent[2].second.key);
  CAF_CHECK_EQUAL(header(2, "sluice-dlq-missing"), "value,key,headers");
  CAF_CHECK_EQUAL(header(2, "a"), "");
  sink->acknowledge(2);
  consume_messages();
  answer.receive([](atom::done) {}, [&](caf::error& err) { CAF_FAIL(describe(err)); });
  CAF_CHECK_EQUAL(counters.dead_letters.get(), 1u);
}

CAF_TEST(topics that were created are waited for until they appear) {
  auto cluster = std::make_shared<cluster_fake>();
  auto sut = keep(
      sys.spawn(kafka_admin, std::shared_ptr<cluster_admin>{cluster}, std::vector<topic_spec>{{"mine"}}, &counters));
  auto creating = [&] {
    auto asked = self->request(sut, caf::infinite, atom::state_v);
    consume_messages();
    bool answer = false;
    asked.receive([&](const cluster_view_ptr& view) { answer = view->creating; },
                  [&](caf::error& err) { CAF_FAIL(describe(err)); });
    return answer;
  };
  consume_messages();
  CAF_CHECK_EQUAL(cluster->created, 1);
  CAF_CHECK(creating());
  cluster->topics = {{"mine", 1}};
  pass(500ms);
  CAF_CHECK(!creating());
  CAF_CHECK_LESS(cluster->created, 4);
}

CAF_TEST(a cluster that does not answer is seen to be away) {
  auto cluster = std::make_shared<cluster_fake>();
  keep(sys.spawn(kafka_admin, std::shared_ptr<cluster_admin>{cluster}, std::vector<topic_spec>{}, &counters));
  consume_messages();
  CAF_CHECK_EQUAL(counters.kafka_away.get(), 0u);
  cluster->away = true;
  pass(3s);
  CAF_CHECK_EQUAL(counters.kafka_away.get(), 1u);
  cluster->away = false;
  pass(1s);
  CAF_CHECK_EQUAL(counters.kafka_away.get(), 0u);
}

CAF_TEST(topics that may not be created keep nobody waiting) {
  auto cluster = std::make_shared<cluster_fake>();
  cluster->refusal = make_failure(ec::kafka_refused, "not allowed");
  auto sut = keep(
      sys.spawn(kafka_admin, std::shared_ptr<cluster_admin>{cluster}, std::vector<topic_spec>{{"mine"}}, &counters));
  consume_messages();
  auto asked = self->request(sut, caf::infinite, atom::state_v);
  consume_messages();
  asked.receive(
      [&](const cluster_view_ptr& view) {
        CAF_CHECK(!view->creating);
        CAF_CHECK_EQUAL(view->missing, std::vector<std::string>{"mine"});
      },
      [&](caf::error& err) { CAF_FAIL(describe(err)); });
}

CAF_TEST_FIXTURE_SCOPE_END()
