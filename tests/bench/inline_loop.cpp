// The bar for the aggregator: the same work in one plain loop. Reads events with librdkafka, takes /payload/times with
// simdjson, and writes a summary for each window. Only the exactly-once part is missing: no group, no transactions.
#include <algorithm>
#include <array>
#include <charconv>
#include <span>

#include <simdjson.h>

#include "bench.hpp"

namespace {

constexpr size_t sample_size = 5;
uint64_t summaries_written = 0;

void count(rd_kafka_t*, const rd_kafka_message_t* message, void*) {
  if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
    bench::die(std::string{"summary not written: "} + rd_kafka_err2str(message->err));
  ++summaries_written;
}

int64_t unix_ms() {
  auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

void append(std::string& out, double number) {
  std::array<char, 32> text{};
  out.append(text.data(), std::to_chars(text.data(), text.data() + text.size(), number).ptr);
}

struct window {
  uint64_t count = 0;
  double sum = 0, min = 0, max = 0;
  int64_t opened = 0;
  std::array<std::string, sample_size> sample;

  void add(double value, std::string_view event, uint64_t size, int64_t now) {
    if (count == 0)
      opened = now;
    min = count == 0 ? value : std::min(min, value);
    max = count == 0 ? value : std::max(max, value);
    sum += value;
    if (++count + sample_size > size) // only the last ones are shown
      sample[count % sample_size].assign(event);
  }

  std::string close(int64_t now) {
    std::string out = "{\"id\":\"summary-" + std::to_string(now) + "\",\"timestamp\":" + std::to_string(now);
    out += ",\"aggregationPeriod\":{\"start\":" + std::to_string(opened) + ",\"end\":" + std::to_string(now);
    out += ",\"durationMs\":" + std::to_string(now - opened) +
           "},\"statistics\":{\"totalEvents\":" + std::to_string(count);
    out += ",\"sumOfValues\":";
    append(out, sum);
    out += ",\"averageValue\":";
    append(out, sum / static_cast<double>(count));
    out += ",\"minValue\":";
    append(out, min);
    out += ",\"maxValue\":";
    append(out, max);
    out += "},\"eventSample\":[";
    for (auto i = std::min<uint64_t>(count, sample_size); i > 0; --i)
      out.append(sample[(count - i + 1) % sample_size]).append(i > 1 ? "," : "]}");
    count = 0;
    sum = 0;
    return out;
  }
};

} // namespace

int main(int argc, char** argv) {
  bench::options given{argc,
                       argv,
                       {{"--brokers", ""},
                        {"--topic", ""},
                        {"--sink", ""},
                        {"--events", ""},
                        {"--batch-size", "1000"},
                        {"--seconds", "120"}}};
  const auto events = given.number("--events");
  const auto batch_size = given.number("--batch-size");
  const auto limit = static_cast<double>(given.number("--seconds"));
  const auto started = bench::clock::now();

  auto producer = bench::make_client(
      RD_KAFKA_PRODUCER, {{"bootstrap.servers", given.text("--brokers")}, {"queue.buffering.max.messages", "500000"}},
      count);
  bench::handle<rd_kafka_topic_t, rd_kafka_topic_destroy> sink{
      rd_kafka_topic_new(producer.get(), given.text("--sink").c_str(), nullptr)};
  auto consumer = bench::make_client(RD_KAFKA_CONSUMER, {{"bootstrap.servers", given.text("--brokers")},
                                                         {"group.id", "inline-loop"},
                                                         {"enable.auto.commit", "false"},
                                                         {"fetch.message.max.bytes", "2097152"}});
  bench::read_all(consumer.get(), given.text("--topic"));
  bench::queue queue{rd_kafka_queue_get_consumer(consumer.get())};

  simdjson::ondemand::parser parser;
  std::string padded; // simdjson reads a little beyond the end
  window current;
  std::array<rd_kafka_message_t*, 1000> messages{};
  uint64_t read = 0;
  bench::clock::time_point begin;
  double cpu = 0;
  while (read < events) {
    if (bench::seconds_since(started) > limit)
      bench::die("not done in time");
    auto n = rd_kafka_consume_batch_queue(queue.get(), 10, messages.data(), messages.size());
    if (n <= 0)
      continue;
    if (read == 0) {
      begin = bench::clock::now();
      cpu = bench::cpu_seconds();
    }
    const auto now = unix_ms();
    for (auto* message : std::span{messages.data(), static_cast<size_t>(n)}) {
      if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR && read < events) {
        ++read;
        const std::string_view event{static_cast<const char*>(message->payload), message->len};
        padded.reserve(event.size() + simdjson::SIMDJSON_PADDING);
        padded.assign(event);
        double value = 0;
        simdjson::ondemand::document document;
        if (parser.iterate(padded.data(), padded.size(), padded.capacity()).get(document) != simdjson::SUCCESS ||
            document["payload"]["times"].get_double().get(value) != simdjson::SUCCESS)
          bench::die("not an event: " + padded);
        current.add(value, event, batch_size, now);
        if (current.count == batch_size) {
          const auto summary = current.close(now);
          while (rd_kafka_produce(sink.get(), RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY,
                                  const_cast<char*>(summary.data()), summary.size(), nullptr, 0, nullptr) != 0) {
            if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
              bench::die(rd_kafka_err2str(rd_kafka_last_error()));
            rd_kafka_poll(producer.get(), 1);
          }
        }
      }
      rd_kafka_message_destroy(message);
    }
    rd_kafka_poll(producer.get(), 0);
  }
  const auto counted = bench::seconds_since(begin);
  rd_kafka_flush(producer.get(), 30000);
  const auto done = bench::seconds_since(begin);
  std::printf("{\"events\":%llu,\"summaries\":%llu,\"counted_s\":%.4f,\"done_s\":%.4f,\"cpu_s\":%.3f}\n",
              static_cast<unsigned long long>(read), static_cast<unsigned long long>(summaries_written), counted, done,
              bench::cpu_seconds() - cpu);
}
