/// Batches that own librdkafka's messages.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kafka/client.hpp"
#include "kafka/handles.hpp"
#include "sluice/record.hpp"

namespace sluice::kafka {

/// A copy of the message's headers.
std::vector<record_header> headers_of(const rd_kafka_message_t& message);

/// Messages of one partition, not copied. Keeps its client alive: librdkafka's memory goes with the client.
class message_batch : public record_batch {
public:
  /// Takes `messages`, none of which is an error.
  message_batch(std::shared_ptr<client> source, std::string topic, int32_t partition,
                std::vector<message_handle> messages);

  const std::string& topic() const noexcept override { return topic_; }
  int32_t partition() const noexcept override { return partition_; }
  std::span<const record_view> records() const noexcept override { return views_; }
  std::vector<record_header> headers(std::size_t index) const override;

private:
  std::shared_ptr<client> client_; ///< First, so that it goes last.
  std::string topic_;
  int32_t partition_;
  std::vector<message_handle> messages_;
  std::vector<record_view> views_;
  mutable std::mutex headers_mutex_; ///< librdkafka parses headers into the message on first use.
};

} // namespace sluice::kafka
