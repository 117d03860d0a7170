/// What tests of the HTTP server share: a server whose streams the test holds, and clients on loopback sockets that can
/// be told not to read. Every wait has a bound; past it the test fails by an exception.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "http/server.hpp"
#include "sluice/ws_format.hpp"

namespace sluice::testing {

/// Longer than anything takes under a sanitizer on a busy machine.
constexpr std::chrono::seconds patience{60};

/// Looks until `holds` does.
template <class Condition>
void wait_until(const std::string& what, Condition holds) {
  auto end = std::chrono::steady_clock::now() + patience;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > end)
      throw std::runtime_error("waited in vain until " + what);
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  }
}

/// A frame as a client sends it. `first_byte`: FIN, RSV and opcode.
inline std::string ws_frame(int first_byte, std::string_view payload) {
  constexpr std::string_view mask{"\x12\x34\x56\x78", 4};
  std::string out{static_cast<char>(first_byte)};
  auto put = [&out](size_t number, int bytes) {
    while (bytes-- > 0)
      out.push_back(static_cast<char>(number >> (8 * bytes)));
  };
  if (payload.size() < 126) {
    put(payload.size() | 0x80, 1);
  } else if (payload.size() < 65536) {
    put(126 | 0x80, 1);
    put(payload.size(), 2);
  } else {
    put(127 | 0x80, 1);
    put(payload.size(), 8);
  }
  out += mask;
  for (size_t i = 0; i < payload.size(); ++i)
    out.push_back(static_cast<char>(payload[i] ^ mask[i % 4]));
  return out;
}

inline std::string ws_close_frame(int code, std::string_view reason = {}) {
  return ws_frame(0x88, std::string{static_cast<char>(code >> 8), static_cast<char>(code)}.append(reason));
}

/// The client's side of TLS on a socket that blocks. Trusts everyone.
class tls_side {
public:
  explicit tls_side(int fd)
      : context_(SSL_CTX_new(TLS_client_method()), SSL_CTX_free), ssl_(SSL_new(context_.get()), SSL_free) {
    std::signal(SIGPIPE, SIG_IGN); // OpenSSL writes without MSG_NOSIGNAL
    SSL_set_fd(ssl_.get(), fd);
    if (SSL_connect(ssl_.get()) != 1)
      throw std::runtime_error("the TLS handshake failed");
  }
  ssize_t send(const char* bytes, size_t size) { return SSL_write(ssl_.get(), bytes, static_cast<int>(size)); }
  ssize_t recv(char* into, size_t size) {
    auto n = SSL_read(ssl_.get(), into, static_cast<int>(size));
    farewell = farewell || (n <= 0 && SSL_get_error(ssl_.get(), n) == SSL_ERROR_ZERO_RETURN);
    return n;
  }
  bool has_unread() const { return SSL_pending(ssl_.get()) > 0; }
  /// The name in the server's certificate.
  std::string peer_name() const {
    std::array<char, 100> name{};
    X509_NAME_get_text_by_NID(X509_get_subject_name(SSL_get0_peer_certificate(ssl_.get())), NID_commonName, name.data(),
                              static_cast<int>(name.size()));
    return name.data();
  }

  bool farewell = false; ///< The server has said that it has said all.

private:
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_;
  std::unique_ptr<SSL, decltype(&SSL_free)> ssl_;
};

/// The ports of this process that speak TLS; its clients speak it there.
class tls_ports {
public:
  static void add(uint16_t port) {
    std::lock_guard guard{mutex()};
    all().insert(port);
  }
  static void remove(uint16_t port) {
    std::lock_guard guard{mutex()};
    all().erase(port);
  }
  static bool have(uint16_t port) {
    std::lock_guard guard{mutex()};
    return all().contains(port);
  }

private:
  static std::mutex& mutex() {
    static std::mutex it;
    return it;
  }
  static std::set<uint16_t>& all() {
    static std::set<uint16_t> it;
    return it;
  }
};

