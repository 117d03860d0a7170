// The composition root: builds the adapters, spawns the tree, connects the two.
#include "sluice/server.hpp"

#include <algorithm>
#include <atomic>
#include <deque>
#include <future>
#include <limits>
#include <mutex>
#include <optional>
#include <set>
#include <utility>

#include <caf/event_based_actor.hpp>
#include <caf/scoped_actor.hpp>
#include <nlohmann/json.hpp>

#include "delivery/delivery.hpp"
#include "http/auth.hpp"
#include "http/crypto.hpp"
#include "http/routes.hpp"
#include "http/server.hpp"
#include "kafka/kafka.hpp"
#include "parsing/parsing.hpp"
#include "sluice/config_check.hpp"
#include "sluice/envelope.hpp"
#include "sluice/live_format.hpp"
#include "sluice/log.hpp"
#include "sluice/topics.hpp"
#include "store/store.hpp"

#include "aggregator.hpp"
#include "archive.hpp"
#include "audit.hpp"
#include "dead_letter.hpp"
#include "dlq_job.hpp"
#include "dlq_workbench.hpp"
#include "document.hpp"
#include "document_desk.hpp"
#include "embedded.hpp"
#include "generator.hpp"
#include "idempotency.hpp"
#include "in_place.hpp"
#include "kafka_admin.hpp"
#include "kafka_consumer.hpp"
#include "kafka_producer.hpp"
#include "live_channels.hpp"
#include "metrics.hpp"
#include "notification.hpp"
#include "outbox.hpp"
#include "processor_supervisor.hpp"
#include "processor_worker.hpp"
#include "report.hpp"
#include "role.hpp"
#include "root.hpp"
#include "sse_hub.hpp"
#include "sse_session.hpp"
#include "terminator.hpp"
#include "transactor.hpp"

namespace sluice {

namespace {

using nlohmann::json;
using system_config = actor_config<caf::id_block::sluice>;

constexpr std::chrono::seconds state_timeout{1};
/// The slowest store answers, or says that it cannot, within it.
constexpr std::chrono::seconds store_timeout{8};
/// Requests that wait for the store, at most.
constexpr uint64_t max_store_requests = 10000;
/// The same of the audit trail's pages and checks, behind which its writers wait.
constexpr uint64_t max_archive_requests = 100;
/// The same of documents; bytes that are to be kept, at most; searches that wait for their embedding.
constexpr uint64_t max_document_requests = 1000;
constexpr uint64_t max_waiting_uploads = 4; // of the greatest size
constexpr uint64_t max_embedding_searches = 8;
constexpr std::chrono::seconds search_patience{3};

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

/// Clients that were ended for good: asked to stay away for a while, longer than any of them waits before it comes
/// back.
class revoked_clients {
public:
  void add(const std::string& client) {
    std::lock_guard guard{mutex_};
    if (order_.size() >= max_clients)
      forget_oldest();
    order_.push_back({client, std::chrono::steady_clock::now() + stay_away});
    names_.insert(client);
  }
  bool holds(const std::string& client) {
    std::lock_guard guard{mutex_};
    while (!order_.empty() && order_.front().until < std::chrono::steady_clock::now())
      forget_oldest();
    return names_.contains(client);
  }

private:
  static constexpr size_t max_clients = 10000;
  static constexpr std::chrono::minutes stay_away{10};
  struct entry {
    std::string client;
    std::chrono::steady_clock::time_point until;
  };
  void forget_oldest() {
    names_.erase(names_.find(order_.front().client));
    order_.pop_front();
  }
  std::mutex mutex_;
  std::deque<entry> order_;
  std::multiset<std::string> names_;
};

struct server::impl {
  /// An aggregation's three actors live and die together; clients find the aggregator here.
  struct pipeline {
    aggregation_config cfg;
    std::shared_ptr<role<aggregator_actor>> aggregator = std::make_shared<role<aggregator_actor>>();
    std::shared_ptr<role<kafka_consumer_actor>> consumer = std::make_shared<role<kafka_consumer_actor>>();
  };

