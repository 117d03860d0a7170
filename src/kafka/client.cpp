#include "kafka/client.hpp"

#include <array>
#include <future>
#include <string_view>
#include <thread>

#include "kafka/conf.hpp"

namespace sluice::kafka {

struct client::context {
  std::mutex mutex;
  log_sink log; ///< Emptied when the client is gone.
  client_callbacks callbacks;
  std::string last_error;
  std::shared_ptr<context> self; ///< Set to keep this alive for good.

  void write(int level, const std::string& component, const std::string& text) {
    std::lock_guard guard{mutex};
    if (log)
      log(level, component, text);
  }
};

namespace {

/// `kafka.properties` go to producers and consumers alike; librdkafka says so for every one that is the other's.
bool expected_warning(std::string_view component, std::string_view text) {
  return component == "CONFWARN" && text.find("will be ignored by this") != text.npos;
}

} // namespace

client::client(rd_kafka_type_t type, conf_handle conf, log_sink log, client_callbacks callbacks)
    : context_(std::make_shared<context>()) {
  context_->log = std::move(log);
  context_->callbacks = std::move(callbacks);
  auto* raw = conf.get();
  rd_kafka_conf_set_opaque(raw, context_.get());
  rd_kafka_conf_set_log_cb(raw, [](const rd_kafka_t* rk, int level, const char* component, const char* text) {
    // While the client is being made there is no `rk` with an opaque yet.
    auto* ctx = rk == nullptr ? nullptr : static_cast<context*>(rd_kafka_opaque(rk));
    if (ctx != nullptr && !expected_warning(component, text))
      ctx->write(level, component, text);
  });
  rd_kafka_conf_set_error_cb(raw, [](rd_kafka_t* rk, int error, const char* reason, void* opaque) {
    auto& ctx = *static_cast<context*>(opaque);
    const auto code = static_cast<rd_kafka_resp_err_t>(error);
    if (code == RD_KAFKA_RESP_ERR__FATAL) {
      std::array<char, 512> text{};
      rd_kafka_fatal_error(rk, text.data(), text.size());
      ctx.write(2, "FATAL", text.data());
      return;
    }
    // That all brokers are down says less than why the last one is; librdkafka has logged that already.
    if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) {
      ctx.write(4, "BROKERS", reason);
      return;
    }
    std::lock_guard guard{ctx.mutex};
    ctx.last_error = reason;
  });
  if (context_->callbacks.rebalance)
    rd_kafka_conf_set_rebalance_cb(
        raw, [](rd_kafka_t*, rd_kafka_resp_err_t error, rd_kafka_topic_partition_list_t* list, void* opaque) {
          static_cast<context*>(opaque)->callbacks.rebalance(error, list);
        });
  if (context_->callbacks.commit)
    rd_kafka_conf_set_offset_commit_cb(
        raw, [](rd_kafka_t*, rd_kafka_resp_err_t error, rd_kafka_topic_partition_list_t* list, void* opaque) {
          static_cast<context*>(opaque)->callbacks.commit(error, list);
        });
  if (context_->callbacks.delivery)
    rd_kafka_conf_set_dr_msg_cb(raw, [](rd_kafka_t*, const rd_kafka_message_t* message, void* opaque) {
      static_cast<context*>(opaque)->callbacks.delivery(*message);
    });
  std::array<char, 512> text{};
  rk_ = rd_kafka_new(type, raw, text.data(), text.size());
  if (rk_ == nullptr)
    throw conf_error(std::string{"librdkafka: "} + text.data());
  static_cast<void>(conf.release()); // the client's now
}

