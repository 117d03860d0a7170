#include "sluice/config.hpp"
#include "sluice/ascii.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <set>

#include "sluice/config_check.hpp"
#include "sluice/text_template.hpp"
#include "sluice/wildcard.hpp"

namespace sluice {

auth_mode mode_of(const config& cfg) {
  const auto& auth = cfg.auth;
  auto has_keys = !auth.jwt_secret.empty() || !auth.jwt_key_file.empty() || !auth.jwks_file.empty();
  auto has_tokens = !cfg.token.empty() || !auth.tokens_file.empty();
  if (auth.mode == "jwt" || (auth.mode == "auto" && has_keys))
    return auth_mode::jwt;
  if (auth.mode == "token" || (auth.mode == "auto" && has_tokens))
    return auth_mode::token;
  return auth_mode::none;
}

bool sends_notifications(const config& cfg) {
  const auto& x = cfg.notification;
  return x.enabled || !x.telegram_token.empty() || !x.smtp_host.empty() || !x.webhook_url.empty();
}

bool has_outbox(const config& cfg) {
  return cfg.outbox.enabled && !cfg.embedded_broker;
}

std::string store_url_of(const config& cfg) {
  if (!cfg.store.url.empty())
    return cfg.store.url;
  return cfg.embedded_broker ? "sqlite::memory:" : "sqlite:" + node_folder_of(cfg) + "/store.db";
}

bool has_archive(const config& cfg) {
  return cfg.audit.enabled || cfg.report.enabled;
}

std::string archive_url_of(const config& cfg) {
  if (!cfg.store.url.empty() && !cfg.store.url.starts_with("redis://"))
    return cfg.store.url;
  // Not in the store's own file: of one file's writers one waits for the other.
  return cfg.embedded_broker ? "sqlite::memory:" : "sqlite:" + node_folder_of(cfg) + "/audit.db";
}

std::string documents_url_of(const config& cfg) {
  auto url = store_url_of(cfg);
  if (url.starts_with("redis://"))
    return "sqlite:" + node_folder_of(cfg) + "/documents.db";
  if (!url.starts_with("sqlite:") || url == "sqlite::memory:")
    return url;
  return cfg.store.url.empty() ? "sqlite:" + node_folder_of(cfg) + "/documents.db" : url + ".documents";
}

std::string password_in(std::string_view url) {
  auto begin = url.find("://");
  if (begin == std::string_view::npos)
    return {};
  auto authority = url.substr(begin + 3);
  authority = authority.substr(0, authority.find_first_of("/?#"));
  auto at = authority.rfind('@');
  auto colon = authority.find(':');
  return at == std::string_view::npos || colon > at ? std::string{}
                                                    : std::string{authority.substr(colon + 1, at - colon - 1)};
}

std::string host_name() {
  std::array<char, 256> buffer{};
  if (gethostname(buffer.data(), buffer.size() - 1) != 0 || buffer[0] == '\0')
    return "localhost";
  return buffer.data();
}

std::string node_folder_of(const config& cfg) {
  return cfg.store.path + "/" + (cfg.node.empty() ? "node" : cfg.node);
}

std::string group_of(const config& cfg, const aggregation_config& aggregation) {
  return cfg.kafka.group_id + "-" + aggregation.name;
}

std::string covered_topic_of(const aggregation_config& aggregation) {
  return aggregation.sink + ".covered";
}

processor_config effective(const config& cfg, processor_config program, const processor_config& file) {
  auto choose = [](auto& value, const auto& changed, auto fallback) {
    if (changed != std::remove_cvref_t<decltype(changed)>{})
      value = changed;
    else if (value == std::remove_cvref_t<decltype(value)>{})
      value = fallback;
  };
  choose(program.topics, file.topics, std::vector<std::string>{});
  choose(program.outputs, file.outputs, std::vector<std::string>{});
  choose(program.group, file.group, cfg.kafka.group_id + "-" + program.name);
  choose(program.concurrency, file.concurrency, 4U);
  choose(program.timeout, file.timeout, milliseconds{30000});
  choose(program.max_attempts, file.max_attempts, 5U);
  choose(program.retry_initial, file.retry_initial, milliseconds{300});
  choose(program.retry_multiplier, file.retry_multiplier, 2U);
  choose(program.retry_max, file.retry_max, milliseconds{30000});
  choose(program.retry_budget, file.retry_budget, milliseconds{300000});
  choose(program.max_parked_keys, file.max_parked_keys, 1000U);
  choose(program.max_parked_records, file.max_parked_records, 10000U);
  choose(program.max_ahead, file.max_ahead, 1000000U);
  choose(program.in_flight_records, file.in_flight_records, 20000U);
  choose(program.max_restarts, file.max_restarts, 100U);
  choose(program.set_aside, file.set_aside, milliseconds{0});
  choose(program.remember, file.remember, milliseconds{0});
  return program;
}

std::string retries_topic_of(const processor_config& processor) {
  return processor.group + ".retries";
}

namespace {

constexpr std::size_t max_topic_name = 249;
constexpr std::size_t max_node_name = 128;
constexpr uint32_t max_sample_size = 1000;
constexpr std::size_t max_channel_name = 200;
constexpr std::string_view value_placeholder = "{value}";
constexpr std::size_t min_jwt_secret = 32;
/// What `sluice config` prints instead of a secret.
constexpr std::string_view mask = "***";

std::string quoted(std::string_view text) {
  return '"' + std::string{text} + '"';
}

/// Letters, digits, '.', '_', '-': what Kafka allows in topic names, and what is safe in ids, metrics and paths.
bool is_plain_name(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(),
                                      [](char c) { return is_letter_or_digit(c) || c == '.' || c == '_' || c == '-'; });
}

/// RFC 6901: empty, or "/" first; "~" only as "~0" and "~1".
bool is_json_pointer(std::string_view text) {
  if (!text.empty() && text.front() != '/')
    return false;
  for (auto at = text.find('~'); at != std::string_view::npos; at = text.find('~', at + 1))
    if (at + 1 == text.size() || (text[at + 1] != '0' && text[at + 1] != '1'))
      return false;
  return true;
}

/// "host", "host:port" or "[v6]:port", perhaps with librdkafka's "PLAINTEXT://" before it.
bool is_broker(std::string_view text) {
  if (auto scheme = text.find("://"); scheme != std::string_view::npos)
    text.remove_prefix(scheme + 3);
  if (text.empty() || text.find_first_of(" \t\r\n/") != std::string_view::npos)
    return false;
  auto colon = text.rfind(':');
  auto is_v6 = text.front() == '[';
  if (colon == std::string_view::npos || (is_v6 && text.back() == ']'))
    return true;
  auto digits = text.substr(colon + 1);
  unsigned port = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  return colon > 0 && error == std::errc{} && end == digits.data() + digits.size() && port > 0 && port < 65536;
}

bool is_base64(std::string_view text) {
  auto digits = text.substr(0, text.size() - (text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0));
  return !digits.empty() && text.size() % 4 == 0 && std::all_of(digits.begin(), digits.end(), [](char c) {
    return is_letter_or_digit(c) || c == '+' || c == '/';
  });
}

bool is_control(char c) {
  return (c >= '\0' && c < ' ') || c == '\x7f';
}

bool is_pattern(std::string_view text) {
  return text.find('*') != std::string_view::npos;
}

/// A topic name in which '*' may stand for any characters.
bool is_topic_pattern(std::string text) {
  std::replace(text.begin(), text.end(), '*', 'x');
  return is_topic_name(text);
}

/// Whether a topic named by one certainly feeds the other too.
bool overlap(const std::string& a, const std::string& b) {
  return a == b || (is_pattern(a) && !is_pattern(b) && fits_pattern(a, b)) ||
         (is_pattern(b) && !is_pattern(a) && fits_pattern(b, a));
}

/// The first braces in a channel's name that are no placeholder; empty = none.
std::string_view unknown_placeholder(std::string_view name) {
  for (auto brace = name.find_first_of("{}"); brace != std::string_view::npos; brace = name.find_first_of("{}")) {
    name.remove_prefix(brace);
    auto end = std::min(name.find('}'), name.size() - 1) + 1;
    if (auto placeholder = name.substr(0, end); placeholder != "{topic}" && placeholder != value_placeholder)
      return placeholder;
    name.remove_prefix(end);
  }
  return {};
}

/// "scheme://host" or "scheme://host:port", in lower case and without a path, as browsers write it.
bool is_origin(std::string_view text) {
  auto scheme = text.find("://");
  auto is_plain =
      std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c <= '~' && (c < 'A' || c > 'Z'); });
  return is_plain && scheme != std::string_view::npos && scheme > 0 && scheme + 3 < text.size() &&
         text.find_first_of("/?#*@,", scheme + 3) == std::string_view::npos;
}