  /// A processor's supervisor, its workers and its consumer live and die together.
  struct processing {
    processor_config cfg;
    processor what;
    bool is_retries = false;   ///< It reads what another one has set aside.
    bool knows_itself = false; ///< What it has done, without the store; and it keeps no state by key.
    processor_stats* numbers = nullptr;
    caf::actor supervisor{};
    std::shared_ptr<role<kafka_consumer_actor>> consumer = std::make_shared<role<kafka_consumer_actor>>();
    // While Kafka is away, of those that do nothing twice:
    processor_stats* in_place_numbers = nullptr; ///< Null for all others.
    caf::actor in_place_supervisor{};
    std::shared_ptr<role<in_place_actor>> in_place = std::make_shared<role<in_place_actor>>();

    std::string label() const { return is_retries ? cfg.name + ".retries" : cfg.name; }
  };

  explicit impl(config c) : cfg(std::move(c)) {}

  // -- what is served -----------------------------------------------------------------------------------------------

  http::api make_api();
  void open_session(live_request wish);
  template <class Answer, class... Message>
  void ask_hub(std::function<void(caf::expected<Answer>)> answer, Message... message);
  template <class Answer, class... Message>
  void ask_workbench(std::function<void(caf::expected<Answer>)> answer, Message... message);
  void dlq_topics(std::function<void(caf::expected<dlq_overview_ptr>)> answer);
  template <class Answer, class... Message>
  void ask_archive(std::function<void(caf::expected<Answer>)> answer, Message... message);
  template <class Answer, class... Message>
  caf::expected<Answer> wait_for_archive(const Message&... message);
  report_tools make_report_tools();
  template <class Answer, class Message>
  void ask_store(std::function<void(caf::expected<Answer>)> answer, Message message);
  void ask_documents(document_request_ptr what, std::function<void(caf::expected<document_reply_ptr>)> answer);
  void embed_search(document_request_ptr what, std::function<void(caf::expected<document_reply_ptr>)> answer);
  void publish(std::vector<outgoing_record> records, std::function<void(caf::expected<std::vector<delivery>>)> answer);
  /// To Kafka, or into the outbox where it is away.
  void take_out(std::vector<outgoing_record> records, std::function<void(caf::expected<std::vector<delivery>>)> answer);
  void keep(publication what, std::vector<delivery> so_far);
  void hand_over();
  void status(std::function<void(json)> answer);
  void readiness(std::function<void(std::string)> answer);
  json status_body(const cluster_view& cluster, const std::map<std::string, json>& aggregations) const;

  // -- the tree -----------------------------------------------------------------------------------------------------

  std::vector<child_spec> children();
  caf::expected<caf::actor> start_pipeline(pipeline& which);
  caf::expected<caf::actor> start_processor(processing& which);
  caf::expected<caf::actor> start_in_place(processing& which);
  worker_maker make_workers(processing& which);
  void process_in_place(const std::vector<const outgoing_record*>& kept, bool alone);
  caf::error prepare_processors();
  std::vector<processor_config> processor_configs() const;
  caf::expected<caf::actor> start_hub();
  caf::expected<caf::actor> start_workbench();
  caf::expected<caf::actor> start_outbox();
  std::vector<drain_step> drain_steps();

