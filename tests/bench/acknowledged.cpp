// What librdkafka alone does of the publish benchmark's work: a number of records on their way, each acknowledged one
// replaced by the next at once. No HTTP, one thread beside the library's own.
#include <algorithm>

#include "bench.hpp"

namespace {

struct state {
  rd_kafka_topic_t* topic = nullptr;
  std::string value;
  uint64_t acknowledged = 0;
  bool more = true;

  void produce() {
    if (rd_kafka_produce(topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, value.data(), value.size(), nullptr, 0,
                         nullptr) != 0)
      bench::die(rd_kafka_err2str(rd_kafka_last_error()));
  }
};
state now;

void count(rd_kafka_t*, const rd_kafka_message_t* message, void*) {
  if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
    bench::die(std::string{"not written: "} + rd_kafka_err2str(message->err));
  ++now.acknowledged;
  if (now.more)
    now.produce();
}

} // namespace

int main(int argc, char** argv) {
  bench::options given{argc,
                       argv,
                       {{"--brokers", ""},
                        {"--topic", ""},
                        {"--seconds", "4"},
                        {"--open", "64"},
                        {"--bytes", "200"},
                        {"--linger", "0"}}};
  auto producer = bench::make_client(RD_KAFKA_PRODUCER,
                                     {{"bootstrap.servers", given.text("--brokers")},
                                      {"enable.idempotence", "true"},
                                      {"linger.ms", given.text("--linger")}},
                                     count);
  bench::handle<rd_kafka_topic_t, rd_kafka_topic_destroy> topic{
      rd_kafka_topic_new(producer.get(), given.text("--topic").c_str(), nullptr)};
  now.topic = topic.get();
  now.value.resize(std::max<uint64_t>(given.number("--bytes"), 1), 'x');
  for (uint64_t i = 0; i < std::max<uint64_t>(given.number("--open"), 1); ++i)
    now.produce();
  while (now.acknowledged == 0) // connecting is not what is measured
    rd_kafka_poll(producer.get(), 100);
  const auto before = now.acknowledged;
  const auto cpu = bench::cpu_seconds();
  const auto begin = bench::clock::now();
  const auto wanted = static_cast<double>(given.number("--seconds"));
  while (bench::seconds_since(begin) < wanted)
    rd_kafka_poll(producer.get(), 10);
  const auto acknowledged = now.acknowledged - before;
  std::printf("{\"acknowledged\":%llu,\"per_s\":%.0f,\"cpu_us\":%.2f}\n", static_cast<unsigned long long>(acknowledged),
              static_cast<double>(acknowledged) / bench::seconds_since(begin),
              (bench::cpu_seconds() - cpu) / static_cast<double>(std::max<uint64_t>(acknowledged, 1)) * 1e6);
  now.more = false;
  rd_kafka_flush(producer.get(), 10000);
}
