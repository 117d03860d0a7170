/// Every option once: its key, type, default, environment variables, range and help text.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "sluice/error.hpp"

namespace sluice {

using std::chrono::milliseconds;
struct config;

/// `[kafka]`: how to reach the cluster. Names follow librdkafka's meaning; `properties` reach it unchanged.
struct kafka_config {
  std::string brokers = "localhost:9092"; ///< Comma-separated host:port.
  std::string client_id = "sluice";
  std::string group_id = "sluice";             ///< Prefix of the consumer groups: `<groupId>-<aggregation>`.
  milliseconds connection_timeout{3000};       ///< socket.connection.setup.timeout.ms
  milliseconds request_timeout{25000};         ///< socket.timeout.ms
  milliseconds retry_initial_time{300};        ///< retry.backoff.ms
  uint32_t retry_retries = 5;                  ///< message.send.max.retries; idempotence keeps the order.
  milliseconds delivery_timeout{10000};        ///< message.timeout.ms: acknowledged by then, or an error.
  std::string security_protocol = "PLAINTEXT"; ///< PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL
  std::string sasl_mechanism = "PLAIN";        ///< PLAIN, SCRAM-SHA-256, SCRAM-SHA-512
  std::string sasl_username;
  std::string sasl_password;                     ///< Secret.
  std::string ssl_ca;                            ///< ssl.ca.location
  uint32_t queue_records = 100000;               ///< Producer queue bound, in records; full = 503 to the caller.
  uint32_t queue_kib = 65536;                    ///< Producer queue bound, in KiB.
  bool create_topics = true;                     ///< Create missing topics on start.
  bool create_catalogue = false;                 ///< Also those of topics.hpp that nothing here uses.
  int32_t partitions = -1;                       ///< Of topics created here; -1 = the broker's default.
  std::map<std::string, std::string> properties; ///< Any librdkafka property; the last word.
};

/// `[http]`: the server.
struct http_config {
  std::string host = "127.0.0.1";
  uint16_t port = 3000;
  bool share_port = false;               ///< Other processes may listen on the same port (SO_REUSEPORT).
  uint32_t threads = 1;                  ///< I/O threads, each with its own event loop.
  uint32_t max_body_bytes = 1048576;     ///< Beyond it: 413.
  uint32_t max_header_bytes = 16384;     ///< Request line and headers together; beyond it: 431.
  uint32_t max_connections = 18000;      ///< Open connections; further ones wait in the kernel's queue.
  milliseconds header_timeout{10000};    ///< A request must be complete by then: 408.
  milliseconds request_timeout{15000};   ///< A request must be answered by then: 504.
  milliseconds write_timeout{10000};     ///< A write must be taken by the client by then, or the connection is closed.
  bool insecure = false;                 ///< Listen beyond loopback without authentication.
  std::vector<std::string> cors_origins; ///< Pages that may read answers: "https://app.example", or "*".
  std::string tls_certificate; ///< PEM file of the certificate and its chain; with it the port speaks TLS only.
  std::string tls_key;         ///< PEM file of its private key.
};

/// `[auth]`: who may do what.
struct auth_config {
  std::string mode = "auto"; ///< auto, none, token, jwt; see `mode_of`.
  std::string tokens_file;   ///< JSON array of static tokens with their rights.
  std::string jwt_secret;    ///< HS256, 32 bytes or more. Secret.
  std::string jwt_key_file;  ///< PEM public key.
  std::string jwks_file;     ///< JSON Web Key Set.
  std::vector<std::string> jwt_algorithms{"HS256", "RS256", "ES256"};
  std::string issuer;                  ///< `iss` must be this; empty = any.
  std::string audience;                ///< `aud` must have this; empty = tokens with an `aud` are refused.
  milliseconds leeway{30000};          ///< For clocks that differ.
  std::string claim = "sluice";        ///< The claim with `subscribe`, `publish` and `roles`.
  std::string cookie = "sluice_token"; ///< Empty = no cookie is looked at.
  milliseconds ticket_lifetime{30000}; ///< Of POST /auth/ticket's.
};

/// What credentials are asked for.
enum class auth_mode : uint8_t {
  none,  ///< None: everyone has every right.
  token, ///< `config::token` and those of `auth_config::tokens_file`.
  jwt,   ///< The same and JSON Web Tokens.
};

/// `[sse]`: live streams.
struct sse_config {
  milliseconds heartbeat{15000};        ///< Comment lines keep proxies and half-open clients honest.
  milliseconds retry{3000};             ///< The `retry:` a client gets; jittered by +-20 % per client.
  uint32_t max_queue_bytes = 1048576;   ///< Waiting for one client; beyond it the client is ended (and may resume).
  bool compression = false;             ///< gzip for clients that accept it.
  uint32_t max_streams = 0;             ///< Open streams; 0 = as many as connections.
  uint32_t max_streams_per_user = 0;    ///< Open streams of one user, where there are users; 0 = any number.
  uint32_t max_streams_per_address = 0; ///< Open streams of one client address; 0 = any number.
  uint32_t max_opens_per_second = 0;    ///< Streams one client address may open a second; 0 = any number.
  std::vector<std::string> topics;      ///< Shown on GET /events besides the aggregations' sources and sinks.
  std::string broadcast_topic = "sluice-broadcast"; ///< Broadcasts go through it, keyed by channel, to all nodes.
  uint32_t replay_bytes = 16777216; ///< Recent records kept in memory for clients that come back; older: from Kafka.
  uint32_t replay_warmup = 1000;    ///< Records of each partition read into that memory at start.
  uint32_t max_replays = 4;         ///< Replays from Kafka at a time; further ones wait.
  uint32_t max_channels = 100;      ///< Of one client.
  milliseconds lifetime{3600000};   ///< A stream is ended after it, +-20 %, and comes back; 0 = never.
  milliseconds checkpoint{10000};   ///< How often a quiet stream's cursor is moved on by a block of only an id.
};

/// `[[channels]]`: where a channel's events come from.
struct channel_config {
  /// The channel. `{topic}` stands for the record's topic, `{value}` for the text found by `pointer` or `header`.
  std::string name;
  std::vector<std::string> topics;   ///< Topics that feed it; `*` stands for any characters.
  std::string pointer;               ///< JSON pointer to the text, or the list of texts, for `{value}`.
  std::string header;                ///< Record header with the text for `{value}`.
  std::string event;                 ///< Event name clients see; empty = `message`.
  std::string event_pointer;         ///< JSON pointer to the event name; where nothing is there, `event`.
  std::string policy = "disconnect"; ///< For slow clients: disconnect, dropOldest, latest (per record key).
  milliseconds retention{604800000}; ///< Events older than this are not replayed; 0 = all.
};

/// `[[aggregations]]`: one named aggregation each.
struct aggregation_config {
  std::string name = "default";
  std::vector<std::string> topics{"events-topic"};
  std::string sink = "events-summary-table";
  std::string value_pointer = "/payload/times"; ///< JSON pointer (RFC 6901) to the number.
  std::string key_pointer;                      ///< Optional: one window per value found here.
  uint32_t batch_size = 10;                     ///< A window closes at this many events ...
  milliseconds interval{30000};                 ///< ... or this long after its first one.
  uint32_t sample_size = 5;                     ///< Last events shown in a summary.
  milliseconds commit_interval{100};            ///< Summaries due within it share one transaction.
  uint32_t max_windows = 100000;      ///< With a key pointer: open windows; beyond it the oldest closes early.
  uint32_t in_flight_records = 65536; ///< Between consumer and aggregator.
};

/// A processor's place and policies: as a program adds it, or `[[processors]]`, which changes the one of that name. 0
/// and empty mean: as the program says, or else the default.
struct processor_config {
  std::string name; ///< Letters, digits, '.', '_', '-'; part of the group's name, metrics, dead letters.
  std::vector<std::string> topics{};  ///< What it reads.
  std::vector<std::string> outputs{}; ///< Topics it emits to, created at start with the others.
  std::string group{};                ///< Consumer group; `<kafka.groupId>-<name>`.
  uint32_t concurrency = 0;           ///< Workers, each with one record at a time; keys are spread over them. 4
  milliseconds timeout{0};            ///< Of one attempt. 30 s
  uint32_t max_attempts = 0;          ///< All together; 1 = no retries. 5
  milliseconds retry_initial{0};      ///< Before the second attempt. 300 ms
  uint32_t retry_multiplier = 0;      ///< How many times as long each further wait is. 2
  milliseconds retry_max{0};          ///< The longest wait. 30 s
  milliseconds retry_budget{0};       ///< From the first failure to the beginning of the last attempt. 5 min
  uint32_t max_parked_keys = 0;       ///< Keys that wait for another attempt; at it the consumer waits. 1,000
  uint32_t max_parked_records = 0;    ///< Records of these keys; at it the consumer waits. 10,000
  uint32_t max_ahead = 0;         ///< Records from the oldest unfinished one on; at it the consumer waits. 1,000,000
  uint32_t in_flight_records = 0; ///< Between consumer and workers. 20,000
  uint32_t max_restarts = 0;      ///< Of crashed workers within a minute; one more fails the role. 100
  /// A wait for the next attempt that is this long or longer is spent in the topic `retries_topic_of`, where it holds
  /// nothing up, and where later records of its key do not wait for it; 0 = all wait in memory.
  milliseconds set_aside{0};
  /// How long the store remembers by its id that an event is done, so that it is not done again; 0 = it does not ask.
  milliseconds remember{0};
};

/// The program's settings, changed by the file's, completed by the defaults.
processor_config effective(const config& cfg, processor_config program, const processor_config& file);
/// Where a processor's records wait that are set aside, whatever their topic; read by a group of the same name.
std::string retries_topic_of(const processor_config& processor);

/// `[notification]`: the processor that takes notifications to people and systems.
struct notification_config {
  bool enabled = false;       ///< Runs it also where neither a bot's token nor a mail server is given.
  std::string telegram_token; ///< The bot's. Secret.
  std::string telegram_chat;  ///< Where notifications go that name no chat.
  std::string telegram_url = "https://api.telegram.org";
  std::string smtp_host;
  uint16_t smtp_port = 587;
  std::string smtp_security = "starttls"; ///< starttls, tls, none
  std::string smtp_user;
  std::string smtp_password;            ///< Secret.
  std::string smtp_from;                ///< `name@example.com` or `Name <name@example.com>`.
  std::vector<std::string> smtp_to;     ///< Where e-mail goes that names nobody.
  std::string smtp_ca;                  ///< PEM file of CA certificates; empty = the system's.
  std::string webhook_url;              ///< Where webhooks go that name no URL.
  std::string webhook_secret;           ///< Signs webhooks; empty = they are not signed. Secret.
  std::vector<std::string> inner_hosts; ///< Hosts of webhooks that may lead to addresses which are not public.
  milliseconds timeout{10000};          ///< Of one delivery.
  uint32_t rate = 60;                   ///< Notifications a minute to one target; 0 = any number.
  uint32_t burst = 20;                  ///< So many at once, before `rate` holds.
};

/// `[[templates]]`: texts with fields, by name.
struct template_config {
  std::string name;
  std::string title;
  std::string body;
  std::string html; ///< Empty = none.
};

/// `[documents]`: files that are uploaded, read and searched.
struct documents_config {
  bool enabled = false;
  uint32_t max_bytes = 52428800; ///< Of one document; beyond it: 413.
  std::string embeddings_url;    ///< In OpenAI's shape, `…/v1/embeddings`; empty = the built-in lexical embedding.
  std::string embeddings_key;    ///< Sent as a bearer token; empty = none. Secret.
  std::string embeddings_model = "text-embedding-3-small";
  milliseconds embeddings_timeout{30000}; ///< Of one request.
  milliseconds pdf_timeout{20000};        ///< CPU time for one PDF.
};

/// `[dlq]`: sending dead letters back.
struct dlq_config {
  uint32_t max_redrives = 3; ///< Of one record; further ones are refused.
  /// Compacted: which letters were sent back, by whom and when.
  std::string redrives_topic = "sluice-redrives";
};

/// `[store]`: what has to outlive the process and is not in Kafka.
struct store_config {
  std::string url; ///< sqlite:/path, postgresql://…, redis://…; empty = SQLite below `path`. Secret: has a password.
  std::string path = "sluice-data"; ///< Folder; this node's files are in `<path>/<node>`.
};

/// `[idempotency]`: what has been answered, or processed, is not done twice.
struct idempotency_config {
  milliseconds ttl{86400000}; ///< How long an `Idempotency-Key` and its answer, and a notification, are remembered.
};

/// `[outbox]`: events that are taken while Kafka is away.
struct outbox_config {
  bool enabled = true;             ///< Ignored with the embedded broker, which is never away.
  uint32_t max_bytes = 1073741824; ///< Of events waiting on disk; beyond it: 507.
};

/// `[audit]`: the processor that keeps the audit trail.
struct audit_config {
  bool enabled = false;
};

/// `[report]`: the processor that makes reports of the audit trail and the summaries.
struct report_config {
  bool enabled = false;
  std::string base_url; ///< Stands before the path of a report in messages, such as "https://events.example.com".
};

/// `[demo]`: the generator.
struct demo_config {
  bool enabled = false;
  milliseconds interval{2000};
};

/// `[log]`
struct log_config {
  std::string level = "info";   ///< trace, debug, info, warn, error, off
  std::string format = "human"; ///< human, json
  std::string file;             ///< Empty = standard error.
};

/// `[supervision]`: how often a role may crash, and how long a stop may take.
struct supervision_config {
  uint32_t max_restarts = 5; ///< More within `restart_window` stop the process with an error.
  milliseconds restart_window{60000};
  milliseconds backoff_initial{200}; ///< Doubles with each restart in the window, jittered.
  milliseconds backoff_max{10000};
  milliseconds grace_period{10000}; ///< From SIGTERM to exit, at most.
  milliseconds drain_delay{0};      ///< Of it, the first part: readiness fails, all else goes on.
};

struct config {
  std::string node; ///< Name of this node, part of transactional ids: unique and stable. Default: `<host>-<port>`.
  uint32_t worker_threads = 0;  ///< Actor threads; 0 = one a core.
  bool embedded_broker = false; ///< An in-memory broker for demonstrations and development; data is gone at exit.
  std::string token;            ///< One static token with every right. Secret.
  kafka_config kafka;
  http_config http;
  auth_config auth;
  sse_config sse;
  dlq_config dlq;
  store_config store;
  idempotency_config idempotency;
  outbox_config outbox;
  audit_config audit;
  report_config report;
  demo_config demo;
  log_config log;
  supervision_config supervision;
  std::vector<aggregation_config> aggregations{aggregation_config{}};
  std::vector<channel_config> channels;
  notification_config notification;
  documents_config documents;
  std::vector<template_config> templates;
  std::vector<processor_config> processors; ///< Changes to processors that the program has.
};

/// The mode that `auth.mode` names; "auto": the one that the tokens and keys given ask for.
auth_mode mode_of(const config& cfg);
/// Whether the notification processor runs here.
bool sends_notifications(const config& cfg);
/// Whether events are taken while Kafka is away.
bool has_outbox(const config& cfg);
/// Where the store is, as a URL: `store.url`, or SQLite below `store.path`; in memory with the embedded broker.
std::string store_url_of(const config& cfg);
/// Whether this node keeps, or looks into, the audit trail and the reports.
bool has_archive(const config& cfg);
/// Where they are, as a URL: `store.url` where that is SQL, else SQLite below `store.path`; in memory with the embedded
/// broker.
std::string archive_url_of(const config& cfg);
/// Where documents are kept, as a URL: with PostgreSQL `store.url`; else SQLite in a file of their own beside the
/// store's, so that large ones hold nobody else up. In memory with the embedded broker.
std::string documents_url_of(const config& cfg);
/// The password in a URL, as it stands there; empty where there is none.
std::string password_in(std::string_view url);
/// Of this machine; "localhost" where it has none.
std::string host_name();
/// The folder of this node's files, below `store.path`.
std::string node_folder_of(const config& cfg);
/// The group a named aggregation reads with.
std::string group_of(const config& cfg, const aggregation_config& aggregation);
/// The compacted topic that remembers which events of still open keys are covered already; used with a key pointer.
std::string covered_topic_of(const aggregation_config& aggregation);

} // namespace sluice
