#include "http/guarded_socket.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>

#include "sluice/ascii.hpp"

namespace sluice::http {

namespace {

using clock = std::chrono::steady_clock;

constexpr auto linger_time = std::chrono::seconds{2};
constexpr size_t linger_bytes = 16 * 1024 * 1024;
/// Bodies beyond `max_body_bytes` that come in at a time, of the whole server.
constexpr uint64_t max_large_bodies = 8;
/// What the frames of chunks may add to a body.
constexpr uint64_t chunk_allowance = 65536;
constexpr size_t max_lingerers = 128; ///< An I/O thread; beyond it the answer may get lost.
/// http_parser gives up here by itself.
constexpr size_t parser_header_limit = 79 * 1024;

/// The length of the head with its blank line, 0 where it is not complete. As tolerant of bare LF as http_parser is.
size_t head_length(std::string_view bytes, size_t from) {
  for (auto at = bytes.find('\n', from); at != std::string_view::npos; at = bytes.find('\n', at + 1)) {
    auto rest = bytes.substr(at + 1);
    if (rest.starts_with('\n'))
      return at + 2;
    if (rest.starts_with("\r\n"))
      return at + 3;
  }
  return 0;
}

/// The value of a header, trimmed, or "". Case does not matter.
std::string_view header_value(std::string_view head, std::string_view name) {
  while (!head.empty()) {
    auto line = head.substr(0, head.find('\n'));
    head.remove_prefix(std::min(line.size() + 1, head.size()));
    if (line.size() <= name.size() || line[name.size()] != ':')
      continue;
    if (!same_but_for_case(line.substr(0, name.size()), name))
      continue;
    line.remove_prefix(name.size() + 1);
    while (!line.empty() && (line.front() == ' ' || line.front() == '\t'))
      line.remove_prefix(1);
    while (!line.empty() && (line.back() == ' ' || line.back() == '\r' || line.back() == '\t'))
      line.remove_suffix(1);
    return line;
  }
  return {};
}

} // namespace

class lingerer : public std::enable_shared_from_this<lingerer> {
public:
  lingerer(asio::ip::tcp::socket socket, connection_slot slot) : socket_(std::move(socket)), slot_(std::move(slot)) {}

  void wait() {
    socket_.async_wait(asio::ip::tcp::socket::wait_read, [self = shared_from_this()](asio::error_code ec) {
      if (!ec && self->discard())
        self->wait();
      else
        self->close();
    });
  }
  void close() {
    asio::error_code ignored;
    socket_.close(ignored);
  }
  bool overdue(clock::time_point now) const { return now > deadline_; }

private:
  bool discard() {
    std::array<char, 65536> scratch;
    auto n = ::recv(socket_.native_handle(), scratch.data(), scratch.size(), MSG_DONTWAIT);
    if (n < 0)
      return errno == EAGAIN || errno == EINTR;
    discarded_ += static_cast<size_t>(n);
    return n > 0 && discarded_ < linger_bytes;
  }

