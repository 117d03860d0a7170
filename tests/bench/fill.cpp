// Creates a topic and fills it with events of about 200 bytes, as fast as librdkafka can:
//   {"payload":{"date":…,"times":N},"pad":"…"}     N = 0, 1, 2, …
// With --keys K they have the keys "0" to "K-1" in turn.
#include <algorithm>

#include "bench.hpp"

namespace {

constexpr uint64_t run_length = 1000; // so many events in a row go to the same partition
uint64_t written = 0;

void count(rd_kafka_t*, const rd_kafka_message_t* message, void*) {
  if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
    bench::die(std::string{"not written: "} + rd_kafka_err2str(message->err));
  ++written;
}

void create(rd_kafka_t* producer, const std::string& name, int partitions) {
  char error[512];
  bench::queue answers{rd_kafka_queue_new(producer)};
  auto* topic = rd_kafka_NewTopic_new(name.c_str(), partitions, 1, error, sizeof error);
  if (topic == nullptr)
    bench::die(error);
  rd_kafka_CreateTopics(producer, &topic, 1, nullptr, answers.get());
  bench::handle<rd_kafka_event_t, rd_kafka_event_destroy> answer{rd_kafka_queue_poll(answers.get(), 30000)};
  rd_kafka_NewTopic_destroy(topic);
  if (!answer)
    bench::die(name + ": no answer to CreateTopics");
  size_t n = 0;
  const auto* result = rd_kafka_event_CreateTopics_result(answer.get());
  const auto* outcomes = result != nullptr ? rd_kafka_CreateTopics_result_topics(result, &n) : nullptr;
  auto failed = n == 0 ? rd_kafka_event_error(answer.get()) : rd_kafka_topic_result_error(outcomes[0]);
  if (failed != RD_KAFKA_RESP_ERR_NO_ERROR)
    bench::die(name + ": " + rd_kafka_err2str(failed));
}

} // namespace

int main(int argc, char** argv) {
  bench::options given{argc,
                       argv,
                       {{"--brokers", ""},
                        {"--topic", ""},
                        {"--events", ""},
                        {"--partitions", "1"},
                        {"--bytes", "200"},
                        {"--keys", "0"}}};
  const auto events = given.number("--events");
  const auto partitions = std::max<uint64_t>(given.number("--partitions"), 1);
  const auto bytes = given.number("--bytes");
  const auto keys = given.number("--keys");

  // Idempotent: a repeated send must not make an event twice. The large batches are what a busy producer makes.
  auto producer = bench::make_client(RD_KAFKA_PRODUCER,
                                     {{"bootstrap.servers", given.text("--brokers")},
                                      {"enable.idempotence", "true"},
                                      {"linger.ms", "20"},
                                      {"queue.buffering.max.messages", "500000"}},
                                     count);
  create(producer.get(), given.text("--topic"), static_cast<int>(partitions));
  bench::handle<rd_kafka_topic_t, rd_kafka_topic_destroy> topic{
      rd_kafka_topic_new(producer.get(), given.text("--topic").c_str(), nullptr)};

  const auto begin = bench::clock::now();
  const auto date =
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count();
  std::string event, key;
  for (uint64_t i = 0; i < events; ++i) {
    event = "{\"payload\":{\"date\":" + std::to_string(date) + ",\"times\":" + std::to_string(i) + "},\"pad\":\"";
    event.resize(std::max<size_t>(event.size(), bytes - 2), 'x');
    event += "\"}";
    const auto partition = static_cast<int32_t>(i / run_length % partitions);
    if (keys > 0)
      key = std::to_string(i % keys);
    while (rd_kafka_produce(topic.get(), partition, RD_KAFKA_MSG_F_COPY, event.data(), event.size(),
                            key.empty() ? nullptr : key.data(), key.size(), nullptr) != 0) {
      if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
        bench::die(rd_kafka_err2str(rd_kafka_last_error()));
      rd_kafka_poll(producer.get(), 10);
    }
    if (i % run_length == 0)
      rd_kafka_poll(producer.get(), 0);
  }
  rd_kafka_flush(producer.get(), 60000);
  if (written != events)
    bench::die("only " + std::to_string(written) + " events were written");
  std::printf("{\"events\":%llu,\"events_per_s\":%.0f}\n", static_cast<unsigned long long>(events),
              static_cast<double>(events) / bench::seconds_since(begin));
}