  config cfg;
  stats counters;
  std::function<void(std::string)> failed = [](const std::string&) {};
  std::atomic<bool> running{false};  ///< All roles are there; the port answers before that.
  std::atomic<bool> leaving{false};  ///< A stop has begun: not ready any more.
  std::atomic<bool> draining{false}; ///< Nothing is taken any more.
  std::shared_ptr<std::atomic<bool>> keep_trying = std::make_shared<std::atomic<bool>>(true);
  std::unique_ptr<kafka::embedded_broker> broker;
  std::shared_ptr<role<kafka_producer_actor>> producer = std::make_shared<role<kafka_producer_actor>>();
  std::shared_ptr<role<dead_letter_actor>> dead_letters = std::make_shared<role<dead_letter_actor>>();
  std::shared_ptr<role<dlq_workbench_actor>> workbench = std::make_shared<role<dlq_workbench_actor>>();
  std::shared_ptr<role<sse_hub_actor>> hub = std::make_shared<role<sse_hub_actor>>();
  std::shared_ptr<role<kafka_admin_actor>> admin = std::make_shared<role<kafka_admin_actor>>();
  std::shared_ptr<role<idempotency_actor>> claims = std::make_shared<role<idempotency_actor>>();
  std::shared_ptr<role<archive_actor>> archives = std::make_shared<role<archive_actor>>();
  std::shared_ptr<role<outbox_actor>> waiting_events = std::make_shared<role<outbox_actor>>();
  std::shared_ptr<role<document_desk_actor>> desk = std::make_shared<role<document_desk_actor>>();
  document_tools documents; ///< Empty where documents are not enabled.
  processor_function process_document;
  std::atomic<uint64_t> document_requests{0}, upload_bytes{0}, embedding_searches{0}; ///< Under way.
  std::atomic<uint64_t> archive_requests{0};
  std::unique_ptr<outbox_log> outbox_file; ///< For the outbox's first start.
  std::shared_ptr<outbox_gate> gate;       ///< Null without an outbox.
  diversion divert = [this](publication what, std::vector<delivery> so_far) {
    keep(std::move(what), std::move(so_far));
  };
  std::vector<pipeline> pipelines;
  std::vector<processing> processors;
  std::shared_ptr<http::authenticator> access;
  std::unique_ptr<http::server> web;
  revoked_clients revoked;
  std::mutex gathered_mutex;
  std::vector<publication> gathered; ///< What was published since the last turn's end, for the producer.
  caf::actor generating;
  std::optional<root_actor> top; ///< While running.
  // Below all that the actors use: they end first.
  std::unique_ptr<system_config> system_cfg;
  std::unique_ptr<caf::actor_system> system;
};

// -- what is served ---------------------------------------------------------------------------------------------------

http::api server::impl::make_api() {
  http::api api;
  api.publish = [this](auto records, auto answer) { publish(std::move(records), std::move(answer)); };
  api.claim = [this](const claim& what, auto answer) {
    ask_store<standings_ptr>(
        [answer](const caf::expected<standings_ptr>& found) {
          answer(found ? caf::expected<standing>{(*found)->front()} : caf::expected<standing>{found.error()});
        },
        claims_ptr{std::make_shared<std::vector<claim>>(1, what)});
  };
  api.settle = [this](const settlement& what, auto answer) {
    ask_store<atom::done>(
        [answer](const caf::expected<atom::done>& outcome) { answer(outcome ? caf::error{} : outcome.error()); },
        settlements_ptr{std::make_shared<std::vector<settlement>>(1, what)});
  };
  api.idempotency_ttl = cfg.idempotency.ttl;
  api.claim_lease = std::max(cfg.http.request_timeout, cfg.kafka.delivery_timeout) + milliseconds{5000};
  api.open_session = [this](live_request wish) { open_session(std::move(wish)); };
  api.is_revoked = [this](const std::string& client) { return revoked.holds(client); };
  api.change_channels = [this](auto client, auto names, bool add, auto answer) {
    ask_hub<channel_names>(std::move(answer), atom::subscribe_v, std::move(client), std::move(names), add);
  };
  api.end_client = [this](const std::string& client, std::string reason, auto answer) {
    auto answered = [this, client, answer](const caf::expected<atom::done>& outcome) {
      if (outcome)
        revoked.add(client);
      answer(outcome ? caf::error{} : outcome.error());
    };
    ask_hub<atom::done>(answered, atom::leave_v, client, std::move(reason));
  };
  api.clients = [this](auto answer) { ask_hub<live_clients>(std::move(answer), atom::clients_v); };
  api.dlq_topics = [this](auto answer) { dlq_topics(std::move(answer)); };
  api.find_letters = [this](dlq_query query, auto answer) {
    ask_workbench<dlq_page_ptr>(std::move(answer), dlq_query_ptr{std::make_shared<dlq_query>(std::move(query))});
  };
  api.redrive = [this](redrive_order order, auto answer) {
    if (draining)
      answer(make_failure(ec::shutting_down, "the server is stopping; try again, another node may answer"));
    else
      ask_workbench<redrive_report_ptr>(std::move(answer),
                                        redrive_order_ptr{std::make_shared<redrive_order>(std::move(order))});
  };
  if (has_archive(cfg)) {
    api.find_audit = [this](audit_query query, auto answer) {
      ask_archive<audit_page_ptr>(std::move(answer), audit_query_ptr{std::make_shared<audit_query>(std::move(query))});
    };
    api.verify_audit = [this](int64_t after, auto answer) {
      ask_archive<audit_check_ptr>(std::move(answer), atom::verify_v, after);
    };
    api.find_reports = [this](report_query query, auto answer) {
      ask_archive<report_page_ptr>(std::move(answer),
                                   report_query_ptr{std::make_shared<report_query>(std::move(query))});
    };
  }
  if (cfg.documents.enabled) {
    api.documents = [this](const document_request_ptr& what, auto answer) { embed_search(what, std::move(answer)); };
    api.max_document_bytes = cfg.documents.max_bytes;
    api.embeddings = documents.embeddings->model();
  }
  api.status = [this](auto answer) { status(std::move(answer)); };
  api.readiness = [this](auto answer) { readiness(std::move(answer)); };
  api.metrics = [this] { return render_metrics(counters); };
  api.events_topic = cfg.aggregations.empty() ? "events-topic" : cfg.aggregations.front().topics.front();
  api.broadcast_topic = cfg.sse.broadcast_topic;
  api.node = cfg.node;
  api.max_channels = cfg.sse.max_channels;
  api.openapi = openapi_json;
  if (cfg.demo.enabled)
    api.demo_page = demo_page_html;
  api.access = access;
  return api;
}

void server::impl::open_session(live_request wish) {
  if (!running) {
    send_away(*wish.stream, farewell::going_away, 100);
    return;
  }
  session_limits limits;
  limits.retry = cfg.sse.retry;
  limits.lifetime = cfg.sse.lifetime;
  if (wish.expires_ms) {
    auto now = std::chrono::duration_cast<milliseconds>(std::chrono::system_clock::now().time_since_epoch());
    limits.credentials_left = std::max(milliseconds{*wish.expires_ms} - now, milliseconds{0});
  }
  system->spawn(sse_session, std::make_shared<const live_request>(std::move(wish)), hub->get(), limits);
}

template <class Answer, class... Message>
void server::impl::ask_hub(std::function<void(caf::expected<Answer>)> answer, Message... message) {
  if (!running) {
    answer(make_failure(ec::shutting_down, "the server is starting; try again in a moment"));
    return;
  }
  system->spawn([this, answer = std::move(answer), message...](caf::event_based_actor* self) {
    self->request(hub->get(), state_timeout, message...)
        .then([answer](const Answer& got) { answer(got); },
              [answer](const caf::error& error) {
                auto known = code_of(error) != ec::no_error;
                answer(known ? error : make_failure(ec::shutting_down, "the hub is being restarted; try again"));
              });
  });
}

template <class Answer, class... Message>
void server::impl::ask_workbench(std::function<void(caf::expected<Answer>)> answer, Message... message) {
  if (!running) {
    answer(make_failure(ec::shutting_down, "the server is starting; try again in a moment"));
    return;
  }
  system->spawn([this, answer = std::move(answer), message...](caf::event_based_actor* self) {
    self->request(workbench->get(), cfg.http.request_timeout, message...)
        .then([answer](const Answer& got) { answer(got); },
              [answer](const caf::error& error) {
                auto known = code_of(error) != ec::no_error;
                answer(known ? error : make_failure(ec::shutting_down, "the workbench is being restarted; try again"));
              });
  });
}

void server::impl::dlq_topics(std::function<void(caf::expected<dlq_overview_ptr>)> answer) {
  constexpr size_t max_topics = 1000;
  if (!running) {
    answer(make_failure(ec::shutting_down, "the server is starting; try again in a moment"));
    return;
  }
  system->spawn([this, answer = std::move(answer)](caf::event_based_actor* self) {
    self->request(admin->get(), state_timeout, atom::state_v)
        .then(
            [this, answer](const cluster_view_ptr& view) {
              if (!view->connected) {
                answer(make_failure(ec::kafka_unreachable, view->error));
                return;
              }
              channel_names topics;
              size_t left_out = 0;
              for (const auto& one : view->topics)
                if (one.name.ends_with(dlq_suffix) && topics.size() < max_topics)
                  topics.push_back(one.name);
                else if (one.name.ends_with(dlq_suffix))
                  ++left_out;
              auto complete = [answer, left_out](caf::expected<dlq_overview_ptr> got) {
                if (got && left_out > 0) {
                  auto more = **got;
                  more.left_out = left_out;
                  got = std::make_shared<const dlq_overview>(std::move(more));
                }
                answer(std::move(got));
              };
              ask_workbench<dlq_overview_ptr>(std::move(complete), atom::state_v, topics);
            },
            [answer](const caf::error&) {
              answer(make_failure(ec::shutting_down, "the Kafka watcher is being restarted; ask again"));
            });
  });
}

template <class Answer, class... Message>
void server::impl::ask_archive(std::function<void(caf::expected<Answer>)> answer, Message... message) {
  if (!running) {
    answer(make_failure(ec::shutting_down, "the server is starting; try again in a moment"));
    return;
  }
  if (archive_requests >= max_archive_requests) {
    answer(make_failure(ec::queue_full, "too many requests wait for the audit trail; try again in a moment"));
    return;
  }
  ++archive_requests;
  system->spawn([this, answer = std::move(answer), message...](caf::event_based_actor* self) {
    self->request(archives->get(), store_timeout, message...)
        .then(
            [this, answer](const Answer& got) {
              --archive_requests;
              answer(got);
            },
            [this, answer](const caf::error& error) {
              --archive_requests;
              auto known = code_of(error) != ec::no_error;
              answer(known ? error
                           : make_failure(ec::store_unavailable,
                                          "store.url: the audit trail's database does not answer in time; see the "
                                          "server's log"));
            });
  });
}

/// For processors, which may block.
template <class Answer, class... Message>
caf::expected<Answer> server::impl::wait_for_archive(const Message&... message) {
  caf::scoped_actor self{*system};
  caf::expected<Answer> result{caf::error{}};
  self->request(archives->get(), store_timeout, message...)
      .receive([&result](const Answer& got) { result = got; },
               [&result](const caf::error& error) {
                 auto known = code_of(error) != ec::no_error;
                 result = known ? error
                                : make_failure(ec::store_unavailable,
                                               "store.url: the audit trail's database does not answer in time");
               });
  return result;
}

report_tools server::impl::make_report_tools() {
  report_tools tools;
  auto plain = [](auto answer) {
    using value = std::remove_cvref_t<decltype(**answer)>;
    return answer ? caf::expected<value>{**answer} : caf::expected<value>{answer.error()};
  };
  tools.count = [this, plain](int64_t from_ms, int64_t to_ms) {
    return plain(wait_for_archive<audit_counts_ptr>(atom::count_v, from_ms, to_ms));
  };
  tools.find = [this, plain](report_query query) {
    return plain(wait_for_archive<report_page_ptr>(report_query_ptr{std::make_shared<report_query>(std::move(query))}));
  };
  tools.keep = [this, plain](report fresh) {
    return plain(wait_for_archive<report_ptr>(report_ptr{std::make_shared<report>(std::move(fresh))}));
  };
  tools.make_source = [this] { return kafka::make_replay_source(cfg.kafka, log_kafka); };
  tools.seek_by_time = !cfg.embedded_broker; // librdkafka's mock cluster does not know the offset of a time
  tools.make_id = make_uuid;
  tools.unix_ms = http::system_time_ms;
  return tools;
}

template <class Answer, class Message>
void server::impl::ask_store(std::function<void(caf::expected<Answer>)> answer, Message message) {
  if (!running) {
    answer(make_failure(ec::shutting_down, "the server is starting; try again in a moment"));
    return;
  }
  if (counters.claims_queued.get() >= max_store_requests) {
    answer(make_failure(ec::queue_full, "too many requests wait for the store (store.url); try again in a moment"));
    return;
  }
  system->spawn([this, answer = std::move(answer), message = std::move(message)](caf::event_based_actor* self) {
    self->request(claims->get(), store_timeout, message)
        .then([answer](const Answer& got) { answer(got); },
              [this, answer](const caf::error& error) {
                auto known = code_of(error) != ec::no_error;
                if (!known)
                  counters.store_errors.add();
                answer(known ? error
                             : make_failure(ec::store_unavailable,
                                            "store.url: the store does not answer in time; see the server's log"));
              });
  });
}

void server::impl::ask_documents(document_request_ptr what,
                                 std::function<void(caf::expected<document_reply_ptr>)> answer) {
  if (draining || !running) {
    answer(make_failure(ec::shutting_down, draining ? "the server is stopping; try again, another node may answer"
                                                    : "the server is starting; try again in a moment"));
    return;
  }
  const auto* upload = std::get_if<document_upload>(&what->what);
  const uint64_t bytes = upload == nullptr ? 0 : upload->bytes.size();
  if (document_requests >= max_document_requests ||
      (bytes > 0 && upload_bytes + bytes > max_waiting_uploads * cfg.documents.max_bytes)) {
    answer(make_failure(ec::queue_full, "too many requests wait for the store of documents; try again in a moment"));
    return;
  }
  ++document_requests;
  upload_bytes += bytes;
  what->place = {nullptr, [this, bytes](void*) {
                   --document_requests;
                   upload_bytes -= bytes;
                 }};
  system->spawn([this, what = std::move(what), answer = std::move(answer)](caf::event_based_actor* self) {
    self->request(desk->get(), cfg.http.request_timeout, what)
        .then([answer](const document_reply_ptr& reply) { answer(reply); },
              [answer](const caf::error& error) {
                auto known = code_of(error) != ec::no_error;
                answer(known ? error
                             : make_failure(ec::store_unavailable,
                                            "the store of documents does not answer in time; see the server's log"));
              });
  });
}

/// A search is asked with its vector, where that is to be had soon; else by its words alone.
void server::impl::embed_search(document_request_ptr what,
                                std::function<void(caf::expected<document_reply_ptr>)> answer) {
  auto* search = std::get_if<document_search>(&what->what);
  if (search == nullptr || draining || !running) {
    ask_documents(std::move(what), std::move(answer));
    return;
  }
  auto embed = [this, search](const std::function<bool()>& cancelled) {
    if (auto vectors = documents.embeddings->embed({search->text}, cancelled)) {
      search->model = documents.embeddings->model();
      search->vector = std::move(vectors->front());
    }
  };
  if (documents.embeddings->is_local()) {
    embed([] { return false; });
    ask_documents(std::move(what), std::move(answer));
  } else if (embedding_searches++ < max_embedding_searches) {
    system->spawn<caf::detached>([this, embed, what, answer](caf::event_based_actor*) {
      const auto until = std::chrono::steady_clock::now() + search_patience;
      embed([until] { return std::chrono::steady_clock::now() > until; });
      --embedding_searches;
      ask_documents(what, answer);
    });
  } else {
    --embedding_searches;
    ask_documents(std::move(what), std::move(answer));
  }
}

void server::impl::publish(std::vector<outgoing_record> records,
                           std::function<void(caf::expected<std::vector<delivery>>)> answer) {
  if (draining || !running) {
    answer(make_failure(ec::shutting_down, draining ? "the server is stopping; try again, another node may answer"
                                                    : "the server is starting; try again in a moment"));
    return;
  }
  take_out(std::move(records), std::move(answer));
}

void server::impl::take_out(std::vector<outgoing_record> records,
                            std::function<void(caf::expected<std::vector<delivery>>)> answer) {
  if (gate && (counters.kafka_away.get() != 0 || gate->holds(records))) {
    keep({std::move(records), std::move(answer)}, {});
    return;
  }
  {
    std::lock_guard guard{gathered_mutex};
    gathered.emplace_back(std::move(records), std::move(answer), gate ? &divert : nullptr);
    if (gathered.size() > 1)
      return;
  }
  http::at_turn_end([this] { hand_over(); });
}

void server::impl::hand_over() {
  auto all = std::make_shared<std::vector<publication>>();
  {
    std::lock_guard guard{gathered_mutex};
    all->swap(gathered);
  }
  caf::anon_send(producer->get(), publications{std::move(all)});
}

void server::impl::keep(publication what, std::vector<delivery> so_far) {
  auto place = gate->enter(what.records);
  auto job = std::make_shared<outbox_job>(std::move(what), std::move(so_far),
                                          place ? std::move(*place) : outbox_gate::ticket{});
  if (place)
    caf::anon_send(waiting_events->get(), std::move(job));
  else
    job->answer(place.error());
}

json server::impl::status_body(const cluster_view& cluster, const std::map<std::string, json>& aggregations) const {
  json topics = json::array();
  for (const auto& topic : wanted_topics(cfg, processor_configs()))
    topics.push_back(topic.name);
  json groups = json::array();
  for (const auto& one : pipelines)
    groups.push_back(group_of(cfg, one.cfg));
  for (const auto& one : processors)
    if (!one.is_retries)
      groups.push_back(one.cfg.group);
  json kafka{{"connected", cluster.connected}, {"brokers", cfg.kafka.brokers}, {"clientId", cfg.kafka.client_id}};
  if (!cluster.connected)
    kafka["error"] = cluster.error;
  json body{{"ok", true},
            {"kafka", kafka},
            {"topics", topics},
            {"consumers", cluster.connected ? groups : json::array()},
            {"message", cluster.connected ? "Kafka is connected and processing events"
                                          : "Kafka not connected - async processing disabled"},
            {"producer", {{"connected", cluster.connected}}},
            {"consumer", {{"connected", cluster.connected && !(pipelines.empty() && processors.empty())}}},
            {"aggregations", aggregations},
            {"outbox",
             {{"enabled", gate != nullptr},
              {"records", counters.outbox_records.get()},
              {"bytes", counters.outbox_bytes.get()},
              {"maxBytes", cfg.outbox.max_bytes},
              {"refused", counters.outbox_refused.get()}}},
            {"node", cfg.node}};
  if (!pipelines.empty())
    if (auto it = aggregations.find(pipelines.front().cfg.name); it != aggregations.end())
      body["consumer"]["currentAggregation"] = it->second;
  return body;
}

void server::impl::status(std::function<void(json)> answer) {
  struct gathering {
    cluster_view cluster;
    std::map<std::string, json> aggregations;
    size_t awaited = 0;
  };
  if (!running) {
    cluster_view none;
    none.error = "the server is starting; ask again";
    answer(status_body(none, {}));
    return;
  }
  system->spawn([this, answer = std::move(answer)](caf::event_based_actor* self) {
    auto all = std::make_shared<gathering>();
    all->cluster.error = "not looked yet; ask again";
    all->awaited = 1 + pipelines.size();
    auto arrived = [this, all, answer] {
      if (--all->awaited == 0)
        answer(status_body(all->cluster, all->aggregations));
    };
    auto missing = [arrived](const caf::error&) { arrived(); }; // a role that restarts is shown as absent
    self->request(admin->get(), state_timeout, atom::state_v)
        .then(
            [all, arrived](const cluster_view_ptr& view) {
              all->cluster = *view;
              arrived();
            },
            missing);
    for (const auto& one : pipelines)
      self->request(one.aggregator->get(), state_timeout, atom::state_v)
          .then(
              [all, arrived](const aggregation_view& view) {
                all->aggregations[view.name] = json::parse(view.json);
                arrived();
              },
              missing);
  });
}

void server::impl::readiness(std::function<void(std::string)> answer) {
  if (leaving || !running) {
    answer(leaving ? "the server is stopping; use another node" : "the server is starting; ask again");
    return;
  }
  system->spawn([this, answer = std::move(answer)](caf::event_based_actor* self) {
    self->request(admin->get(), state_timeout, atom::state_v)
        .then(
            [this, answer](const cluster_view_ptr& view) {
              if (!view->connected)
                answer("Kafka is not connected: " + view->error + "; see GET /kafka/status");
              else if (view->creating)
                answer("topics are being created; ask again");
              else if (counters.live_feed.get() ==
                       0) // else a first event could be missed by clients that are here already
                answer("the live feed has not found its place in the topics yet; ask again");
              else
                answer("");
            },
            [answer](const caf::error&) {
              answer(
                  "the Kafka watcher does not answer: Kafka is away, or it is being restarted; see GET /kafka/status");
            });
  });
}

// -- the tree ---------------------------------------------------------------------------------------------------------

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

// -- the facade -------------------------------------------------------------------------------------------------------

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
  me.system_cfg = std::make_unique<system_config>(me.cfg.worker_threads);
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
