// The roles: how each is made, with its adapters, and in which order they drain.
#include "server_impl.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include <caf/event_based_actor.hpp>

#include "sluice/config_check.hpp"
#include "sluice/log.hpp"
#include "sluice/topics.hpp"
#include "store/store.hpp"

#include "audit.hpp"
#include "dlq_job.hpp"
#include "generator.hpp"
#include "processor_worker.hpp"
#include "transactor.hpp"

namespace sluice {

// librdkafka's levels are syslog's: 0-3 error, 4 warning, 5-6 notice and info, 7 debug.
void log_kafka(int level, const std::string& component, const std::string& text) {
  auto as = level <= 3 ? log_level::warn : level <= 6 ? log_level::info : log_level::debug;
  log(as, "librdkafka", text, {{"component", component}});
}

std::vector<topic_spec> wanted_topics(const config& cfg, const std::vector<processor_config>& processors) {
  std::set<std::string> seen;
  std::vector<topic_spec> topics;
  auto want = [&](const std::string& name, int32_t partitions, bool compacted) {
    if (seen.insert(name).second)
      topics.push_back({name, partitions, compacted});
  };
  for (const auto& one : cfg.aggregations) {
    for (const auto& topic : one.topics) {
      want(topic, cfg.kafka.partitions, false);
      want(topic + ".dlq", cfg.kafka.partitions, false);
    }
    want(one.sink, cfg.kafka.partitions, false);
    if (!one.key_pointer.empty())
      want(covered_topic_of(one), 1, true);
  }
  for (const auto& one : processors) {
    for (const auto& topic : one.topics) {
      want(topic, cfg.kafka.partitions, false);
      if (topic != retries_topic_of(one)) // dead letters go to the dead-letter topic of where they were
        want(topic + ".dlq", cfg.kafka.partitions, false);
    }
    for (const auto& topic : one.outputs)
      want(topic, cfg.kafka.partitions, false);
  }
  if (cfg.kafka.create_catalogue)
    for (auto topic : topics::catalogue)
      want(std::string{topic}, cfg.kafka.partitions, false);
  want(cfg.dlq.redrives_topic, 1, true);
  want(audit_topic, cfg.kafka.partitions, false);
  for (const auto& topic : make_channel_rules(cfg).topics)
    if (topic.find('*') == std::string::npos)
      want(topic, cfg.kafka.partitions, false);
  return topics;
}

caf::expected<caf::actor> server::impl::start_pipeline(pipeline& which) {
  auto group = group_of(cfg, which.cfg);
  std::shared_ptr<record_source> source = kafka::make_group_source(cfg.kafka, group, which.cfg.topics, log_kafka);
  std::shared_ptr<transaction_log> log =
      kafka::make_transaction_log(cfg.kafka, group + "-" + cfg.node, source, log_kafka);
  auto transactions =
      system->spawn<caf::detached>(transactor, std::move(log), [flag = keep_trying] { return flag->load(); });
  auto windows = system->spawn(aggregator, which.cfg, transactions, dead_letters, &counters);
  auto consumer = system->spawn<caf::detached>(kafka_consumer, std::move(source), record_handler_actor{windows},
                                               which.cfg.in_flight_records, &counters);
  which.aggregator->set(windows);
  which.consumer->set(consumer);
  return caf::actor_cast<caf::actor>(windows);
}

std::vector<processor_config> server::impl::processor_configs() const {
  std::vector<processor_config> all;
  for (const auto& one : processors)
    all.push_back(one.cfg);
  return all;
}

caf::error server::impl::prepare_processors() {
  std::string names;
  for (const auto& one : processors)
    names += (names.empty() ? "" : ", ") + one.cfg.name;
  for (size_t i = 0; i < cfg.processors.size(); ++i)
    if (std::none_of(processors.begin(), processors.end(),
                     [&](const auto& one) { return one.cfg.name == cfg.processors[i].name; }))
      return make_failure(ec::invalid_config, "processors[" + std::to_string(i) +
                                                  "].name: this program has no processor \"" + cfg.processors[i].name +
                                                  "\"; it has " + (names.empty() ? "none" : names));
  config all = cfg; // checked as if the file had brought them
  all.processors.clear();
  for (auto& one : processors) {
    auto changes = std::find_if(cfg.processors.begin(), cfg.processors.end(),
                                [&](const auto& x) { return x.name == one.cfg.name; });
    one.cfg = effective(cfg, one.cfg, changes == cfg.processors.end() ? processor_config{} : *changes);
    if (one.cfg.topics.empty())
      return make_failure(ec::invalid_config, "processor \"" + one.cfg.name + "\" reads no topic; name at least one");
    if (!one.what.function && !one.what.make)
      return make_failure(ec::invalid_config, "processor \"" + one.cfg.name + "\" does nothing; use make_processor");
    all.processors.push_back(one.cfg);
  }
  if (auto problems = check(all); !problems.empty())
    return make_failure(ec::invalid_config, problems.front().key + ": " + problems.front().text);
  std::set<std::string> retry_topics;
  for (size_t i = 0, count = processors.size(); i < count; ++i) {
    if (processors[i].cfg.set_aside.count() == 0)
      continue;
    const auto who = "processor \"" + processors[i].cfg.name + "\"";
    if (!processors[i].what.function)
      return make_failure(ec::invalid_config,
                          who + " is an actor, which may keep a state by key: what is set aside would be processed "
                                "by another one; leave setAside out");
    if (!retry_topics.insert(retries_topic_of(processors[i].cfg)).second)
      return make_failure(ec::invalid_config, who + " shares its group \"" + processors[i].cfg.group +
                                                  "\" with another one that has setAside; give it one of its own");
    auto cfg_of_retries = processors[i].cfg;
    cfg_of_retries.topics = {retries_topic_of(cfg_of_retries)};
    cfg_of_retries.outputs.clear();
    cfg_of_retries.max_parked_keys = cfg_of_retries.max_parked_records; // each waits alone
    processors.push_back({.cfg = std::move(cfg_of_retries), .what = processors[i].what, .is_retries = true});
  }
  for (auto& one : processors) {
    one.numbers = &counters.processors[one.label()];
    if (one.is_retries)
      continue;
    // An actor may keep a state by key, and two of them would have half of it each.
    if (has_outbox(cfg) && (one.knows_itself || (one.cfg.remember.count() > 0 && one.what.function)))
      one.in_place_numbers = &counters.processors[one.label() + ".in-place"];
  }
  return {};
}

caf::expected<caf::actor> server::impl::start_processor(processing& which) {
  const auto group = which.is_retries ? retries_topic_of(which.cfg) : which.cfg.group;
  std::shared_ptr<record_source> source = kafka::make_group_source(cfg.kafka, group, which.cfg.topics, log_kafka);
  const bool keys_stay = !which.what.function; // an actor may keep a state by key
  auto supervisor = system->spawn(processor_supervisor, which.cfg, make_workers(which), keys_stay, producer,
                                  dead_letters, claims, which.numbers);
  auto consumer = system->spawn<caf::detached>(kafka_consumer, std::move(source), record_handler_actor{supervisor},
                                               which.cfg.in_flight_records, &counters);
  which.supervisor = caf::actor_cast<caf::actor>(supervisor);
  which.consumer->set(consumer);
  return which.supervisor;
}

worker_maker server::impl::make_workers(processing& which) {
  return [this, &which](const processor_supervisor_actor& supervisor) {
    // A function may block: each of its workers has a thread.
    return which.what.function ? system->spawn<caf::detached>(processor_worker, which.cfg.name, which.what, supervisor)
                               : system->spawn(processor_worker, which.cfg.name, which.what, supervisor);
  };
}

caf::expected<caf::actor> server::impl::start_in_place(processing& which) {
  auto emitted = std::make_shared<role<kafka_producer_actor>>();
  emitted->set(system->spawn(in_place_producer,
                             [this](auto records, auto answer) { take_out(std::move(records), std::move(answer)); }));
  auto letters = std::make_shared<role<dead_letter_actor>>();
  letters->set(system->spawn(in_place_letters));
  auto once = which.cfg;
  once.set_aside = {}; // what it gives up comes again by Kafka
  auto supervisor = system->spawn(processor_supervisor, once, make_workers(which), false, emitted, letters, claims,
                                  which.in_place_numbers);
  auto feeder = system->spawn(in_place, record_handler_actor{supervisor}, which.cfg.topics, which.cfg.in_flight_records,
                              http::system_time_ms() * 1000);
  which.in_place_supervisor = caf::actor_cast<caf::actor>(supervisor);
  which.in_place->set(feeder);
  return which.in_place_supervisor;
}

void server::impl::process_in_place(const std::vector<const outgoing_record*>& kept, bool alone) {
  for (auto& one : processors) {
    if (one.in_place_numbers == nullptr)
      continue;
    auto mine = std::make_shared<std::vector<outgoing_record>>();
    for (const auto* record : kept)
      if (std::find(one.cfg.topics.begin(), one.cfg.topics.end(), record->topic) != one.cfg.topics.end())
        mine->push_back(*record);
    if (!mine->empty() || alone) // that nothing older waits is news for all
      caf::anon_send(one.in_place->get(), outgoing_ptr{std::move(mine)}, alone);
  }
}

caf::expected<caf::actor> server::impl::start_hub() {
  sse_hub_config hub_cfg;
  hub_cfg.sse = cfg.sse;
  hub_cfg.rules = make_channel_rules(cfg);
  hub_cfg.make_replay_source = [kafka_cfg = cfg.kafka] { return kafka::make_replay_source(kafka_cfg, log_kafka); };
  for (const auto& one : pipelines)
    hub_cfg.aggregators.push_back(one.aggregator);
  auto topics = hub_cfg.rules.topics;
  auto fresh = system->spawn(sse_hub, std::move(hub_cfg), &web->live(), &counters);
  std::shared_ptr<record_source> source = kafka::make_tail_source(cfg.kafka, topics, log_kafka);
  system->spawn<caf::detached>(kafka_consumer, std::move(source), record_handler_actor{fresh}, 65536u, &counters);
  hub->set(fresh);
  return caf::actor_cast<caf::actor>(fresh);
}

caf::expected<caf::actor> server::impl::start_workbench() {
  dlq_settings settings;
  settings.max_redrives = cfg.dlq.max_redrives;
  settings.redrives_topic = cfg.dlq.redrives_topic;
  settings.source = "sluice/" + cfg.node;
  settings.seek_by_time = !broker; // librdkafka's mock cluster does not know the offset of a time
  // Sending what was read takes up to kafka.deliveryTimeout more, where the broker goes away.
  settings.time = std::min(settings.time, cfg.http.request_timeout / 3);
  settings.make_id = make_uuid;
  settings.unix_ms = http::system_time_ms;
  auto make_job = [this, settings] {
    auto make_source = [kafka_cfg = cfg.kafka] { return kafka::make_replay_source(kafka_cfg, log_kafka); };
    return system->spawn<caf::detached>(dlq_job, settings, make_source, producer, &counters);
  };
  auto fresh = system->spawn(dlq_workbench, make_job);
  workbench->set(fresh);
  return caf::actor_cast<caf::actor>(fresh);
}

caf::expected<caf::actor> server::impl::start_outbox() {
  auto file = std::exchange(outbox_file, nullptr);
  if (!file) {
    auto opened = store::open_outbox(node_folder_of(cfg));
    if (!opened)
      return opened.error();
    file = std::move(*opened);
  }
  if (auto error = file->readmit())
    return error;
  auto contents = file->contents();
  if (!contents)
    return contents.error();
  gate->reset(*contents);
  // A sink that never gives up keeps the order: what waits in it is sent again, with the same sequence numbers.
  auto patient = cfg.kafka;
  patient.delivery_timeout = milliseconds{0};
  patient.retry_retries = std::numeric_limits<int32_t>::max();
  auto make_sink = [patient]() -> std::shared_ptr<record_sink> { return kafka::make_sink(patient, log_kafka); };
  auto fresh = system->spawn<caf::detached>(
      outbox, std::shared_ptr<outbox_log>{std::move(file)}, *contents, make_sink, gate,
      [this](const auto& kept, bool alone) { process_in_place(kept, alone); }, &counters);
  waiting_events->set(fresh);
  return caf::actor_cast<caf::actor>(fresh);
}

std::vector<child_spec> server::impl::children() {
  std::vector<child_spec> all;
  all.push_back({"idempotency", [this]() -> caf::expected<caf::actor> {
                   std::shared_ptr<idempotency_store> port = store::make_idempotency_store(store_url_of(cfg));
                   auto fresh = system->spawn<caf::detached>(idempotency, std::move(port), &counters);
                   claims->set(fresh);
                   return caf::actor_cast<caf::actor>(fresh);
                 }});
  if (has_archive(cfg)) // its file is named after the node, so not before that is known
    all.push_back({"archive", [this]() -> caf::expected<caf::actor> {
                     auto url = archive_url_of(cfg);
                     std::shared_ptr<audit_log> trail = store::make_audit_log(url);
                     std::shared_ptr<report_shelf> reports = store::make_report_shelf(url);
                     auto fresh =
                         system->spawn<caf::detached>(archive, std::move(trail), std::move(reports), &counters);
                     archives->set(fresh);
                     return caf::actor_cast<caf::actor>(fresh);
                   }});
  all.push_back({"kafka_admin", [this]() -> caf::expected<caf::actor> {
                   auto wanted = cfg.kafka.create_topics && !broker ? wanted_topics(cfg, processor_configs())
                                                                    : std::vector<topic_spec>{};
                   std::shared_ptr<cluster_admin> port = kafka::make_admin(cfg.kafka, log_kafka);
                   auto fresh =
                       system->spawn<caf::detached>(kafka_admin, std::move(port), std::move(wanted), &counters);
                   admin->set(fresh);
                   return caf::actor_cast<caf::actor>(fresh);
                 }});
  all.push_back({"kafka_producer", [this]() -> caf::expected<caf::actor> {
                   std::shared_ptr<record_sink> sink = kafka::make_sink(cfg.kafka, log_kafka);
                   auto fresh = system->spawn<caf::detached>(kafka_producer, std::move(sink), &counters);
                   producer->set(fresh);
                   return caf::actor_cast<caf::actor>(fresh);
                 }});
  if (gate)
    all.push_back({"outbox", [this] { return start_outbox(); }});
  all.push_back({"dead_letter", [this]() -> caf::expected<caf::actor> {
                   auto fresh = system->spawn(dead_letter, producer, &counters);
                   dead_letters->set(fresh);
                   return caf::actor_cast<caf::actor>(fresh);
                 }});
  all.push_back({"dlq_workbench", [this] { return start_workbench(); }});
  if (documents.store)
    all.push_back({"document_desk", [this]() -> caf::expected<caf::actor> {
                     auto fresh = system->spawn<caf::detached>(document_desk, documents);
                     desk->set(fresh);
                     return caf::actor_cast<caf::actor>(fresh);
                   }});
  for (auto& one : pipelines)
    all.push_back({"aggregation " + one.cfg.name, [this, &one] { return start_pipeline(one); }});
  for (auto& one : processors)
    all.push_back({"processor " + one.label(), [this, &one] { return start_processor(one); }});
  for (auto& one : processors)
    if (one.in_place_numbers != nullptr)
      all.push_back({"processor " + one.cfg.name + " in place", [this, &one] { return start_in_place(one); }});
  all.push_back({"sse_hub", [this] { return start_hub(); }});
  if (cfg.demo.enabled && !cfg.aggregations.empty())
    all.push_back({"generator", [this]() -> caf::expected<caf::actor> {
                     generating = caf::actor_cast<caf::actor>(system->spawn(
                         generator, producer, cfg.aggregations.front().topics.front(), cfg.demo.interval));
                     return generating;
                   }});
  return all;
}

std::vector<drain_step> server::impl::drain_steps() {
  std::vector<drain_step> steps;
  using self_pointer = terminator_actor::pointer;
  auto ask = [](self_pointer self, auto whom, const std::function<void()>& done, const auto&... message) {
    // A role that is gone needs no drain; the grace period bounds one that hangs.
    self->request(whom, std::chrono::minutes{5}, message...)
        .then([done](atom::done) { done(); }, [done](const caf::error&) { done(); });
  };
  steps.push_back(
      {"readiness", [](self_pointer, const std::function<void()>& done) { done(); }, cfg.supervision.drain_delay});
  steps.push_back({"intake", [this](self_pointer self, const std::function<void()>& done) {
                     draining = true;
                     self->send(*top, atom::drain_v);
                     if (generating)
                       caf::anon_send_exit(generating, caf::exit_reason::user_shutdown);
                     web->stop_accepting();
                     done();
                   }});
  for (auto& one : pipelines)
    steps.push_back({"aggregation " + one.cfg.name, [ask, &one](self_pointer self, const std::function<void()>& done) {
                       ask(self, one.consumer->get(), done, atom::drain_v);
                     }});
  for (auto& one : processors)
    steps.push_back({"processor " + one.label(), [ask, &one](self_pointer self, const std::function<void()>& done) {
                       ask(self, one.consumer->get(), done, atom::drain_v);
                     }});
  for (auto& one : processors)
    if (one.in_place_numbers != nullptr)
      steps.push_back({"processor " + one.cfg.name + " in place",
                       [ask, &one](self_pointer self, const std::function<void()>& done) {
                         ask(self, one.in_place->get(), done, atom::drain_v);
                       }});
  steps.push_back({"kafka_producer", [this, ask](self_pointer self, const std::function<void()>& done) {
                     ask(self, producer->get(), done, atom::drain_v);
                   }});
  if (gate) // after the producer, which may have had to give some to it
    steps.push_back({"outbox", [this, ask](self_pointer self, const std::function<void()>& done) {
                       ask(self, waiting_events->get(), done, atom::drain_v);
                     }});
  steps.push_back({"sse_hub", [this, ask](self_pointer self, const std::function<void()>& done) {
                     auto spread =
                         static_cast<uint32_t>(std::min<int64_t>(cfg.supervision.grace_period.count() / 4, 2000));
                     if (counters.clients.get() < 100)
                       spread = 0;
                     ask(self, hub->get(), done, atom::drain_v, spread);
                   }});
  return steps;
}

} // namespace sluice
