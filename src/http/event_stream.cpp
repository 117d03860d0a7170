#include "http/event_stream.hpp"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <utility>

#include <asio/post.hpp>

namespace sluice::http {

namespace {

using clock = std::chrono::steady_clock;

/// What the kernel holds for one client before it says "full". Bounds the memory of clients that stall.
constexpr int kernel_backlog_bytes = 128 * 1024;
/// A client of an event stream has nothing to say; one that goes on is cut off.
constexpr size_t max_chatter_bytes = 65536;
constexpr milliseconds longest_pause{5};
constexpr std::string_view comment = ":\n\n";
constexpr std::string_view last_chunk = "0\r\n\r\n";

void put_framed(std::string& out, std::string_view bytes, bool chunked) {
  if (bytes.empty())
    return;
  if (!chunked) {
    out.append(bytes);
    return;
  }
  std::array<char, 24> size{};
  auto n = std::snprintf(size.data(), size.size(), "%zx\r\n", bytes.size());
  out.append(size.data(), static_cast<size_t>(n)).append(bytes).append("\r\n");
}

std::string_view text_of_frame(const frame& block) {
  return block ? std::string_view{*block} : std::string_view{};
}

} // namespace

/// One client. The public part is for any thread and only posts; the rest belongs to the shard and its thread.
class stream final : public event_stream, public std::enable_shared_from_this<stream> {
public:
  stream(uint64_t id, std::shared_ptr<mailbox> box, stream_shard& shard, asio::ip::tcp::socket socket,
         connection_slot slot)
      : id_(id), box_(std::move(box)), shard_(&shard), socket_(std::move(socket)), slot_(std::move(slot)) {}

  uint64_t id() const noexcept override { return id_; }
  void join(frame hello) override {
    box_->post([self = shared_from_this(), hello = std::move(hello)] {
      if (!self->closed_)
        self->shard_->join(*self, hello);
    });
  }
  void finish(frame last) override {
    box_->post([self = shared_from_this(), last = std::move(last)] {
      if (!self->closed_)
        self->shard_->finish(*self, last);
    });
  }
  void on_closed(std::function<void(stream_end)> closed) override {
    if (!closed)
      return;
    auto task = [self = shared_from_this(), closed] {
      if (self->closed_)
        closed(self->why_);
      else
        self->on_closed_ = closed;
    };
    // With the I/O thread gone every stream has ended, and nobody else looks at `why_`.
    if (!box_->post(task))
      closed(why_);
  }

private:
  friend class stream_shard;

  bool is_idle(uint64_t log_end) const { return own_.empty() && !waiting_ && (!joined_ || position_ == log_end); }

