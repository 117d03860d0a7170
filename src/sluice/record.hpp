/// Records as they come from Kafka and as they go to it. Plain data: any thread, no locks.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sluice/caf.hpp"
#include "sluice/error.hpp"

namespace sluice {

/// The header with an event's id: the same in every attempt and on every hop.
inline constexpr const char* event_id_header = "sluice-event-id";

/// A record header. Kafka allows a name more than once; order is kept. Values are bytes.
struct record_header {
  std::string name;
  std::string value;
  bool has_value = true; ///< False: null, which is not the same as empty.
};

/// One record to be written. Without a key the partition is chosen at random, with one by its hash (murmur2, as Java's
/// clients do), unless `partition` is set.
struct outgoing_record {
  std::string topic;
  std::optional<std::string> key{};
  std::optional<std::string> value{}; ///< Absent = a tombstone.
  std::vector<record_header> headers{};
  int32_t partition = -1;   ///< -1 = by key.
  int64_t timestamp_ms = 0; ///< Unix milliseconds; 0 = now.
};

/// What became of one outgoing record.
struct delivery {
  std::string topic;
  int32_t partition = -1;
  int64_t offset = -1;
  ec error = ec::no_error; ///< `no_error` = acknowledged by all in-sync replicas.
  std::string reason;      ///< For people; empty on success.
  bool queued = false;     ///< In the outbox: it will be written once Kafka is back. No partition and offset then.
};

/// A partition and an offset in it. What the offset means (next to read, last read) is said where it is used.
struct topic_partition {
  std::string topic;
  int32_t partition = -1;
  int64_t offset = stored_offset;
  std::string metadata{}; ///< What a commit says besides the offset, at most 4 KiB; empty elsewhere.
  /// "Where the group's last commit points", or, with no commit, as `auto.offset.reset` says.
  static constexpr int64_t stored_offset = -1000;
  friend bool operator==(const topic_partition&, const topic_partition&) = default;
};

/// One consumed record, pointing into its batch: valid as long as the batch lives.
struct record_view {
  std::string_view key;
  std::string_view value;
  int64_t offset = 0;
  int64_t timestamp_ms = 0; ///< Unix milliseconds as the broker has it; -1 where it has none.
  bool has_key = false;
  bool has_value = false; ///< false = a tombstone.
};

/// Consecutive records of **one** partition, owning what the views point to. Immutable: may be read by many actors.
class record_batch {
public:
  virtual ~record_batch() = default;
  virtual const std::string& topic() const noexcept = 0;
  virtual int32_t partition() const noexcept = 0;
  /// In offset order, never empty. Offsets may have holes (transaction markers, compaction).
  virtual std::span<const record_view> records() const noexcept = 0;
  /// Headers of the record at `index`, read on demand.
  virtual std::vector<record_header> headers(std::size_t index) const = 0;
};

/// How batches travel between actors: one message a batch, no copy. Local only.
using batch_ptr = std::shared_ptr<const record_batch>;

/// A record that could not be processed, with all that a dead letter says about it.
struct failed_record {
  std::string topic;
  int32_t partition = -1;
  int64_t offset = -1;
  int64_t timestamp_ms = -1;
  std::optional<std::string> key;
  std::optional<std::string> value;
  std::vector<record_header> headers;
  std::string processor; ///< Who gave up, e.g. "aggregator/default".
  ec error = ec::no_error;
  std::string reason;
  uint32_t attempts = 1;
  int64_t first_failure_ms = 0; ///< Unix milliseconds.
  int64_t last_failure_ms = 0;  ///< Unix milliseconds.
};

template <class Inspector>
auto inspect(Inspector& f, record_header& x) {
  return inspect_fields(f, x, "record_header", field("name", x.name), field("value", x.value),
                        field("has_value", x.has_value));
}
template <class Inspector>
auto inspect(Inspector& f, topic_partition& x) {
  return inspect_fields(f, x, "topic_partition", field("topic", x.topic), field("partition", x.partition),
                        field("offset", x.offset), field("metadata", x.metadata));
}

} // namespace sluice
