/// What actors need of the outside world. Adapters implement these (src/kafka, src/http); unit tests bring fakes.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "sluice/record.hpp"

namespace sluice {

// -- Kafka in ---------------------------------------------------------------------------------------------------------

/// The group gave us these partitions. Nothing is read from them until `record_source::assign`.
struct partitions_assigned {
  std::vector<topic_partition> partitions;
};
/// The group takes these back and waits for `record_source::unassign`. `lost` = they belong to someone else already.
struct partitions_revoked {
  std::vector<topic_partition> partitions;
  bool lost = false;
};
/// What a source has to say; `monostate` = nothing now.
using source_event = std::variant<std::monostate, batch_ptr, partitions_assigned, partitions_revoked, caf::error>;

/// Records of some topics, as a member of a consumer group or as a reader of all partitions.
/// All calls from one thread at a time (the kafka_consumer actor); none blocks, except the destructor, which leaves the
/// group (seconds at most). `caf::error` events are fatal for this source: make a new one. Passing trouble (broker
/// away) is not an event: the source reconnects by itself.
class record_source {
public:
  virtual ~record_source() = default;
  /// `wake` is called, from any thread, whenever `poll` may have something new. At most one call is outstanding: the
  /// next comes only after a `poll`. Call once, before the first `poll`.
  virtual void on_ready(std::function<void()> wake) = 0;
  /// The next event. With `want_records` false only group events and errors come, records stay where they are.
  virtual source_event poll(bool want_records) = 0;
  /// Begins to read these partitions at their offsets (`topic_partition::stored_offset` = the group's commit).
  virtual void assign(const std::vector<topic_partition>& partitions) = 0;
  /// Hands the partitions of a `partitions_revoked` back to the group.
  virtual void unassign(const std::vector<topic_partition>& partitions) = 0;
  /// Commits the offsets to continue at, without waiting; failures are logged and repaired by the next commit.
  virtual void commit(const std::vector<topic_partition>& next_offsets) = 0;
};

// -- Kafka out --------------------------------------------------------------------------------------------------------

/// Writes records, idempotently. All calls from one thread at a time (the kafka_producer actor); none blocks, except
/// the destructor, which waits for what is in flight as `flush` does (one second at most).
class record_sink {
public:
  /// Outcome of the record that was passed with `tag`.
  struct outcome {
    uint64_t tag = 0;
    delivery result;
  };
  virtual ~record_sink() = default;
  /// As in `record_source::on_ready`.
  virtual void on_ready(std::function<void()> wake) = 0;
  /// Takes the record. An error (`queue_full`, `unknown_topic`, `kafka_refused`) means it was not taken and no outcome
  /// comes.
  virtual caf::error send(const outgoing_record& record, uint64_t tag) = 0;
  /// Outcomes since the last call, in any order.
  virtual std::vector<outcome> poll() = 0;
  /// Set once the producer cannot go on (e.g. fenced): make a new sink.
  virtual caf::error fatal() const = 0;
};

/// Writes records and the offsets they stand for in one Kafka transaction, on behalf of one group source.
/// Every call blocks on the network: only for detached actors.
class transaction_log {
public:
  virtual ~transaction_log() = default;
  /// Fences earlier owners of the transactional id and finishes their transactions. Repeats until a broker answers or
  /// `keep_trying` returns false.
  virtual caf::error open(const std::function<bool()>& keep_trying) = 0;
  /// Commits `records` and the group's `next_offsets` together, or nothing of it. Repeats through passing trouble while
  /// `keep_trying` says so. An error means: start anew from the last commit.
  virtual caf::error commit(const std::vector<outgoing_record>& records,
                            const std::vector<topic_partition>& next_offsets,
                            const std::function<bool()>& keep_trying) = 0;
  /// All records of `topic`'s `partition`, committed ones only, latest value a key (absent value = key gone).
  virtual caf::expected<std::vector<outgoing_record>> read_compacted(const std::string& topic, int32_t partition) = 0;
};

/// What is known of a broker cluster at one moment.
struct cluster_view {
  bool connected = false;
  std::string error; ///< Why not connected; empty otherwise.
  struct topic {
    std::string name;
    int32_t partitions = 0;
  };
  std::vector<topic> topics;
  std::vector<std::string> missing; ///< Topics this server is to create and that are not there yet.
};

/// A topic to be created: partitions and replication factor -1 = the broker's default.
struct topic_spec {
  std::string name;
  int32_t partitions = -1;
  bool compacted = false;
};

/// Topics and connectivity. Calls block up to the request timeout: only for detached actors.
class cluster_admin {
public:
  virtual ~cluster_admin() = default;
  /// One round trip to the cluster.
  virtual cluster_view probe() = 0;
  /// Creates what is missing; topics that exist are left as they are.
  virtual caf::error create(const std::vector<topic_spec>& topics) = 0;
};

// -- live delivery ----------------------------------------------------------------------------------------------------

/// Bytes ready for the socket, shared by all clients that get them.
using frame = std::shared_ptr<const std::string>;

/// Why a stream ended.
enum class stream_end : uint8_t { client_left, too_slow, finished };

/// One client's open response. Calls from any thread; they are carried out in call order on the client's I/O thread.
class event_stream {
public:
  virtual ~event_stream() = default;
  /// Unique in this process.
  virtual uint64_t id() const noexcept = 0;
  /// Sends `hello`, then all that `fan_out::publish` is given after this call.
  virtual void join(frame hello) = 0;
  /// Sends `last` after what waits, ends the response on an event boundary and closes. Later calls do nothing.
  virtual void finish(frame last) = 0;
  /// `closed` is called once, on the I/O thread, when the stream has ended, whoever ended it.
  virtual void on_closed(std::function<void(stream_end)> closed) = 0;
};
using event_stream_ptr = std::shared_ptr<event_stream>;

/// Gives a block of `events` whole events to every stream that has joined: encoded once, one post an I/O thread. Any
/// thread.
class fan_out {
public:
  virtual ~fan_out() = default;
  virtual void publish(frame block, uint32_t events) = 0;
};

} // namespace sluice