  const uint64_t id_;
  const std::shared_ptr<mailbox> box_;
  stream_shard* const shard_; ///< Valid while the mailbox runs tasks and the stream is not closed.
  asio::ip::tcp::socket socket_;
  connection_slot slot_;
  std::function<void(stream_end)> on_closed_;
  std::string own_;       ///< Bytes for this client only; they go out before those of the log.
  size_t own_sent_ = 0;   ///< Of `own_`.
  uint64_t position_ = 0; ///< In the lane's log, from `join` on.
  uint64_t events_ = 0;   ///< Of the lane's events, those this client has had or joined after.
  size_t index_ = 0;      ///< In the lane's streams.
  size_t chatter_ = 0;    ///< Bytes the client has sent since its request.
  clock::time_point stuck_since_{};
  uint8_t lane_ = 0;
  stream_end why_ = stream_end::client_left;
  bool joined_ = false;
  bool finishing_ = false;
  bool waiting_ = false; ///< For the socket to become writable.
  bool wrote_ = false;   ///< Since the last heartbeat sweep.
  bool closed_ = false;
};

stream_shard::stream_shard(asio::io_context& io, std::shared_ptr<mailbox> box, const shard_config& cfg, stats& counters,
                           std::function<void(std::string_view)> log)
    : io_(io), box_(std::move(box)), cfg_(cfg), counters_(counters),
      log_(std::move(log)), lanes_{lane{io, false}, lane{io, true}} {}

stream_shard::~stream_shard() = default;

void stream_shard::open(asio::ip::tcp::socket socket, connection_slot slot, std::string head, bool chunked,
                        const std::function<void(event_stream_ptr)>& serve) {
  static std::atomic<uint64_t> next_id{1};
  auto fd = socket.native_handle();
  ::setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &kernel_backlog_bytes, sizeof kernel_backlog_bytes);
  // Bytes that nobody acknowledges for so long: the client is gone without a word.
  auto patience = static_cast<unsigned>((cfg_.heartbeat + cfg_.write_timeout).count());
  ::setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience, sizeof patience);
  auto opened = std::make_shared<stream>(next_id.fetch_add(1), box_, *this, std::move(socket), std::move(slot));
  opened->own_ = std::move(head);
  opened->lane_ = chunked ? 1 : 0;
  auto& where = lanes_[opened->lane_];
  opened->index_ = where.streams.size();
  where.streams.push_back(opened);
  counters_.clients.add();
  counters_.clients_total.add();
  watch(opened);
  try {
    serve(opened);
  } catch (const std::exception& failure) {
    if (log_)
      log_(std::string{"The handler of a stream threw: "} + failure.what());
    opened->finish(nullptr);
  }
  // Behind what `serve` has done, so that the head and the hello share a packet.
  box_->post([opened, this] {
    if (!opened->closed_)
      greet(*opened);
  });
}

void stream_shard::append(const frame& block, uint32_t events) {
  for (auto& where : lanes_) {
    if (where.streams.empty() || !block || block->empty())
      continue;
    where.staged.append(*block);
    where.staged_events += events;
  }
}

void stream_shard::seal(lane& where) {
  if (where.staged.empty())
    return;
  if (where.chunked) {
    std::array<char, 24> size{};
    auto n = std::snprintf(size.data(), size.size(), "%zx\r\n", where.staged.size());
    where.log.append({size.data(), static_cast<size_t>(n)});
    where.staged.append("\r\n");
  }
  where.log.append(where.staged);
  where.events += std::exchange(where.staged_events, 0);
  where.staged.clear();
  if (where.staged.capacity() > 1024 * 1024)
    where.staged.shrink_to_fit();
}

void stream_shard::settle() {
  for (auto& where : lanes_) {
    seal(where);
    if (!where.passing && where.log.end() > where.goal)
      begin_pass(where);
  }
  count_deliveries();
}

void stream_shard::begin_pass(lane& where) {
  where.passing = true;
  where.began = clock::now();
  where.cursor = 0;
  where.goal = where.low = where.log.end();
  run_slice(where);
}

void stream_shard::run_slice(lane& where) {
  for (size_t visits = 0; visits < slice && where.cursor < where.streams.size(); ++visits) {
    auto who = where.streams[where.cursor];
    if (who->joined_ && who->waiting_) {
      if (where.log.end() - who->position_ > cfg_.max_queue_bytes)
        close(*who, stream_end::too_slow);
    } else if (who->joined_ && who->position_ < where.log.end()) {
      flush(*who);
    }
    if (who->closed_)
      continue; // another one has taken its place
    if (who->joined_)
      where.low = std::min(where.low, who->position_);
    ++where.cursor;
  }
  count_deliveries();
  if (where.cursor < where.streams.size()) {
    asio::post(io_, [this, &where] { run_slice(where); });
    return;
  }
  end_pass(where);
}

void stream_shard::end_pass(lane& where) {
  where.log.trim(where.low);
  // Under load, a pause as long as the pass lets frames gather, so that more of them share a write.
  auto took = clock::now() - where.began;
  where.pause.expires_after(std::min<clock::duration>(took, longest_pause));
  where.pause.async_wait([this, &where](asio::error_code ec) {
    where.passing = false;
    if (!ec && where.log.end() > where.goal)
      begin_pass(where);
  });
}

