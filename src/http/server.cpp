#include "http/server.hpp"

#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <thread>

#include <asio/ip/v6_only.hpp>

#include "http/io_thread.hpp"

namespace sluice::http {

namespace {

using asio::ip::tcp;

constexpr int backlog = 4096;
/// File descriptors for everything that is not a client: Kafka, logs, event loops.
constexpr uint64_t reserved_files = 256;

tcp::endpoint endpoint_of(const http_config& cfg) {
  auto host = cfg.host;
  if (host == "localhost")
    host = "127.0.0.1";
  if (host.starts_with('[') && host.ends_with(']'))
    host = host.substr(1, host.size() - 2);
  asio::error_code ec;
  auto address = asio::ip::make_address(host, ec);
  if (ec)
    throw std::runtime_error("cannot listen on \"" + cfg.host +
                             "\": not an IP address; use localhost, 127.0.0.1, 0.0.0.0, ::1 or the like for http.host");
  return {address, cfg.port};
}

[[noreturn]] void refuse_to_listen(const http_config& cfg, const asio::error_code& why) {
  auto text = "cannot listen on " + (cfg.host.find(':') == std::string::npos ? cfg.host : "[" + cfg.host + "]") + ":" +
              std::to_string(cfg.port) + ": ";
  if (why == asio::error::address_in_use)
    text += "the port is taken; choose another with --port, or stop the program that has it";
  else if (why == asio::error::access_denied)
    text += "ports below 1024 need privileges; choose another with --port";
  else if (why == std::errc::address_not_available)
    text += "this machine does not have that address; choose another with --host";
  else
    text += why.message() + "; choose another address with --host and --port";
  throw std::runtime_error(text);
}

/// Each connection is a file descriptor: raises this process's limit as far as it goes, and stays below it.
uint64_t possible_connections(uint64_t wanted) {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0)
    return wanted;
  if (files.rlim_cur < files.rlim_max) {
    auto raised = files;
    raised.rlim_cur = files.rlim_max;
    if (::setrlimit(RLIMIT_NOFILE, &raised) == 0)
      files = raised;
  }
  auto possible = files.rlim_cur > 2 * reserved_files ? files.rlim_cur - reserved_files : files.rlim_cur / 2;
  return std::min<uint64_t>(wanted, possible);
}

} // namespace

struct server::impl final : fan_out {
  impl(const http_config& http, const sse_config& sse, router routes, stats& counters,
       std::function<void(std::string_view)> log)
      : parts{http, sse, std::move(routes), counters, std::move(log), std::make_unique<stream_gate>(sse), nullptr},
        limit(possible_connections(http.max_connections)) {
    if (!http.tls_certificate.empty()) {
      auto tls = tls_context::make(http.tls_certificate, http.tls_key);
      if (!tls)
        throw std::runtime_error(text_of(tls.error()));
      parts.tls = std::move(*tls);
      say_expiry();
    }
    if (limit < http.max_connections)
      parts.say("Only " + std::to_string(limit) +
                " connections fit into this process's limit of open files (ulimit -n)");
    for (uint32_t i = 0; i < std::max(1u, http.threads); ++i)
      threads.push_back(std::make_unique<io_thread>(parts));
    // One acceptor hands connections out in turn: every thread gets the same share of the streams, the limit is exact,
    // and a taken port is noticed, which SO_REUSEPORT for each thread would hide.
    acceptor = std::make_unique<tcp::acceptor>(threads.front()->io);
    listen();
    threads.front()->on_tick = [this] {
      if (paused)
        accept_next();
    };
    accept_next();
    for (auto& thread : threads)
      thread->start();
  }

  ~impl() override { stop(); }

  void listen() {
    auto at = endpoint_of(parts.http);
    asio::error_code ec;
    acceptor->open(at.protocol(), ec);
    if (!ec)
      acceptor->set_option(tcp::acceptor::reuse_address(true), ec);
    if (!ec && parts.http.share_port)
      acceptor->set_option(asio::detail::socket_option::boolean<SOL_SOCKET, SO_REUSEPORT>{true}, ec);
    if (!ec && at.address().is_v6())
      acceptor->set_option(asio::ip::v6_only(!at.address().to_v6().is_unspecified()), ec);
    if (!ec)
      acceptor->bind(at, ec);
    if (!ec)
      acceptor->listen(backlog, ec);
    if (!ec)
      port = acceptor->local_endpoint(ec).port();
    if (ec)
      refuse_to_listen(parts.http, ec);
  }

  /// On the first I/O thread, or before it runs.
  void accept_next() {
    paused = false;
    if (!acceptor->is_open())
      return;
    if (parts.counters.http_connections.get() >= limit) {
      paused = true; // the tick looks again; clients wait in the kernel's queue
      return;
    }
    auto& home = *threads[next++ % threads.size()];
    acceptor->async_accept(home.io, [this, &home](asio::error_code ec, tcp::socket socket) {
      if (ec == asio::error::operation_aborted)
        return;
      if (ec) {
        // Out of files or memory: trying at once would only burn CPU.
        parts.say("Cannot accept connections at the moment: " + ec.message());
        paused = true;
        return;
      }
      socket.set_option(tcp::no_delay(true), ec);
      home.serve(std::make_shared<socket_guard>(std::move(socket), connection_slot{parts.counters.http_connections},
                                                home.guards));
      accept_next();
    });
  }

  void say_expiry() {
    parts.counters.tls_expires.set(static_cast<uint64_t>(std::max<int64_t>(parts.tls->expires(), 0)));
  }

  void publish(live_block_ptr block) override {
    if (!block)
      return;
    for (auto& thread : threads)
      thread->box->post([&streams = thread->streams, block] { streams.append(*block); });
  }

  void stop_accepting() {
    threads.front()->box->post([this] {
      asio::error_code ignored;
      acceptor->close(ignored);
    });
  }

  void stop() {
    if (stopped.exchange(true))
      return;
    stop_accepting();
    for (auto& thread : threads)
      thread->begin_stop();
    for (auto& thread : threads)
      thread->join();
  }

  server_parts parts;
  uint64_t limit;
  std::vector<std::unique_ptr<io_thread>> threads;
  std::unique_ptr<tcp::acceptor> acceptor;
  uint16_t port = 0;
  size_t next = 0;
  bool paused = false; ///< No accept is under way. First I/O thread only.
  std::atomic<bool> stopped{false};
};

server::server(const http_config& http, const sse_config& sse, router routes, stats& counters,
               std::function<void(std::string_view)> log)
    : impl_(std::make_unique<impl>(http, sse, std::move(routes), counters, std::move(log))) {}

server::~server() = default;

caf::error server::reload() {
  const auto& tls = impl_->parts.tls;
  if (!tls)
    return {};
  auto error = tls->reload();
  impl_->say_expiry();
  return error;
}

uint16_t server::port() const noexcept {
  return impl_->port;
}

fan_out& server::live() noexcept {
  return *impl_;
}

void server::stop_accepting() {
  impl_->stop_accepting();
}

void server::stop() {
  impl_->stop();
}

} // namespace sluice::http
