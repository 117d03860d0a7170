#include <algorithm>
#include <stdexcept>
#include <thread>

#include "kafka/compacted.hpp"
#include "kafka/conf.hpp"
#include "kafka/group_source.hpp"
#include "kafka/produce.hpp"

namespace sluice::kafka {

namespace {

using namespace std::chrono_literals;

/// One blocking call at most; between two of them `keep_trying` is asked.
constexpr int call_timeout_ms = 2000;
/// Sending offsets is aborted, not resumed, when its time is up.
constexpr int offsets_timeout_ms = 5000;

class kafka_transaction_log : public transaction_log {
public:
  kafka_transaction_log(const kafka_config& cfg, const std::string& transactional_id,
                        const std::shared_ptr<group_source>& group, log_sink log)
      : cfg_(cfg), log_(log), group_(group),
        client_(RD_KAFKA_PRODUCER, make_conf(cfg, transactional_properties(cfg, transactional_id)), std::move(log),
                {.rebalance = nullptr, .commit = nullptr, .delivery = [this](const rd_kafka_message_t& message) {
                   on_delivery(message);
                 }}) {}

  caf::error open(const std::function<bool()>& keep_trying) override;
  caf::error commit(const std::vector<outgoing_record>& records, const std::vector<topic_partition>& next_offsets,
                    const std::function<bool()>& keep_trying) override;
  caf::expected<std::vector<outgoing_record>> read_compacted(const std::string& topic, int32_t partition) override {
    return kafka::read_compacted(cfg_, topic, partition, log_);
  }

private:
  /// One transaction from begin to end. After an error nothing of it is written, unless `broken_` is set.
  caf::error attempt(const std::vector<outgoing_record>& records, const std::vector<topic_partition>& next_offsets,
                     const group_source& group, const std::vector<uint64_t>& tenures,
                     const std::function<bool()>& keep_trying);
  caf::error write(const std::vector<outgoing_record>& records, const std::function<bool()>& keep_trying);
  caf::error send_offsets(const std::vector<topic_partition>& next_offsets, const group_source& group,
                          const std::vector<uint64_t>& tenures, const std::function<bool()>& keep_trying);
  caf::error finish(const std::function<bool()>& keep_trying);
  void abort(const std::function<bool()>& keep_trying);
  void on_delivery(const rd_kafka_message_t& message);
  caf::error failure_of(const rd_kafka_error_t* error) const;
  /// No transaction can be begun any more; says why.
  caf::error broken(caf::error why) { return broken_ = std::move(why); }

