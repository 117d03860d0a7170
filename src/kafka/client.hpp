/// One librdkafka client with its log, its last error and its wake-ups.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <string>

#include "kafka/handles.hpp"
#include "kafka/kafka.hpp"

namespace sluice::kafka {

/// What a client calls back on the thread that polls it.
struct client_callbacks {
  std::function<void(rd_kafka_resp_err_t, rd_kafka_topic_partition_list_t*)> rebalance;
  std::function<void(rd_kafka_resp_err_t, rd_kafka_topic_partition_list_t*)> commit;
  std::function<void(const rd_kafka_message_t&)> delivery;
};

/// Owns a `rd_kafka_t`. Shared by all that needs it alive, such as batches still being read.
class client {
public:
  /// Throws `conf_error` where `validate` would have found an error.
  client(rd_kafka_type_t type, conf_handle conf, log_sink log, client_callbacks callbacks = {});
  /// Joins librdkafka's threads. Those that do not end within two seconds are left to end by themselves.
  ~client();
  client(const client&) = delete;
  client& operator=(const client&) = delete;

  rd_kafka_t* get() const noexcept { return rk_; }
  /// The destructor will leave librdkafka's handle alone: where destroying it would end the process. It costs a few
  /// threads and some memory until the process ends.
  void abandon() noexcept { abandoned_ = true; }
  /// Any thread. Levels are syslog's.
  void log(int level, const std::string& component, const std::string& text) const;
  /// The most telling error since `forget_error`, e.g. "…: Connect to … failed: Connection refused"; "" = none. Known
  /// only after a poll.
  std::string last_error() const;
  void forget_error();
  /// Set once the client cannot go on.
  caf::error fatal() const;
  /// Lets librdkafka look at once whether there is room for a further fetch. Any thread.
  void fetch_again() const;

private:
  struct context; // outlives this object where threads are left behind
  std::shared_ptr<context> context_;
  rd_kafka_t* rk_ = nullptr;
  bool abandoned_ = false;
};

/// Our code for librdkafka's.
ec code_of_kafka(rd_kafka_resp_err_t error) noexcept;
/// An error with the code for `error` and "<what>: <librdkafka's text>".
caf::error kafka_failure(rd_kafka_resp_err_t error, const std::string& what);

/// Turns queue events into calls of `wake`, at most one between two calls of `arm`.
class waker {
public:
  /// Once, before the first `signal`.
  void wake_with(std::function<void()> wake) { wake_ = std::move(wake); }
  /// Before the queues are looked at: what comes later signals again.
  void arm() noexcept { called_.store(false); }
  /// Any thread.
  void signal() {
    if (!called_.exchange(true))
      wake_();
  }
  /// For `rd_kafka_queue_cb_event_enable`, the waker as its opaque.
  static void on_event(rd_kafka_t*, void* opaque) { static_cast<waker*>(opaque)->signal(); }

private:
  std::atomic<bool> called_{false};
  std::function<void()> wake_;
};

} // namespace sluice::kafka