class client {
public:
  /// `receive_buffer`: of the kernel, in bytes; small where the client is to stall. 0 = as usual.
  explicit client(uint16_t port, int receive_buffer = 0) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    if (receive_buffer > 0)
      ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_port = htons(port);
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd_ < 0 || ::connect(fd_, reinterpret_cast<sockaddr*>(&at), sizeof at) != 0)
      throw std::runtime_error("cannot connect");
    if (tls_ports::have(port))
      tls_ = std::make_unique<tls_side>(fd_);
  }
  ~client() { leave(); }
  client(const client&) = delete;
  client& operator=(const client&) = delete;

  void leave() {
    if (fd_ >= 0)
      ::close(std::exchange(fd_, -1));
  }
  void say(std::string_view bytes) {
    while (!bytes.empty()) {
      auto n = tls_ ? tls_->send(bytes.data(), bytes.size()) : ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0)
        throw std::runtime_error("the server does not listen");
      bytes.remove_prefix(static_cast<size_t>(n));
    }
  }
  void get(const std::string& path, const std::string& headers = {}, const char* version = "HTTP/1.1") {
    say("GET " + path + " " + version + "\r\nHost: x\r\n" + headers + "\r\n");
  }
  /// Reads once, `most` bytes at most. False: the connection has ended.
  bool read_some(size_t most = 65536) {
    pollfd wanted{fd_, POLLIN, 0};
    auto limit = std::chrono::duration_cast<std::chrono::milliseconds>(patience).count();
    if ((!tls_ || !tls_->has_unread()) && ::poll(&wanted, 1, static_cast<int>(limit)) <= 0)
      throw std::runtime_error("nothing came; so far: " + raw.substr(0, 1000));
    std::string scratch(most, '\0');
    auto n = tls_ ? tls_->recv(scratch.data(), scratch.size()) : ::recv(fd_, scratch.data(), scratch.size(), 0);
    if (n <= 0)
      return false;
    raw.append(scratch, 0, static_cast<size_t>(n));
    return true;
  }
  void read_all() {
    while (read_some())
      continue;
  }
  /// Reads until the body has `text`, behind what it was read for last.
  const std::string& read_until(std::string_view text) {
    for (;;) {
      if (auto at = body().find(text, searched_); at != std::string::npos) {
        searched_ = at + text.size();
        return body_;
      }
      searched_ = std::max(searched_, body_.size() - std::min(body_.size(), text.size()));
      if (!read_some())
        throw std::runtime_error("the connection ended before " + std::string{text});
    }
  }
  std::string head() const { return raw.substr(0, raw.find("\r\n\r\n")); }
  /// Of the response, without chunks, as far as it came.
  const std::string& body() {
    auto head_end = raw.find("\r\n\r\n");
    if (head_end == std::string::npos)
      return body_;
    parsed_ = std::max(parsed_, head_end + 4);
    if (head().find("Transfer-Encoding: chunked") == std::string::npos) {
      body_.append(raw, parsed_);
      parsed_ = raw.size();
      return body_;
    }
    for (;;) {
      auto line = raw.find("\r\n", parsed_);
      if (line == std::string::npos)
        return body_;
      auto size = std::stoul(raw.substr(parsed_, line - parsed_), nullptr, 16);
      if (raw.size() < line + 2 + size + 2)
        return body_;
      if (raw.compare(line + 2 + size, 2, "\r\n") != 0)
        throw std::runtime_error("a chunk does not end where it should");
      ended = ended || size == 0;
      body_.append(raw, line + 2, size);
      parsed_ = line + 2 + size + 2;
    }
  }

  void upgrade(const std::string& path, const std::string& headers = {}) {
    get(path, "Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n"
              "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
                  headers);
  }
  void read_head() {
    while (raw.find("\r\n\r\n") == std::string::npos)
      if (!read_some())
        throw std::runtime_error("the connection ended before a head");
  }
  /// The server's next frame: opcode and payload. Nothing: the connection has ended.
  std::optional<std::pair<int, std::string>> frame() {
    read_head();
    parsed_ = std::max(parsed_, raw.find("\r\n\r\n") + 4);
    for (;;) {
      auto bytes = [&](size_t at) { return static_cast<unsigned char>(raw[parsed_ + at]); };
      auto have = raw.size() - parsed_;
      if (have >= 2) {
        size_t more = (bytes(1) & 0x7f) == 127 ? 8 : (bytes(1) & 0x7f) == 126 ? 2 : 0;
        if (have >= 2 + more) {
          uint64_t length = more == 0 ? bytes(1) : 0;
          for (size_t i = 0; i < more; ++i)
            length = length << 8 | bytes(2 + i);
          if (have >= 2 + more + length) {
            std::pair<int, std::string> out{bytes(0) & 0xf, raw.substr(parsed_ + 2 + more, length)};
            parsed_ += 2 + more + length;
            return out;
          }
        }
      }
      if (!read_some())
        return std::nullopt;
    }
  }
  /// As text: "text …", "ping …", "close 1000 …", or "end".
  std::string shown_frame() {
    auto got = frame();
    if (!got)
      return "end";
    auto& [opcode, payload] = *got;
    if (opcode == 8)
      return "close " +
             std::to_string(static_cast<unsigned char>(payload[0]) << 8 | static_cast<unsigned char>(payload[1])) +
             (payload.size() > 2 ? " " + payload.substr(2) : "");
    return (opcode == 1 ? "text " : opcode == 9 ? "ping " : opcode == 10 ? "pong " : "? ") + payload;
  }

  /// In the server's certificate; with TLS only.
  std::string peer_name() const { return tls_->peer_name(); }
  /// The connection did not end as if it were cut. Always so without TLS.
  bool ended_well() const { return !tls_ || tls_->farewell; }

  std::string raw;    ///< All that came.
  bool ended = false; ///< The last chunk came, as far as `body` has looked.

