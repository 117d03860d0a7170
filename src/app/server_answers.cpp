// What the HTTP routes ask for, from the roles that know it.
#include "server_impl.hpp"

#include <algorithm>
#include <utility>

#include <caf/event_based_actor.hpp>
#include <caf/scoped_actor.hpp>

#include "http/crypto.hpp"
#include "sluice/config_check.hpp"
#include "sluice/live_format.hpp"
#include "sluice/topics.hpp"

#include "embedded.hpp"
#include "metrics.hpp"
#include "sse_session.hpp"

namespace sluice {

namespace {

using nlohmann::json;

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
constexpr size_t max_dlq_topics = 1000;

constexpr silence no_hub{ec::shutting_down, "the hub is being restarted; try again"};
constexpr silence no_workbench{ec::shutting_down, "the workbench is being restarted; try again"};
constexpr silence no_admin{ec::shutting_down, "the Kafka watcher is being restarted; ask again"};
constexpr silence no_archive{ec::store_unavailable,
                             "store.url: the audit trail's database does not answer in time; see the server's log"};
constexpr silence no_desk{ec::store_unavailable,
                          "the store of documents does not answer in time; see the server's log"};

} // namespace

template <class Answer, class Handle, class... Message>
void server::impl::ask(const std::shared_ptr<role<Handle>>& whom, milliseconds patience, silence otherwise,
                       answer_to<Answer> answer, Message... message) {
  if (!running) {
    answer(make_failure(ec::shutting_down, "the server is starting; try again in a moment"));
    return;
  }
  system->spawn([=](caf::event_based_actor* self) {
    self->request(whom->get(), patience, message...)
        .then([answer](const Answer& got) { answer(got); },
              [answer, otherwise](const caf::error& error) {
                const auto known = code_of(error) != ec::no_error;
                if (!known && otherwise.also)
                  otherwise.also->add();
                answer(known ? error : make_failure(otherwise.code, otherwise.text));
              });
  });
}

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
    ask<channel_names>(hub, state_timeout, no_hub, std::move(answer), atom::subscribe_v, std::move(client),
                       std::move(names), add);
  };
  api.end_client = [this](const std::string& client, std::string reason, auto answer) {
    auto answered = [this, client, answer](const caf::expected<atom::done>& outcome) {
      if (outcome)
        revoked.add(client);
      answer(outcome ? caf::error{} : outcome.error());
    };
    ask<atom::done>(hub, state_timeout, no_hub, std::move(answered), atom::leave_v, client, std::move(reason));
  };
  api.clients = [this](auto answer) {
    ask<live_clients>(hub, state_timeout, no_hub, std::move(answer), atom::clients_v);
  };
  api.dlq_topics = [this](auto answer) { dlq_topics(std::move(answer)); };
  api.find_letters = [this](dlq_query query, auto answer) {
    ask<dlq_page_ptr>(workbench, cfg.http.request_timeout, no_workbench, std::move(answer),
                      dlq_query_ptr{std::make_shared<dlq_query>(std::move(query))});
  };
  api.redrive = [this](redrive_order order, auto answer) {
    if (draining)
      answer(make_failure(ec::shutting_down, "the server is stopping; try again, another node may answer"));
    else
      ask<redrive_report_ptr>(workbench, cfg.http.request_timeout, no_workbench, std::move(answer),
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
  api.makes_reports = cfg.report.enabled;
  api.open_status = is_loopback(cfg.http.host);
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

void server::impl::dlq_topics(answer_to<dlq_overview_ptr> answer) {
  auto found = [this, answer = std::move(answer)](const caf::expected<cluster_view_ptr>& view) {
    if (!view || !(*view)->connected) {
      answer(view ? make_failure(ec::kafka_unreachable, (*view)->error) : view.error());
      return;
    }
    channel_names topics;
    size_t left_out = 0;
    for (const auto& one : (*view)->topics)
      if (one.name.ends_with(dlq_suffix) && topics.size() < max_dlq_topics)
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
    ask<dlq_overview_ptr>(workbench, cfg.http.request_timeout, no_workbench, std::move(complete), atom::state_v,
                          topics);
  };
  ask<cluster_view_ptr>(admin, state_timeout, no_admin, std::move(found), atom::state_v);
}

template <class Answer, class... Message>
void server::impl::ask_archive(answer_to<Answer> answer, Message... message) {
  if (archive_requests >= max_archive_requests) {
    answer(make_failure(ec::queue_full, "too many requests wait for the audit trail; try again in a moment"));
    return;
  }
  ++archive_requests;
  auto answered = [this, answer = std::move(answer)](caf::expected<Answer> got) {
    --archive_requests;
    answer(std::move(got));
  };
  ask<Answer>(archives, store_timeout, no_archive, std::move(answered), std::move(message)...);
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
                 result = known ? error : make_failure(no_archive.code, no_archive.text);
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
void server::impl::ask_store(answer_to<Answer> answer, Message message) {
  if (counters.claims_queued.get() >= max_store_requests)
    answer(make_failure(ec::queue_full, "too many requests wait for the store (store.url); try again in a moment"));
  else
    ask<Answer>(claims, store_timeout,
                {ec::store_unavailable, "store.url: the store does not answer in time; see the server's log",
                 &counters.store_errors},
                std::move(answer), std::move(message));
}

void server::impl::ask_documents(document_request_ptr what, answer_to<document_reply_ptr> answer) {
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
  ask<document_reply_ptr>(desk, cfg.http.request_timeout, no_desk, std::move(answer), std::move(what));
}

/// A search is asked with its vector, where that is to be had soon; else by its words alone.
void server::impl::embed_search(document_request_ptr what, answer_to<document_reply_ptr> answer) {
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

void server::impl::publish(std::vector<outgoing_record> records, answer_to<std::vector<delivery>> answer) {
  if (draining || !running) {
    answer(make_failure(ec::shutting_down, draining ? "the server is stopping; try again, another node may answer"
                                                    : "the server is starting; try again in a moment"));
    return;
  }
  take_out(std::move(records), std::move(answer));
}

void server::impl::take_out(std::vector<outgoing_record> records, answer_to<std::vector<delivery>> answer) {
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
  auto add_group = [&groups](const std::string& group) { // several may read as one group
    if (std::find(groups.begin(), groups.end(), group) == groups.end())
      groups.push_back(group);
  };
  for (const auto& one : pipelines)
    add_group(group_of(cfg, one.cfg));
  for (const auto& one : processors)
    if (!one.is_retries)
      add_group(one.cfg.group);
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
  auto found = [this, answer = std::move(answer)](const caf::expected<cluster_view_ptr>& view) {
    if (!view)
      answer("the Kafka watcher does not answer: Kafka is away, or it is being restarted; see GET /kafka/status");
    else if (!(*view)->connected)
      answer("Kafka is not connected: " + (*view)->error + "; see GET /kafka/status");
    else if ((*view)->creating)
      answer("topics are being created; ask again");
    else if (counters.live_feed.get() == 0) // else a first event could be missed by clients that are here already
      answer("the live feed has not found its place in the topics yet; ask again");
    else
      answer("");
  };
  ask<cluster_view_ptr>(admin, state_timeout, no_admin, std::move(found), atom::state_v);
}

} // namespace sluice
