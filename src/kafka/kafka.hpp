/// The Kafka adapters' constructors. Nothing outside src/kafka sees librdkafka.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sluice/config.hpp"
#include "sluice/ports.hpp"

namespace sluice::kafka {

/// Where librdkafka's own log lines and passing errors go: (syslog level 0-7, component, text). Any thread.
using log_sink = std::function<void(int, const std::string&, const std::string&)>;

/// Checks the settings as librdkafka will read them; the error names key and mend.
caf::error validate(const kafka_config& cfg);

/// A member of `group`, cooperative-sticky, reading committed records only.
std::unique_ptr<record_source> make_group_source(const kafka_config& cfg, const std::string& group,
                                                 const std::vector<std::string>& topics, log_sink log);

/// A reader of all partitions of `topics` (also of those that appear later), committed records only; no group. `*` in a
/// name stands for any characters. `partitions_assigned` names each partition's end, or -2 (its beginning) for those
/// that came into being later.
std::unique_ptr<record_source> make_tail_source(const kafka_config& cfg, const std::vector<std::string>& topics,
                                                log_sink log);

/// A reader of what has been written before, committed records only; no group.
std::unique_ptr<replay_source> make_replay_source(const kafka_config& cfg, log_sink log);

/// An idempotent producer, acks=all.
std::unique_ptr<record_sink> make_sink(const kafka_config& cfg, log_sink log);

/// A transactional producer for `group`, which must come from `make_group_source`. It is not kept alive: once it is
/// gone `commit` returns `shutting_down`.
std::unique_ptr<transaction_log> make_transaction_log(const kafka_config& cfg, const std::string& transactional_id,
                                                      std::shared_ptr<record_source> group, log_sink log);

std::unique_ptr<cluster_admin> make_admin(const kafka_config& cfg, log_sink log);

/// librdkafka's mock cluster: an in-memory broker on loopback that other processes can use too.
/// For demonstrations and development: about 5 MiB a partition are kept, CreateTopics and group listing are missing,
/// offsets committed in transactions are forgotten and records of aborted ones may be seen.
class embedded_broker {
public:
  /// Starts listening and creates `topics` with `partitions` each.
  embedded_broker(const std::vector<std::string>& topics, int partitions);
  ~embedded_broker();
  embedded_broker(const embedded_broker&) = delete;
  embedded_broker& operator=(const embedded_broker&) = delete;
  const std::string& bootstrap() const noexcept; ///< "127.0.0.1:port"
  /// What a client needs for quick group joins and fetches here: session.timeout.ms=4000, heartbeat.interval.ms=500,
  /// fetch.wait.max.ms=10, max.in.flight=1.
  static std::map<std::string, std::string> client_properties();

private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

} // namespace sluice::kafka