client::~client() {
  if (abandoned_) {
    std::lock_guard guard{context_->mutex};
    context_->log = nullptr;
    context_->self = context_; // librdkafka's threads still use it: kept for good
    return;
  }
  // An answer that a hung broker owes may hold librdkafka's threads for the whole request timeout: nobody waits for it.
  std::promise<void> ended;
  auto end = ended.get_future();
  std::thread reaper{[rk = rk_, keep = context_, ended = std::move(ended)]() mutable {
    rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    ended.set_value();
  }};
  if (end.wait_for(std::chrono::seconds{2}) == std::future_status::ready) {
    reaper.join();
    return;
  }
  log(4, "DESTROY", "librdkafka's threads still wait for the broker; left to end by themselves");
  reaper.detach();
  std::lock_guard guard{context_->mutex};
  context_->log = nullptr;
}

void client::log(int level, const std::string& component, const std::string& text) const {
  context_->write(level, component, text);
}

std::string client::last_error() const {
  std::lock_guard guard{context_->mutex};
  return context_->last_error;
}

void client::forget_error() {
  std::lock_guard guard{context_->mutex};
  context_->last_error.clear();
}

caf::error client::fatal() const {
  std::array<char, 512> text{};
  const auto error = rd_kafka_fatal_error(rk_, text.data(), text.size());
  if (error == RD_KAFKA_RESP_ERR_NO_ERROR)
    return {};
  const auto code = code_of_kafka(error);
  return make_failure(code == ec::fenced ? code : ec::kafka_refused, text.data());
}

void client::fetch_again() const {
  // Before 2.2.0 (which has fetch.queue.backoff.ms) a broker's thread that found a partition's queue full sleeps for up
  // to a second, however soon the queue is empty. Setting the credentials, to what they are, wakes these threads; no
  // other call of the library does that and nothing else.
  if (rd_kafka_version() >= 0x020200ff)
    return;
  auto now = [this](const char* name) {
    std::array<char, 4096> text{};
    std::size_t size = text.size();
    return rd_kafka_conf_get(rd_kafka_conf(rk_), name, text.data(), &size) == RD_KAFKA_CONF_OK
               ? std::string{text.data()}
               : std::string{};
  };
  if (rd_kafka_error_t* error =
          rd_kafka_sasl_set_credentials(rk_, now("sasl.username").c_str(), now("sasl.password").c_str()))
    rd_kafka_error_destroy(error);
}

ec code_of_kafka(rd_kafka_resp_err_t error) noexcept {
  switch (error) {
  case RD_KAFKA_RESP_ERR_NO_ERROR:
    return ec::no_error;
  case RD_KAFKA_RESP_ERR__QUEUE_FULL:
    return ec::queue_full;
  case RD_KAFKA_RESP_ERR__MSG_TIMED_OUT:
    return ec::delivery_timeout;
  case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
  case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
  case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    return ec::unknown_topic;
  case RD_KAFKA_RESP_ERR__FENCED:
  case RD_KAFKA_RESP_ERR_PRODUCER_FENCED:
  case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH:
  case RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION:
  case RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID:
  case RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID:
    return ec::fenced;
  case RD_KAFKA_RESP_ERR__TRANSPORT:
  case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
  case RD_KAFKA_RESP_ERR__TIMED_OUT:
  case RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE:
  case RD_KAFKA_RESP_ERR__RESOLVE:
  case RD_KAFKA_RESP_ERR__WAIT_COORD:
  case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
  case RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE:
  case RD_KAFKA_RESP_ERR_NOT_COORDINATOR:
  case RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS:
  case RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION:
    return ec::kafka_unreachable;
  case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
  case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
    return ec::too_large;
  case RD_KAFKA_RESP_ERR__DESTROY:
  case RD_KAFKA_RESP_ERR__PURGE_QUEUE:
  case RD_KAFKA_RESP_ERR__PURGE_INFLIGHT:
    return ec::shutting_down;
  default:
    return ec::kafka_refused;
  }
}

caf::error kafka_failure(rd_kafka_resp_err_t error, const std::string& what) {
  return make_failure(code_of_kafka(error), what + ": " + rd_kafka_err2str(error));
}

} // namespace sluice::kafka
