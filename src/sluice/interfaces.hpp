/// The whole vocabulary on one page: every message, atom and typed actor interface, and the type-ID block.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sluice/caf.hpp"
#include "sluice/dead_letters.hpp"
#include "sluice/documents.hpp"
#include "sluice/error.hpp"
#include "sluice/ports.hpp"
#include "sluice/publication.hpp"
#include "sluice/record.hpp"

namespace sluice {

/// Records for the producer, moved as one message; the answer has one `delivery` a record, in the same order.
using outgoing_ptr = std::shared_ptr<const std::vector<outgoing_record>>;
using deliveries = std::shared_ptr<const std::vector<delivery>>;

/// A transaction's content: records and the offsets to continue at.
struct transaction {
  std::vector<outgoing_record> records;
  std::vector<topic_partition> next_offsets;
};
using transaction_ptr = std::shared_ptr<const transaction>;
using failed_ptr = std::shared_ptr<const failed_record>;
using partition_list = std::vector<topic_partition>;
using cluster_view_ptr = std::shared_ptr<const cluster_view>;

/// One consumed record as a processor gets it: owned, and no part of a batch. Topic, partition and offset say where it
/// is from. Key and value are bytes; both are empty where the record has none.
struct record {
  std::string topic;
  int32_t partition = -1;
  int64_t offset = -1;
  std::string key;
  std::string value;
  std::vector<record_header> headers{};
  int64_t timestamp_ms = -1; ///< Unix milliseconds as the broker has it; -1 where it has none.
};

/// What a processor gets besides its record, in sluice/processor.hpp.
class context;
/// One processor actor's record and all that goes with it. Local only; used by one thread at a time.
using context_ptr = std::shared_ptr<context>;
/// What a supervisor has a worker do.
struct processor_work;
using processor_work_ptr = std::shared_ptr<processor_work>;

template <class Inspector>
auto inspect(Inspector& f, record& x) {
  return inspect_fields(f, x, "record", field("topic", x.topic), field("partition", x.partition),
                        field("offset", x.offset), field("key", x.key), field("value", x.value),
                        field("headers", x.headers), field("timestamp_ms", x.timestamp_ms));
}

/// What an aggregator holds at the moment; JSON text of the reference's `currentAggregation` object, with its name.
struct aggregation_view {
  std::string name;
  std::string json;
};
using aggregation_views = std::vector<aggregation_view>;

template <class Inspector>
auto inspect(Inspector& f, aggregation_view& x) {
  return inspect_fields(f, x, "aggregation_view", field("name", x.name), field("json", x.json));
}

/// A client's wish to be shown live events.
struct live_request {
  event_stream_ptr stream;
  std::string client; ///< Its id: given by it, or made up. One stream a client: a later one ends the earlier.
  std::string user;   ///< Empty where nobody authenticates.
  std::string remote; ///< Address.
  std::vector<std::string> channels;
  std::string cursor;                ///< `Last-Event-ID`: where it was; empty = it is new.
  std::string from;                  ///< Where a new client begins: "" or "now", "earliest", or Unix milliseconds.
  std::optional<int64_t> expires_ms; ///< When its credentials end, Unix milliseconds.
  bool snapshot = false;             ///< Greeted by the aggregations' state, not by `connected`.
};
using live_request_ptr = std::shared_ptr<const live_request>;

/// A connected client, as operators see it.
struct live_client {
  std::string client, user, remote;
  std::vector<std::string> channels;
  int64_t connected_ms = 0; ///< Since when, Unix milliseconds.
  stream_protocol protocol = stream_protocol::sse;
  stream_usage usage;
};
using live_clients = std::shared_ptr<const std::vector<live_client>>;
using channel_names = std::vector<std::string>;

/// For the store, moved as one message; the answer has one standing a claim, in the same order.
using claims_ptr = std::shared_ptr<const std::vector<claim>>;
using standings_ptr = std::shared_ptr<const std::vector<standing>>;
using settlements_ptr = std::shared_ptr<const std::vector<settlement>>;

class outbox_job;
/// How what is for the outbox travels: for one receiver, which takes it out. Local only.
using outbox_job_ptr = std::shared_ptr<outbox_job>;

} // namespace sluice

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::live_request_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::live_clients)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::batch_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::context_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::processor_work_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::outgoing_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::deliveries)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::publications)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::transaction_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::failed_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::cluster_view_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::event_stream_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::dlq_query_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::dlq_page_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::dlq_overview_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::redrive_order_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::redrive_report_ptr)

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::claims_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::standings_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::settlements_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::outbox_job_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::audit_entries_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::audit_fates_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::audit_query_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::audit_page_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::audit_check_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::audit_counts_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::report_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::report_query_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::report_page_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::document_request_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(sluice::document_reply_ptr)

