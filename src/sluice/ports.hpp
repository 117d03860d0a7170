/// What actors need of the outside world. Adapters implement these (src/kafka, src/http); unit tests bring fakes.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "sluice/archive.hpp"
#include "sluice/documents.hpp"
#include "sluice/record.hpp"

namespace sluice {

using std::chrono::milliseconds;

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
/// Everything before this offset of the partition has come, markers of transactions (which never come) included.
struct partition_reached {
  topic_partition where;
};
/// What a source has to say; `monostate` = nothing now.
using source_event =
    std::variant<std::monostate, batch_ptr, partitions_assigned, partitions_revoked, partition_reached, caf::error>;

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
  /// What the group has committed last, with its metadata; `stored_offset` where it has nothing yet. Unlike all else it
  /// blocks, for a request's timeout at most.
  virtual caf::expected<std::vector<topic_partition>> committed(const std::vector<topic_partition>& partitions) = 0;
};

/// Reads what has been written to some topics once more, from given offsets, for one client. Calls may block for a
/// request's timeout, `next` for the time given; only for detached actors, one thread at a time.
class replay_source {
public:
  struct partition_bounds {
    std::string topic;
    int32_t partition = -1;
    int64_t first = 0; ///< Offset of the oldest record there is.
    int64_t end = 0;   ///< Offset the next record will have.
  };
  /// A batch; or an end: everything before this offset of the partition has come; or what keeps it from going on.
  using event = std::variant<std::monostate, batch_ptr, topic_partition, caf::error>;
  virtual ~replay_source() = default;
  /// All partitions of these topics; topics that do not exist have none.
  virtual caf::expected<std::vector<partition_bounds>> bounds(const std::vector<std::string>& topics) = 0;
  /// Of each partition the first offset with a timestamp of at least `unix_ms`; -1 where there is none.
  virtual caf::expected<std::vector<topic_partition>> at_time(const std::vector<std::string>& topics,
                                                              int64_t unix_ms) = 0;
  /// Begins to read, after the questions above. Once more: from here instead; some of what was on its way by the former
  /// call may still come first.
  virtual void start(const std::vector<topic_partition>& from) = 0;
  virtual event next(std::chrono::milliseconds wait) = 0;
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
  /// Takes the record. An error (`queue_full`, `unknown_topic`, `too_large`, `kafka_refused`) means it was not taken
  /// and no outcome comes.
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
  bool creating = false;            ///< They have been created and are about to appear.
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

// -- notifications ----------------------------------------------------------------------------------------------------

/// What a receiver is told.
struct notification {
  std::string id;    ///< The same in every attempt: receivers tell by it what they have got already.
  std::string title; ///< May be empty.
  std::string text;
  std::string html; ///< Empty = there is only the text.
  std::string json; ///< All of it, for machines.
};

/// Takes notifications to receivers over one outside system. Calls from any thread, several at a time; they block,
/// about `notification.timeout` at most.
class notifier {
public:
  virtual ~notifier() = default;
  /// Tells `to`, an address as this system has them. `rejected`: it never will; `target_unavailable`: not now;
  /// `rate_limited`: from when on. No error shows a secret. Looks at `cancelled` about once a second, and then gives
  /// up.
  virtual caf::error tell(const std::string& to, const notification& what, const std::function<bool()>& cancelled) = 0;
};

// -- the store --------------------------------------------------------------------------------------------------------

/// Someone's wish to do a thing that must not be done twice, such as to process the event `id` for the group `scope`.
struct claim {
  std::string scope; ///< Who does it: a consumer group, or an HTTP user. Any bytes.
  std::string id;    ///< What is done: an event id, or an `Idempotency-Key`. Any bytes.
  /// Who claims. The same owner may claim again, all others have to wait for `lease`. Whoever processes a record is
  /// best called "<topic>/<partition>/<offset>": who gets the partition after a crash or a rebalance then has the claim
  /// at once, and the same event at another offset has not.
  std::string owner;
  std::string fingerprint{}; ///< What was asked for, to tell another request of the same id.
  milliseconds lease{60000}; ///< How long the claim holds where its owner dies; longer than the work takes.
};

/// What became of a claim.
struct standing {
  enum class state : uint8_t {
    granted, ///< Do it, then settle: done or released.
    busy,    ///< Someone else is at it; claim again later.
    done,    ///< It has been done: `answer`.
  };
  state what = state::granted;
  std::string fingerprint; ///< Of who is at it, or has done it.
  std::string answer;      ///< What was settled; `done` only.
};

/// The end of a granted claim: done, and remembered for `ttl`, or released, and free for the next who claims. Without
/// effect where the owner has lost the claim, because its lease was over.
struct settlement {
  std::string scope, id, owner; ///< As claimed.
  bool done = true;             ///< false: released.
  std::string answer{};         ///< For who claims it later; UTF-8 text. May be empty.
  milliseconds ttl{86400000};
};

/// Remembers what has been done. Calls block: only for one thread at a time that may. Each is one transaction, on disk
/// (as far as the database promises that) before it returns. An error (`store_unavailable`, `storage_full`) names what
/// is wrong and the mend, without secrets; nothing of the call holds then, and the next call tries anew.
class idempotency_store {
public:
  virtual ~idempotency_store() = default;
  /// One standing a claim, in the same order. Of the same id twice in one call, the first owner's counts.
  virtual caf::expected<std::vector<standing>> begin(const std::vector<claim>& claims) = 0;
  virtual caf::error settle(const std::vector<settlement>& all) = 0;
  /// Forgets what is over, `most` entries of it; returns how many there were. 0 where the database does that by itself.
  virtual caf::expected<std::size_t> sweep(std::size_t most) = 0;
};

/// Records on disk that wait for Kafka. One process at a time has it open. Calls block on the disk; errors as above.
class outbox_log {
public:
  struct entry {
    int64_t id = 0; ///< Ascending in the order of `commit`.
    outgoing_record record;
    uint64_t bytes = 0; ///< As counted by `usage`.
  };
  struct refusal {
    int64_t id = 0;
    std::string reason;
  };
  /// What one topic has.
  struct usage {
    uint64_t records = 0;
    uint64_t bytes = 0;
  };
  virtual ~outbox_log() = default;
  /// Adds `fresh`, removes what Kafka has, sets aside what it refuses; all or nothing, on disk before it returns.
  /// Returns the bytes of each of `fresh`, as `usage` counts them.
  virtual caf::expected<std::vector<uint64_t>> commit(const std::vector<const outgoing_record*>& fresh,
                                                      const std::vector<int64_t>& written,
                                                      const std::vector<refusal>& refused) = 0;
  /// The next records after `after` that are not set aside: `records` of them, or about `bytes`, at most.
  virtual caf::expected<std::vector<entry>> read(int64_t after, std::size_t records, std::size_t bytes) = 0;
  /// By topic, of what is not set aside; and, under the name "", of what is.
  virtual caf::expected<std::map<std::string, usage>> contents() = 0;
  /// Lets what was set aside be tried again, in its old place.
  virtual caf::error readmit() = 0;
};

/// The audit trail: entries are added, and never changed or removed. Each is chained to the one before it by a hash.
/// Several processes may write to one database. Calls and errors as those of `idempotency_store`.
class audit_log {
public:
  virtual ~audit_log() = default;
  /// One fate an entry, in the same order; all that are `added` are on disk then.
  virtual caf::expected<std::vector<audit_fate>> append(const std::vector<audit_entry>& entries) = 0;
  virtual caf::expected<audit_page> find(const audit_query& query) = 0;
  /// Looks at the `most` entries behind number `after`, which holds as it is; 0 = from the beginning.
  virtual caf::expected<audit_check> verify(int64_t after, std::size_t most) = 0;
  /// Of the entries from `from_ms` on and before `to_ms`, by their own time.
  virtual caf::expected<audit_counts> count(int64_t from_ms, int64_t to_ms) = 0;
};

/// Reports that have been made. Calls and errors as those of `idempotency_store`.
class report_shelf {
public:
  virtual ~report_shelf() = default;
  /// Keeps a report, unless there is one for its event already; returns the one that is there then.
  virtual caf::expected<report> keep(const report& fresh) = 0;
  virtual caf::expected<report_page> find(const report_query& query) = 0;
};

// -- documents --------------------------------------------------------------------------------------------------------

/// What a document says.
struct parsed_text {
  std::string text;
  bool is_cut = false; ///< There is more, which was not read.
};

/// Makes text of a document's bytes: UTF-8 without control characters but line ends and tabs, not empty. May block, for
/// seconds, and looks at `cancelled` meanwhile. Any thread. `rejected`: there is no text to be had of it, and the
/// reason; other errors: not now.
using document_parser = std::function<caf::expected<parsed_text>(
    const std::string& content_type, std::string_view bytes, const std::function<bool()>& cancelled)>;

/// Makes vectors of texts: alike texts get vectors in like directions, all of one length. Any thread; blocks.
class embedder {
public:
  virtual ~embedder() = default;
  /// What makes them. Vectors of different models cannot be compared.
  virtual const std::string& model() const = 0;
  /// Texts that are best given at a time.
  virtual std::size_t batch() const = 0;
  /// Whether it asks nobody, and so neither fails nor takes long.
  virtual bool is_local() const = 0;
  /// One vector a text, in the same order. `rejected`: never for these texts; `target_unavailable`, `rate_limited`: not
  /// now. No error shows a secret.
  virtual caf::expected<std::vector<std::vector<float>>> embed(const std::vector<std::string>& texts,
                                                               const std::function<bool()>& cancelled) = 0;
};

/// Keeps documents, their chunks and vectors. Any thread; calls block. Each is one transaction, on disk before it
/// returns; errors as those of `idempotency_store`.
class document_store {
public:
  /// Whose documents are seen.
  struct viewer {
    std::string user;
    bool everyones = true;
  };
  struct added {
    document what; ///< As it is kept.
    bool is_new = false;
  };
  /// What a document and its chunk have in common with a search.
  struct candidate {
    document what;
    document_chunk chunk;
    double relevance = 0; ///< Greater is better; of this search only.
  };
  virtual ~document_store() = default;
  /// Keeps a document with its bytes, its title and its first chunks to be found by, as `uploaded`. One that is there
  /// by that id stays as it is.
  virtual caf::expected<added> add(const document& what, std::string_view bytes,
                                   const std::vector<document_chunk>& first) = 0;
  virtual caf::expected<std::optional<document>> find(const std::string& id) = 0;
  virtual caf::expected<std::string> bytes_of(const std::string& id) = 0;
  /// These are all its chunks now, and it is `parsed`. Chunks whose id is there already keep their vectors. Without
  /// effect where there is no such document.
  virtual caf::error set_chunks(const std::string& id, const std::vector<document_chunk>& all, bool is_cut) = 0;
  /// The first chunks that have no vector by `model`.
  virtual caf::expected<std::vector<document_chunk>> unembedded(const std::string& id, const std::string& model,
                                                                std::size_t most) = 0;
  virtual caf::error set_vectors(const std::string& model, const std::vector<document_chunk>& some) = 0;
  virtual caf::error set_embedded(const std::string& id, const std::string& model) = 0;
  /// Says why it failed, or, with `for_good` false, what holds it up. Without effect on one that is embedded.
  virtual caf::error note(const std::string& id, const std::string& reason, bool for_good) = 0;
  virtual caf::expected<std::vector<document_chunk>> chunks(const std::string& id, int32_t from, std::size_t most) = 0;
  virtual caf::expected<std::vector<document>> list(const viewer& who, const document_listing& which) = 0;
  /// The best of the chunks that have any of the words of `text`, the first 32 of them.
  virtual caf::expected<std::vector<candidate>> search(const viewer& who, const std::string& text,
                                                       std::size_t most) = 0;
  /// False where there was none.
  virtual caf::expected<bool> remove(const std::string& id) = 0;
};

// -- live delivery ----------------------------------------------------------------------------------------------------

/// Bytes ready for the socket, shared by all clients that get them.
using frame = std::shared_ptr<const std::string>;

/// What a client speaks. Whoever sends to a stream encodes for its protocol: whole server-sent events, or whole
/// WebSocket messages with their headers.
enum class stream_protocol : uint8_t { sse, websocket };

/// Why a stream ended.
enum class stream_end : uint8_t { client_left, too_slow, finished };

/// What becomes of a client that does not take its bytes as fast as they come, once `sse.maxQueueBytes` wait for it.
enum class slow_policy : uint8_t {
  disconnect,  ///< It is cut off; it comes back and resumes where it was.
  drop_oldest, ///< It loses the oldest events that wait, and is told by a `gap` event how many.
  latest,      ///< Of the events that wait it gets the latest of each key only.
};

/// The way of an event to clients: a channel, as seen by the clients whose cursor covers the same topics. The hub deals
/// these numbers out, from 0 on, and uses them again.
using route_id = uint32_t;

/// Events on their way, encoded once for all clients.
struct live_block {
  struct event {
    route_id route = 0;
    uint32_t number = 0; ///< Same number = the same event by another route: no stream gets it twice.
    uint64_t key = 0;    ///< Hash of channel and key, for `slow_policy::latest`.
    bool fires = true;   ///< False: it only moves the cursor, and is not counted.
    uint32_t sse_begin = 0, sse_size = 0;
    uint32_t ws_begin = 0, ws_size = 0; ///< Size 0 where no client speaks WebSocket.
  };
  std::string sse, ws; ///< What the events' places point into.
  std::vector<event> events;
};
using live_block_ptr = std::shared_ptr<const live_block>;

/// What a stream gets of the live events.
struct stream_subscription {
  std::vector<route_id> routes; ///< Sorted, each once.
  slow_policy policy = slow_policy::disconnect;
};

/// How a stream is doing; a moment old.
struct stream_usage {
  uint64_t events = 0;       ///< Handed to the kernel. Those of `send` count too.
  uint64_t bytes = 0;        ///< Handed to the kernel, as they go over the wire.
  uint64_t queued_bytes = 0; ///< Waiting for the client.
  uint64_t dropped = 0;      ///< Events it lost by its slow policy.
};

/// One client's open response. Calls from any thread; they are carried out in call order on the client's I/O thread.
class event_stream {
public:
  virtual ~event_stream() = default;
  /// Unique in this process.
  virtual uint64_t id() const noexcept = 0;
  virtual stream_protocol protocol() const noexcept = 0;
  /// Sends bytes to this client alone, `events` events, after all it has been given before.
  virtual void send(frame bytes, uint32_t events) = 0;
  /// From now on the client gets what `fan_out::publish` is given after this call for these routes. Replaces the former
  /// subscription; events that wait under that one still go out.
  virtual void subscribe(stream_subscription what) = 0;
  /// `sent` is called once, on the I/O thread, when all that `send` was given before has been handed to the kernel, or
  /// when the stream has ended.
  virtual void when_sent(std::function<void()> sent) = 0;
  /// Sends `last` after what waits, ends the response on an event boundary and closes. Later calls do nothing.
  virtual void finish(frame last) = 0;
  /// `closed` is called once, on the I/O thread, when the stream has ended, whoever ended it.
  virtual void on_closed(std::function<void(stream_end)> closed) = 0;
  /// WebSocket: `received` gets each text message of the client, on the I/O thread. At most 64 KiB each.
  virtual void on_message(std::function<void(std::string)> received) = 0;
  virtual stream_usage usage() const = 0;
};
using event_stream_ptr = std::shared_ptr<event_stream>;

/// Gives a block to every stream that is subscribed: one post an I/O thread. Any thread.
class fan_out {
public:
  virtual ~fan_out() = default;
  virtual void publish(live_block_ptr block) = 0;
};

} // namespace sluice
