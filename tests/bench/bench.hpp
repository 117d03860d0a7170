/// What the Kafka programs here share: options, librdkafka's handles, CPU time.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <librdkafka/rdkafka.h>
#include <sys/resource.h>

namespace bench {

using clock = std::chrono::steady_clock;

[[noreturn]] inline void die(const std::string& text) {
  std::fprintf(stderr, "%s\n", text.c_str());
  std::exit(2);
}

inline double seconds_since(clock::time_point begin) {
  return std::chrono::duration<double>(clock::now() - begin).count();
}

/// User and system time of this process, all threads.
inline double cpu_seconds() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

/// `--name value` pairs. Those without a default must be given.
class options {
public:
  options(int argc, char** argv, std::map<std::string, std::string> values) : values_(std::move(values)) {
    for (int i = 1; i < argc; i += 2) {
      auto found = values_.find(argv[i]);
      if (found == values_.end() || i + 1 == argc)
        die(usage(argv[0]));
      found->second = argv[i + 1];
    }
    for (const auto& [name, value] : values_)
      if (value.empty())
        die(name + " is missing\n" + usage(argv[0]));
  }

  const std::string& text(const std::string& name) const { return values_.at(name); }
  uint64_t number(const std::string& name) const { return std::strtoull(text(name).c_str(), nullptr, 10); }

private:
  std::string usage(const char* program) const {
    std::string line = std::string{"usage: "} + program;
    for (const auto& [name, value] : values_)
      line += " " + name + (value.empty() ? " VALUE" : " [" + value + "]");
    return line;
  }

  std::map<std::string, std::string> values_;
};

// -- librdkafka
// ---------------------------------------------------------------------------------------------------------

template <auto Destroy>
struct destroyer {
  template <class T>
  void operator()(T* what) const {
    Destroy(what);
  }
};
template <class T, auto Destroy>
using handle = std::unique_ptr<T, destroyer<Destroy>>;

using client = handle<rd_kafka_t, rd_kafka_destroy>;
using queue = handle<rd_kafka_queue_t, rd_kafka_queue_destroy>;
using partition_list = handle<rd_kafka_topic_partition_list_t, rd_kafka_topic_partition_list_destroy>;

using properties = std::vector<std::pair<const char*, std::string>>;
using delivered = void (*)(rd_kafka_t*, const rd_kafka_message_t*, void*);

inline client make_client(rd_kafka_type_t type, const properties& all, delivered callback = nullptr) {
  char error[512];
  auto* conf = rd_kafka_conf_new();
  for (const auto& [name, value] : all)
    if (rd_kafka_conf_set(conf, name, value.c_str(), error, sizeof error) != RD_KAFKA_CONF_OK)
      die(error);
  if (callback != nullptr)
    rd_kafka_conf_set_dr_msg_cb(conf, callback);
  auto* made = rd_kafka_new(type, conf, error, sizeof error);
  if (made == nullptr)
    die(error);
  if (type == RD_KAFKA_CONSUMER)
    rd_kafka_poll_set_consumer(made);
  return client{made};
}

/// Reads all partitions of the topic from their beginning, without a group. Returns their number.
inline int read_all(rd_kafka_t* consumer, const std::string& topic) {
  auto* handle = rd_kafka_topic_new(consumer, topic.c_str(), nullptr);
  const rd_kafka_metadata_t* metadata = nullptr;
  if (auto error = rd_kafka_metadata(consumer, 0, handle, &metadata, 10000))
    die(topic + ": " + rd_kafka_err2str(error));
  int count = metadata->topics[0].partition_cnt;
  rd_kafka_metadata_destroy(metadata);
  rd_kafka_topic_destroy(handle);
  if (count == 0)
    die(topic + ": no such topic");
  partition_list partitions{rd_kafka_topic_partition_list_new(count)};
  for (int i = 0; i < count; ++i)
    rd_kafka_topic_partition_list_add(partitions.get(), topic.c_str(), i)->offset = RD_KAFKA_OFFSET_BEGINNING;
  if (auto error = rd_kafka_assign(consumer, partitions.get()))
    die(topic + ": " + rd_kafka_err2str(error));
  return count;
}

} // namespace bench