  const kafka_config cfg_;
  log_sink log_;
  /// Not owned: the group is left when its owner lets go of it.
  std::weak_ptr<group_source> group_;
  caf::error broken_;
  caf::error undelivered_; ///< Of the current transaction's records, the first one's.
  client client_;
};

/// Sleeps, but no longer than someone wants it.
void pause(milliseconds span, const std::function<bool()>& keep_trying) {
  const auto until = std::chrono::steady_clock::now() + span;
  while (std::chrono::steady_clock::now() < until && keep_trying())
    std::this_thread::sleep_for(50ms);
}

bool passing(const caf::error& error) {
  const auto code = code_of(error);
  return code == ec::kafka_unreachable || code == ec::delivery_timeout || code == ec::queue_full;
}

/// The outcome of the call is not known yet: the same call again goes on where it stopped.
bool resumable(const rd_kafka_error_t* error) {
  return rd_kafka_error_is_retriable(error) != 0 || rd_kafka_error_code(error) == RD_KAFKA_RESP_ERR__TIMED_OUT;
}

caf::error kafka_transaction_log::failure_of(const rd_kafka_error_t* error) const {
  const std::string text = rd_kafka_error_string(error);
  if (rd_kafka_error_is_fatal(error) != 0)
    return make_failure(ec::fenced, text);
  const auto code = code_of_kafka(rd_kafka_error_code(error));
  const auto why = code == ec::kafka_unreachable ? client_.last_error() : std::string{};
  return make_failure(code, why.empty() ? text : text + "; " + why);
}

void kafka_transaction_log::on_delivery(const rd_kafka_message_t& message) {
  // Purged records are the consequence of an abort, not its cause.
  if (message.err != RD_KAFKA_RESP_ERR_NO_ERROR && message.err != RD_KAFKA_RESP_ERR__PURGE_QUEUE &&
      message.err != RD_KAFKA_RESP_ERR__PURGE_INFLIGHT && !undelivered_)
    undelivered_ = make_failure(code_of_kafka(message.err), reason_of(message, client_));
}

caf::error kafka_transaction_log::open(const std::function<bool()>& keep_trying) {
  for (bool told = false;;) {
    error_handle error{rd_kafka_init_transactions(client_.get(), call_timeout_ms)};
    rd_kafka_poll(client_.get(), 0);
    if (!error) {
      client_.forget_error();
      return {};
    }
    if (!resumable(error.get()))
      return broken(failure_of(error.get()));
    auto failure = failure_of(error.get());
    if (!keep_trying())
      return failure;
    if (!std::exchange(told, true))
      client_.log(4, "TXN", "transactions not open yet: " + text_of(failure));
    pause(cfg_.retry_initial_time, keep_trying);
  }
}

caf::error kafka_transaction_log::commit(const std::vector<outgoing_record>& records,
                                         const std::vector<topic_partition>& next_offsets,
                                         const std::function<bool()>& keep_trying) {
  if (broken_)
    return broken_;
  if (records.empty() && next_offsets.empty())
    return {};
  const auto group = group_.lock();
  if (!group)
    return make_failure(ec::shutting_down, "the group has been left");
  const auto tenures = group->tenures(next_offsets);
  auto delay = std::max(cfg_.retry_initial_time, milliseconds{50});
  for (;;) {
    auto error = attempt(records, next_offsets, *group, tenures, keep_trying);
    if (!error)
      return {};
    if (broken_)
      return broken_;
    if (!passing(error) || !keep_trying())
      return error;
    client_.log(4, "TXN", "transaction aborted, tried again: " + text_of(error));
    pause(delay, keep_trying);
    delay = std::min(2 * delay, milliseconds{2000});
  }
}

caf::error kafka_transaction_log::attempt(const std::vector<outgoing_record>& records,
                                          const std::vector<topic_partition>& next_offsets, const group_source& group,
                                          const std::vector<uint64_t>& tenures,
                                          const std::function<bool()>& keep_trying) {
  undelivered_ = caf::error{};
  if (error_handle error{rd_kafka_begin_transaction(client_.get())})
    return broken(failure_of(error.get()));
  auto failure = write(records, keep_trying);
  if (!failure && !next_offsets.empty())
    failure = send_offsets(next_offsets, group, tenures, keep_trying);
  if (!failure)
    failure = finish(keep_trying);
  if (!failure || broken_)
    return failure;
  rd_kafka_poll(client_.get(), 0);
  // What became of the records tells more than that the transaction has to be aborted.
  auto cause = undelivered_ && code_of(failure) != ec::fenced ? undelivered_ : failure;
  abort(keep_trying);
  return cause;
}

caf::error kafka_transaction_log::write(const std::vector<outgoing_record>& records,
                                        const std::function<bool()>& keep_trying) {
  for (const auto& record : records)
    for (;;) {
      auto error = produce(client_.get(), record, 0);
      if (!error)
        break;
      if (auto fatal = client_.fatal())
        return broken(make_failure(ec::fenced, text_of(fatal)));
      if (code_of(error) != ec::queue_full)
        return error;
      rd_kafka_poll(client_.get(), 100);
      if (undelivered_ || !keep_trying())
        return undelivered_ ? undelivered_ : error;
    }
  return {};
}

caf::error kafka_transaction_log::send_offsets(const std::vector<topic_partition>& next_offsets,
                                               const group_source& group, const std::vector<uint64_t>& tenures,
                                               const std::function<bool()>& keep_trying) {
  auto* member = group.kafka().get();
  // The broker checks member and generation, not whose partition it is, and nothing at all for a nameless member. So
  // this order: whoever is still the tenant after the metadata was taken was it in that generation.
  group_metadata_handle metadata{rd_kafka_consumer_group_metadata(member)};
  char* id = rd_kafka_memberid(member);
  const bool named = id != nullptr && *id != '\0';
  rd_kafka_mem_free(member, id);
  if (!metadata || !named || std::count(tenures.begin(), tenures.end(), 0U) > 0 ||
      group.tenures(next_offsets) != tenures)
    return make_failure(ec::fenced, "the group has given partitions of this transaction to another member");
  const auto list = to_list(next_offsets);
  for (;;) {
    error_handle error{
        rd_kafka_send_offsets_to_transaction(client_.get(), list.get(), metadata.get(), offsets_timeout_ms)};
    rd_kafka_poll(client_.get(), 0);
    if (!error)
      return {};
    auto failure = failure_of(error.get());
    if (rd_kafka_error_is_fatal(error.get()) != 0)
      return broken(std::move(failure));
    if (rd_kafka_error_txn_requires_abort(error.get()) != 0 || !resumable(error.get()) || !keep_trying())
      return failure;
  }
}

caf::error kafka_transaction_log::finish(const std::function<bool()>& keep_trying) {
  for (;;) {
    error_handle error{rd_kafka_commit_transaction(client_.get(), call_timeout_ms)};
    rd_kafka_poll(client_.get(), 0);
    if (!error) {
      client_.forget_error();
      return {};
    }
    auto failure = failure_of(error.get());
    if (rd_kafka_error_is_fatal(error.get()) != 0)
      return broken(std::move(failure));
    if (rd_kafka_error_txn_requires_abort(error.get()) != 0)
      return failure;
    if (!resumable(error.get()))
      return broken(std::move(failure));
    if (!keep_trying())
      return broken(make_failure(ec::kafka_unreachable,
                                 "whether the transaction was committed is not known: " + text_of(failure)));
  }
}

void kafka_transaction_log::abort(const std::function<bool()>& keep_trying) {
  for (;;) {
    error_handle error{rd_kafka_abort_transaction(client_.get(), call_timeout_ms)};
    rd_kafka_poll(client_.get(), 0);
    if (!error)
      return;
    if (!resumable(error.get()) || !keep_trying()) {
      static_cast<void>(broken(failure_of(error.get())));
      return;
    }
  }
}

} // namespace

std::unique_ptr<transaction_log> make_transaction_log(const kafka_config& cfg, const std::string& transactional_id,
                                                      std::shared_ptr<record_source> group, log_sink log) {
  auto member = std::dynamic_pointer_cast<group_source>(std::move(group));
  if (!member)
    throw std::invalid_argument("make_transaction_log: the source is not from make_group_source");
  return std::make_unique<kafka_transaction_log>(cfg, transactional_id, std::move(member), std::move(log));
}

} // namespace sluice::kafka
