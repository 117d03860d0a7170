#include "metrics.hpp"

#include <string>
#include <vector>

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

namespace sluice {

namespace {

prometheus::MetricFamily family(const char* name, const char* help, const counter& value, bool gauge) {
  prometheus::MetricFamily out;
  out.name = name;
  out.help = help;
  out.type = gauge ? prometheus::MetricType::Gauge : prometheus::MetricType::Counter;
  prometheus::ClientMetric metric;
  (gauge ? metric.gauge.value : metric.counter.value) = static_cast<double>(value.get());
  out.metric.push_back(std::move(metric));
  return out;
}

void add_value(prometheus::MetricFamily& to, const char* label, const std::string& what, const counter& value) {
  prometheus::ClientMetric metric;
  metric.label.push_back({label, what});
  auto gauge = to.type == prometheus::MetricType::Gauge;
  (gauge ? metric.gauge.value : metric.counter.value) = static_cast<double>(value.get());
  to.metric.push_back(std::move(metric));
}

} // namespace

std::string render_metrics(const stats& c) {
  std::vector<prometheus::MetricFamily> all;
  auto total = [&](const char* name, const char* help, const counter& value) {
    all.push_back(family(name, help, value, false));
  };
  auto gauge = [&](const char* name, const char* help, const counter& value) {
    all.push_back(family(name, help, value, true));
  };
  total("sluice_kafka_records_sent_total", "Records acknowledged by the broker.", c.records_sent);
  total("sluice_kafka_records_failed_total", "Records refused, timed out or not taken.", c.records_failed);
  gauge("sluice_kafka_records_queued", "Records waiting for their acknowledgement.", c.records_queued);
  total("sluice_kafka_records_consumed_total", "Records read, all consumers together.", c.records_consumed);
  total("sluice_kafka_rebalances_total", "Assignments and revocations of partitions.", c.rebalances);
  total("sluice_aggregator_events_total", "Events counted into windows.", c.events_aggregated);
  total("sluice_aggregator_summaries_total", "Summaries committed.", c.summaries);
  total("sluice_aggregator_transactions_total", "Transactions committed.", c.transactions);
  gauge("sluice_aggregator_windows_open", "Windows open now.", c.windows_open);
  total("sluice_aggregator_windows_evicted_total", "Windows closed early because maxWindows was reached.",
        c.windows_evicted);
  total("sluice_dead_letters_total", "Records written to dead-letter topics.", c.dead_letters);
  total("sluice_dead_letters_redriven_total", "Dead letters sent back to their topics.", c.dead_letters_redriven);
  if (!c.processors.empty()) {
    auto by_name = [&](const char* name, const char* help, counter processor_stats::*which,
                       prometheus::MetricType type = prometheus::MetricType::Counter) {
      prometheus::MetricFamily one{name, help, type, {}};
      for (const auto& [processor, numbers] : c.processors)
        add_value(one, "processor", processor, numbers.*which);
      all.push_back(std::move(one));
    };
    constexpr auto level = prometheus::MetricType::Gauge;
    by_name("sluice_processor_in_total", "Records taken. All have one end: done, dead letter, set aside or returned.",
            &processor_stats::in);
    by_name("sluice_processor_done_total", "Records processed, with what they emitted acknowledged.",
            &processor_stats::done);
    by_name("sluice_processor_dead_lettered_total", "Records written to dead-letter topics.",
            &processor_stats::dead_lettered);
    by_name("sluice_processor_returned_total", "Records unfinished when their partition went to another member.",
            &processor_stats::returned);
    by_name("sluice_processor_in_flight", "Records without an end yet.", &processor_stats::in_flight, level);
    by_name("sluice_processor_skipped_total", "Records finished before a restart and not processed again.",
            &processor_stats::skipped);
    by_name("sluice_processor_set_aside_total",
            "Records that wait in the topic for retries, and come again from there.", &processor_stats::set_aside);
    by_name("sluice_processor_duplicates_total", "Of those done: their event was done before, nothing was done again.",
            &processor_stats::duplicates);
    by_name("sluice_processor_emitted_total", "Records published for processors.", &processor_stats::emitted);
    by_name("sluice_processor_retried_total", "Attempts after the first.", &processor_stats::retried);
    by_name("sluice_processor_expired_total", "Dead letters because of their deadline.", &processor_stats::expired);
    by_name("sluice_processor_timeouts_total", "Attempts that took too long.", &processor_stats::timeouts);
    by_name("sluice_processor_restarts_total", "Restarts of crashed workers.", &processor_stats::restarts);
    by_name("sluice_processor_parked_keys", "Keys that wait for their next attempt.", &processor_stats::parked_keys,
            level);
    by_name("sluice_processor_parked_records", "Records of parked keys.", &processor_stats::parked_records, level);
  }
  gauge("sluice_kafka_away", "1 while the Kafka cluster does not answer.", c.kafka_away);
  gauge("sluice_outbox_records", "Records on disk that wait for Kafka.", c.outbox_records);
  gauge("sluice_outbox_bytes", "Bytes of records on disk, those that Kafka refused included.", c.outbox_bytes);
  gauge("sluice_outbox_refused", "Records on disk that Kafka refused; tried again at the next start.",
        c.outbox_refused);
  total("sluice_outbox_taken_total", "Records kept on disk because Kafka was away.", c.outbox_taken);
  total("sluice_outbox_replayed_total", "Records of the outbox acknowledged by the broker.", c.outbox_replayed);
  total("sluice_outbox_commits_total", "Transactions of the outbox, each on disk before anyone is answered.",
        c.outbox_commits);
  prometheus::MetricFamily claims{
      "sluice_idempotency_claims_total", "Claims by what they found.", prometheus::MetricType::Counter, {}};
  add_value(claims, "found", "granted", c.claims_granted);
  add_value(claims, "found", "busy", c.claims_busy);
  add_value(claims, "found", "done", c.claims_done);
  all.push_back(std::move(claims));
  gauge("sluice_idempotency_queued", "Requests that wait for the store.", c.claims_queued);
  total("sluice_store_errors_total", "Transactions of store and outbox that failed.", c.store_errors);
  gauge("sluice_sse_clients", "Open event streams.", c.clients);
  total("sluice_sse_clients_total", "Event streams opened.", c.clients_total);
  total("sluice_sse_clients_slow_total", "Event streams ended because their queue was full.", c.clients_slow);
  prometheus::MetricFamily refused{"sluice_sse_streams_refused_total",
                                   "Streams not opened because there were too many, by what there was too much of.",
                                   prometheus::MetricType::Counter,
                                   {}};
  add_value(refused, "reason", "streams", c.streams_refused_full);
  add_value(refused, "reason", "user", c.streams_refused_user);
  add_value(refused, "reason", "address", c.streams_refused_address);
  add_value(refused, "reason", "rate", c.streams_refused_rate);
  all.push_back(std::move(refused));
  total("sluice_sse_events_total", "Events encoded, once for all clients.", c.frames);
  total("sluice_sse_deliveries_total", "Events handed to the kernel, for each client.", c.deliveries);
  total("sluice_sse_events_dropped_total", "Events left out for slow clients, for each client.", c.events_dropped);
  total("sluice_sse_events_skipped_total", "Records not shown live because they are not JSON.", c.events_skipped);
  total("sluice_sse_events_replayed_total", "Events sent to clients that came back.", c.replayed);
  total("sluice_sse_replays_total", "Clients brought up from Kafka rather than from memory.", c.replays);
  total("sluice_sse_gaps_total", "Clients told that events are missing.", c.gaps);
  gauge("sluice_sse_feed_ready", "1 once the live feed has found its place in the topics.", c.live_feed);
  total("sluice_http_requests_total", "Requests read.", c.http_requests);
  total("sluice_http_errors_total", "Answers of 400 and above.", c.http_errors);
  total("sluice_http_malformed_total", "Connections closed over what is not HTTP, too large or too slow.",
        c.http_malformed);
  gauge("sluice_http_connections", "Open connections.", c.http_connections);
  gauge("sluice_http_large_bodies", "Bodies coming in that are larger than http.maxBodyBytes.", c.http_large_bodies);
  total("sluice_http_tls_failed_total", "Connections whose TLS handshake failed.", c.tls_failed);
  gauge("sluice_http_tls_certificate_expires_seconds",
        "When the certificate ends, in seconds since 1970; 0 without TLS.", c.tls_expires);
  total("sluice_restarts_total", "Restarts of crashed roles.", c.restarts);
  return prometheus::TextSerializer{}.Serialize(all);
}

} // namespace sluice