private:
  int fd_;
  std::unique_ptr<tls_side> tls_;
  size_t parsed_ = 0;
  size_t searched_ = 0;
  std::string body_;
};

/// Streams of GET /stream and of WebSockets at /socket, in the order they were opened.
class stream_server {
public:
  explicit stream_server(const sse_config& sse = {}, http_config http = {}) {
    http.port = 0;
    http::router routes;
    routes.add_stream("/stream", [this](const http::request&, const event_stream_ptr& opened) { keep(opened); });
    routes.add_socket("/socket", [this](const http::request&, const event_stream_ptr& opened) { keep(opened); });
    server_ = std::make_unique<http::server>(http, sse, std::move(routes), counters);
    if (!http.tls_certificate.empty())
      tls_ports::add(port());
  }
  ~stream_server() { tls_ports::remove(port()); }
  stream_server(const stream_server&) = delete;
  stream_server& operator=(const stream_server&) = delete;

  uint16_t port() const { return server_->port(); }
  event_stream_ptr next() {
    std::unique_lock guard{mutex_};
    if (!came_.wait_for(guard, patience, [this] { return !streams_.empty(); }))
      throw std::runtime_error("no stream was opened");
    auto out = std::move(streams_.front());
    streams_.pop_front();
    return out;
  }
  fan_out& live() { return server_->live(); }
  void stop() { server_->stop(); }

  stats counters;

private:
  void keep(event_stream_ptr opened) {
    std::lock_guard guard{mutex_};
    streams_.push_back(std::move(opened));
    came_.notify_one();
  }

  std::mutex mutex_;
  std::condition_variable came_;
  std::deque<event_stream_ptr> streams_;
  std::unique_ptr<http::server> server_;
};

inline frame make_frame(std::string text) {
  return std::make_shared<const std::string>(std::move(text));
}

/// Collects events for one block.
class block_builder {
public:
  block_builder& add(route_id route, const std::string& data, uint64_t key = 0) {
    ++number_;
    return again(route, data, key);
  }
  /// The last event by another route.
  block_builder& again(route_id route, const std::string& data, uint64_t key = 0) {
    put(route, "data: " + data + "\n\n", key, true);
    return *this;
  }
  /// Moves the cursor.
  block_builder& move(route_id route, const std::string& id) {
    ++number_;
    put(route, "id: " + id + "\n\n", 0, false);
    return *this;
  }
  live_block_ptr take() { return std::exchange(block_, std::make_shared<live_block>()); }

private:
  void put(route_id route, const std::string& sse, uint64_t key, bool fires) {
    live_block::event event{.route = route, .number = number_, .key = key, .fires = fires};
    event.sse_begin = static_cast<uint32_t>(block_->sse.size());
    event.sse_size = static_cast<uint32_t>(sse.size());
    block_->sse += sse;
    auto ws = encode_ws_text(sse.substr(0, sse.size() - 2));
    event.ws_begin = static_cast<uint32_t>(block_->ws.size());
    event.ws_size = static_cast<uint32_t>(ws.size());
    block_->ws += ws;
    block_->events.push_back(event);
  }

  std::shared_ptr<live_block> block_ = std::make_shared<live_block>();
  uint32_t number_ = 0;
};

} // namespace sluice::testing
