#include "kafka/batch.hpp"

namespace sluice::kafka {

std::vector<record_header> headers_of(const rd_kafka_message_t& message) {
  std::vector<record_header> result;
  rd_kafka_headers_t* headers = nullptr;
  if (rd_kafka_message_headers(&message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
    return result;
  const char* name = nullptr;
  const void* value = nullptr;
  std::size_t size = 0;
  for (std::size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR; ++i)
    result.push_back({name, value == nullptr ? std::string{} : std::string{static_cast<const char*>(value), size},
                      value != nullptr});
  return result;
}

message_batch::message_batch(std::shared_ptr<client> source, std::string topic, int32_t partition,
                             std::vector<message_handle> messages)
    : client_(std::move(source)), topic_(std::move(topic)), partition_(partition), messages_(std::move(messages)) {
  views_.reserve(messages_.size());
  for (const auto& message : messages_) {
    record_view view;
    view.has_key = message->key != nullptr;
    view.has_value = message->payload != nullptr;
    if (view.has_key)
      view.key = {static_cast<const char*>(message->key), message->key_len};
    if (view.has_value)
      view.value = {static_cast<const char*>(message->payload), message->len};
    view.offset = message->offset;
    view.timestamp_ms = rd_kafka_message_timestamp(message.get(), nullptr);
    views_.push_back(view);
  }
}

std::vector<record_header> message_batch::headers(std::size_t index) const {
  std::lock_guard guard{headers_mutex_};
  return headers_of(*messages_.at(index));
}

} // namespace sluice::kafka
