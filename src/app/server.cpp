// The composition root: what the configuration asks for is put together, started and stopped.
#include "server_impl.hpp"

#include <future>
#include <stdexcept>
#include <utility>

#include <caf/scoped_actor.hpp>

#include "delivery/delivery.hpp"
#include "http/crypto.hpp"
#include "parsing/parsing.hpp"
#include "sluice/config_check.hpp"
#include "sluice/envelope.hpp"
#include "sluice/log.hpp"
#include "store/store.hpp"

#include "audit.hpp"
#include "notification.hpp"

namespace sluice {

namespace {

notifiers make_notifiers(const config& cfg) {
  notifiers all{{"webhook", outbound::make_webhook(cfg.notification)}};
  if (!cfg.notification.telegram_token.empty())
    all["telegram"] = outbound::make_telegram(cfg.notification);
  if (!cfg.notification.smtp_host.empty())
    all["email"] = outbound::make_mailer(cfg.notification);
  return all;
}

std::shared_ptr<embedder> make_embedder(const config& cfg) {
  return cfg.documents.embeddings_url.empty() ? make_lexical_embedder() : outbound::make_embeddings(cfg.documents);
}

} // namespace

server::server(config cfg) : impl_(std::make_unique<impl>(std::move(cfg))) {
  // nop
}

server::~server() {
  if (impl_->system && impl_->top) {
    impl_->cfg.supervision.grace_period = impl_->cfg.supervision.drain_delay = milliseconds{0};
    stop();
  }
}

void server::add_processor(processor_config settings, processor what) {
  if (impl_->system)
    throw std::logic_error{"processor \"" + settings.name + "\": add_processor and subscribe go before start"};
  impl_->processors.push_back({std::move(settings), std::move(what)});
}

caf::error server::start() {
  auto& me = *impl_;
  if (auto problems = check(me.cfg); !problems.empty())
    return make_failure(ec::invalid_config, problems.front().key + ": " + problems.front().text);
  if (sends_notifications(me.cfg))
    add_processor(notification_settings(me.cfg), make_processor(notification_function(me.cfg, make_notifiers(me.cfg))));
  if (me.cfg.audit.enabled) {
    add_processor(audit_settings(), make_processor([&me](caf::actor_system& system) -> processor_actor {
                    return system.spawn(audit_logger, me.archives);
                  }));
    me.processors.back().knows_itself = true; // an event is in the trail once
  }
  if (me.cfg.report.enabled)
    add_processor(report_settings(me.cfg), make_processor(report_function(me.cfg, me.make_report_tools())));
  if (me.cfg.documents.enabled) {
    me.documents = {nullptr, parsing::make_parser(me.cfg.documents), make_embedder(me.cfg),
                    [](std::string_view bytes) { return http::hex(http::sha256(bytes)); }};
    if (parsing::find_program("pdftotext").empty())
      log(log_level::warn, "server", "there is no pdftotext, so no PDF can be read; install poppler-utils");
    add_processor(document_settings(me.cfg),
                  make_processor([&me](const record& in, context& out) { return me.process_document(in, out); }));
  }
  if (auto error = me.prepare_processors())
    return error;
  if (me.cfg.embedded_broker) {
    std::vector<std::string> topics;
    for (const auto& topic : wanted_topics(me.cfg, me.processor_configs()))
      topics.push_back(topic.name);
    me.broker =
        std::make_unique<kafka::embedded_broker>(topics, me.cfg.kafka.partitions > 0 ? me.cfg.kafka.partitions : 4);
    me.cfg.kafka.brokers = me.broker->bootstrap();
    for (auto& [name, value] : kafka::embedded_broker::client_properties())
      me.cfg.kafka.properties.emplace(name, value);
  }
  if (auto error = kafka::validate(me.cfg.kafka))
    return error;
  auto access = http::authenticator::make(me.cfg);
  if (!access)
    return access.error();
  me.access = std::move(*access);
  for (const auto& one : me.cfg.aggregations)
    me.pipelines.push_back({one});
  me.system_cfg = std::make_unique<impl::system_config>(me.cfg.worker_threads);
  me.system = std::make_unique<caf::actor_system>(*me.system_cfg);
  try {
    me.web = std::make_unique<http::server>(me.cfg.http, me.cfg.sse, http::make_routes(me.make_api()), me.counters,
                                            [](std::string_view text) { log(log_level::warn, "http", text); });
  } catch (const std::exception& e) {
    return make_failure(ec::invalid_config, e.what());
  }
  if (me.cfg.node.empty()) {
    // Transactional ids contain the node's name: two nodes of one machine must not share one.
    me.cfg.node = host_name() + "-" + std::to_string(me.web->port());
    if (me.cfg.http.port == 0 && has_outbox(me.cfg))
      log(log_level::warn, "server",
          "with http.port = 0 the node has another name each time; set node, or what waits "
          "on disk for Kafka stays there",
          {{"node", me.cfg.node}});
  }
  if (me.cfg.documents.enabled) {
    const auto url = documents_url_of(me.cfg);
    me.documents.store = store::make_document_store(url);
    me.process_document = document_function({me.cfg.node, !url.starts_with("sqlite:")}, me.documents);
  }
  if (has_outbox(me.cfg)) {
    auto opened = store::open_outbox(node_folder_of(me.cfg));
    if (!opened)
      return opened.error();
    me.outbox_file = std::move(*opened);
    me.gate = std::make_shared<outbox_gate>(me.cfg.outbox.max_bytes);
  }
  auto started = std::make_shared<std::promise<void>>();
  me.top = me.system->spawn(
      root, me.cfg.supervision, me.children(), [started] { started->set_value(); }, me.failed, &me.counters);
  started->get_future().wait();
  me.running = true; // every role is to be found
  return {};
}

std::future<caf::expected<delivery>> server::publish(std::string_view topic, const event& what,
                                                     std::optional<std::string> key) {
  auto promise = std::make_shared<std::promise<caf::expected<delivery>>>();
  event whole;
  try {
    whole = create_event(what.type, what.data, what.metadata);
  } catch (const std::invalid_argument& wrong) {
    promise->set_value(make_failure(ec::malformed_record, wrong.what()));
    return promise->get_future();
  }
  impl_->publish({to_record(topic, whole, std::move(key))}, [promise](caf::expected<std::vector<delivery>> outcome) {
    if (!outcome)
      promise->set_value(std::move(outcome.error()));
    else if (auto& one = outcome->front(); one.error != ec::no_error)
      promise->set_value(make_failure(one.error, one.reason));
    else
      promise->set_value(std::move(one));
  });
  return promise->get_future();
}

health server::health_check(milliseconds patience) {
  auto& me = *impl_;
  health found;
  found.brokers = me.cfg.kafka.brokers;
  if (!me.running || me.leaving) {
    found.error = me.leaving ? "the server is stopping" : "the server has not been started";
    return found;
  }
  caf::scoped_actor self{*me.system};
  self->request(me.admin->get(), patience, atom::state_v)
      .receive(
          [&](const cluster_view_ptr& view) {
            found.connected = found.producer = view->connected;
            found.consumers = view->connected ? me.pipelines.size() + me.processors.size() : 0;
            found.error = view->error;
          },
          [&](const caf::error& error) { found.error = describe(error); });
  return found;
}

void server::on_failure(std::function<void(std::string)> failed) {
  impl_->failed = std::move(failed);
}

caf::error server::reload() {
  auto& me = *impl_;
  if (!me.web)
    return {};
  // Each by itself: a mistake in the one is no reason to let the other grow old.
  auto certificate = me.web->reload();
  auto access = me.access->reload();
  if (certificate && access)
    return make_failure(ec::invalid_config, text_of(certificate) + "; " + text_of(access));
  return certificate ? certificate : access;
}

bool server::stop() {
  auto& me = *impl_;
  if (!me.system || !me.top)
    return true;
  me.leaving = true;
  auto finished = std::make_shared<std::promise<bool>>();
  me.system->spawn(terminator, me.drain_steps(),
                   me.cfg.supervision.grace_period * 4 / 5, // the rest is for leaving what hangs
                   [finished](bool value) { finished->set_value(value); });
  auto result = finished->get_future().get();
  *me.keep_trying = false; // whoever still waits for Kafka gives up now
  me.web->stop();
  auto end = [](auto& which) {
    caf::anon_send_exit(which.get(), caf::exit_reason::user_shutdown);
    which.clear();
  };
  caf::anon_send_exit(*me.top, caf::exit_reason::user_shutdown);
  me.top.reset();
  for (auto& one : me.pipelines) {
    end(*one.consumer);
    end(*one.aggregator);
  }
  for (auto& one : me.processors) {
    end(*one.consumer);
    caf::anon_send_exit(std::exchange(one.supervisor, nullptr), caf::exit_reason::user_shutdown);
    if (one.in_place_numbers == nullptr)
      continue;
    end(*one.in_place);
    caf::anon_send_exit(std::exchange(one.in_place_supervisor, nullptr), caf::exit_reason::user_shutdown);
  }
  end(*me.hub);
  end(*me.workbench);
  end(*me.dead_letters);
  end(*me.producer);
  if (me.gate)
    end(*me.waiting_events);
  end(*me.claims);
  if (has_archive(me.cfg))
    end(*me.archives);
  if (me.documents.store)
    end(*me.desk);
  end(*me.admin);
  if (me.generating)
    caf::anon_send_exit(std::exchange(me.generating, nullptr), caf::exit_reason::user_shutdown);
  me.system.reset(); // waits for all actors
  return result;
}

uint16_t server::port() const {
  return impl_->web ? impl_->web->port() : 0;
}
const std::string& server::brokers() const {
  return impl_->cfg.kafka.brokers;
}
const stats& server::counters() const {
  return impl_->counters;
}

} // namespace sluice
