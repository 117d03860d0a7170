#include "kafka/compacted.hpp"

#include <algorithm>
#include <map>

#include "kafka/batch.hpp"
#include "kafka/conf.hpp"

namespace sluice::kafka {

namespace {

using table = std::map<std::string, outgoing_record>;

void put(table& rows, const rd_kafka_message_t& message, const std::string& topic) {
  if (message.key == nullptr)
    return;
  std::string key{static_cast<const char*>(message.key), message.key_len};
  if (message.payload == nullptr) {
    rows.erase(key);
    return;
  }
  outgoing_record record;
  record.topic = topic;
  record.key = key;
  record.value.emplace(static_cast<const char*>(message.payload), message.len);
  record.headers = headers_of(message);
  record.partition = message.partition;
  record.timestamp_ms = std::max<int64_t>(0, rd_kafka_message_timestamp(&message, nullptr));
  rows[std::move(key)] = std::move(record);
}

/// Whether the partition exists; asks the cluster.
caf::error check(client& reader, rd_kafka_topic_t* handle, const std::string& topic, int32_t partition,
                 int timeout_ms) {
  const rd_kafka_metadata_t* raw = nullptr;
  const auto error = rd_kafka_metadata(reader.get(), 0, handle, &raw, timeout_ms);
  rd_kafka_poll(reader.get(), 0);
  metadata_handle metadata{raw};
  if (error != RD_KAFKA_RESP_ERR_NO_ERROR) {
    const auto why = reader.last_error();
    return make_failure(ec::kafka_unreachable, why.empty() ? rd_kafka_err2str(error) : why);
  }
  if (metadata->topic_cnt != 1)
    return make_failure(ec::unknown_topic, "topic \"" + topic + "\" does not exist");
  if (const auto code = metadata->topics[0].err)
    return kafka_failure(code, "topic \"" + topic + "\"");
  if (partition < 0 || partition >= metadata->topics[0].partition_cnt)
    return make_failure(ec::unknown_topic, "topic \"" + topic + "\" has no partition " + std::to_string(partition));
  return {};
}

/// Stops what `rd_kafka_consume_start` began.
class reading {
public:
  reading(rd_kafka_topic_t* topic, int32_t partition) : topic_(topic), partition_(partition) {}
  ~reading() { rd_kafka_consume_stop(topic_, partition_); }
  reading(const reading&) = delete;
  reading& operator=(const reading&) = delete;

private:
  rd_kafka_topic_t* topic_;
  int32_t partition_;
};

} // namespace

caf::expected<std::vector<outgoing_record>> read_compacted(const kafka_config& cfg, const std::string& topic,
                                                           int32_t partition, log_sink log) {
  const auto deadline = std::chrono::steady_clock::now() + cfg.request_timeout;
  // No group is joined; the eof tells when all was read.
  auto properties = consumer_properties("sluice-restore");
  properties.emplace_back("enable.partition.eof", "true");
  client reader{RD_KAFKA_CONSUMER, make_conf(cfg, properties), std::move(log)};
  topic_handle handle{rd_kafka_topic_new(reader.get(), topic.c_str(), nullptr)};
  if (auto error = check(reader, handle.get(), topic, partition, static_cast<int>(cfg.request_timeout.count())))
    return error;
  if (rd_kafka_consume_start(handle.get(), partition, RD_KAFKA_OFFSET_BEGINNING) != 0)
    return kafka_failure(rd_kafka_last_error(), "topic \"" + topic + "\"");
  reading stop{handle.get(), partition};

  table rows;
  std::vector<rd_kafka_message_t*> buffer(1000);
  int64_t end = -1;
  bool open_transaction = false;
  for (;;) {
    const auto count = rd_kafka_consume_batch(handle.get(), partition, 100, buffer.data(), buffer.size());
    bool complete = false;
    caf::error failure;
    for (ssize_t i = 0; i < count; ++i) {
      message_handle message{buffer[static_cast<std::size_t>(i)]};
      if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        put(rows, *message, topic);
      } else if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) {
        // The eof is where committed records end. Transactions that are open below the high watermark may be those of
        // an earlier owner, committed but not marked so yet: their records count.
        int64_t low = 0;
        int64_t high = 0;
        if (end < 0 && rd_kafka_get_watermark_offsets(reader.get(), topic.c_str(), partition, &low, &high) ==
                           RD_KAFKA_RESP_ERR_NO_ERROR)
          end = high;
        complete = message->offset >= end;
        open_transaction = !complete;
      } else if (const auto code = code_of_kafka(message->err); code != ec::kafka_unreachable && !failure) {
        failure = kafka_failure(message->err, "topic \"" + topic + "\"");
      }
    }
    if (failure)
      return failure;
    if (complete)
      break;
    if (std::chrono::steady_clock::now() >= deadline) {
      rd_kafka_poll(reader.get(), 0);
      auto why = open_transaction ? std::string{"a transaction on it is still open"} : reader.last_error();
      return make_failure(ec::kafka_unreachable, "topic \"" + topic + "\" not read within kafka.requestTimeout" +
                                                     (why.empty() ? why : "; " + why));
    }
  }
  std::vector<outgoing_record> result;
  result.reserve(rows.size());
  for (auto& [key, record] : rows)
    result.push_back(std::move(record));
  return result;
}

} // namespace sluice::kafka
