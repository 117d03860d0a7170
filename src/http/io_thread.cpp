#include "http/io_thread.hpp"

#include <exception>

#include <asio/post.hpp>

#include "http/url.hpp"
#include "http/wire.hpp"

namespace sluice::http {

namespace {
thread_local io_thread* current_thread = nullptr;
} // namespace

uint32_t server_parts::body_limit(std::string_view method, std::string_view target) const {
  const auto* found = routes.find(method, split_target(target).path).found;
  return found != nullptr && found->max_body_bytes > 0 ? found->max_body_bytes : http.max_body_bytes;
}

io_thread* io_thread::current() {
  return current_thread;
}

void at_turn_end(const std::function<void()>& work) {
  // What a turn of the event loop found is done before what its handlers post.
  if (current_thread == nullptr || !current_thread->box->post(work))
    work();
}

io_thread::io_thread(const server_parts& parts)
    : parts(parts), box(std::make_shared<mailbox>(io, [this] { streams.settle(); })),
      guards(parts.counters, parts.http.max_header_bytes, parts.http.max_body_bytes),
      streams(io, box, {parts.sse.heartbeat, parts.http.write_timeout, parts.sse.max_queue_bytes}, parts.counters,
              parts.log),
      work_(io.get_executor()), timer_(io), last_tick_(std::chrono::steady_clock::now()) {
  guards.render_refusal = [this](int status, std::string_view detail) {
    return render(problem(status, detail), {.keep_alive = false, .date = date_});
  };
  guards.body_limit = [this](std::string_view method, std::string_view target) {
    return this->parts.body_limit(method, target);
  };
  connections_ = make_connection_maker(*this);
}

io_thread::~io_thread() {
  join();
}

void io_thread::start() {
  asio::post(io, [this] { tick(); });
  thread_ = std::thread{[this] { run(); }};
}

void io_thread::serve(std::shared_ptr<socket_guard> guard) {
  if (current_thread == this)
    connections_->start(std::move(guard));
  else
    box->post([this, guard = std::move(guard)] { connections_->start(guard); });
}

void io_thread::begin_stop() {
  box->post([this] {
    timer_.cancel();
    guards.close_lingerers(true);
    connections_->drop_all();
    streams.close_all();
    guards.close_connections();
    io.stop();
  });
}

void io_thread::join() {
  if (thread_.joinable())
    thread_.join();
}

void io_thread::run() {
  current_thread = this;
  while (!io.stopped()) {
    try {
      io.run();
    } catch (const std::exception& failure) {
      // One failed task must not take the other clients' thread with it.
      parts.say(std::string{"An I/O task threw: "} + failure.what());
    }
  }
  // Streams and requests are gone; callers that come late get their callbacks here.
  box->close();
}

void io_thread::tick() {
  auto now = std::chrono::steady_clock::now();
  auto passed = std::chrono::duration_cast<milliseconds>(now - last_tick_);
  last_tick_ = now;
  if (auto second = std::time(nullptr); second != date_second_) {
    date_second_ = second;
    date_ = http_date(second);
  }
  guards.close_lingerers(false);
  connections_->expire();
  streams.tick(passed);
  if (on_tick)
    on_tick();
  timer_.expires_after(tick_period);
  timer_.async_wait([this](asio::error_code ec) {
    if (!ec)
      tick();
  });
}

} // namespace sluice::http