CAF_BEGIN_TYPE_ID_BLOCK(sluice, caf::first_custom_type_id)

CAF_ADD_TYPE_ID(sluice, (sluice::ec))
CAF_ADD_TYPE_ID(sluice, (sluice::record_header))
CAF_ADD_TYPE_ID(sluice, (sluice::topic_partition))
CAF_ADD_TYPE_ID(sluice, (sluice::partition_list))
CAF_ADD_TYPE_ID(sluice, (sluice::record))
CAF_ADD_TYPE_ID(sluice, (sluice::aggregation_view))
CAF_ADD_TYPE_ID(sluice, (sluice::aggregation_views))
// Local only: shared, immutable.
CAF_ADD_TYPE_ID(sluice, (sluice::batch_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::outgoing_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::deliveries))
CAF_ADD_TYPE_ID(sluice, (sluice::publications))
CAF_ADD_TYPE_ID(sluice, (sluice::transaction_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::failed_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::cluster_view_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::event_stream_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::live_request_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::live_clients))
CAF_ADD_TYPE_ID(sluice, (sluice::channel_names))
CAF_ADD_TYPE_ID(sluice, (sluice::context_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::processor_work_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::dlq_query_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::dlq_page_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::dlq_overview_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::redrive_order_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::redrive_report_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::claims_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::standings_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::settlements_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::outbox_job_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::audit_entries_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::audit_fates_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::audit_query_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::audit_page_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::audit_check_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::audit_counts_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::report_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::report_query_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::report_page_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::document_request_ptr))
CAF_ADD_TYPE_ID(sluice, (sluice::document_reply_ptr))

CAF_ADD_ATOM(sluice, sluice::atom, wake, "wake")
CAF_ADD_ATOM(sluice, sluice::atom, tick, "tick")
CAF_ADD_ATOM(sluice, sluice::atom, credit, "credit")
CAF_ADD_ATOM(sluice, sluice::atom, assigned, "assigned")
CAF_ADD_ATOM(sluice, sluice::atom, revoked, "revoked")
CAF_ADD_ATOM(sluice, sluice::atom, commit, "commit")
CAF_ADD_ATOM(sluice, sluice::atom, restore, "restore")
CAF_ADD_ATOM(sluice, sluice::atom, state, "state")
CAF_ADD_ATOM(sluice, sluice::atom, join, "join")
CAF_ADD_ATOM(sluice, sluice::atom, closed, "closed")
CAF_ADD_ATOM(sluice, sluice::atom, drain, "drain")
CAF_ADD_ATOM(sluice, sluice::atom, retry, "retry")
CAF_ADD_ATOM(sluice, sluice::atom, start, "start")
CAF_ADD_ATOM(sluice, sluice::atom, done, "done")
CAF_ADD_ATOM(sluice, sluice::atom, reached, "reached")
CAF_ADD_ATOM(sluice, sluice::atom, subscribe, "subscribe")
CAF_ADD_ATOM(sluice, sluice::atom, leave, "leave")
CAF_ADD_ATOM(sluice, sluice::atom, clients, "clients")
CAF_ADD_ATOM(sluice, sluice::atom, resume, "resume")
CAF_ADD_ATOM(sluice, sluice::atom, verify, "verify")
CAF_ADD_ATOM(sluice, sluice::atom, count, "count")