class checker {
public:
  explicit checker(const config& cfg) : cfg_(cfg) {}

  std::vector<config_problem> run() {
    check_process();
    check_kafka();
    check_http();
    check_sse();
    check_dlq();
    check_store();
    check_auth();
    if (cfg_.supervision.backoff_initial > cfg_.supervision.backoff_max)
      add("supervision.backoffInitial", "is longer than supervision.backoffMax");
    if (cfg_.supervision.drain_delay > cfg_.supervision.grace_period / 2)
      add("supervision.drainDelay",
          "is more than half of supervision.gracePeriod, which it is a part of; shorten it, or "
          "lengthen the other");
    for (std::size_t i = 0; i < cfg_.aggregations.size(); ++i)
      check_aggregation("aggregations[" + std::to_string(i) + "]", cfg_.aggregations[i]);
    for (std::size_t i = 0; i < cfg_.channels.size(); ++i)
      check_channel("channels[" + std::to_string(i) + "]", cfg_.channels[i]);
    check_overlaps();
    check_notification();
    if (const auto& url = cfg_.report.base_url; !url.empty() && (!is_web_address(url) || url.ends_with('/')))
      add("report.baseUrl",
          quoted(url) + R"( is not a URL such as "https://events.example.com", without "/" at its end)");
    check_documents();
    for (std::size_t i = 0; i < cfg_.templates.size(); ++i)
      check_template("templates[" + std::to_string(i) + "]", cfg_.templates[i]);
    for (std::size_t i = 0; i < cfg_.processors.size(); ++i)
      check_processor("processors[" + std::to_string(i) + "]", cfg_.processors[i]);
    return std::move(problems_);
  }

private:
  void add(std::string key, std::string text) { problems_.push_back({std::move(key), std::move(text)}); }

  /// One whose dead letters need a topic too.
  void check_input(const std::string& key, const std::string& topic) {
    check_topic(key, topic);
    if (is_topic_name(topic) && !is_topic_name(topic + ".dlq"))
      add(key, quoted(topic) + " is too long: 245 characters at most, as its dead letters are in \"<topic>.dlq\"");
  }
  void check_topic(const std::string& key, const std::string& topic) {
    if (!is_topic_name(topic))
      add(key, quoted(topic) + " is not a topic name: 1 to 249 letters, digits, '.', '_' and '-'");
  }

  void check_process() {
    if (!cfg_.node.empty() &&
        (!is_plain_name(cfg_.node) || cfg_.node.size() > max_node_name || cfg_.node == "." || cfg_.node == ".."))
      add("node",
          quoted(cfg_.node) + " is not a node name: 1 to 128 letters, digits, '.', '_' and '-', but not . or ..");
    // Taken as it is, the mask of a printed configuration would be a password that everybody knows.
    if (cfg_.token == mask)
      add("token", "is the mask that `sluice config` prints for a secret; set the secret itself, or leave it out");
    else if (std::any_of(cfg_.token.begin(), cfg_.token.end(), [](char c) { return c < '!' || c > '~'; }))
      add("token", "holds a blank, a line end or a character outside ASCII, which no HTTP header can carry");
  }

  void check_kafka() {
    const auto& kafka = cfg_.kafka;
    std::string_view rest = kafka.brokers;
    for (bool more = true; more;) {
      auto comma = rest.find(',');
      auto broker = trimmed(rest.substr(0, comma));
      if (!is_broker(broker))
        add("kafka.brokers", quoted(broker) + " is not a broker's host:port; separate brokers with commas");
      more = comma != std::string_view::npos;
      rest.remove_prefix(more ? comma + 1 : rest.size());
    }
    if (kafka.group_id.empty())
      add("kafka.groupId", "is empty; consumer groups are named <groupId>-<aggregation>");
    if (kafka.partitions == 0 || kafka.partitions < -1)
      add("kafka.partitions", std::to_string(kafka.partitions) + " is neither 1 or more nor -1, the broker's default");
    check_credentials();
    for (const auto& [name, value] : kafka.properties) {
      if (name.empty())
        add("kafka.properties", "a property's name is empty");
      if (value == mask)
        add("kafka.properties." + name, "is the mask that `sluice config` prints for a secret; set the secret itself");
    }
  }

  void check_credentials() {
    const auto& kafka = cfg_.kafka;
    if (kafka.sasl_password == mask)
      add("kafka.saslPassword", "is the mask that `sluice config` prints for a secret; set the secret itself");
    auto given = [&kafka](const char* name) { return kafka.properties.count(name) > 0; };
    // Another mechanism by properties (GSSAPI, OAUTHBEARER) may need neither name nor password.
    if (!kafka.security_protocol.starts_with("SASL_") || given("sasl.mechanism") || given("sasl.mechanisms"))
      return;
    if (kafka.sasl_username.empty() && !given("sasl.username"))
      add("kafka.saslUsername", "is empty, but kafka.securityProtocol " + kafka.security_protocol + " needs it");
    if (kafka.sasl_password.empty() && !given("sasl.password"))
      add("kafka.saslPassword", "is empty, but kafka.securityProtocol " + kafka.security_protocol + " needs it");
  }

  void check_http() {
    const auto& http = cfg_.http;
    if (http.host.empty() || http.host.find_first_of(" \t\r\n") != std::string::npos)
      add("http.host", quoted(http.host) + " is not an address; use 127.0.0.1, or 0.0.0.0 for all of IPv4");
    else if (!is_loopback(http.host) && mode_of(cfg_) == auth_mode::none && !http.insecure)
      add("http.host", quoted(http.host) + " can be reached from other machines and nobody would have to authenticate; "
                                           "set token (environment SLUICE_TOKEN), or accept that with --insecure");
    for (const auto& origin : http.cors_origins)
      if (origin != "*" && !is_origin(origin))
        add("http.corsOrigins",
            quoted(origin) + " is not an origin as browsers send it, such as \"https://app.example\"; or use \"*\"");
    if (http.tls_certificate.empty() && !http.tls_key.empty())
      add("http.tlsCertificate", "is empty, but http.tlsKey is set; TLS needs both, plain HTTP neither");
    if (http.tls_key.empty() && !http.tls_certificate.empty())
      add("http.tlsKey", "is empty, but http.tlsCertificate is set; TLS needs both, plain HTTP neither");
  }

  void check_auth() {
    const auto& auth = cfg_.auth;
    auto has_keys = !auth.jwt_secret.empty() || !auth.jwt_key_file.empty() || !auth.jwks_file.empty();
    auto has_tokens = !cfg_.token.empty() || !auth.tokens_file.empty();
    if (auth.mode == "none" && (has_keys || has_tokens))
      add("auth.mode", "is none, which asks nobody for credentials, but tokens or keys are set; leave out one of both");
    if (auth.mode == "token" && !has_tokens)
      add("auth.mode", "is token, but there is none; set token (environment SLUICE_TOKEN) or auth.tokensFile");
    if (auth.mode == "jwt" && !has_keys)
      add("auth.mode", "is jwt, but there is no key; set auth.jwtSecret, auth.jwtKeyFile or auth.jwksFile");
    if (auth.jwt_secret == mask)
      add("auth.jwtSecret", "is the mask that `sluice config` prints for a secret; set the secret itself");
    else if (!auth.jwt_secret.empty() && auth.jwt_secret.size() < min_jwt_secret)
      add("auth.jwtSecret", "is shorter than 32 bytes, which can be guessed; make one with `openssl rand -hex 32`");
    if (auth.jwt_algorithms.empty())
      add("auth.jwtAlgorithms", "is empty; name at least one of HS256, RS256 and ES256");
    for (const auto& name : auth.jwt_algorithms)
      if (name != "HS256" && name != "RS256" && name != "ES256")
        add("auth.jwtAlgorithms", quoted(name) + " is not one of HS256, RS256 and ES256");
    if (auth.claim.empty())
      add("auth.claim", "is empty; name the claim with the rights, such as \"sluice\"");
    if (auth.cookie.find_first_of(" \t\r\n\"(),/:;<=>?@[\\]{}") != std::string::npos)
      add("auth.cookie", quoted(auth.cookie) + " cannot be a cookie's name; use letters, digits, '_' and '-'");
  }

  void check_sse() {
    for (const auto& topic : cfg_.sse.topics)
      check_topic("sse.topics", topic);
    const auto& broadcasts = cfg_.sse.broadcast_topic;
    check_topic("sse.broadcastTopic", broadcasts);
    for (const auto& x : cfg_.aggregations) {
      auto used_by = [&](const std::string& how) {
        add("sse.broadcastTopic", quoted(broadcasts) + " is " + how + " aggregation " + quoted(x.name) +
                                      "; name a topic for broadcasts only");
      };
      if (std::find(x.topics.begin(), x.topics.end(), broadcasts) != x.topics.end())
        used_by("a source of");
      else if (x.sink == broadcasts)
        used_by("the sink of");
      else if (!x.key_pointer.empty() && covered_topic_of(x) == broadcasts)
        used_by("for the notes of");
    }
  }

  void check_dlq() {
    const auto& marks = cfg_.dlq.redrives_topic;
    check_topic("dlq.redrivesTopic", marks);
    auto used = marks == cfg_.sse.broadcast_topic;
    for (const auto& x : cfg_.aggregations)
      used = used || x.sink == marks || std::find(x.topics.begin(), x.topics.end(), marks) != x.topics.end() ||
             (!x.key_pointer.empty() && covered_topic_of(x) == marks);
    if (used)
      add("dlq.redrivesTopic", quoted(marks) + " is used for something else too; name a topic for redrives only");
  }

  void check_store() {
    const auto& url = cfg_.store.url;
    if (url == mask)
      add("store.url", "is the mask that `sluice config` prints for a secret; set the URL itself, or leave it out");
    else if (!url.empty() && !url.starts_with("sqlite:") && !url.starts_with("postgresql://") &&
             !url.starts_with("postgres://") && !url.starts_with("redis://"))
      add("store.url", "is none of sqlite:/path, postgresql://… and redis://… (also read from DATABASE_URL); leave it "
                       "empty for SQLite in store.path");
    else if (url == "sqlite:")
      add("store.url", "names no file; write sqlite:/path/of/file.db");
    if (cfg_.store.path.empty())
      add("store.path", "is empty; name a folder this user may write to");
    for (const auto* text : {&cfg_.store.path, &url})
      if (text->find_first_of(std::string_view{"\"\r\n\0", 4}) != std::string::npos)
        add(text == &url ? "store.url" : "store.path", "holds a quote, a line end or a NUL; use another name");
  }

  void check_aggregation(const std::string& at, const aggregation_config& x) {
    if (!is_plain_name(x.name))
      add(at + ".name", quoted(x.name) + " is not a name: letters, digits, '.', '_' and '-'");
    else if (!names_.insert(x.name).second)
      add(at + ".name", quoted(x.name) + " is the name of another aggregation too; names must differ");
    if (x.topics.empty())
      add(at + ".topics", "is empty; name at least one topic to read");
    std::set<std::string> seen;
    for (const auto& topic : x.topics) {
      check_input(at + ".topics", topic);
      if (!seen.insert(topic).second)
        add(at + ".topics", quoted(topic) + " is named twice");
    }
    check_topic(at + ".sink", x.sink);
    if (seen.count(x.sink) > 0)
      add(at + ".sink", quoted(x.sink) + " is one of its own topics: it would read its own summaries");
    if (!is_json_pointer(x.value_pointer))
      add(at + ".valuePointer", not_a_pointer(x.value_pointer));
    if (!is_json_pointer(x.key_pointer))
      add(at + ".keyPointer", not_a_pointer(x.key_pointer));
    if (!x.key_pointer.empty())
      check_covered_topic(at, x, seen);
    if (x.batch_size < 1)
      add(at + ".batchSize", "0 is not at least 1");
    if (x.sample_size > max_sample_size)
      add(at + ".sampleSize", std::to_string(x.sample_size) + " is more than 1000");
    if (x.interval.count() < 1)
      add(at + ".interval", "is not at least 1ms");
  }

  /// Keyed aggregations keep notes in a topic of their own, named after the sink.
  void check_covered_topic(const std::string& at, const aggregation_config& x, const std::set<std::string>& topics) {
    auto covered = covered_topic_of(x);
    if (is_topic_name(x.sink) && !is_topic_name(covered))
      add(at + ".sink", quoted(x.sink) + " is too long: with keyPointer, " + quoted(covered) + " must be a topic too");
    if (topics.count(covered) > 0)
      add(at + ".topics", quoted(covered) + " is where this aggregation keeps its own notes");
    if (!keyed_sinks_.insert(x.sink).second)
      add(at + ".sink", quoted(x.sink) + " is the sink of another aggregation with a keyPointer; they would share " +
                            quoted(covered));
  }

  void check_channel(const std::string& at, const channel_config& x) {
    check_channel_name(at, x);
    if (x.topics.empty())
      add(at + ".topics", "is empty; name at least one topic to read, or \"*\" for any");
    std::set<std::string> seen;
    for (const auto& topic : x.topics) {
      if (!is_topic_pattern(topic))
        add(at + ".topics", quoted(topic) + " is not a topic name, in which '*' may stand for any characters: 1 to 249 "
                                            "letters, digits, '.', '_', '-' and '*'");
      if (!seen.insert(topic).second)
        add(at + ".topics", quoted(topic) + " is named twice");
    }
    if (!is_json_pointer(x.pointer))
      add(at + ".pointer", not_a_pointer(x.pointer));
    if (x.event.find_first_of(std::string_view{"\r\n\0", 3}) != std::string::npos)
      add(at + ".event", "holds a line end or a NUL, which no event name can carry; leave it out");
    if (!is_json_pointer(x.event_pointer))
      add(at + ".eventPointer", not_a_pointer(x.event_pointer));
    if (x.policy != "disconnect" && x.policy != "dropOldest" && x.policy != "latest")
      add(at + ".policy", quoted(x.policy) + " is not one of disconnect, dropOldest, latest");
    if (x.retention.count() < 0)
      add(at + ".retention", "is not at least 0ms");
  }

  void check_processor(const std::string& at, const processor_config& x) {
    if (!is_plain_name(x.name))
      add(at + ".name", quoted(x.name) + " is not a name: letters, digits, '.', '_' and '-'");
    else if (!processors_.insert(x.name).second)
      add(at + ".name", quoted(x.name) + " is the name of another processor too; names must differ");
    for (const auto& topic : x.topics)
      check_input(at + ".topics", topic);
    for (const auto& topic : x.outputs)
      check_topic(at + ".outputs", topic);
    if (x.retry_max.count() > 0 && x.retry_initial > x.retry_max)
      add(at + ".retryInitial", "is longer than retryMax");
  }

  void check_notification() {
    const auto& x = cfg_.notification;
    check_telegram(x);
    check_smtp(x);
    if (!x.webhook_url.empty() && !is_web_address(x.webhook_url))
      add("notification.webhookUrl", not_a_web_address(x.webhook_url));
    if (x.webhook_secret == mask)
      add("notification.webhookSecret", "is the mask that `sluice config` prints for a secret; set the secret itself");
    else if (x.webhook_secret.starts_with("whsec_") && !is_base64(std::string_view{x.webhook_secret}.substr(6)))
      add("notification.webhookSecret", "begins with whsec_, but what follows is not Base64; make one with "
                                        "`echo whsec_$(openssl rand -base64 32)`");
    for (const auto& host : x.inner_hosts)
      if (host.empty() || host.find_first_of(" /@") != std::string::npos || host.find("://") != std::string::npos)
        add("notification.innerHosts", quoted(host) + " is no host; write \"host\" or \"host:port\"");
    if (x.rate > 0 && x.burst == 0)
      add("notification.burst", "is 0, so nothing could ever be sent; set at least 1");
  }

  void check_documents() {
    const auto& x = cfg_.documents;
    if (x.embeddings_key == mask)
      add("documents.embeddingsKey", "is the mask that `sluice config` prints for a secret; set the secret itself");
    else if (std::any_of(x.embeddings_key.begin(), x.embeddings_key.end(), [](char c) { return c <= ' ' || c > '~'; }))
      add("documents.embeddingsKey", "holds a character that no header may have; take the key as it was given to you");
    if (x.embeddings_url.empty())
      return;
    if (!is_web_address(x.embeddings_url))
      add("documents.embeddingsUrl", not_a_web_address(x.embeddings_url));
    else if (!x.embeddings_key.empty() && x.embeddings_url.starts_with("http://") &&
             !is_loopback(host_in(x.embeddings_url)))
      add("documents.embeddingsUrl",
          "is not https, so documents.embeddingsKey would cross the network for all to read");
    if (x.embeddings_model.empty())
      add("documents.embeddingsModel", "is empty; name the model that makes the vectors");
  }

  /// "host" of "http://host:80/path".
  static std::string host_in(std::string_view url) {
    url.remove_prefix(std::min(url.find("://") + 3, url.size()));
    url = url.substr(0, url.find_first_of("/?#"));
    if (url.starts_with('['))
      return std::string{url.substr(0, url.find(']') + 1)};
    return std::string{url.substr(0, url.find(':'))};
  }

  void check_telegram(const notification_config& x) {
    if (x.telegram_token == mask)
      add("notification.telegramToken", "is the mask that `sluice config` prints for a secret; set the secret itself");
    else if (std::any_of(x.telegram_token.begin(), x.telegram_token.end(),
                         [](char c) { return c <= ' ' || c > '~' || c == '/' || c == '?' || c == '#' || c == '%'; }))
      add("notification.telegramToken", "holds a character that no bot's token has; take it from @BotFather as it is");
    if (!is_web_address(x.telegram_url) || x.telegram_url.find_first_of("?#") != std::string::npos)
      add("notification.telegramUrl", not_a_web_address(x.telegram_url));
  }

  void check_smtp(const notification_config& x) {
    if (x.smtp_password == mask)
      add("notification.smtpPassword", "is the mask that `sluice config` prints for a secret; set the secret itself");
    if (x.smtp_host.empty()) {
      if (!x.smtp_to.empty())
        add("notification.smtpTo", "is set, but no mail server is; set notification.smtpHost too");
      return;
    }
    if (x.smtp_host.find_first_of(" \t\r\n/:@") != std::string::npos)
      add("notification.smtpHost", quoted(x.smtp_host) + " is no host; the port stands in notification.smtpPort");
    if (x.smtp_from.find('@') == std::string::npos || std::any_of(x.smtp_from.begin(), x.smtp_from.end(), is_control))
      add("notification.smtpFrom",
          quoted(x.smtp_from) + " is no sender; write \"name@example.com\" or \"Name <name@example.com>\"");
    if (x.smtp_user.empty() != x.smtp_password.empty())
      add(x.smtp_user.empty() ? "notification.smtpUser" : "notification.smtpPassword",
          "is empty, but the other one is set; a login needs both, none neither");
    if (x.smtp_security == "none" && !x.smtp_password.empty() && !is_loopback(x.smtp_host))
      add("notification.smtpSecurity", "is none, so the password would cross the network for all to read; use starttls "
                                       "or tls");
  }

  void check_template(const std::string& at, const template_config& x) {
    if (!is_plain_name(x.name))
      add(at + ".name", quoted(x.name) + " is not a name: letters, digits, '.', '_' and '-'");
    else if (!templates_.insert(x.name).second)
      add(at + ".name", quoted(x.name) + " is the name of another template too; names must differ");
    if (x.title.empty() && x.body.empty())
      add(at + ".body", "is empty, and so is title; write at least one of them");
    using part = std::pair<const char*, const std::string*>;
    for (const auto& [name, text] : {part{".title", &x.title}, part{".body", &x.body}, part{".html", &x.html}})
      if (auto problem = template_problem(*text); !problem.empty())
        add(at + name, problem);
  }

  static bool is_web_address(std::string_view text) {
    auto scheme = text.starts_with("https://") ? 8U : text.starts_with("http://") ? 7U : 0U;
    return scheme > 0 && text.size() > scheme && text[scheme] != '/' &&
           std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c <= '~'; });
  }

  static std::string not_a_web_address(const std::string& text) {
    // Perhaps with a secret in it: only its beginning is shown.
    return quoted(text.substr(0, text.find_first_of("?#"))) + R"( is not a URL such as "https://example.com/hook")";
  }

  void check_channel_name(const std::string& at, const channel_config& x) {
    auto key = at + ".name";
    if (std::any_of(x.name.begin(), x.name.end(), is_control)) {
      add(key, "holds a line end or another control character; leave it out");
      return;
    }
    if (x.name.empty())
      add(key, "is empty; name the channel");
    if (x.name.size() > max_channel_name)
      add(key, "has " + std::to_string(x.name.size()) + " bytes; shorten it to at most 200");
    if (x.name.find(',') != std::string::npos)
      add(key, quoted(x.name) + " holds a ',', which separates the channels a client asks for; use another character");
    if (auto unknown = unknown_placeholder(x.name); !unknown.empty())
      add(key, quoted(unknown) + " is not a placeholder; only {topic} and {value} may stand in braces");
    else if (!x.name.empty())
      check_value_source(at, x);
  }

  void check_value_source(const std::string& at, const channel_config& x) {
    auto has_value = x.name.find(value_placeholder) != std::string::npos;
    auto is_given = !x.pointer.empty() || !x.header.empty();
    if (!x.pointer.empty() && !x.header.empty())
      add(at + ".header", "is given beside pointer, but {value} has one source; keep one of them");
    else if (has_value && !is_given)
      add(at + ".name", quoted(x.name) + " holds {value}; say by pointer or header where to find it");
    else if (!has_value && is_given)
      add(at + (x.header.empty() ? ".pointer" : ".header"),
          "finds the text for {value}, which the name " + quoted(x.name) + " lacks; add it there, or leave this out");
  }

  /// Two descriptions of one channel must not feed it the same record, perhaps under two event names.
  void check_overlaps() {
    const auto& all = cfg_.channels;
    for (std::size_t i = 0; i < all.size(); ++i)
      for (std::size_t j = 0; j < i; ++j)
        if (!all[i].name.empty() && all[i].name == all[j].name)
          check_overlap(i, j);
  }

  void check_overlap(std::size_t later, std::size_t earlier) {
    for (const auto& topic : cfg_.channels[later].topics)
      for (const auto& other : cfg_.channels[earlier].topics)
        if (overlap(topic, other)) {
          add("channels[" + std::to_string(later) + "].topics",
              quoted(is_pattern(topic) ? other : topic) + " feeds channel " + quoted(cfg_.channels[later].name) +
                  " by channels[" + std::to_string(earlier) + "] too; keep one of them, or rename one channel");
          return;
        }
  }

  static std::string not_a_pointer(const std::string& text) {
    return quoted(text) + R"( is not a JSON pointer such as "/payload/times"; it is empty or begins with "/")";
  }

  const config& cfg_;
  std::set<std::string> names_;
  std::set<std::string> processors_;
  std::set<std::string> templates_;
  std::set<std::string> keyed_sinks_;
  std::vector<config_problem> problems_;
};

} // namespace

