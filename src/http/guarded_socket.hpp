/// The socket RESTinio reads from and writes to: a TCP socket that answers where RESTinio would only hang up.
#pragma once

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
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
#include <asio/post.hpp>

#include "http/tls.hpp"
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
  explicit operator bool() const noexcept { return gauge_ != nullptr; }
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
  /// How many bytes the body of a request for this may have; asked where there are more than `max_body_bytes`, or
  /// nobody says how many there are.
  std::function<uint32_t(std::string_view method, std::string_view target)> body_limit;
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
  /// Closes the socket without an answer, and forgets the context.
  void end_service();
  /// Takes note of bytes read. Returns the error RESTinio shall see instead, when the request was refused here.
  asio::error_code has_read(std::string_view bytes);
  /// RESTinio has the whole request; what comes now is the next one.
  void request_complete() {
    in_body_ = false;
    large_ = {};
  }
  /// Closes the socket, with an answer if the client is owed one.
  void close();
  bool speaks_http_1_0() const { return http_1_0_; }
  /// Bytes have come, together with the request, that are no part of it.
  bool said_more() const { return body_bytes_ > content_length_; }

  template <class Handler>
  void async_read_some(asio::mutable_buffer into, Handler&& handler, std::shared_ptr<socket_guard> self) {
    reading_ = true;
    auto done = [self = std::move(self), into, handler = std::forward<Handler>(handler)](asio::error_code ec,
                                                                                         size_t n) mutable {
      auto* outer = std::exchange(self->context_->current, self.get());
      self->reading_ = false;
      if (!ec)
        ec = self->has_read({static_cast<const char*>(into.data()), n});
      self->parsing_ = !ec;
      handler(ec, n);
      self->parsing_ = false;
      self->context_->current = outer;
    };
    if (tls) [[unlikely]]
      read_tls_soon(into, std::move(done));
    else
      socket.async_read_some(into, std::move(done));
  }

  template <class Buffers, class Handler>
  void async_write_some(const Buffers& buffers, Handler&& handler, std::shared_ptr<socket_guard> self) {
    auto done = [self = std::move(self), handler = std::forward<Handler>(handler)](asio::error_code ec,
                                                                                   size_t n) mutable {
      auto* outer = std::exchange(self->context_->current, self.get());
      handler(ec, n);
      self->context_->current = outer;
    };
    if (tls) [[unlikely]]
      write_tls(buffers, std::move(done));
    else
      socket.async_write_some(buffers, std::move(done));
  }

  asio::ip::tcp::socket socket;
  connection_slot slot;
  std::unique_ptr<tls_session> tls; ///< Null: the connection is not encrypted.

private:
  using wait_for = asio::ip::tcp::socket;

  // In all of these `done` keeps the guard alive. Whoever closes the socket lets go of `tls`, which has its number.

  template <class Done>
  void read_tls_soon(asio::mutable_buffer into, Done done) {
    auto read = [this, into, done = std::move(done)](asio::error_code ec) mutable {
      read_tls(ec, into, std::move(done));
    };
    if (tls->has_unread())
      asio::post(socket.get_executor(), [read = std::move(read)]() mutable { read({}); });
    else
      socket.async_wait(tls->flush() ? wait_for::wait_read : wait_for::wait_write, std::move(read));
  }

  template <class Done>
  void read_tls(asio::error_code ec, asio::mutable_buffer into, Done done) {
    if (!ec && !tls)
      ec = asio::error::operation_aborted;
    ssize_t n = ec ? 0 : tls->read(into.data(), into.size());
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
      read_tls_soon(into, std::move(done));
      return;
    }
    if (n < 0 && errno == EPROTO)
      tls_has_failed();
    if (!ec && n <= 0)
      ec = asio::error::eof;
    done(ec, static_cast<size_t>(std::max<ssize_t>(n, 0)));
  }

  template <class Buffers, class Done>
  void write_tls(const Buffers& buffers, Done done) {
    std::array<iovec, 16> parts;
    size_t used = 0;
    for (auto at = asio::buffer_sequence_begin(buffers); at != asio::buffer_sequence_end(buffers); ++at)
      if (asio::const_buffer one{*at}; used < parts.size() && one.size() > 0)
        parts[used++] = {const_cast<void*>(one.data()), one.size()}; // only read
    auto n = tls->write(parts.data(), used);
    asio::error_code ec;
    if (n < 0)
      ec = asio::error::broken_pipe;
    asio::post(socket.get_executor(), [this, ec, n = static_cast<size_t>(std::max<ssize_t>(n, 0)),
                                       done = std::move(done)]() mutable { end_write(ec, n, std::move(done)); });
  }

  /// Nothing is written before the kernel has it: RESTinio may close then.
  template <class Done>
  void end_write(asio::error_code ec, size_t n, Done done) {
    if (!ec && tls && !tls->flush())
      socket.async_wait(wait_for::wait_write, [this, n, done = std::move(done)](asio::error_code failed) mutable {
        end_write(failed, n, std::move(done));
      });
    else
      done(ec, n);
  }

  /// Answers who speaks plain HTTP here.
  void tls_has_failed();
  /// Returns the error RESTinio shall see, when the request was refused here.
  asio::error_code head_complete(std::string_view head);
  void refuse_large_body();
  /// For a body that has come to more than `max_body_bytes`; refuses it where there is none.
  asio::error_code take_place();
  void refuse(int status, std::string_view detail);
  /// Says a few bytes without waiting; they fit into the empty send buffer, or the client is not listening anyway.
  void say(std::string_view bytes);
  /// Closes the socket after a farewell.
  void hang_up();

  guard_context* context_;
  std::string head_; ///< Of the request that is coming in; empty once it is complete.
  uint64_t content_length_ = 0;
  uint64_t body_bytes_ = 0;
  uint64_t body_limit_ = 0;
  connection_slot large_;   ///< Held while a body beyond `max_body_bytes` comes in.
  bool is_chunked_ = false; ///< Nobody knows how long the body will be.
  bool in_body_ = false;    ///< The head is complete, the request is not.
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
