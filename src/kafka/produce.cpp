#include "kafka/produce.hpp"

#include <array>
#include <bit>

namespace sluice::kafka {

namespace {

std::string too_large(std::size_t size, const std::string& topic) {
  return "the record (" + std::to_string(size) + " bytes) is larger than topic \"" + topic +
         "\" or this client takes; see max.message.bytes of the topic and kafka.properties.\"message.max.bytes\"";
}

caf::error refusal(rd_kafka_resp_err_t error, const outgoing_record& record) {
  switch (error) {
  case RD_KAFKA_RESP_ERR__QUEUE_FULL:
    return make_failure(ec::queue_full, "the producer's queue is full (kafka.queueRecords, kafka.queueKib)");
  case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
  case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    return make_failure(ec::unknown_topic, "topic \"" + record.topic + "\" does not exist");
  case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    return make_failure(ec::unknown_topic,
                        "topic \"" + record.topic + "\" has no partition " + std::to_string(record.partition));
  case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    return make_failure(
        ec::too_large,
        too_large((record.value ? record.value->size() : 0) + (record.key ? record.key->size() : 0), record.topic));
  default:
    return kafka_failure(error, "topic \"" + record.topic + "\"");
  }
}

} // namespace

caf::error produce(rd_kafka_t* rk, const outgoing_record& record, uint64_t tag) {
  std::array<rd_kafka_vu_t, 8> fields{};
  std::size_t used = 0;
  auto add = [&](rd_kafka_vtype_t type) -> rd_kafka_vu_t& {
    fields[used].vtype = type;
    return fields[used++];
  };
  add(RD_KAFKA_VTYPE_TOPIC).u.cstr = record.topic.c_str();
  add(RD_KAFKA_VTYPE_MSGFLAGS).u.i = RD_KAFKA_MSG_F_COPY;
  add(RD_KAFKA_VTYPE_OPAQUE).u.ptr = std::bit_cast<void*>(static_cast<uintptr_t>(tag));
  if (record.partition >= 0)
    add(RD_KAFKA_VTYPE_PARTITION).u.i32 = record.partition;
  if (record.timestamp_ms != 0)
    add(RD_KAFKA_VTYPE_TIMESTAMP).u.i64 = record.timestamp_ms;
  if (record.key) {
    auto& key = add(RD_KAFKA_VTYPE_KEY).u.mem;
    key.ptr = const_cast<char*>(record.key->data()); // C: it is copied
    key.size = record.key->size();
  }
  if (record.value) {
    auto& value = add(RD_KAFKA_VTYPE_VALUE).u.mem;
    value.ptr = const_cast<char*>(record.value->data());
    value.size = record.value->size();
  }
  headers_handle headers;
  if (!record.headers.empty()) {
    headers.reset(rd_kafka_headers_new(record.headers.size()));
    for (const auto& x : record.headers)
      rd_kafka_header_add(headers.get(), x.name.data(), static_cast<ssize_t>(x.name.size()),
                          x.has_value ? x.value.data() : nullptr, static_cast<ssize_t>(x.value.size()));
    add(RD_KAFKA_VTYPE_HEADERS).u.headers = headers.get();
  }
  if (error_handle error{rd_kafka_produceva(rk, fields.data(), used)})
    return refusal(rd_kafka_error_code(error.get()), record);
  static_cast<void>(headers.release()); // the message's now
  return {};
}

uint64_t tag_of(const rd_kafka_message_t& message) noexcept {
  return std::bit_cast<uintptr_t>(message._private);
}

std::string reason_of(const rd_kafka_message_t& message, const client& owner) {
  const std::string topic = rd_kafka_topic_name(message.rkt);
  switch (message.err) {
  case RD_KAFKA_RESP_ERR__MSG_TIMED_OUT: {
    auto why = owner.last_error();
    return "not acknowledged within kafka.deliveryTimeout; " +
           (why.empty() ? std::string{"the broker answers too slowly or the topic has no leader"} : why);
  }
  case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
  case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    return "topic \"" + topic + "\" does not exist";
  case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    return "topic \"" + topic + "\" has no partition " + std::to_string(message.partition);
  case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    return too_large(message.len + message.key_len, topic);
  case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    return "these credentials may not write to topic \"" + topic + "\"";
  default:
    return rd_kafka_err2str(message.err);
  }
}

} // namespace sluice::kafka