void stream_shard::join(stream& who, const frame& hello) {
  if (who.joined_ || who.finishing_)
    return;
  auto& where = lanes_[who.lane_];
  seal(where); // frames published before are not for this stream
  who.joined_ = true;
  who.position_ = where.log.end();
  who.events_ = where.events;
  put_framed(who.own_, text_of_frame(hello), where.chunked);
  flush(who);
}

void stream_shard::finish(stream& who, const frame& last) {
  if (who.finishing_)
    return;
  auto& where = lanes_[who.lane_];
  seal(where);
  // What is left becomes the stream's own, so that it needs the log no more.
  if (who.joined_) {
    std::array<iovec, 8> parts{};
    while (who.position_ < where.log.end()) {
      auto n = where.log.gather(who.position_, parts.data(), parts.size());
      for (size_t i = 0; i < n; ++i) {
        who.own_.append(static_cast<const char*>(parts[i].iov_base), parts[i].iov_len);
        who.position_ += parts[i].iov_len;
      }
    }
    delivered_ += where.events - who.events_;
    who.joined_ = false;
  }
  put_framed(who.own_, text_of_frame(last), where.chunked);
  if (where.chunked)
    who.own_.append(last_chunk);
  who.finishing_ = true;
  flush(who);
}

void stream_shard::greet(stream& who) {
  // The first byte of the body makes proxies and fetch clients pass the head on.
  if (!who.joined_ && !who.finishing_)
    put_framed(who.own_, comment, lanes_[who.lane_].chunked);
  flush(who);
}

