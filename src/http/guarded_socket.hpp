/// The socket RESTinio reads from and writes to: a TCP socket that answers where RESTinio would only hang up.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

#include <asio/buffer.hpp>
#include <asio/error.hpp>
#include <asio/ip/tcp.hpp>

#include "sluice/stats.hpp"

namespace sluice::http {

/// One open connection in the gauge, for as long as this lives.
class connection_slot {
public:
  connection_slot() = default;
  explicit connection_slot(counter& gauge) : gauge_(&gauge) { gauge_->add(); }
  connection_slot(connection_slot&& other) noexcept : gauge_(std::exchange(other.gauge_, nullptr)) {}
  connection_slot& operator=(connection_slot&& other) noexcept {
    std::swap(gauge_, other.gauge_);
    return *this;
  }
  ~connection_slot() {
    if (gauge_ != nullptr)
      gauge_->sub();
  }

private:
  counter* gauge_ = nullptr;
};

/// A connection that has been answered and refused: what the client still sends is read and thrown away for a while,
/// since closing over unread bytes would reset the connection and take the answer with it.
class lingerer;
class socket_guard;

/// What all sockets of one I/O thread share. One thread.
struct guard_context {
  guard_context(stats& counters, uint32_t max_header_bytes, uint32_t max_body_bytes)
      : counters(counters), max_header_bytes(max_header_bytes), max_body_bytes(max_body_bytes) {}
  /// Closes every connection that RESTinio holds; for the end of the thread.
  void close_connections();
  /// Closes those that have lingered long enough. Call every now and then; `all` closes every one.
  void close_lingerers(bool all);

  stats& counters;
  uint32_t max_header_bytes;
  uint32_t max_body_bytes;
  std::function<std::string(int status, std::string_view detail)> render_refusal; ///< A whole response.
  std::list<std::weak_ptr<lingerer>> lingerers;
  std::unordered_set<socket_guard*> served; ///< Those that RESTinio holds.
  socket_guard* current = nullptr;          ///< The one whose bytes RESTinio is busy with.
};

/// Watches the bytes of one connection go by, so that it can tell a refused request from a client that has gone.
class socket_guard {
public:
  socket_guard(asio::ip::tcp::socket socket, connection_slot slot, guard_context& context)
      : socket(std::move(socket)), slot(std::move(slot)), context_(&context) {}

  ~socket_guard() {
    if (served_)
      context_->served.erase(this);
  }
  socket_guard(const socket_guard&) = delete;
  socket_guard& operator=(const socket_guard&) = delete;

  /// From now on the guard lives on its I/O thread.
  void begin_service() { served_ = context_->served.insert(this).second; }
  /// Closes the socket without a word, and forgets the context.
  void end_service();
  /// Takes note of bytes read. Returns the error RESTinio shall see instead, when the request was refused here.
  asio::error_code has_read(std::string_view bytes);
  /// RESTinio has the whole request; what comes now is the next one.
  void request_complete() { in_body_ = false; }
  /// Closes the socket, with an answer if the client is owed one.
  void close();
  bool speaks_http_1_0() const { return http_1_0_; }
  /// Bytes have come, together with the request, that are no part of it.
  bool said_more() const { return body_bytes_ > content_length_; }

  template <class Handler>
  void async_read_some(asio::mutable_buffer into, Handler&& handler, std::shared_ptr<socket_guard> self) {
    reading_ = true;
    socket.async_read_some(into, [self = std::move(self), into,
                                  handler = std::forward<Handler>(handler)](asio::error_code ec, size_t n) mutable {
      auto* outer = std::exchange(self->context_->current, self.get());
      self->reading_ = false;
      if (!ec)
        ec = self->has_read({static_cast<const char*>(into.data()), n});
      self->parsing_ = !ec;
      handler(ec, n);
      self->parsing_ = false;
      self->context_->current = outer;
    });
  }

  template <class Buffers, class Handler>
  void async_write_some(const Buffers& buffers, Handler&& handler, std::shared_ptr<socket_guard> self) {
    socket.async_write_some(buffers, [self = std::move(self),
                                      handler = std::forward<Handler>(handler)](asio::error_code ec, size_t n) mutable {
      auto* outer = std::exchange(self->context_->current, self.get());
      handler(ec, n);
      self->context_->current = outer;
    });
  }

  asio::ip::tcp::socket socket;
  connection_slot slot;

private:
  void head_complete(std::string_view head);
  void refuse(int status, std::string_view detail);
  /// Says a few bytes without waiting; they fit into the empty send buffer, or the client is not listening anyway.
  void say(std::string_view bytes) {
    ::send(socket.native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  }

  guard_context* context_;
  std::string head_; ///< Of the request that is coming in; empty once it is complete.
  uint64_t content_length_ = 0;
  uint64_t body_bytes_ = 0;
  bool in_body_ = false; ///< The head is complete, the request is not.
  bool served_ = false;
  bool reading_ = false;
  bool parsing_ = false; ///< RESTinio is looking at bytes it has just got.
  bool http_1_0_ = false;
};

/// What RESTinio asks of a socket. Movable; empty when moved from.
class guarded_socket {
public:
  using executor_type = asio::ip::tcp::socket::executor_type;
  using lowest_layer_type = asio::ip::tcp::socket::lowest_layer_type;

  explicit guarded_socket(std::shared_ptr<socket_guard> guard) : guard_(std::move(guard)) {}
  guarded_socket(guarded_socket&&) = default;
  guarded_socket& operator=(guarded_socket&&) = default;

  /// Takes the connection out of RESTinio's hands. Null where it was taken before.
  std::shared_ptr<socket_guard> take() { return std::move(guard_); }

  executor_type get_executor() { return guard_->socket.get_executor(); }
  lowest_layer_type& lowest_layer() { return guard_->socket.lowest_layer(); }
  const lowest_layer_type& lowest_layer() const { return guard_->socket.lowest_layer(); }
  bool is_open() const { return guard_ && guard_->socket.is_open(); }
  void cancel(asio::error_code& ec) {
    if (guard_)
      guard_->socket.cancel(ec);
  }
  /// RESTinio shuts down only in order to close; whether to do so depends on what the client is owed.
  void shutdown(asio::ip::tcp::socket::shutdown_type, asio::error_code&) {}
  void close() {
    if (guard_)
      guard_->close();
  }

  // A handler that is dropped lets go of the connection it belongs to, which is all that is left to do without a
  // socket.
  template <class Buffers, class Handler>
  void async_read_some(const Buffers& buffers, Handler&& handler) {
    if (guard_)
      guard_->async_read_some(*asio::buffer_sequence_begin(buffers), std::forward<Handler>(handler), guard_);
  }
  template <class Buffers, class Handler>
  void async_write_some(const Buffers& buffers, Handler&& handler) {
    if (guard_)
      guard_->async_write_some(buffers, std::forward<Handler>(handler), guard_);
  }

private:
  std::shared_ptr<socket_guard> guard_;
};

// Found by RESTinio through the argument's namespace.
template <class Connection, class Start, class Failed>
void prepare_connection_and_start_read(guarded_socket&, Connection&, Start start, Failed) {
  start();
}
inline std::nullptr_t make_tls_socket_pointer_for_state_listener(guarded_socket&) noexcept {
  return nullptr;
}

} // namespace sluice::http
