/// Counters of the whole process, written by actors and I/O threads, read by /metrics. Lock-free, any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <string>

namespace sluice {

/// One counter or gauge. Relaxed: a reader may be a moment behind, never wrong in the end.
class counter {
public:
  void add(uint64_t n = 1) noexcept { value_.fetch_add(n, std::memory_order_relaxed); }
  void sub(uint64_t n = 1) noexcept { value_.fetch_sub(n, std::memory_order_relaxed); }
  void set(uint64_t n) noexcept { value_.store(n, std::memory_order_relaxed); }
  uint64_t get() const noexcept { return value_.load(std::memory_order_relaxed); }

private:
  std::atomic<uint64_t> value_{0};
};

/// One processor's counters. At rest `in` = `done` + `dead_lettered` + `returned`; at work `in_flight` has the
/// difference.
struct processor_stats {
  counter in;             ///< Records taken for the first time since they were assigned.
  counter done;           ///< Processed; what they emitted is acknowledged.
  counter dead_lettered;  ///< In the dead-letter topic, acknowledged.
  counter returned;       ///< Unfinished when their partition went to another member, or when the supervisor ended.
  counter in_flight;      ///< Gauge.
  counter skipped;        ///< Finished before a restart and not processed again; not part of `in`.
  counter set_aside;      ///< In the topic for retries, acknowledged; taken again there, by "<name>.retries".
  counter duplicates;     ///< Of `done`: not processed again, since their event was done before.
  counter emitted;        ///< Records published for processors.
  counter retried;        ///< Attempts after the first.
  counter expired;        ///< Dead letters because of their deadline.
  counter timeouts;       ///< Attempts that took too long.
  counter restarts;       ///< Of crashed workers.
  counter parked_keys;    ///< Gauge: keys that wait for their next attempt.
  counter parked_records; ///< Gauge: records of those keys.
};

/// All counters, by role. A role may not exist in a given process; its counters stay 0.
struct stats {
  // kafka_producer
  counter records_sent;   ///< Acknowledged by the broker.
  counter records_failed; ///< Refused, timed out, or not taken because the queue was full.
  counter records_queued; ///< Gauge: waiting for their acknowledgement.
  // kafka_consumer
  counter records_consumed;
  counter rebalances;
  // aggregator
  counter events_aggregated;
  counter summaries;       ///< Committed.
  counter transactions;    ///< Committed.
  counter windows_open;    ///< Gauge.
  counter windows_evicted; ///< Closed early because `maxWindows` was reached.
  // dead_letter
  counter dead_letters;
  // dlq
  counter dead_letters_redriven;
  // processor_supervisor: by name; no name comes or goes while actors run.
  std::map<std::string, processor_stats> processors;
  // kafka_admin
  counter kafka_away; ///< Gauge: 1 while the cluster does not answer.
  // outbox
  counter outbox_records;  ///< Gauge: on disk, waiting for Kafka; those set aside are not among them.
  counter outbox_bytes;    ///< Gauge: on disk, those set aside included.
  counter outbox_refused;  ///< Gauge: set aside, because Kafka refuses them.
  counter outbox_taken;    ///< Records.
  counter outbox_replayed; ///< Records acknowledged by the broker.
  counter outbox_commits;  ///< Transactions on disk.
  // idempotency
  counter claims_granted;
  counter claims_busy;
  counter claims_done;   ///< Not done again.
  counter claims_queued; ///< Gauge: requests that wait for the database.
  counter store_errors;
  // sse_hub, sse_session and the shards
  counter clients; ///< Gauge: open SSE streams.
  counter clients_total;
  counter clients_slow;            ///< Ended because their queue was full.
  counter streams_refused_full;    ///< Not opened because of `sse.maxStreams`.
  counter streams_refused_user;    ///< ... of `sse.maxStreamsPerUser`.
  counter streams_refused_address; ///< ... of `sse.maxStreamsPerAddress`.
  counter streams_refused_rate;    ///< ... of `sse.maxOpensPerSecond`.
  counter frames;                  ///< Encoded, each once.
  counter deliveries;              ///< Frames handed to the kernel, a client each.
  counter events_dropped;          ///< Left out for clients that were too slow, a client each.
  counter live_feed;               ///< Gauge: 1 once the hub knows where in the topics it begins.
  counter events_skipped;          ///< Not shown live because they are not JSON, or name no channel.
  counter replayed;                ///< Events sent to clients that came back.
  counter replays;                 ///< Clients brought up from Kafka, not from memory.
  counter gaps;                    ///< Clients told that events are missing.
  // http
  counter http_requests;
  counter http_errors;       ///< Answers of 400 and above.
  counter http_malformed;    ///< Connections closed over what is not HTTP, too large or too slow.
  counter http_connections;  ///< Gauge.
  counter http_large_bodies; ///< Gauge: coming in, of those that have more than `http.maxBodyBytes`.
  counter tls_failed;        ///< Connections whose TLS handshake failed.
  counter tls_expires;       ///< Gauge: when the certificate ends, in seconds since 1970; 0 = there is none.
  // root
  counter restarts;
};

} // namespace sluice