CAF_END_TYPE_ID_BLOCK(sluice)

namespace sluice {

/// The KAFKA PRODUCER: writes records and answers when the broker has acknowledged them, or with each one's error.
using kafka_producer_actor = caf::typed_actor<caf::replies_to<outgoing_ptr>::with<deliveries>,
                                              // The same for many who wait outside the actors; answers each by itself.
                                              caf::reacts_to<publications>,
                                              // Stops taking records; answers once nothing is in flight.
                                              caf::replies_to<atom::drain>::with<atom::done>,
                                              // INTERNAL: the library has outcomes.
                                              caf::reacts_to<atom::wake>,
                                              // INTERNAL: what waits has waited long enough.
                                              caf::reacts_to<atom::tick>>;

/// The TRANSACTOR: writes summaries and the offsets they cover in one transaction, one after the other.
using transactor_actor = caf::typed_actor<caf::replies_to<transaction_ptr>::with<atom::done>,
                                          // Takes the transactional id over, ending what an earlier owner left open.
                                          // Must come before reading from the group.
                                          caf::replies_to<atom::start>::with<atom::done>,
                                          // All committed records of a compacted topic's partition.
                                          caf::replies_to<atom::restore, std::string, int32_t>::with<outgoing_ptr>>;

/// A RECORD HANDLER: what a kafka_consumer feeds. It gives back one credit a record, when it is ready for more.
using record_handler_actor = caf::typed_actor<caf::reacts_to<batch_ptr>,
                                              // These partitions come next; the answer names the offsets to begin at.
                                              caf::replies_to<atom::assigned, partition_list>::with<partition_list>,
                                              // These partitions go (true: are gone); the answer says that nothing of
                                              // them is in flight any more.
                                              caf::replies_to<atom::revoked, partition_list, bool>::with<atom::done>,
                                              // Everything before this offset has come, transactions' markers included.
                                              caf::reacts_to<atom::reached, topic_partition>>;

/// The KAFKA CONSUMER: one group (or reader), one handler. Batches out, credits in.
using kafka_consumer_actor = caf::typed_actor<
    // The handler is ready for this many records more.
    caf::reacts_to<atom::credit, uint32_t>,
    // Offsets to continue at: commits them. Handlers that commit in transactions never send it.
    caf::reacts_to<atom::commit, partition_list>,
    // What the group has committed last of these partitions, with its metadata.
    caf::replies_to<atom::restore, partition_list>::with<partition_list>,
    // Takes no more records, hands its partitions over, leaves the group, then answers.
    caf::replies_to<atom::drain>::with<atom::done>,
    // INTERNAL: the library has records or group events.
    caf::reacts_to<atom::wake>,
    // INTERNAL: stays in the group while nothing comes.
    caf::reacts_to<atom::tick>>;

/// IN PLACE: feeds a processor with what the outbox keeps while Kafka is away.
using in_place_actor = kafka_consumer_actor::extend<
    // These are on disk now; true: nothing older waits there.
    caf::reacts_to<outgoing_ptr, bool>>;

/// The AGGREGATOR: windows over events, summaries out.
using aggregator_actor = record_handler_actor::extend<caf::replies_to<atom::state>::with<aggregation_view>,
                                                      // INTERNAL: the oldest window may be due.
                                                      caf::reacts_to<atom::tick>,
                                                      // INTERNAL: summaries wait for their transaction.
                                                      caf::reacts_to<atom::commit>>;

/// The PROCESSOR: what users write who need more than a function. It gets one record at a time and answers once it is
/// done with it; an error means that this attempt failed. Handlers neither block nor throw.
using processor_actor = caf::typed_actor<caf::replies_to<context_ptr>::with<atom::done>>;

/// A PROCESSOR WORKER: runs a processor on one work after the other and tells its supervisor of each.
using processor_worker_actor = caf::typed_actor<caf::reacts_to<processor_work_ptr>>;

/// The PROCESSOR SUPERVISOR: deals records out to workers by key; retries, parks, buries and commits.
using processor_supervisor_actor = record_handler_actor::extend<
    // INTERNAL, from a worker: this many of the work's records have an outcome, the rest was left.
    caf::reacts_to<atom::done, processor_work_ptr, uint32_t>,
    // INTERNAL: parked keys may be due, attempts may have taken too long.
    caf::reacts_to<atom::tick>,
    // INTERNAL: what has finished may be committed.
    caf::reacts_to<atom::commit>,
    // INTERNAL: starts the worker with this index (again).
    caf::reacts_to<atom::start, uint64_t>,
    // INTERNAL: sends once more what the producer or the dead-letter office did not take.
    caf::reacts_to<atom::retry, uint64_t>>;

/// The DEAD LETTER office: writes failed records to `<topic>.dlq`, answers once one is acknowledged. Never loses one:
/// it repeats until the broker takes it.
using dead_letter_actor = caf::typed_actor<caf::replies_to<failed_ptr>::with<atom::done>,
                                           // INTERNAL: tries the given letter once more.
                                           caf::reacts_to<atom::retry, uint64_t>>;

/// The DLQ WORKBENCH: looks into dead-letter topics and sends letters back to where they came from.
using dlq_workbench_actor = caf::typed_actor<
    // Letters of a topic.
    caf::replies_to<dlq_query_ptr>::with<dlq_page_ptr>,
    // Sends letters back; one order a topic at a time.
    caf::replies_to<redrive_order_ptr>::with<redrive_report_ptr>,
    // What there is of these dead-letter topics.
    caf::replies_to<atom::state, channel_names>::with<dlq_overview_ptr>>;

/// A DLQ JOB: does one of the workbench's tasks, and ends.
using dlq_job_actor = dlq_workbench_actor::extend<
    // INTERNAL: time for the next letters.
    caf::reacts_to<atom::tick>>;

/// The DOCUMENT DESK: asks the store of documents on behalf of HTTP, one request after the other.
using document_desk_actor = caf::typed_actor<
    // An error (`store_unavailable`, `storage_full`): nothing has changed.
    caf::replies_to<document_request_ptr>::with<document_reply_ptr>>;

/// The IDEMPOTENCY STORE: knows what has been done, by scope and id, and who is at it. Whoever must not do a thing
/// twice claims it first, does it where the claim is granted, and settles it: done, or released for another attempt.
/// What many ask for while the database works goes into its next transaction together.
using idempotency_actor = caf::typed_actor<
    // An error (`store_unavailable`, `storage_full`, `queue_full`): nothing is claimed; try again later.
    caf::replies_to<claims_ptr>::with<standings_ptr>,
    // Answers once that is on disk. After an error the claims still hold, until their leases end.
    caf::replies_to<settlements_ptr>::with<atom::done>,
    // INTERNAL: what has been gathered goes to the database.
    caf::reacts_to<atom::commit>,
    // INTERNAL: time to forget what is over.
    caf::reacts_to<atom::tick>>;

/// The ARCHIVE: owns the audit trail and the reports. What many want to add while the database works goes into its next
/// transaction together. Errors are those of `audit_log` and `report_shelf`, and `queue_full`.
using archive_actor = caf::typed_actor<
    // Adds entries to the trail; one fate an entry, once that is on disk.
    caf::replies_to<audit_entries_ptr>::with<audit_fates_ptr>,
    // Looks for entries.
    caf::replies_to<audit_query_ptr>::with<audit_page_ptr>,
    // Looks at a piece of the chain, behind the entry with this number.
    caf::replies_to<atom::verify, int64_t>::with<audit_check_ptr>,
    // Counts the entries from one time on, up to another.
    caf::replies_to<atom::count, int64_t, int64_t>::with<audit_counts_ptr>,
    // Keeps a report; answers with the one that is there then.
    caf::replies_to<report_ptr>::with<report_ptr>,
    // Looks for reports.
    caf::replies_to<report_query_ptr>::with<report_page_ptr>,
    // INTERNAL: what has been gathered goes to the database.
    caf::reacts_to<atom::commit>>;

/// The OUTBOX: keeps events on disk while Kafka is away, and brings them to it in order.
using outbox_actor = caf::typed_actor<caf::reacts_to<outbox_job_ptr>,
                                      // Answers all that has been taken, notes what Kafka has, and stops.
                                      caf::replies_to<atom::drain>::with<atom::done>,
                                      // INTERNAL: what has been gathered goes to disk.
                                      caf::reacts_to<atom::commit>,
                                      // INTERNAL: the library has outcomes.
                                      caf::reacts_to<atom::wake>,
                                      // INTERNAL: time to try again what failed.
                                      caf::reacts_to<atom::tick>>;

/// The SSE HUB: encodes what the topics bring, once for all clients of a channel, and knows all sessions.
using sse_hub_actor = record_handler_actor::extend<
    // Greets the client, gives it what it has missed, and from then on all that comes.
    caf::replies_to<atom::join, live_request_ptr>::with<atom::done>,
    // Adds channels to a client's (true) or takes them away (false); the answer names those it has then.
    caf::replies_to<atom::subscribe, std::string, channel_names, bool>::with<channel_names>,
    // Ends a client's stream for good, with a reason for it.
    caf::replies_to<atom::leave, std::string, std::string>::with<atom::done>,
    // All clients.
    caf::replies_to<atom::clients>::with<live_clients>,
    // Ends all streams, spread over the given milliseconds, and takes no more; answers when the last has been told.
    caf::replies_to<atom::drain, uint32_t>::with<atom::done>,
    // INTERNAL: the replay of the stream with this number has come to this cursor, or cannot go on (empty).
    caf::reacts_to<atom::resume, uint64_t, std::string>,
    // INTERNAL: time to end the next few streams.
    caf::reacts_to<atom::tick>,
    // INTERNAL: time to move quiet clients' cursors on.
    caf::reacts_to<atom::commit>>;

/// A LIVE REPLAY: brings one client from an old cursor to where the hub can take over.
using live_replay_actor = caf::typed_actor<
    // INTERNAL: time for the next batch.
    caf::reacts_to<atom::tick>>;

/// An SSE SESSION: one client's stay, from its join to its end.
using sse_session_actor = caf::typed_actor<
    // INTERNAL: the stream has ended, for the reason given (stream_end).
    caf::reacts_to<atom::closed, uint8_t>,
    // INTERNAL: its lifetime, or that of its credentials, is over.
    caf::reacts_to<atom::tick>>;

/// KAFKA ADMIN: creates topics and watches whether the cluster answers.
using kafka_admin_actor = caf::typed_actor<caf::replies_to<atom::state>::with<cluster_view_ptr>,
                                           // INTERNAL: time for the next look.
                                           caf::reacts_to<atom::tick>>;

/// The GENERATOR: publishes a random event now and then, for demonstrations.
using generator_actor = caf::typed_actor<
    // INTERNAL: time for the next event.
    caf::reacts_to<atom::tick>>;

/// The ROOT of the supervision tree.
using root_actor = caf::typed_actor<
    // From now on children that end stay ended.
    caf::reacts_to<atom::drain>,
    // INTERNAL: starts the child with this index (again).
    caf::reacts_to<atom::start, uint64_t>>;

/// The TERMINATOR: an ordered stop within the grace period.
using terminator_actor = caf::typed_actor<
    // INTERNAL: the next step.
    caf::reacts_to<atom::start>,
    // INTERNAL: the grace period is over.
    caf::reacts_to<atom::tick>>;

} // namespace sluice
