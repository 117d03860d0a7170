#include "http/stream.hpp"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <exception>

#include <asio/post.hpp>

#include "http/wire.hpp"
#include "sluice/ws_format.hpp"

namespace sluice::http {

namespace {

/// A client of an event stream has nothing to say; one that goes on is cut off.
constexpr size_t max_chatter_bytes = 65536;
/// Bytes that have been sent are forgotten once they are so many, and more than half.
constexpr size_t kept_sent_bytes = 65536;
/// A WebSocket's client that says more than so many messages between two ticks of the shard is not listened to until
/// the next one.
constexpr uint32_t messages_a_tick = 64;
constexpr uint16_t going_away = 1001;
constexpr std::string_view comment = ":\n\n";
constexpr std::string_view last_chunk = "0\r\n\r\n";

std::string_view text_of_frame(const frame& block) {
  return block ? std::string_view{*block} : std::string_view{};
}

std::string gap_notice(stream_protocol protocol, uint64_t events) {
  auto number = std::to_string(events);
  if (protocol == stream_protocol::websocket)
    return encode_ws_text(R"({"type":"gap","data":{"reason":"slow","dropped":)" + number + "}}");
  return "event: gap\ndata: {\"reason\":\"slow\",\"dropped\":" + number + "}\n\n";
}

} // namespace

// -- what it is given -------------------------------------------------------------------------------------------------

void stream_shard::send(stream& who, const frame& bytes, uint32_t events) {
  if (who.finishing_)
    return;
  take_over_all(who);
  if (who.closed_)
    return;
  who.spoken_ = true;
  put_own(who, text_of_frame(bytes), events);
  flush_soon(who);
}

void stream_shard::finish(stream& who, const frame& last) {
  if (who.finishing_)
    return;
  take_over_all(who);
  if (who.closed_)
    return;
  leave(who);
  put_own(who, text_of_frame(last), 0);
  if (who.ws_ && !ends_with_close(text_of_frame(last)))
    put_own(who, encode_ws_close(going_away), 0);
  if (who.format_.gzip)
    put_chunk(who, gzip_trailer(who.sum_));
  if (who.format_.chunked)
    who.append_own(last_chunk);
  who.finishing_ = true;
  flush(who);
}

void stream_shard::when_sent(stream& who, std::function<void()> sent) {
  if (who.own_waiting() == 0)
    guarded("when_sent", sent);
  else
    who.sent_waiters_.emplace_back(who.own_end_, std::move(sent));
}

void stream_shard::greet(stream& who) {
  // The first byte of the body makes proxies and fetch clients pass the head on.
  if (who.format_.protocol == stream_protocol::sse && !who.spoken_ && !who.finishing_ && !who.waiting_)
    put_own(who, comment, 0);
  flush(who);
}

void stream_shard::beat(stream& who) {
  if (who.waiting_) {
    if (clock::now() - who.stuck_since_ > cfg_.write_timeout)
      close(who, stream_end::too_slow);
    return;
  }
  if (who.ws_) {
    ping(who);
    return;
  }
  if (!std::exchange(who.wrote_, false) && who.own_.empty()) {
    put_own(who, comment, 0);
    flush(who);
  }
}

// -- its own bytes ----------------------------------------------------------------------------------------------------

/// Bytes of its own, behind what it has already. What it has to get of the lane before must have been taken over.
void stream_shard::put_own(stream& who, std::string_view bytes, uint64_t events) {
  if (bytes.empty())
    return;
  if (who.own_sent_ > kept_sent_bytes && who.own_sent_ > who.own_waiting()) {
    who.own_.erase(0, who.own_sent_);
    who.own_sent_ = 0;
  }
  if (who.format_.gzip) {
    sum_up(who);
    who.sum_.add(bytes);
    bytes = packer_.pack(bytes);
  }
  put_chunk(who, bytes);
  who.own_events_ += events;
}

void stream_shard::put_chunk(stream& who, std::string_view bytes) {
  if (!who.format_.chunked) {
    who.append_own(bytes);
    return;
  }
  who.append_own(chunk_head(bytes.size()));
  who.append_own(bytes);
  who.append_own("\r\n");
}

/// What it had of the lane is in its own sum, too.
void stream_shard::sum_up(stream& who) {
  if (who.format_.gzip && who.lane_)
    who.sum_.add_between(std::exchange(who.counted_, who.had_.sum), who.had_.sum);
}

/// What comes next of the lane is behind `place`, whatever came before.
void stream_shard::go_on_from(stream& who, const lane_point& place) {
  who.had_ = place;
  who.position_ = place.position;
  who.counted_ = place.sum;
}

/// The lane's bytes up to a place become the stream's own.
void stream_shard::take_over(stream& who, const lane_point& place) {
  std::array<iovec, 8> parts{};
  while (who.position_ < place.position) {
    auto n = who.lane_->log.gather(who.position_, parts.data(), parts.size());
    for (size_t i = 0; i < n && who.position_ < place.position; ++i) {
      auto length = std::min<uint64_t>(parts[i].iov_len, place.position - who.position_);
      who.append_own({static_cast<const char*>(parts[i].iov_base), length});
      who.position_ += length;
      who.taken_ += length;
    }
  }
  who.own_events_ += place.events - who.had_.events;
  who.had_ = place;
  sum_up(who);
}

/// What waits in the lane becomes the stream's own, so that something else can follow it.
void stream_shard::take_over_all(stream& who) {
  if (!who.lane_)
    return;
  who.lane_->log.seal();
  if (who.waiting_)
    hold_to_policy(who); // taken over again and again, its queue would have no bound
  if (who.closed_)
    return;
  if (who.skipping_)
    send_latest(who);
  else
    take_over(who, who.lane_->log.end());
}

// -- slow clients -----------------------------------------------------------------------------------------------------

/// Bytes of the lane that are to be sent and not yet the stream's own.
uint64_t stream_shard::ahead(const stream& who) {
  return who.lane_ && !who.skipping_ ? who.lane_->log.end().position - who.position_ : 0;
}

/// Bytes of lanes that wait for the client. Those of `send` do not count: who sends them bounds himself.
uint64_t stream_shard::backlog(const stream& who) {
  return std::min(who.taken_, who.own_waiting()) + ahead(who);
}

void stream_shard::hold_to_policy(stream& who) {
  if (!who.skipping_ && backlog(who) > queue_limit(*who.lane_)) {
    switch (who.lane_->key.policy) {
    case slow_policy::disconnect:
      close(who, stream_end::too_slow);
      return;
    case slow_policy::drop_oldest:
      drop_oldest(who);
      break;
    case slow_policy::latest:
      skip_to_latest(who);
      break;
    }
  }
  who.queued_.set(who.own_waiting() + ahead(who));
}

void stream_shard::drop_oldest(stream& who) {
  auto& log = who.lane_->log;
  auto half = uint64_t{cfg_.max_queue_bytes} / 2;
  auto begun = log.place_from(who.position_); // what has gone out in part goes out whole
  auto next = log.place_before_end(half - std::min<uint64_t>(half, std::min(who.taken_, who.own_waiting())));
  if (next.position <= begun.position)
    return;
  take_over(who, begun);
  go_on_from(who, next);
  put_gap(who, next.events - begun.events);
}

void stream_shard::skip_to_latest(stream& who) {
  take_over(who, who.lane_->log.place_from(who.position_));
  who.skipping_ = true;
}

void stream_shard::send_latest(stream& who) {
  auto& log = who.lane_->log;
  log.seal();
  auto since = who.had_;
  go_on_from(who, log.end());
  who.skipping_ = false;
  auto missed = who.had_.events - since.events;
  // With too many keys for one queue the client has to know that something is missing.
  if (backlog(who) > cfg_.max_queue_bytes) {
    put_gap(who, missed);
    return;
  }
  std::string text;
  auto events = log.latest_since(since, text);
  if (log.knows_latest_since(since))
    count_dropped(who, missed - events);
  else
    put_gap(who, missed - events);
  auto before = who.own_end_;
  put_own(who, text, events);
  who.taken_ += who.own_end_ - before;
}

void stream_shard::put_gap(stream& who, uint64_t events) {
  if (events == 0)
    return;
  count_dropped(who, events);
  // Directly behind a notice that has not begun to go out: one notice for both.
  if (who.gap_end_ == who.own_end_ && who.own_handed() <= who.gap_begin_) {
    who.own_.resize(who.own_.size() - (who.gap_end_ - who.gap_begin_));
    who.own_end_ = who.gap_begin_;
    who.sum_ = who.gap_sum_;
    events += who.gap_events_;
  }
  who.gap_begin_ = who.own_end_;
  who.gap_sum_ = who.sum_;
  who.gap_events_ = events;
  put_own(who, gap_notice(who.format_.protocol, events), 0);
  who.gap_end_ = who.own_end_;
}

void stream_shard::count_dropped(stream& who, uint64_t events) {
  who.dropped_.add(events);
  counters_.events_dropped.add(events);
}

// -- the socket -------------------------------------------------------------------------------------------------------

void stream_shard::flush_soon(stream& who) {
  if (!std::exchange(who.flush_due_, true))
    to_flush_.push_back(who.shared_from_this());
}

void stream_shard::flush(stream& who) {
  while (!who.closed_ && !who.waiting_) {
    if (who.tls_ && !who.tls_->flush()) {
      wait_writable(who);
      return;
    }
    std::array<iovec, 8> parts;
    size_t used = 0;
    if (who.own_waiting() > 0)
      parts[used++] = {who.own_.data() + who.own_sent_, who.own_waiting()};
    if (ahead(who) > 0)
      used += who.lane_->log.gather(who.position_, parts.data() + used, parts.size() - used);
    if (used == 0) {
      if (who.skipping_) {
        send_latest(who);
        continue;
      }
      caught_up(who);
      return;
    }
    size_t offered = 0;
    for (size_t i = 0; i < used; ++i)
      offered += parts[i].iov_len;
    ssize_t taken = 0;
    if (who.tls_) {
      taken = who.tls_->write(parts.data(), used);
    } else if (used == 1) {
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
    auto whole = taken >= 0 && static_cast<size_t>(taken) == offered;
    if (taken > 0)
      has_written(who, static_cast<size_t>(taken));
    if (!whole)
      wait_writable(who);
  }
}

void stream_shard::has_written(stream& who, size_t bytes) {
  who.bytes_.add(bytes);
  who.wrote_ = true;
  auto own = std::min(bytes, who.own_waiting());
  who.position_ += bytes - own;
  if (own == 0)
    return;
  who.own_sent_ += own;
  if (who.own_waiting() == 0) {
    std::string{}.swap(who.own_); // idle clients hold no buffer
    who.own_sent_ = who.taken_ = 0;
    count(who, std::exchange(who.own_events_, 0));
  }
  auto handed = who.own_handed();
  auto& waiters = who.sent_waiters_;
  while (!waiters.empty() && waiters.front().first <= handed) {
    auto sent = std::move(waiters.front().second);
    waiters.erase(waiters.begin());
    guarded("when_sent", sent);
  }
}

void stream_shard::caught_up(stream& who) {
  who.queued_.set(0);
  if (who.finishing_) {
    if (who.ws_ && !who.ws_->peer_closed)
      await_close(who);
    else if (who.tls_ && !who.tls_->end())
      wait_writable(who);
    else
      close(who, who.end_);
    return;
  }
  if (who.lane_) {
    const auto& end = who.lane_->log.end();
    count(who, end.events - who.had_.events);
    who.had_ = end;
  }
}

void stream_shard::wait_writable(stream& who) {
  who.waiting_ = true;
  if (who.lane_)
    ++who.lane_->waiting;
  who.queued_.set(who.own_waiting() + ahead(who));
  who.stuck_since_ = clock::now();
  who.socket_.async_wait(asio::ip::tcp::socket::wait_write, [self = who.shared_from_this()](asio::error_code ec) {
    if (ec || self->closed_)
      return;
    auto& shard = *self->shard_;
    self->waiting_ = false;
    if (self->lane_)
      --self->lane_->waiting;
    shard.send_pong(*self);
    shard.flush(*self);
    if (self->lane_)
      shard.tidy(*self->lane_);
    shard.count_deliveries();
  });
}

void stream_shard::watch(const stream_ptr& who) {
  if (who->tls_ && who->tls_->has_unread()) {
    asio::post(io_, [who] {
      if (!who->closed_)
        who->shard_->listen(who);
    });
    return;
  }
  who->socket_.async_wait(asio::ip::tcp::socket::wait_read, [who](asio::error_code ec) {
    if (!ec && !who->closed_)
      who->shard_->listen(who);
  });
}

void stream_shard::listen(const stream_ptr& who) {
  std::array<char, 4096> scratch;
  auto n = who->tls_ ? who->tls_->read(scratch.data(), scratch.size())
                     : ::recv(who->socket_.native_handle(), scratch.data(), scratch.size(), MSG_DONTWAIT);
  auto failed = n < 0 && errno != EAGAIN && errno != EINTR;
  if (n == 0 || failed) {
    close(*who, who->ws_ && who->finishing_ ? who->end_ : stream_end::client_left);
    return;
  }
  auto bytes = static_cast<size_t>(std::max<ssize_t>(n, 0));
  if (who->ws_) {
    auto& ws = *who->ws_;
    if (std::exchange(ws.tick, ticks_) != ticks_)
      ws.messages = 0;
    hear(*who, {scratch.data(), bytes});
    count_deliveries();
    if (ws.messages >= messages_a_tick || has_answers_unread(*who)) {
      hushed_.push_back(who);
      return;
    }
  } else {
    who->chatter_ += bytes;
    if (who->chatter_ > max_chatter_bytes)
      close(*who, stream_end::client_left);
  }
  if (!who->closed_)
    watch(who);
}

void stream_shard::close(stream& who, stream_end why) {
  if (who.closed_)
    return;
  who.closed_ = true;
  who.why_ = why;
  auto keep = who.shared_from_this();
  leave(who);
  streams_.back()->index_ = who.index_;
  std::swap(streams_[who.index_], streams_.back());
  streams_.pop_back();
  asio::error_code ignored;
  if (who.tls_ && why != stream_end::too_slow)
    who.tls_->end();
  who.tls_ = nullptr;
  if (why == stream_end::too_slow) {
    counters_.clients_slow.add();
    // A clean end would wait behind all that the client does not read.
    who.socket_.set_option(asio::socket_base::linger(true, 0), ignored);
  }
  who.socket_.close(ignored);
  who.slot_ = {};
  who.pass_ = {};
  std::string{}.swap(who.own_);
  who.own_sent_ = 0;
  who.queued_.set(0);
  counters_.clients.sub();
  for (auto& [place, sent] : std::exchange(who.sent_waiters_, {}))
    guarded("when_sent", sent);
  who.on_message_ = nullptr;
  if (auto closed = std::exchange(who.on_closed_, nullptr))
    guarded("on_closed", [&] { closed(why); });
}

void stream_shard::count(stream& who, uint64_t events) {
  who.events_.add(events);
  delivered_ += events;
}

void stream_shard::guarded(const char* what, const std::function<void()>& callback) {
  try {
    callback();
  } catch (const std::exception& failure) {
    if (log_)
      log_("A callback of " + std::string{what} + " threw: " + failure.what());
  }
}

} // namespace sluice::http
