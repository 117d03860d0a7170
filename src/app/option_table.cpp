#include <cctype>

#include "app/options.hpp"

namespace sluice {

namespace {

constexpr int64_t second = 1000;
constexpr int64_t minute = 60 * second;
constexpr int64_t hour = 60 * minute;
constexpr int64_t week = 7 * 24 * hour;
constexpr int64_t year = 365 * 24 * hour;
constexpr int64_t int32_max = 2147483647; // librdkafka's bound of most numbers
constexpr int64_t gib = 1073741824;

#define SLUICE_FIELD(member) [](config& cfg, std::size_t) -> field_ref { return &cfg.member; }
#define SLUICE_ELEMENT(list, member) [](config& cfg, std::size_t i) -> field_ref { return &cfg.list.at(i).member; }
#define SLUICE_AGGREGATION(member) SLUICE_ELEMENT(aggregations, member)
#define SLUICE_CHANNEL(member) SLUICE_ELEMENT(channels, member)
#define SLUICE_PROCESSOR(member) SLUICE_ELEMENT(processors, member)
#define SLUICE_TEMPLATE(member) SLUICE_ELEMENT(templates, member)
#define SLUICE_LIST(one, list)                                                                                         \
  {                                                                                                                    \
    .singular = #one, .plural = #list, .count = [](const config& cfg) { return cfg.list.size(); },                     \
    .clear = [](config& cfg) { cfg.list.clear(); }, .add = [](config& cfg) { cfg.list.emplace_back(); }                \
  }

std::vector<list_section> lists() {
  return {SLUICE_LIST(aggregation, aggregations), SLUICE_LIST(channel, channels), SLUICE_LIST(processor, processors),
          SLUICE_LIST(template, templates)};
}

// clang-format off
std::vector<option> table() {
  return {
    {.key = "node", .field = SLUICE_FIELD(node),
     .help = "Name of this node: unique in the system and the same after a restart, since it is part of transactional ids. Empty: `<hostname>-<port>`."},
    {.key = "workerThreads", .field = SLUICE_FIELD(worker_threads), .help = "Threads that run actors; 0 = one a core.", .max = 1024},
    {.key = "embeddedBroker", .field = SLUICE_FIELD(embedded_broker),
     .help = "Run an in-memory Kafka broker inside the process, for demonstrations and development. Its data is gone at exit.",
     .flag = "--embedded-broker"},
    {.key = "token", .field = SLUICE_FIELD(token),
     .help = "One static token with every right, sent as `Authorization: Bearer <token>`. Better set by environment than by flag, which other users of the machine can see.",
     .secret = true},

    {.key = "kafka.brokers", .field = SLUICE_FIELD(kafka.brokers), .help = "Brokers to start from: host:port, separated by commas.",
     .env = {"KAFKA_BROKERS", "KAFKA_BROKER"}},
    {.key = "kafka.clientId", .field = SLUICE_FIELD(kafka.client_id), .help = "Name of this client in the brokers' logs and quotas.", .env = {"KAFKA_CLIENT_ID"}},
    {.key = "kafka.groupId", .field = SLUICE_FIELD(kafka.group_id), .help = "Prefix of the consumer groups: `<groupId>-<aggregation>`.", .env = {"KAFKA_GROUP_ID"}},
    {.key = "kafka.connectionTimeout", .field = SLUICE_FIELD(kafka.connection_timeout), .help = "For a connection to a broker, with TLS and SASL (socket.connection.setup.timeout.ms).",
     .env = {"KAFKA_CONNECTION_TIMEOUT"}, .min = second, .max = hour},
    {.key = "kafka.requestTimeout", .field = SLUICE_FIELD(kafka.request_timeout), .help = "For a broker's answer to one request (socket.timeout.ms).",
     .env = {"KAFKA_REQUEST_TIMEOUT"}, .min = 10, .max = 5 * minute},
    {.key = "kafka.retryInitialTime", .field = SLUICE_FIELD(kafka.retry_initial_time), .help = "Wait before a failed request is sent again (retry.backoff.ms).",
     .env = {"KAFKA_RETRY_INITIAL_RETRY_TIME"}, .min = 1, .max = 5 * minute},
    {.key = "kafka.retryRetries", .field = SLUICE_FIELD(kafka.retry_retries), .help = "How often a record is sent again within kafka.deliveryTimeout (message.send.max.retries); the order is kept.",
     .env = {"KAFKA_RETRY_RETRIES"}, .max = int32_max},
    {.key = "kafka.deliveryTimeout", .field = SLUICE_FIELD(kafka.delivery_timeout), .help = "A record is acknowledged by then, or its sender gets an error (message.timeout.ms).",
     .min = 1, .max = hour},
    {.key = "kafka.securityProtocol", .field = SLUICE_FIELD(kafka.security_protocol), .help = "Encryption and authentication towards the brokers.",
     .env = {"KAFKA_SECURITY_PROTOCOL"}, .choices = {"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"}},
    {.key = "kafka.saslMechanism", .field = SLUICE_FIELD(kafka.sasl_mechanism), .help = "SASL mechanism; others by `[kafka.properties]`.",
     .env = {"KAFKA_SASL_MECHANISM"}, .choices = {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}},
    {.key = "kafka.saslUsername", .field = SLUICE_FIELD(kafka.sasl_username), .help = "SASL user.", .env = {"KAFKA_SASL_USERNAME"}},
    {.key = "kafka.saslPassword", .field = SLUICE_FIELD(kafka.sasl_password), .help = "SASL password.", .env = {"KAFKA_SASL_PASSWORD"}, .secret = true},
    {.key = "kafka.sslCa", .field = SLUICE_FIELD(kafka.ssl_ca), .help = "File of CA certificates to trust (ssl.ca.location); empty = the system's."},
    {.key = "kafka.queueRecords", .field = SLUICE_FIELD(kafka.queue_records), .help = "Records waiting to be sent, at most; beyond it publishers get 503.", .min = 1, .max = 10000000},
    {.key = "kafka.queueKib", .field = SLUICE_FIELD(kafka.queue_kib), .help = "KiB of records waiting to be sent, at most; beyond it publishers get 503.", .min = 1, .max = 2097151},
    {.key = "kafka.createCatalogue", .field = SLUICE_FIELD(kafka.create_catalogue), .help = "With kafka.createTopics: also create all topics of the catalogue (`<sluice/topics.hpp>` names them), whether something here uses them or not."},
    {.key = "kafka.createTopics", .field = SLUICE_FIELD(kafka.create_topics), .help = "Create missing topics at start, where the broker allows it."},
    {.key = "kafka.partitions", .field = SLUICE_FIELD(kafka.partitions), .help = "Partitions of topics created here; -1 = the broker's default.", .min = -1, .max = 100000},

    {.key = "http.host", .field = SLUICE_FIELD(http.host), .help = "Address to listen on. Beyond loopback it needs authentication (token or `[auth]`) or http.insecure.", .flag = "--host"},
    {.key = "http.port", .field = SLUICE_FIELD(http.port), .help = "Port to listen on; 0 = any free one.", .env = {"PORT"}, .flag = "--port", .max = 65535},
    {.key = "http.sharePort", .field = SLUICE_FIELD(http.share_port), .help = "Let several servers on this machine listen on one port; the kernel hands connections out among them (SO_REUSEPORT)."},
    {.key = "http.threads", .field = SLUICE_FIELD(http.threads), .help = "I/O threads, each with its own event loop.", .min = 1, .max = 256},
    {.key = "http.maxBodyBytes", .field = SLUICE_FIELD(http.max_body_bytes), .help = "Bytes of a request's body, at most; beyond it 413.", .min = 1, .max = gib},
    {.key = "http.maxHeaderBytes", .field = SLUICE_FIELD(http.max_header_bytes), .help = "Bytes of a request's line and headers together, at most; beyond it 431.", .min = 256, .max = 1048576},
    {.key = "http.maxConnections", .field = SLUICE_FIELD(http.max_connections), .help = "Open connections, at most; further ones wait in the kernel's queue.", .min = 1, .max = 1000000},
    {.key = "http.headerTimeout", .field = SLUICE_FIELD(http.header_timeout), .help = "A request must have come in completely by then; else 408.", .min = 1, .max = hour},
    {.key = "http.requestTimeout", .field = SLUICE_FIELD(http.request_timeout), .help = "A request must be answered by then; else 504.", .min = 1, .max = hour},
    {.key = "http.writeTimeout", .field = SLUICE_FIELD(http.write_timeout), .help = "A client must take what is written to it by then; else its connection is closed.", .min = 1, .max = hour},
    {.key = "http.insecure", .field = SLUICE_FIELD(http.insecure), .help = "Listen beyond loopback although nobody has to authenticate.", .flag = "--insecure"},
    {.key = "http.corsOrigins", .field = SLUICE_FIELD(http.cors_origins), .help = "Origins whose pages may read the answers and use cookies, such as `https://app.example`; `*` = all, but without cookies."},
    {.key = "http.tlsCertificate", .field = SLUICE_FIELD(http.tls_certificate), .help = "PEM file of the server's certificate, followed by those between it and the CA. With it and http.tlsKey the port speaks HTTPS only. Read again on SIGHUP."},
    {.key = "http.tlsKey", .field = SLUICE_FIELD(http.tls_key), .help = "PEM file of that certificate's private key, without a passphrase. Read again on SIGHUP."},

    {.key = "auth.mode", .field = SLUICE_FIELD(auth.mode), .help = "Which credentials are asked for. `token`: static ones; `jwt`: static ones and JSON Web Tokens; `none`: none; `auto`: `jwt` where a key is set, else `token` where a token is, else `none`.",
     .choices = {"auto", "none", "token", "jwt"}},
    {.key = "auth.tokensFile", .field = SLUICE_FIELD(auth.tokens_file), .help = "File of static tokens with users and rights (JSON, see security.md). Read again on SIGHUP."},
    {.key = "auth.jwtSecret", .field = SLUICE_FIELD(auth.jwt_secret), .help = "Secret of at least 32 bytes that signs tokens by HS256. Set it by environment or file.", .secret = true},
    {.key = "auth.jwtKeyFile", .field = SLUICE_FIELD(auth.jwt_key_file), .help = "PEM file of the public key that verifies tokens: RSA for RS256, P-256 for ES256. Read again on SIGHUP."},
    {.key = "auth.jwksFile", .field = SLUICE_FIELD(auth.jwks_file), .help = "JSON Web Key Set (RFC 7517) with the keys that verify tokens, chosen by `kid`. Read again on SIGHUP."},
    {.key = "auth.jwtAlgorithms", .field = SLUICE_FIELD(auth.jwt_algorithms), .help = "Algorithms that tokens may be signed by: HS256, RS256, ES256. Each key serves the one of its kind only."},
    {.key = "auth.issuer", .field = SLUICE_FIELD(auth.issuer), .help = "What `iss` of a token must be; empty = anything."},
    {.key = "auth.audience", .field = SLUICE_FIELD(auth.audience), .help = "What `aud` of a token must be or contain; empty = only tokens without `aud` are taken."},
    {.key = "auth.leeway", .field = SLUICE_FIELD(auth.leeway), .help = "How far the clocks of issuer and server may differ, for `exp` and `nbf`.", .max = 10 * minute},
    {.key = "auth.claim", .field = SLUICE_FIELD(auth.claim), .help = "The claim that holds a token's rights."},
    {.key = "auth.cookie", .field = SLUICE_FIELD(auth.cookie), .help = "Cookie that may carry the token; empty = none."},
    {.key = "auth.ticketLifetime", .field = SLUICE_FIELD(auth.ticket_lifetime), .help = "How long a ticket of `POST /auth/ticket` holds.", .min = second, .max = hour},

    {.key = "sse.heartbeat", .field = SLUICE_FIELD(sse.heartbeat), .help = "Time between comment lines on a quiet stream, so that proxies keep it open and dead clients are noticed.", .min = 100, .max = hour},
    {.key = "sse.retry", .field = SLUICE_FIELD(sse.retry), .help = "How long a client waits before it connects again; varied by 20 % per client.", .min = 100, .max = hour},
    {.key = "sse.maxQueueBytes", .field = SLUICE_FIELD(sse.max_queue_bytes), .help = "Bytes waiting for one client, at most; beyond it the client is ended and may resume.", .min = 1024, .max = gib},
    {.key = "sse.compression", .field = SLUICE_FIELD(sse.compression), .help = "gzip for clients that accept it: a fraction of the bytes, for more CPU time and latency."},
    {.key = "sse.maxStreams", .field = SLUICE_FIELD(sse.max_streams), .help = "Open streams, at most; beyond it clients are told to come back in 10 to 30 s. 0 = as many as connections.", .max = 1000000},
    {.key = "sse.maxStreamsPerUser", .field = SLUICE_FIELD(sse.max_streams_per_user), .help = "Open streams of one user, as the credentials name them, at most; beyond it as above. 0 = any number.", .max = 1000000},
    {.key = "sse.maxStreamsPerAddress", .field = SLUICE_FIELD(sse.max_streams_per_address), .help = "Open streams of one client address (IPv6: network of 64 bits), at most; beyond it as above. 0 = any number; leave it there behind a proxy.", .max = 1000000},
    {.key = "sse.maxOpensPerSecond", .field = SLUICE_FIELD(sse.max_opens_per_second), .help = "Streams that one client address may open in a second; beyond it as above. 0 = any number; leave it there behind a proxy.", .max = 1000000},
    {.key = "sse.topics", .field = SLUICE_FIELD(sse.topics), .help = "Topics shown on `GET /events` besides the aggregations' own."},
    {.key = "sse.broadcastTopic", .field = SLUICE_FIELD(sse.broadcast_topic), .help = "Topic that broadcasts go through, keyed by channel, so that the clients of all nodes get them; used for nothing else."},
    {.key = "sse.replayBytes", .field = SLUICE_FIELD(sse.replay_bytes), .help = "Bytes of recent records kept in memory for clients that come back, at most; older ones are read from Kafka again.", .max = gib},
    {.key = "sse.replayWarmup", .field = SLUICE_FIELD(sse.replay_warmup), .help = "Records of each partition read into that memory at start, at most.", .max = 1000000},
    {.key = "sse.maxReplays", .field = SLUICE_FIELD(sse.max_replays), .help = "Replays from Kafka at a time, at most; further ones wait.", .min = 1, .max = 1000},
    {.key = "sse.maxChannels", .field = SLUICE_FIELD(sse.max_channels), .help = "Channels of one client, at most.", .min = 1, .max = 10000},
    {.key = "sse.lifetime", .field = SLUICE_FIELD(sse.lifetime), .help = "A stream is ended after it, varied by 20 %, and its client comes back where it was; 0 = never.", .max = week},
    {.key = "sse.checkpoint", .field = SLUICE_FIELD(sse.checkpoint), .help = "How often the cursor of a quiet stream is moved on by a block of only an id.", .min = 100, .max = hour},

    {.key = "notification.enabled", .field = SLUICE_FIELD(notification.enabled), .help = "Run the notification processor. With telegramToken, smtpHost or webhookUrl it runs anyway."},
    {.key = "notification.telegramToken", .field = SLUICE_FIELD(notification.telegram_token), .help = "Token of the Telegram bot that sends.", .env = {"TELEGRAM_BOT_TOKEN"}, .secret = true},
    {.key = "notification.telegramChat", .field = SLUICE_FIELD(notification.telegram_chat), .help = "Chat for notifications that name none: its number, or `@channel`.", .env = {"TELEGRAM_CHAT_ID"}},
    {.key = "notification.telegramUrl", .field = SLUICE_FIELD(notification.telegram_url), .help = "Server of the Bot API: Telegram's, or one of your own.", .env = {"TELEGRAM_API_URL"}},
    {.key = "notification.smtpHost", .field = SLUICE_FIELD(notification.smtp_host), .help = "Mail server; empty = no e-mail.", .env = {"SMTP_HOST"}},
    {.key = "notification.smtpPort", .field = SLUICE_FIELD(notification.smtp_port), .help = "Its port: 587 for starttls, 465 for tls.", .env = {"SMTP_PORT"}, .min = 1, .max = 65535},
    {.key = "notification.smtpSecurity", .field = SLUICE_FIELD(notification.smtp_security), .help = "`starttls`: encrypted before anything is said, or not at all; `tls`: encrypted from the first byte; `none`.",
     .env = {"SMTP_SECURITY"}, .choices = {"starttls", "tls", "none"}},
    {.key = "notification.smtpUser", .field = SLUICE_FIELD(notification.smtp_user), .help = "User at the mail server; empty = no login.", .env = {"SMTP_USER"}},
    {.key = "notification.smtpPassword", .field = SLUICE_FIELD(notification.smtp_password), .help = "Its password.", .env = {"SMTP_PASSWORD", "SMTP_PASS"}, .secret = true},
    {.key = "notification.smtpFrom", .field = SLUICE_FIELD(notification.smtp_from), .help = "Sender: `name@example.com` or `Name <name@example.com>`.", .env = {"SMTP_FROM"}},
    {.key = "notification.smtpTo", .field = SLUICE_FIELD(notification.smtp_to), .help = "Receivers of e-mail that names none.", .env = {"SMTP_TO"}},
    {.key = "notification.smtpCa", .field = SLUICE_FIELD(notification.smtp_ca), .help = "File of CA certificates to trust for the mail server; empty = the system's."},
    {.key = "notification.webhookUrl", .field = SLUICE_FIELD(notification.webhook_url), .help = "URL for webhooks that name none.", .env = {"WEBHOOK_URL"}},
    {.key = "notification.webhookSecret", .field = SLUICE_FIELD(notification.webhook_secret), .help = "Signs webhooks: `whsec_` and Base64, or any text. Empty = they are not signed.", .env = {"WEBHOOK_SECRET"}, .secret = true},
    {.key = "notification.innerHosts", .field = SLUICE_FIELD(notification.inner_hosts), .help = "Hosts (`host` or `host:port`) of webhooks that may lead to addresses which are not public. All others may not."},
    {.key = "notification.timeout", .field = SLUICE_FIELD(notification.timeout), .help = "Of one delivery.", .min = 100, .max = 10 * minute},
    {.key = "notification.rate", .field = SLUICE_FIELD(notification.rate), .help = "Notifications a minute to one target; what is too many waits. 0 = any number.", .max = 1000000},
    {.key = "notification.burst", .field = SLUICE_FIELD(notification.burst), .help = "So many at once to one target, before notification.rate holds.", .max = 1000000},

    {.key = "documents.enabled", .field = SLUICE_FIELD(documents.enabled), .help = "Take documents (`POST /upload`), read them, make them searchable."},
    {.key = "documents.maxBytes", .field = SLUICE_FIELD(documents.max_bytes), .help = "Bytes of a document, at most; beyond it 413.", .min = 1, .max = gib},
    {.key = "documents.embeddingsUrl", .field = SLUICE_FIELD(documents.embeddings_url), .help = "Where embeddings are made, in OpenAI's shape: `https://api.openai.com/v1/embeddings`. Empty: the built-in lexical embedding."},
    {.key = "documents.embeddingsKey", .field = SLUICE_FIELD(documents.embeddings_key), .help = "Sent there as a bearer token; empty = none. Set it by environment or file.", .secret = true},
    {.key = "documents.embeddingsModel", .field = SLUICE_FIELD(documents.embeddings_model), .help = "The model that is asked for."},
    {.key = "documents.embeddingsTimeout", .field = SLUICE_FIELD(documents.embeddings_timeout), .help = "Of one request for embeddings.", .min = 100, .max = 2 * minute},
    {.key = "documents.pdfTimeout", .field = SLUICE_FIELD(documents.pdf_timeout), .help = "CPU time for reading one PDF; one that takes more has failed. Whole seconds count.", .min = second, .max = 10 * minute},

    {.key = "dlq.maxRedrives", .field = SLUICE_FIELD(dlq.max_redrives), .help = "How often a record may be sent back from dead-letter topics, at most; further redrives are refused.", .max = 1000},
    {.key = "dlq.redrivesTopic", .field = SLUICE_FIELD(dlq.redrives_topic), .help = "Compacted topic that remembers which dead letters were sent back; used for nothing else."},

    {.key = "store.url", .field = SLUICE_FIELD(store.url),
     .help = "Where what has to be remembered is kept: `sqlite:/path/of/file.db`, `postgresql://user:password@host/database` or `redis://user:password@host:port/number`. Empty: SQLite in store.path. Set it by environment or file.",
     .env = {"DATABASE_URL"}, .secret = true},
    {.key = "store.path", .field = SLUICE_FIELD(store.path), .help = "Folder for what is kept on disk, made where it is missing; each node has a folder of its name in it."},

    {.key = "idempotency.ttl", .field = SLUICE_FIELD(idempotency.ttl), .help = "How long an `Idempotency-Key` and its answer, and a delivered notification, are remembered.", .min = second, .max = 30 * 24 * hour},

    {.key = "outbox.enabled", .field = SLUICE_FIELD(outbox.enabled), .help = "Take events while Kafka is away: they are on disk before the answer (202, `queued`), and go to Kafka when it is back. Off with the embedded broker."},
    {.key = "outbox.maxBytes", .field = SLUICE_FIELD(outbox.max_bytes), .help = "Bytes of events waiting on disk, at most; beyond it publishers get 507.", .min = 1024, .max = 4294967295},

    {.key = "audit.enabled", .field = SLUICE_FIELD(audit.enabled), .help = "Keep the audit trail: `audit.event` goes into store.url where that is SQLite or PostgreSQL, else into SQLite in store.path."},
    {.key = "report.enabled", .field = SLUICE_FIELD(report.enabled), .help = "Make the reports that `report.generate` asks for, of the audit trail and the aggregations' summaries."},
    {.key = "report.baseUrl", .field = SLUICE_FIELD(report.base_url), .help = "Address of this server for readers of messages, put before the path of a report: `https://events.example.com`. Empty: only the path."},

    {.key = "demo.enabled", .field = SLUICE_FIELD(demo.enabled), .help = "Publish random events, to see something.", .flag = "--demo"},
    {.key = "demo.interval", .field = SLUICE_FIELD(demo.interval), .help = "Time between two random events.", .min = 1, .max = hour},

    {.key = "log.level", .field = SLUICE_FIELD(log.level), .help = "The least severe level that is logged.", .choices = {"trace", "debug", "info", "warn", "error", "off"}},
    {.key = "log.format", .field = SLUICE_FIELD(log.format), .help = "`human`: a line of text; `json`: one object a line.", .choices = {"human", "json"}},
    {.key = "log.file", .field = SLUICE_FIELD(log.file), .help = "File to append to; empty = standard error."},

    {.key = "supervision.maxRestarts", .field = SLUICE_FIELD(supervision.max_restarts), .help = "Restarts of a role within supervision.restartWindow, at most; one more stops the process with an error.", .max = 1000000},
    {.key = "supervision.restartWindow", .field = SLUICE_FIELD(supervision.restart_window), .help = "Time over which restarts are counted.", .min = 1, .max = 24 * hour},
    {.key = "supervision.backoffInitial", .field = SLUICE_FIELD(supervision.backoff_initial), .help = "Wait before the first restart; doubles with each further one in the window, jittered.", .min = 1, .max = hour},
    {.key = "supervision.backoffMax", .field = SLUICE_FIELD(supervision.backoff_max), .help = "Wait before a restart, at most.", .min = 1, .max = hour},
    {.key = "supervision.drainDelay", .field = SLUICE_FIELD(supervision.drain_delay), .help = "From SIGTERM on, `GET /readyz` fails and all else goes on for this long, so that a load balancer has time to notice.", .max = hour},
    {.key = "supervision.gracePeriod", .field = SLUICE_FIELD(supervision.grace_period), .help = "From SIGTERM to exit, at most.", .max = hour},

    {.key = "aggregation.name", .field = SLUICE_AGGREGATION(name), .help = "Its name: unique, and the end of its consumer group's name."},
    {.key = "aggregation.topics", .field = SLUICE_AGGREGATION(topics), .help = "Topics it reads."},
    {.key = "aggregation.sink", .field = SLUICE_AGGREGATION(sink), .help = "Topic its summaries go to."},
    {.key = "aggregation.valuePointer", .field = SLUICE_AGGREGATION(value_pointer), .help = "JSON pointer (RFC 6901) to the number in an event; empty = the whole value."},
    {.key = "aggregation.keyPointer", .field = SLUICE_AGGREGATION(key_pointer), .help = "JSON pointer to a value, of 1,024 bytes at most, by which events are grouped, one window each; empty = all in one."},
    {.key = "aggregation.batchSize", .field = SLUICE_AGGREGATION(batch_size), .help = "A window closes at this many events …", .min = 1, .max = 1000000000},
    {.key = "aggregation.interval", .field = SLUICE_AGGREGATION(interval), .help = "… or this long after its first one, whichever is sooner. `intervalMs` is another name for it.",
     .alias = "intervalMs", .min = 1, .max = week},
    {.key = "aggregation.sampleSize", .field = SLUICE_AGGREGATION(sample_size), .help = "How many of the last events a summary shows; the last 512 KiB of them, and none that is larger than 64 KiB.", .max = 1000},
    {.key = "aggregation.commitInterval", .field = SLUICE_AGGREGATION(commit_interval), .help = "Summaries due within it share one transaction.", .min = 1, .max = minute},
    {.key = "aggregation.maxWindows", .field = SLUICE_AGGREGATION(max_windows), .help = "With a keyPointer: open windows, at most; beyond it the oldest closes early.", .min = 1, .max = 10000000},
    {.key = "aggregation.inFlightRecords", .field = SLUICE_AGGREGATION(in_flight_records), .help = "Records between consumer and aggregator, at most.", .min = 1, .max = 10000000},

    {.key = "channel.name", .field = SLUICE_CHANNEL(name), .help = "The channel, which must be given. `{topic}` stands for the record's topic, `{value}` for the text found by pointer or header."},
    {.key = "channel.topics", .field = SLUICE_CHANNEL(topics), .help = "Topics that feed it, at least one; `*` stands for any characters."},
    {.key = "channel.pointer", .field = SLUICE_CHANNEL(pointer), .help = "JSON pointer to the text for `{value}`, or to a list of texts: one channel each."},
    {.key = "channel.header", .field = SLUICE_CHANNEL(header), .help = "Record header with the text for `{value}`, instead of pointer."},
    {.key = "channel.event", .field = SLUICE_CHANNEL(event), .help = "Event name that clients see; empty = `message`."},
    {.key = "channel.eventPointer", .field = SLUICE_CHANNEL(event_pointer), .help = "JSON pointer to the event name in a record; where nothing is there, event holds."},
    {.key = "channel.policy", .field = SLUICE_CHANNEL(policy),
     .help = "For clients that are too slow: `disconnect`, to resume later; `dropOldest`: they lose the oldest events that wait; `latest`: of those that wait they get the latest of each record key.",
     .choices = {"disconnect", "dropOldest", "latest"}},
    {.key = "channel.retention", .field = SLUICE_CHANNEL(retention), .help = "Events older than this are not replayed; 0 = all that Kafka has.", .max = 10 * year},

    {.key = "processor.name", .field = SLUICE_PROCESSOR(name), .help = "Which of the program's processors is changed. In all that follows, 0 and empty mean: as the program says, or else the default named here."},
    {.key = "processor.topics", .field = SLUICE_PROCESSOR(topics), .help = "Topics it reads."},
    {.key = "processor.outputs", .field = SLUICE_PROCESSOR(outputs), .help = "Topics it emits to, created at start with the others."},
    {.key = "processor.group", .field = SLUICE_PROCESSOR(group), .help = "Its consumer group. `<kafka.groupId>-<name>`."},
    {.key = "processor.concurrency", .field = SLUICE_PROCESSOR(concurrency), .help = "Workers, each with one record at a time; keys are spread over them, so that the order of each key is kept. 4.", .max = 10000},
    {.key = "processor.timeout", .field = SLUICE_PROCESSOR(timeout), .help = "Of one attempt. `30s`.", .max = hour},
    {.key = "processor.maxAttempts", .field = SLUICE_PROCESSOR(max_attempts), .help = "Attempts, all together; then the record becomes a dead letter. 5.", .max = 1000},
    {.key = "processor.retryInitial", .field = SLUICE_PROCESSOR(retry_initial), .help = "Wait before the second attempt; varied by 20 %, as all waits. `300ms`.", .max = hour},
    {.key = "processor.retryMultiplier", .field = SLUICE_PROCESSOR(retry_multiplier), .help = "How many times as long each further wait is. 2.", .max = 100},
    {.key = "processor.retryMax", .field = SLUICE_PROCESSOR(retry_max), .help = "The longest wait. `30s`.", .max = 24 * hour},
    {.key = "processor.retryBudget", .field = SLUICE_PROCESSOR(retry_budget), .help = "From the first failure to the beginning of the last attempt, at most. `5m`.", .max = week},
    {.key = "processor.maxParkedKeys", .field = SLUICE_PROCESSOR(max_parked_keys), .help = "Keys that wait for another attempt, at most; then the consumer waits. 1000.", .max = 1000000},
    {.key = "processor.maxParkedRecords", .field = SLUICE_PROCESSOR(max_parked_records), .help = "Records of these keys, at most; then the consumer waits. 10000.", .max = 10000000},
    {.key = "processor.maxAhead", .field = SLUICE_PROCESSOR(max_ahead), .help = "Records from the oldest unfinished one on, at most; then the consumer waits. 1000000.", .max = 100000000},
    {.key = "processor.inFlightRecords", .field = SLUICE_PROCESSOR(in_flight_records), .help = "Records between consumer and workers, at most. 20000.", .max = 10000000},
    {.key = "processor.maxRestarts", .field = SLUICE_PROCESSOR(max_restarts), .help = "Restarts of crashed workers within a minute, at most; one more fails the role. 100.", .max = 1000000},
    {.key = "processor.setAside", .field = SLUICE_PROCESSOR(set_aside), .help = "A wait for the next attempt that is this long or longer is spent in the topic `<group>.retries`: it holds nothing up, and later records of its key do not wait for it. 0 = all wait in memory.", .max = 30 * 24 * hour},
    {.key = "processor.remember", .field = SLUICE_PROCESSOR(remember), .help = "How long the store remembers that an event is done, by its id, the group and the name: met again, at another place or after a crash, it is not done again. 0 = as the program says, where not at all by default.", .max = 30 * 24 * hour},

    {.key = "template.name", .field = SLUICE_TEMPLATE(name), .help = "Its name, by which notifications ask for it."},
    {.key = "template.title", .field = SLUICE_TEMPLATE(title), .help = "The title. In all three `{{name}}` stands for a field of the notification's `data`, `{{user.name}}` for one within."},
    {.key = "template.body", .field = SLUICE_TEMPLATE(body), .help = "The text."},
    {.key = "template.html", .field = SLUICE_TEMPLATE(html), .help = "The text as HTML, for e-mail; fields are escaped. Empty = none."},
  };
}
// clang-format on

#undef SLUICE_FIELD
#undef SLUICE_ELEMENT
#undef SLUICE_AGGREGATION
#undef SLUICE_CHANNEL
#undef SLUICE_PROCESSOR
#undef SLUICE_TEMPLATE
#undef SLUICE_LIST

/// SLUICE_KAFKA_CLIENT_ID for `kafka.clientId`.
std::string derived_variable(const std::string& key) {
  std::string name = "SLUICE_";
  for (char c : key) {
    if (std::isupper(static_cast<unsigned char>(c)) != 0)
      name += '_';
    name += c == '.' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return name;
}

} // namespace

const std::vector<list_section>& list_sections() {
  static const std::vector<list_section> all = [] {
    auto result = lists();
    for (auto& list : result)
      list.has_default = list.count(config{}) > 0;
    return result;
  }();
  return all;
}

const std::vector<option>& options() {
  static const std::vector<option> all = [] {
    auto result = table();
    // sluice's own name is the strongest: a platform may set PORT for everyone, but nobody sets it by accident.
    for (auto& opt : result)
      if (!is_file_only(opt))
        opt.env.insert(opt.env.begin(), derived_variable(opt.key));
    return result;
  }();
  return all;
}

} // namespace sluice