std::vector<config_problem> check(const config& cfg) {
  return checker{cfg}.run();
}

bool is_loopback(std::string_view host) {
  if (host == "localhost" || host == "::1" || host == "[::1]")
    return true;
  // 127.0.0.0/8, written as an address: "127.example.org" is a name that may lead anywhere.
  return host.starts_with("127.") && std::count(host.begin(), host.end(), '.') == 3 &&
         host.find_first_not_of("0123456789.") == std::string_view::npos;
}

bool is_topic_name(std::string_view name) {
  return is_plain_name(name) && name.size() <= max_topic_name && name != "." && name != "..";
}

bool is_secret_property(std::string_view name) {
  if (name.ends_with(".url"))
    return false;
  static constexpr std::array<std::string_view, 6> hints{"password", "secret", "jaas",
                                                         "key.pem",  "token",  "oauthbearer.config"};
  return std::any_of(hints.begin(), hints.end(),
                     [name](std::string_view hint) { return name.find(hint) != std::string_view::npos; });
}

std::vector<std::string> secrets_of(const config& cfg) {
  std::vector<std::string> found;
  auto add = [&found](const std::string& secret) {
    if (!secret.empty())
      found.push_back(secret);
  };
  add(cfg.token);
  add(cfg.auth.jwt_secret);
  add(cfg.kafka.sasl_password);
  add(cfg.notification.telegram_token);
  add(cfg.notification.smtp_password);
  add(cfg.notification.webhook_secret);
  add(cfg.documents.embeddings_key);
  add(cfg.store.url.starts_with("sqlite:") ? std::string{} : cfg.store.url);
  add(password_in(cfg.store.url));
  for (const auto& [name, value] : cfg.kafka.properties)
    if (is_secret_property(name))
      add(value);
  return found;
}

} // namespace sluice