  asio::ip::tcp::socket socket_;
  connection_slot slot_;
  size_t discarded_ = 0;
  clock::time_point deadline_ = clock::now() + linger_time;
};

void guard_context::close_lingerers(bool all) {
  auto now = clock::now();
  lingerers.remove_if([&](const std::weak_ptr<lingerer>& each) {
    auto alive = each.lock();
    if (alive && !all && !alive->overdue(now))
      return false;
    if (alive)
      alive->close();
    return true;
  });
}

void guard_context::close_connections() {
  for (auto* each : std::exchange(served, {}))
    each->end_service();
}

void socket_guard::end_service() {
  served_ = false;
  hang_up();
}

void socket_guard::hang_up() {
  if (tls)
    tls->end();
  tls = nullptr;
  asio::error_code ignored;
  socket.shutdown(asio::ip::tcp::socket::shutdown_both, ignored);
  socket.close(ignored);
  slot = {};
}

void socket_guard::say(std::string_view bytes) {
  if (tls) {
    iovec part{const_cast<char*>(bytes.data()), bytes.size()}; // only read
    tls->write(&part, 1);
  } else {
    ::send(socket.native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  }
}

void socket_guard::tls_has_failed() {
  if (!tls->is_established())
    context_->counters.tls_failed.add();
  if (tls->hears_plain_text()) {
    tls = nullptr;
    refuse(400, "This port speaks HTTPS only. Use a URL that begins with https://.");
  }
}

asio::error_code socket_guard::has_read(std::string_view bytes) {
  if (in_body_) {
    body_bytes_ += bytes.size();
    if (is_chunked_ && body_bytes_ > 2 * body_limit_ + chunk_allowance) {
      refuse_large_body();
      return asio::error::eof;
    }
    return take_place();
  }
  // Most heads come in one piece and need no copy.
  auto known = head_.size();
  if (known != 0)
    head_.append(bytes);
  auto whole = known != 0 ? std::string_view{head_} : bytes;
  auto length = head_length(whole, known < 3 ? 0 : known - 3);
  if ((length == 0 ? whole.size() : length) > context_->max_header_bytes) {
    refuse(431, "The request line and headers have more than " + std::to_string(context_->max_header_bytes) +
                    " bytes. Send fewer or shorter headers, or raise http.maxHeaderBytes.");
    return asio::error::eof;
  }
  if (length == 0) {
    if (known == 0)
      head_.assign(bytes);
    return {};
  }
  // http_parser takes a line without a version, and any version, as a request.
  auto head = whole.substr(0, length);
  head.remove_prefix(std::min(head.find_first_not_of("\r\n"), head.size()));
  auto line = head.substr(0, head.find('\n'));
  if (line.find(" HTTP/1.1") == std::string_view::npos && line.find(" HTTP/1.0") == std::string_view::npos) {
    refuse(400, "The request line must end with HTTP/1.1 or HTTP/1.0.");
    return asio::error::eof;
  }
  in_body_ = true;
  body_bytes_ = whole.size() - length;
  auto refused = head_complete(head);
  head_.clear();
  return refused;
}

asio::error_code socket_guard::head_complete(std::string_view head) {
  http_1_0_ = head.substr(0, head.find('\n')).find(" HTTP/1.0") != std::string_view::npos;
  content_length_ = 0;
  auto length = header_value(head, "content-length");
  auto parsed = std::from_chars(length.data(), length.data() + length.size(), content_length_);
  if (parsed.ec == std::errc::result_out_of_range)
    content_length_ = UINT64_MAX;
  is_chunked_ = length.empty() && !header_value(head, "transfer-encoding").empty();
  body_limit_ = context_->max_body_bytes;
  if ((is_chunked_ || content_length_ > body_limit_) && context_->body_limit) {
    auto line = head.substr(0, head.find('\n'));
    auto method = line.substr(0, line.find(' '));
    line.remove_prefix(std::min(method.size() + 1, line.size()));
    body_limit_ = context_->body_limit(method, line.substr(0, line.find(' ')));
  }
  if (content_length_ > std::max<uint64_t>(body_limit_, context_->max_body_bytes)) {
    refuse_large_body();
    return asio::error::eof;
  }
  if (auto refused = take_place())
    return refused;
  // Clients that ask wait for this before they send the body, curl for one second.
  if (body_bytes_ == 0 && header_value(head, "expect") == "100-continue")
    say("HTTP/1.1 100 Continue\r\n\r\n");
  return {};
}

asio::error_code socket_guard::take_place() {
  // Not by what the head announces: nobody shall hold a place by a promise.
  if (body_limit_ <= context_->max_body_bytes || body_bytes_ <= context_->max_body_bytes || large_)
    return {};
  auto& gauge = context_->counters.http_large_bodies;
  if (gauge.get() >= max_large_bodies) {
    refuse(503, "Too many large bodies are coming in at the moment. Try again in a few seconds.");
    return asio::error::eof;
  }
  large_ = connection_slot{gauge};
  return {};
}

void socket_guard::refuse_large_body() {
  refuse(413, "The body has more than " + std::to_string(body_limit_) + " bytes. Send it in smaller parts, or raise " +
                  (body_limit_ > context_->max_body_bytes ? "documents.maxBytes." : "http.maxBodyBytes."));
}

void socket_guard::close() {
  if (!socket.is_open())
    return;
  if (parsing_) {
    // Closing in the middle of parsing: http_parser or a limit of RESTinio's refused the request.
    if (in_body_ && (content_length_ > body_limit_ || body_bytes_ > body_limit_))
      refuse_large_body();
    else if (!in_body_ && head_.size() > parser_header_limit)
      refuse(431, "The headers are too large. Send fewer or shorter ones.");
    else
      refuse(400, "This is not a valid HTTP/1.1 request. Check the request line, the headers and the body's length.");
  } else if (reading_ && (in_body_ || !head_.empty())) {
    // Nothing has failed and yet RESTinio closes: its time limit for the request has passed.
    refuse(408, "The request was not complete in time. Send it faster, or raise http.headerTimeoutMs.");
  } else {
    hang_up();
  }
}

void socket_guard::refuse(int status, std::string_view detail) {
  large_ = {};
  context_->counters.http_malformed.add();
  context_->counters.http_errors.add();
  asio::error_code ec;
  socket.cancel(ec);
  say(context_->render_refusal(status, detail));
  if (tls)
    tls->end();
  tls = nullptr;
  socket.shutdown(asio::ip::tcp::socket::shutdown_send, ec);
  auto room = !ec && context_->lingerers.size() < max_lingerers;
  auto rest = std::make_shared<lingerer>(std::move(socket), std::move(slot));
  if (room) {
    context_->lingerers.push_back(rest);
    rest->wait();
  }
}

} // namespace sluice::http
