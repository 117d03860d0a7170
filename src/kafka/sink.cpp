#include <chrono>
#include <utility>

#include "kafka/client.hpp"
#include "kafka/conf.hpp"
#include "kafka/produce.hpp"

namespace sluice::kafka {

namespace {

class sink : public record_sink {
public:
  sink(const kafka_config& cfg, log_sink log)
      : client_(RD_KAFKA_PRODUCER, make_conf(cfg, producer_properties(cfg)), std::move(log),
                {.rebalance = nullptr,
                 .commit = nullptr,
                 .delivery = [this](const rd_kafka_message_t& message) { on_delivery(message); }}),
        queue_(rd_kafka_queue_get_main(client_.get())) {}

  ~sink() override {
    rd_kafka_queue_cb_event_enable(queue_.get(), nullptr, nullptr);
    rd_kafka_flush(client_.get(), 1000);
    rd_kafka_purge(client_.get(), RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    rd_kafka_poll(client_.get(), 0);
  }

  void on_ready(std::function<void()> wake) override {
    waker_.wake_with(std::move(wake));
    rd_kafka_queue_cb_event_enable(queue_.get(), &waker::on_event, &waker_);
    waker_.signal(); // for what came before
  }

  caf::error send(const outgoing_record& record, uint64_t tag) override {
    auto error = produce(client_.get(), record, tag);
    if (code_of(error) == ec::unknown_topic && is_there_now(record.topic))
      error = produce(client_.get(), record, tag);
    if (error)
      if (auto last = client_.fatal())
        return last;
    return error;
  }

  std::vector<outcome> poll() override {
    waker_.arm();
    acknowledged_ = false;
    rd_kafka_poll(client_.get(), 0);
    if (acknowledged_)
      client_.forget_error(); // a broker answers: what was wrong before is over
    return std::exchange(outcomes_, {});
  }

  caf::error fatal() const override { return client_.fatal(); }

private:
  // librdkafka remembers for minutes that a topic was missing. Asking blocks for a round trip, so not for every record.
  bool is_there_now(const std::string& name) {
    const auto now = std::chrono::steady_clock::now();
    if (now - asked_ < std::chrono::milliseconds{500})
      return false;
    topic_handle topic{rd_kafka_topic_new(client_.get(), name.c_str(), nullptr)};
    const rd_kafka_metadata_t* found = nullptr;
    const auto error = rd_kafka_metadata(client_.get(), 0, topic.get(), &found, 1000);
    metadata_handle metadata{found};
    asked_ = std::chrono::steady_clock::now();
    return error == RD_KAFKA_RESP_ERR_NO_ERROR && found->topic_cnt == 1 && found->topics[0].partition_cnt > 0;
  }

  void on_delivery(const rd_kafka_message_t& message) {
    outcome done;
    done.tag = tag_of(message);
    done.result.topic = rd_kafka_topic_name(message.rkt);
    done.result.partition = message.partition;
    if (message.err == RD_KAFKA_RESP_ERR_NO_ERROR) {
      done.result.offset = message.offset;
      acknowledged_ = true;
    } else {
      done.result.error = code_of_kafka(message.err);
      done.result.reason = reason_of(message, client_);
    }
    outcomes_.push_back(std::move(done));
  }

  std::vector<outcome> outcomes_;
  bool acknowledged_ = false;
  std::chrono::steady_clock::time_point asked_;
  waker waker_;
  client client_;
  queue_handle queue_;
};

} // namespace

std::unique_ptr<record_sink> make_sink(const kafka_config& cfg, log_sink log) {
  return std::make_unique<sink>(cfg, std::move(log));
}

} // namespace sluice::kafka
