#include <algorithm>
#include <deque>
#include <utility>

#include "kafka/batch.hpp"
#include "kafka/conf.hpp"
#include "kafka/consumer_base.hpp"
#include "kafka/kafka.hpp"

namespace sluice::kafka {

namespace {

/// Of one question to the cluster.
constexpr int request_timeout_ms = 5000;

class kafka_replay_source : public replay_source {
public:
  kafka_replay_source(const kafka_config& cfg, log_sink log) : client_(make_client(cfg, std::move(log))) {
    rd_kafka_poll_set_consumer(client_->get());
    queue_.reset(rd_kafka_queue_get_consumer(client_->get()));
    buffer_.resize(batch_records);
  }

  ~kafka_replay_source() override {
    queue_.reset();
    rd_kafka_consumer_close(client_->get()); // no group to leave: at once
  }

  caf::expected<std::vector<partition_bounds>> bounds(const std::vector<std::string>& topics) override {
    auto all = partitions_of(topics);
    if (!all)
      return all.error();
    auto first = offsets_at(*all, RD_KAFKA_OFFSET_BEGINNING);
    if (!first)
      return first.error();
    auto end = offsets_at(*all, RD_KAFKA_OFFSET_END);
    if (!end)
      return end.error();
    std::vector<partition_bounds> result;
    for (std::size_t i = 0; i < first->size(); ++i)
      result.push_back({(*first)[i].topic, (*first)[i].partition, (*first)[i].offset, (*end)[i].offset});
    return result;
  }

  caf::expected<std::vector<topic_partition>> at_time(const std::vector<std::string>& topics,
                                                      int64_t unix_ms) override {
    auto all = partitions_of(topics);
    if (!all)
      return all.error();
    return offsets_at(*all, std::max<int64_t>(unix_ms, 0));
  }

  void start(const std::vector<topic_partition>& from) override {
    ready_.clear();
    rd_kafka_assign(client_->get(), to_list(from).get());
  }

  event next(std::chrono::milliseconds wait) override {
    if (ready_.empty())
      fetch(wait);
    if (ready_.empty())
      return std::monostate{};
    auto event = std::move(ready_.front());
    ready_.pop_front();
    return event;
  }

private:
  static std::shared_ptr<client> make_client(const kafka_config& cfg, log_sink log) {
    // Never joins its group; the eof tells that all was read.
    auto properties = consumer_properties("sluice-replay");
    properties.emplace_back("enable.partition.eof", "true");
    properties.emplace_back("fetch.wait.max.ms", "50");
    // One client's replay: it does not run far ahead of what the client takes.
    properties.emplace_back("queued.min.messages", "2000");
    properties.emplace_back("queued.max.messages.kbytes", "4096");
    return std::make_shared<client>(RD_KAFKA_CONSUMER, make_conf(cfg, properties), std::move(log), client_callbacks{});
  }

  caf::expected<std::vector<topic_partition>> partitions_of(const std::vector<std::string>& topics) {
    std::vector<topic_partition> result;
    for (const auto& topic : topics) {
      topic_handle handle{rd_kafka_topic_new(client_->get(), topic.c_str(), nullptr)};
      const rd_kafka_metadata_t* raw = nullptr;
      const auto error = rd_kafka_metadata(client_->get(), 0, handle.get(), &raw, request_timeout_ms);
      metadata_handle metadata{raw};
      if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
        return kafka_failure(error, "topic \"" + topic + "\"");
      if (metadata->topic_cnt != 1 || metadata->topics[0].err != RD_KAFKA_RESP_ERR_NO_ERROR)
        continue; // it is not there (any more)
      for (int i = 0; i < metadata->topics[0].partition_cnt; ++i)
        result.push_back({topic, metadata->topics[0].partitions[i].id, 0});
    }
    return result;
  }

  /// The offset each partition has at a time: Unix milliseconds, or one of librdkafka's words for its ends.
  caf::expected<std::vector<topic_partition>> offsets_at(std::vector<topic_partition> partitions, int64_t time) {
    if (partitions.empty())
      return partitions;
    for (auto& x : partitions)
      x.offset = time;
    auto list = to_list(partitions);
    if (const auto error = rd_kafka_offsets_for_times(client_->get(), list.get(), request_timeout_ms))
      return kafka_failure(error, "asking for offsets");
    for (std::size_t i = 0; i < partitions.size(); ++i) {
      const auto& got = list->elems[i];
      if (got.err != RD_KAFKA_RESP_ERR_NO_ERROR)
        return kafka_failure(got.err, "asking for offsets");
      partitions[i].offset = got.offset < 0 ? -1 : got.offset;
    }
    return partitions;
  }

  void fetch(std::chrono::milliseconds wait) {
    const auto count =
        rd_kafka_consume_batch_queue(queue_.get(), static_cast<int>(wait.count()), buffer_.data(), buffer_.size());
    std::string topic;
    int32_t partition = -1;
    std::vector<message_handle> run; // of one partition
    auto seal = [&] {
      if (!run.empty())
        ready_.emplace_back(std::make_shared<message_batch>(client_, topic, partition, std::exchange(run, {})));
    };
    for (ssize_t i = 0; i < count; ++i) {
      message_handle message{buffer_[static_cast<std::size_t>(i)]};
      if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
        const auto* name = rd_kafka_topic_name(message->rkt);
        if (partition != message->partition || topic != name) {
          seal();
          topic = name;
          partition = message->partition;
        }
        run.push_back(std::move(message));
        continue;
      }
      seal();
      if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
        ready_.emplace_back(topic_partition{rd_kafka_topic_name(message->rkt), message->partition, message->offset});
      else if (const auto code = code_of_kafka(message->err); code != ec::kafka_unreachable)
        ready_.emplace_back(kafka_failure(message->err, "replaying"));
      // Else the broker is away for a moment; the reader waits, and the stream's limits bound that.
    }
    seal();
  }

  std::shared_ptr<client> client_;
  queue_handle queue_;
  std::vector<rd_kafka_message_t*> buffer_;
  std::deque<event> ready_;
};

} // namespace

std::unique_ptr<replay_source> make_replay_source(const kafka_config& cfg, log_sink log) {
  return std::make_unique<kafka_replay_source>(cfg, std::move(log));
}

} // namespace sluice::kafka
