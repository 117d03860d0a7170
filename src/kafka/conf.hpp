/// From `kafka_config` to librdkafka's configuration.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kafka/handles.hpp"
#include "sluice/config.hpp"

namespace sluice::kafka {

/// A setting librdkafka does not take. The text names our key and the mend, and holds no secret.
class conf_error : public std::runtime_error {
public:
  using std::runtime_error::runtime_error;
};

/// Properties of librdkafka and their values.
using property_list = std::vector<std::pair<std::string, std::string>>;

/// Records that wait in a partition's queue when librdkafka stops to fetch more.
inline constexpr int queued_records = 50000;

/// What a group member, a tail reader and the reader of a compacted topic have in common; `group` is the group.id.
property_list consumer_properties(const std::string& group);
/// What the sink is made of: idempotence, queue bounds, delivery timeout.
property_list producer_properties(const kafka_config& cfg);
/// The same for a transactional producer.
property_list transactional_properties(const kafka_config& cfg, const std::string& transactional_id);

/// How long the broker waits for a transaction before it aborts it, in ms. Who takes over the partitions of a member
/// that died inside a transaction waits as long at worst, plus the broker's own rhythm of looking (10 s by default):
/// until then those offsets are not settled. Ours live for milliseconds, so this is short; Kafka Streams takes the
/// same.
inline constexpr int transaction_timeout_ms = 10000;

/// Connection settings, then `role`, then `cfg.properties`. Throws `conf_error`.
conf_handle make_conf(const kafka_config& cfg, const property_list& role);

/// Names our key in what librdkafka said about a whole configuration.
std::string explain_conf_error(const kafka_config& cfg, std::string text);

} // namespace sluice::kafka