void stream_shard::flush(stream& who) {
  auto& where = lanes_[who.lane_];
  while (!who.closed_ && !who.waiting_) {
    std::array<iovec, 8> parts;
    size_t used = 0;
    if (who.own_sent_ < who.own_.size())
      parts[used++] = {who.own_.data() + who.own_sent_, who.own_.size() - who.own_sent_};
    if (who.joined_ && who.position_ < where.log.end())
      used += where.log.gather(who.position_, parts.data() + used, parts.size() - used);
    if (used == 0) {
      caught_up(who);
      return;
    }
    size_t offered = 0;
    for (size_t i = 0; i < used; ++i)
      offered += parts[i].iov_len;
    ssize_t taken = 0;
    if (used == 1) {
      taken = ::send(who.socket_.native_handle(), parts[0].iov_base, parts[0].iov_len, MSG_DONTWAIT | MSG_NOSIGNAL);
    } else {
      msghdr message{};
      message.msg_iov = parts.data();
      message.msg_iovlen = used;
      taken = ::sendmsg(who.socket_.native_handle(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    if (taken < 0 && errno == EINTR)
      continue;
    if (taken < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
      close(who, stream_end::client_left);
      return;
    }
    auto rest = static_cast<size_t>(std::max<ssize_t>(taken, 0));
    if (auto own = std::min(rest, who.own_.size() - who.own_sent_); own > 0) {
      who.own_sent_ += own;
      rest -= own;
      if (who.own_sent_ == who.own_.size()) {
        std::string{}.swap(who.own_); // idle clients hold no buffer
        who.own_sent_ = 0;
      }
    }
    who.position_ += rest;
    who.wrote_ = true;
    if (taken < 0 || static_cast<size_t>(taken) < offered)
      wait_writable(who);
  }
}

void stream_shard::caught_up(stream& who) {
  if (who.finishing_) {
    close(who, stream_end::finished);
    return;
  }
  if (who.joined_) {
    auto events = lanes_[who.lane_].events;
    delivered_ += events - who.events_;
    who.events_ = events;
  }
}

void stream_shard::wait_writable(stream& who) {
  who.waiting_ = true;
  who.stuck_since_ = clock::now();
  who.socket_.async_wait(asio::ip::tcp::socket::wait_write, [self = who.shared_from_this()](asio::error_code ec) {
    if (ec || self->closed_)
      return;
    self->waiting_ = false;
    self->shard_->flush(*self);
    self->shard_->count_deliveries();
  });
}

void stream_shard::watch(const std::shared_ptr<stream>& who) {
  who->socket_.async_wait(asio::ip::tcp::socket::wait_read, [who](asio::error_code ec) {
    if (ec || who->closed_)
      return;
    std::array<char, 4096> scratch;
    auto n = ::recv(who->socket_.native_handle(), scratch.data(), scratch.size(), MSG_DONTWAIT);
    auto failed = n < 0 && errno != EAGAIN && errno != EINTR;
    who->chatter_ += static_cast<size_t>(std::max<ssize_t>(n, 0));
    if (n == 0 || failed || who->chatter_ > max_chatter_bytes)
      who->shard_->close(*who, stream_end::client_left);
    else
      who->shard_->watch(who);
  });
}

void stream_shard::tick(milliseconds passed) {
  // Each stream is looked at twice a heartbeat; one that had no write between two looks gets a comment. So no client
  // waits longer than the heartbeat, and the work spreads over it.
  auto share =
      2.0 * static_cast<double>(passed.count()) / static_cast<double>(std::max<int64_t>(cfg_.heartbeat.count(), 1));
  for (auto& where : lanes_) {
    where.beats_due += share * static_cast<double>(where.streams.size());
    for (; where.beats_due >= 1 && !where.streams.empty(); where.beats_due -= 1) {
      if (where.beat_cursor >= where.streams.size())
        where.beat_cursor = 0;
      auto who = where.streams[where.beat_cursor++];
      beat(*who);
    }
    if (where.streams.empty())
      where.beats_due = 0;
  }
}

void stream_shard::beat(stream& who) {
  auto& where = lanes_[who.lane_];
  if (who.waiting_) {
    if (clock::now() - who.stuck_since_ > cfg_.write_timeout)
      close(who, stream_end::too_slow);
    return;
  }
  if (!std::exchange(who.wrote_, false) && who.is_idle(where.log.end())) {
    put_framed(who.own_, comment, where.chunked);
    flush(who);
  }
}

void stream_shard::close(stream& who, stream_end why) {
  if (who.closed_)
    return;
  who.closed_ = true;
  who.why_ = why;
  auto keep = who.shared_from_this();
  remove(who);
  asio::error_code ignored;
  if (why == stream_end::too_slow) {
    counters_.clients_slow.add();
    // A clean end would wait behind all that the client does not read.
    who.socket_.set_option(asio::socket_base::linger(true, 0), ignored);
  }
  who.socket_.close(ignored);
  who.slot_ = {};
  std::string{}.swap(who.own_);
  counters_.clients.sub();
  if (auto closed = std::exchange(who.on_closed_, nullptr)) {
    try {
      closed(why);
    } catch (const std::exception& failure) {
      if (log_)
        log_(std::string{"An on_closed callback threw: "} + failure.what());
    }
  }
}

void stream_shard::remove(stream& who) {
  auto& where = lanes_[who.lane_];
  auto& all = where.streams;
  auto fill = [&all](size_t hole, size_t from) {
    if (hole != from) {
      all[hole] = std::move(all[from]);
      all[hole]->index_ = hole;
    }
  };
  auto hole = who.index_;
  // Streams before the cursor have been visited; the last one, which has not, may not slip in among them.
  if (where.passing && hole < where.cursor) {
    --where.cursor;
    fill(hole, where.cursor);
    hole = where.cursor;
  }
  fill(hole, all.size() - 1);
  all.pop_back();
}

void stream_shard::close_all() {
  for (auto& where : lanes_) {
    seal(where);
    while (!where.streams.empty()) {
      auto who = where.streams.back();
      if (!who->waiting_)
        finish(*who, nullptr);
      close(*who, stream_end::finished);
    }
  }
  count_deliveries();
}

void stream_shard::count_deliveries() {
  if (delivered_ != 0)
    counters_.deliveries.add(std::exchange(delivered_, 0));
}

} // namespace sluice::http
