#include <array>
#include <stdexcept>

#include "kafka/handles.hpp"
#include "kafka/kafka.hpp"

#include <librdkafka/rdkafka_mock.h> // after rdkafka.h

namespace sluice::kafka {

struct embedded_broker::impl {
  // The cluster lives in threads of a client that connects to nothing.
  handle<rd_kafka_t, rd_kafka_destroy> host;
  handle<rd_kafka_mock_cluster_t, rd_kafka_mock_cluster_destroy> cluster;
  std::string bootstrap;
};

embedded_broker::embedded_broker(const std::vector<std::string>& topics, int partitions)
    : impl_(std::make_unique<impl>()) {
  std::array<char, 512> text{};
  conf_handle conf{rd_kafka_conf_new()};
  rd_kafka_conf_set_log_cb(conf.get(), [](const rd_kafka_t*, int, const char*, const char*) {});
  impl_->host.reset(rd_kafka_new(RD_KAFKA_PRODUCER, conf.get(), text.data(), text.size()));
  if (!impl_->host)
    throw std::runtime_error(std::string{"embedded broker: "} + text.data());
  static_cast<void>(conf.release()); // the host's now
  impl_->cluster.reset(rd_kafka_mock_cluster_new(impl_->host.get(), 1));
  if (!impl_->cluster)
    throw std::runtime_error("embedded broker: cannot listen on loopback");
  impl_->bootstrap = rd_kafka_mock_cluster_bootstraps(impl_->cluster.get());
  for (const auto& topic : topics)
    if (const auto error = rd_kafka_mock_topic_create(impl_->cluster.get(), topic.c_str(), partitions, 1))
      throw std::runtime_error("embedded broker: topic \"" + topic + "\": " + rd_kafka_err2str(error));
}

embedded_broker::~embedded_broker() = default;

const std::string& embedded_broker::bootstrap() const noexcept {
  return impl_->bootstrap;
}

std::map<std::string, std::string> embedded_broker::client_properties() {
  return {{"session.timeout.ms", "4000"},
          {"heartbeat.interval.ms", "500"},
          // The mock cluster does not end a waiting fetch when something is produced.
          {"fetch.wait.max.ms", "10"},
          // Nor does it turn Nagle's algorithm off: a second answer would wait 40 ms for the kernel to acknowledge the
          // first.
          {"max.in.flight", "1"}};
}

} // namespace sluice::kafka
