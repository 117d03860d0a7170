/// One event loop with all that lives on it: connections, requests that wait for their answer, event streams.
#pragma once

#include <chrono>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/steady_timer.hpp>

#include "http/event_stream.hpp"
#include "http/guarded_socket.hpp"
#include "http/mailbox.hpp"
#include "http/server.hpp"
#include "http/stream_gate.hpp"

namespace sluice::http {

/// Makes RESTinio connections of sockets; the part of an I/O thread that knows RESTinio (connection.cpp).
class connection_maker {
public:
  virtual ~connection_maker() = default;
  virtual void start(std::shared_ptr<socket_guard> guard) = 0;
  /// Answers requests whose time is over. Call every now and then.
  virtual void expire() = 0;
  /// Lets go of all requests.
  virtual void drop_all() = 0;
};

/// Shared by all I/O threads; outlives them.
struct server_parts {
  http_config http;
  sse_config sse;
  router routes;
  stats& counters;
  std::function<void(std::string_view)> log;
  std::unique_ptr<stream_gate> gate;
  std::unique_ptr<tls_context> tls; ///< Null: plain HTTP.
  /// Bytes that a request for this may have.
  uint32_t body_limit(std::string_view method, std::string_view target) const;
  void say(std::string_view text) const {
    if (log)
      log(text);
  }
};

class io_thread {
public:
  static constexpr milliseconds tick_period{200};

  explicit io_thread(const server_parts& parts);
  ~io_thread();

  void start();
  /// Serves this connection. Any thread.
  void serve(std::shared_ptr<socket_guard> guard);
  /// Closes everything and lets the thread end. Any thread; once.
  void begin_stop();
  void join();

  /// The Date header's value. On the I/O thread.
  std::string_view date() const { return date_; }
  /// The I/O thread this is called on, or null.
  static io_thread* current();

  const server_parts& parts;
  asio::io_context io{1};
  std::shared_ptr<mailbox> box;
  guard_context guards;
  stream_shard streams;
  std::function<void()> on_tick; ///< Set before `start`.

private:
  void run();
  void tick();

  asio::executor_work_guard<asio::io_context::executor_type> work_;
  asio::steady_timer timer_;
  std::chrono::steady_clock::time_point last_tick_;
  std::time_t date_second_ = 0;
  std::string date_;
  std::unique_ptr<connection_maker> connections_;
  std::thread thread_;
};

/// Needs `home.parts`; called by io_thread's constructor.
std::unique_ptr<connection_maker> make_connection_maker(io_thread& home);

} // namespace sluice::http
