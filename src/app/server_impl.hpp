/// The inside of `server`, in three files: server.cpp starts and stops it, server_tree.cpp makes the roles,
/// server_answers.cpp gives the HTTP routes what they ask for.
#pragma once

#include "sluice/server.hpp"

#include <atomic>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "http/auth.hpp"
#include "http/routes.hpp"
#include "http/server.hpp"
#include "kafka/kafka.hpp"

#include "aggregator.hpp"
#include "archive.hpp"
#include "dead_letter.hpp"
#include "dlq_workbench.hpp"
#include "document.hpp"
#include "document_desk.hpp"
#include "idempotency.hpp"
#include "in_place.hpp"
#include "kafka_admin.hpp"
#include "kafka_consumer.hpp"
#include "kafka_producer.hpp"
#include "outbox.hpp"
#include "processor_supervisor.hpp"
#include "report.hpp"
#include "role.hpp"
#include "root.hpp"
#include "sse_hub.hpp"
#include "terminator.hpp"

namespace sluice {

/// Where librdkafka's lines go.
void log_kafka(int level, const std::string& component, const std::string& text);
/// What topics the server's work needs, each once.
std::vector<topic_spec> wanted_topics(const config& cfg, const std::vector<processor_config>& processors);

/// What is answered for a role that does not.
struct silence {
  ec code;
  const char* text;
  counter* also = nullptr; ///< Counts it.
};

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
  using json = nlohmann::json;
  using system_config = actor_config<caf::id_block::sluice>;
  template <class Answer>
  using answer_to = std::function<void(caf::expected<Answer>)>;

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
  void dlq_topics(answer_to<dlq_overview_ptr> answer);
  report_tools make_report_tools();
  void ask_documents(document_request_ptr what, answer_to<document_reply_ptr> answer);
  void embed_search(document_request_ptr what, answer_to<document_reply_ptr> answer);
  void publish(std::vector<outgoing_record> records, answer_to<std::vector<delivery>> answer);
  /// To Kafka, or into the outbox where it is away.
  void take_out(std::vector<outgoing_record> records, answer_to<std::vector<delivery>> answer);
  void keep(publication what, std::vector<delivery> so_far);
  void hand_over();
  void status(std::function<void(json)> answer);
  void readiness(std::function<void(std::string)> answer);
  json status_body(const cluster_view& cluster, const std::map<std::string, json>& aggregations) const;

  /// Asks a role, from any thread. An error that is none of sluice's, such as that it is gone or silent for `patience`,
  /// is answered as `otherwise`.
  template <class Answer, class Handle, class... Message>
  void ask(const std::shared_ptr<role<Handle>>& whom, milliseconds patience, silence otherwise,
           answer_to<Answer> answer, Message... message);
  template <class Answer, class... Message>
  void ask_archive(answer_to<Answer> answer, Message... message);
  template <class Answer, class... Message>
  caf::expected<Answer> wait_for_archive(const Message&... message);
  template <class Answer, class Message>
  void ask_store(answer_to<Answer> answer, Message message);

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

} // namespace sluice
