#include "kafka/conf.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>

#include "kafka/client.hpp"
#include "kafka/kafka.hpp"

namespace sluice::kafka {

namespace {

struct known_property {
  std::string_view name;
  std::string_view key; ///< Ours.
  std::string_view mend;
};

constexpr std::array<known_property, 16> known{{
    {"bootstrap.servers", "kafka.brokers", "give host:port, several separated by commas"},
    {"client.id", "kafka.clientId", "give a short name"},
    {"socket.connection.setup.timeout.ms", "kafka.connectionTimeout", "give 1000 to 2147483647 ms"},
    {"socket.timeout.ms", "kafka.requestTimeout", "give 10 to 300000 ms"},
    {"retry.backoff.ms", "kafka.retryInitialTime", "give 1 to 300000 ms"},
    {"message.send.max.retries", "kafka.retryRetries", "give 1 to 2147483647"},
    {"message.timeout.ms", "kafka.deliveryTimeout", "give more than linger.ms and at most 2147483647 ms"},
    {"security.protocol", "kafka.securityProtocol", "use PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"},
    {"sasl.mechanisms", "kafka.saslMechanism", "use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"},
    {"sasl.mechanism", "kafka.saslMechanism", "use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"},
    {"sasl.username", "kafka.saslUsername", "set it, or use a security protocol without SASL"},
    {"sasl.password", "kafka.saslPassword", "set it, or use a security protocol without SASL"},
    {"ssl.ca.location", "kafka.sslCa", "give a readable PEM file or directory of CA certificates"},
    {"queue.buffering.max.messages", "kafka.queueRecords", "give 1 to 2147483647"},
    {"queue.buffering.max.kbytes", "kafka.queueKib", "give 1 to 2147483647"},
    {"group.id", "kafka.groupId", "give a name"},
}};

/// What sluice's guarantees rest on, and so is not to be set from outside.
constexpr std::array<std::pair<std::string_view, std::string_view>, 7> reserved{{
    {"group.id", "use kafka.groupId"},
    {"transactional.id", "sluice derives it from `node`"},
    {"isolation.level", "sluice reads committed records only"},
    {"enable.auto.commit", "sluice commits what is processed"},
    {"enable.auto.offset.store", "sluice commits what is processed"},
    {"enable.partition.eof", "sluice sets it where it needs it"},
    {"enable.idempotence", "sluice always writes idempotently"},
}};

bool secret(std::string_view property) {
  return property.find("password") != property.npos || property.find("secret") != property.npos ||
         property.find("jaas") != property.npos || property.find("oauthbearer.config") != property.npos ||
         property.ends_with(".pem");
}

const known_property* find_known(std::string_view name) {
  auto found = std::find_if(known.begin(), known.end(), [name](const auto& x) { return x.name == name; });
  return found == known.end() ? nullptr : &*found;
}

void set(rd_kafka_conf_t* conf, const std::string& name, const std::string& value, bool from_properties) {
  std::array<char, 512> text{};
  if (rd_kafka_conf_set(conf, name.c_str(), value.c_str(), text.data(), text.size()) == RD_KAFKA_CONF_OK)
    return;
  std::string said = secret(name) ? "librdkafka does not take the value" : text.data();
  while (!said.empty() && said.back() == '\n')
    said.pop_back();
  if (from_properties)
    throw conf_error("kafka.properties." + name + ": " + said + "; see librdkafka's CONFIGURATION.md or remove it");
  if (const auto* entry = find_known(name))
    throw conf_error(std::string{entry->key} + ": " + said + "; " + std::string{entry->mend});
  throw conf_error(name + ": " + said);
}

std::string ms(milliseconds value) {
  return std::to_string(value.count());
}

bool has_property(const kafka_config& cfg, const char* name) {
  return cfg.properties.count(name) > 0;
}

bool uses_sasl(const kafka_config& cfg) {
  auto override = cfg.properties.find("security.protocol");
  auto protocol = override == cfg.properties.end() ? cfg.security_protocol : override->second;
  std::transform(protocol.begin(), protocol.end(), protocol.begin(), [](unsigned char c) { return std::toupper(c); });
  return protocol.starts_with("SASL");
}

void check_brokers(const std::string& brokers) {
  bool some = false;
  std::size_t begin = 0;
  while (begin <= brokers.size()) {
    auto end = std::min(brokers.find(',', begin), brokers.size());
    std::string_view entry{brokers.data() + begin, end - begin};
    begin = end + 1;
    auto colon = entry.rfind(':');
    auto digits = colon == entry.npos ? std::string_view{"9092"} : entry.substr(colon + 1);
    if (entry.empty() && brokers.empty())
      break;
    bool bad_port = digits.empty() || digits.size() > 5 ||
                    !std::all_of(digits.begin(), digits.end(), [](unsigned char c) { return std::isdigit(c); }) ||
                    std::stoi(std::string{digits}) > 65535;
    // "[::1]" has colons, but no port.
    if (entry.empty() || colon == 0 || (bad_port && !entry.ends_with(']')))
      throw conf_error("kafka.brokers: \"" + std::string{entry} +
                       "\" is not host:port; give host:port, several separated by commas");
    some = true;
  }
  if (!some)
    throw conf_error("kafka.brokers: empty; give host:port, several separated by commas");
}

void check_sasl(const kafka_config& cfg) {
  if (!uses_sasl(cfg) || has_property(cfg, "sasl.mechanisms") || has_property(cfg, "sasl.mechanism"))
    return;
  if (cfg.sasl_mechanism != "PLAIN" && cfg.sasl_mechanism != "SCRAM-SHA-256" && cfg.sasl_mechanism != "SCRAM-SHA-512")
    throw conf_error("kafka.saslMechanism: \"" + cfg.sasl_mechanism +
                     "\" is not one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512; others go through kafka.properties");
  if (cfg.sasl_username.empty() && !has_property(cfg, "sasl.username"))
    throw conf_error("kafka.saslUsername: empty; set it, or use a kafka.securityProtocol without SASL");
  if (cfg.sasl_password.empty() && !has_property(cfg, "sasl.password"))
    throw conf_error("kafka.saslPassword: empty; set it, or use a kafka.securityProtocol without SASL");
}

/// Has librdkafka check how the settings fit together: it does so only when a client is made of them.
void try_out(const kafka_config& cfg, rd_kafka_type_t type, const property_list& role) {
  auto conf = make_conf(cfg, role);
  rd_kafka_conf_set_log_cb(conf.get(), [](const rd_kafka_t*, int, const char*, const char*) {});
  std::array<char, 512> text{};
  auto* rk = rd_kafka_new(type, conf.get(), text.data(), text.size());
  if (rk == nullptr)
    throw conf_error(explain_conf_error(cfg, text.data()));
  static_cast<void>(conf.release()); // the client's now
  rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}

} // namespace

property_list consumer_properties(const std::string& group) {
  property_list result{
      {"group.id", group},
      {"enable.auto.commit", "false"},
      {"enable.auto.offset.store", "false"},
      {"isolation.level", "read_committed"},
      {"auto.offset.reset", "earliest"},
      {"enable.partition.eof", "false"},
      // Both bounds hold per partition, since each has its own queue.
      {"queued.min.messages", std::to_string(queued_records)},
      {"queued.max.messages.kbytes", "32768"},
      {"max.partition.fetch.bytes", "2097152"},
      {"fetch.error.backoff.ms", "100"},
      // Topics that are created later are found this soon.
      {"topic.metadata.refresh.interval.ms", "2000"},
      {"partition.assignment.strategy", "cooperative-sticky"},
  };
  if (rd_kafka_version() >= 0x020200ff) // see `client::fetch_again`
    result.emplace_back("fetch.queue.backoff.ms", "10");
  return result;
}

property_list producer_properties(const kafka_config& cfg) {
  return {
      {"enable.idempotence", "true"},
      {"linger.ms", "0"}, // whoever sends gathers, see actors/kafka_producer.cpp
      // Else a second request waits for the answer to the first.
      {"socket.nagle.disable", "true"},
      {"partitioner", "murmur2_random"},
      // How large a record may be is for its topic to say. Below what brokers take as a request (100 MiB).
      {"message.max.bytes", "67108864"},
      {"message.timeout.ms", ms(cfg.delivery_timeout)},
      {"message.send.max.retries", std::to_string(cfg.retry_retries)},
      {"retry.backoff.ms", ms(cfg.retry_initial_time)},
      {"queue.buffering.max.messages", std::to_string(cfg.queue_records)},
      {"queue.buffering.max.kbytes", std::to_string(cfg.queue_kib)},
      // A record for a topic that does not exist fails this soon.
      {"topic.metadata.propagation.max.ms", "2000"},
  };
}

property_list transactional_properties(const kafka_config& cfg, const std::string& transactional_id) {
  auto result = producer_properties(cfg);
  result.insert(result.end(), {{"transactional.id", transactional_id},
                               // What is refused here leaves its transaction as it was; the broker's refusal ends it.
                               {"message.max.bytes", "1000000"},
                               {"transaction.timeout.ms", std::to_string(transaction_timeout_ms)},
                               {"batch.num.messages", "10000"},
                               {"linger.ms", "1"}}); // the last one counts
  return result;
}

namespace {

int number_of(const rd_kafka_conf_t* conf, const char* name) {
  std::array<char, 32> text{};
  std::size_t size = text.size();
  rd_kafka_conf_get(conf, name, text.data(), &size);
  return std::atoi(text.data());
}

/// librdkafka refuses waits longer than the transaction they belong to.
void fit_into_transaction(rd_kafka_conf_t* conf) {
  const auto whole = number_of(conf, "transaction.timeout.ms");
  for (const auto* name : {"socket.timeout.ms", "message.timeout.ms"})
    if (number_of(conf, name) > whole)
      set(conf, name, std::to_string(whole), false);
}

} // namespace

conf_handle make_conf(const kafka_config& cfg, const property_list& role) {
  conf_handle conf{rd_kafka_conf_new()};
  auto* raw = conf.get();
  set(raw, "bootstrap.servers", cfg.brokers, false);
  set(raw, "client.id", cfg.client_id, false);
  set(raw, "socket.connection.setup.timeout.ms", ms(cfg.connection_timeout), false);
  set(raw, "socket.timeout.ms", ms(cfg.request_timeout), false);
  set(raw, "security.protocol", cfg.security_protocol, false);
  set(raw, "reconnect.backoff.max.ms", "2000", false);
  if (uses_sasl(cfg)) {
    set(raw, "sasl.mechanisms", cfg.sasl_mechanism, false);
    set(raw, "sasl.username", cfg.sasl_username, false);
    set(raw, "sasl.password", cfg.sasl_password, false);
  }
  if (!cfg.ssl_ca.empty())
    set(raw, "ssl.ca.location", cfg.ssl_ca, false);
  for (const auto& [name, value] : role)
    set(raw, name, value, false);
  for (const auto& [name, value] : cfg.properties)
    set(raw, name, value, true);
  if (std::any_of(role.begin(), role.end(), [](const auto& x) { return x.first == "transactional.id"; }))
    fit_into_transaction(raw);
  return conf;
}

std::string explain_conf_error(const kafka_config& cfg, std::string text) {
  while (!text.empty() && text.back() == '\n')
    text.pop_back();
  // The longest name wins: "sasl.mechanism" is a part of "sasl.mechanisms".
  std::string_view best;
  std::string result = "kafka: " + text;
  for (const auto& entry : known)
    if (entry.name.size() > best.size() && text.find(entry.name) != text.npos) {
      best = entry.name;
      result = std::string{entry.key} + ": " + text + "; " + std::string{entry.mend};
    }
  for (const auto& [name, value] : cfg.properties)
    if (name.size() >= best.size() && text.find(name) != text.npos) {
      best = name;
      result = "kafka.properties." + name + ": " + text + "; change or remove it";
    }
  return result;
}

caf::error validate(const kafka_config& cfg) {
  try {
    for (const auto& [name, mend] : reserved)
      if (cfg.properties.count(std::string{name}) > 0)
        throw conf_error("kafka.properties." + std::string{name} + ": not to be changed; " + std::string{mend} +
                         ", and remove it");
    if (!has_property(cfg, "bootstrap.servers"))
      check_brokers(cfg.brokers);
    if (cfg.delivery_timeout.count() <= 0)
      throw conf_error("kafka.deliveryTimeout: must be above 0 ms");
    check_sasl(cfg);
    try_out(cfg, RD_KAFKA_CONSUMER, consumer_properties(cfg.group_id));
    try_out(cfg, RD_KAFKA_PRODUCER, producer_properties(cfg));
    try_out(cfg, RD_KAFKA_PRODUCER, transactional_properties(cfg, "sluice"));
    return {};
  } catch (const conf_error& failure) {
    return make_failure(ec::invalid_config, failure.what());
  }
}

} // namespace sluice::kafka
