// Reads the committed summaries of a topic and says how many events they cover and what these add up to: the proof
// that a run counted every event once.
#include <simdjson.h>

#include "bench.hpp"

int main(int argc, char** argv) {
  bench::options given{argc, argv, {{"--brokers", ""}, {"--topic", ""}, {"--seconds", "60"}}};
  const auto limit = static_cast<double>(given.number("--seconds"));
  const auto started = bench::clock::now();
  auto consumer = bench::make_client(RD_KAFKA_CONSUMER, {{"bootstrap.servers", given.text("--brokers")},
                                                         {"group.id", "covered"},
                                                         {"enable.auto.commit", "false"},
                                                         {"enable.partition.eof", "true"},
                                                         {"isolation.level", "read_committed"}});
  auto open = bench::read_all(consumer.get(), given.text("--topic"));
  simdjson::ondemand::parser parser;
  uint64_t summaries = 0, events = 0;
  double sum = 0;
  while (open > 0) {
    if (bench::seconds_since(started) > limit)
      bench::die("not done in time");
    bench::handle<rd_kafka_message_t, rd_kafka_message_destroy> message{rd_kafka_consumer_poll(consumer.get(), 100)};
    if (!message)
      continue;
    if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
      --open;
    } else if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
      const simdjson::padded_string text{static_cast<const char*>(message->payload), message->len};
      simdjson::ondemand::document document;
      simdjson::ondemand::object statistics;
      uint64_t covers = 0;
      double adds = 0;
      if (parser.iterate(text).get(document) != simdjson::SUCCESS ||
          document["statistics"].get_object().get(statistics) != simdjson::SUCCESS ||
          statistics["totalEvents"].get_uint64().get(covers) != simdjson::SUCCESS ||
          statistics["sumOfValues"].get_double().get(adds) != simdjson::SUCCESS)
        bench::die("not a summary: " + std::string{text.data(), text.size()});
      ++summaries;
      events += covers;
      sum += adds;
    }
  }
  std::printf("{\"summaries\":%llu,\"events\":%llu,\"sum\":%.0f}\n", static_cast<unsigned long long>(summaries),
              static_cast<unsigned long long>(events), sum);
}
