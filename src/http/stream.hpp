/// One client's stream, as its shard sees it. For event_stream.cpp and its like only.
#pragma once

#include <algorithm>
#include <atomic>
#include <optional>
#include <utility>

#include "http/event_stream.hpp"
#include "http/ws_frames.hpp"

namespace sluice::http {

/// A number that one thread writes and any may read.
class tally {
public:
  void add(uint64_t n) noexcept { set(get() + n); }
  void set(uint64_t n) noexcept { value_.store(n, std::memory_order_relaxed); }
  uint64_t get() const noexcept { return value_.load(std::memory_order_relaxed); }

private:
  std::atomic<uint64_t> value_{0};
};

/// What only a WebSocket has.
struct socket_side {
  static constexpr size_t max_message = 65536;
  ws_reader reader{max_message};
  std::vector<std::string> early; ///< Messages from before there was someone to take them.
  std::string pong;               ///< To be sent when there is room.
  std::optional<std::chrono::steady_clock::time_point> unanswered; ///< When it was first asked for a sign of life.
  uint64_t tick = 0;
  uint32_t messages = 0; ///< In this tick of the shard.
  bool heard = false;    ///< Since the last heartbeat sweep.
  bool peer_closed = false;
  bool failed = false;
  bool awaiting_close = false;
};

/// The public part is for any thread and only posts; the rest belongs to the shard and its thread.
class stream final : public event_stream, public std::enable_shared_from_this<stream> {
public:
  stream(uint64_t id, std::shared_ptr<mailbox> box, stream_shard& shard, asio::ip::tcp::socket socket,
         connection_slot slot, wire_format format)
      : id_(id), format_(format), box_(std::move(box)), shard_(&shard), socket_(std::move(socket)),
        slot_(std::move(slot)) {
    if (format.protocol == stream_protocol::websocket)
      ws_ = std::make_unique<socket_side>();
  }

  uint64_t id() const noexcept override { return id_; }
  stream_protocol protocol() const noexcept override { return format_.protocol; }
  void send(frame bytes, uint32_t events) override {
    post([bytes = std::move(bytes), events](stream& self) { self.shard_->send(self, bytes, events); });
  }
  void subscribe(stream_subscription what) override {
    post([what = std::move(what)](stream& self) { self.shard_->subscribe(self, what); });
  }
  void finish(frame last) override {
    post([last = std::move(last)](stream& self) { self.shard_->finish(self, last); });
  }
  void when_sent(std::function<void()> sent) override {
    if (!sent)
      return;
    auto task = [self = shared_from_this(), sent] {
      if (self->closed_)
        sent();
      else
        self->shard_->when_sent(*self, sent);
    };
    if (!box_->post(task))
      sent();
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
  void on_message(std::function<void(std::string)> received) override {
    post([received = std::move(received)](stream& self) { self.shard_->listen_to_messages(self, received); });
  }
  stream_usage usage() const override { return {events_.get(), bytes_.get(), queued_.get(), dropped_.get()}; }

private:
  friend class stream_shard;

  template <class Work>
  void post(Work work) {
    box_->post([self = shared_from_this(), work = std::move(work)] {
      if (!self->closed_)
        work(*self);
    });
  }

  size_t own_waiting() const { return own_.size() - own_sent_; }
  uint64_t own_handed() const { return own_end_ - own_waiting(); }
  void append_own(std::string_view bytes) {
    own_.append(bytes);
    own_end_ += bytes.size();
  }

  const uint64_t id_;
  const wire_format format_;
  const std::shared_ptr<mailbox> box_;
  stream_shard* const shard_; ///< Valid while the mailbox runs tasks and the stream is not closed.
  asio::ip::tcp::socket socket_;
  std::unique_ptr<tls_session> tls_; ///< Null: the connection is not encrypted.
  connection_slot slot_;
  stream_pass pass_;
  std::function<void(stream_end)> on_closed_;
  std::function<void(std::string)> on_message_;
  std::unique_ptr<socket_side> ws_;
  size_t index_ = 0; ///< Among the shard's streams.

  // While no write is under way, that is while it is not `waiting_`, a stream is between two batches: its own bytes may
  // be followed by more of them and go out before those of the lane. Else what is left of the lane must come first.
  std::string own_;         ///< Bytes for this client only; they go out before those of the lane.
  size_t own_sent_ = 0;     ///< Of `own_`.
  uint64_t own_end_ = 0;    ///< Bytes that have ever been put there.
  uint64_t own_events_ = 0; ///< In `own_`.
  size_t taken_ = 0;        ///< Of `own_`, bytes that came from a lane.
  std::vector<std::pair<uint64_t, std::function<void()>>> sent_waiters_; ///< By the `own_end_` to be reached.

  std::shared_ptr<stream_shard::lane> lane_; ///< Null: not subscribed.
  size_t lane_index_ = 0;                    ///< Among the lane's streams.
  uint64_t position_ = 0;                    ///< In the lane's log.
  lane_point had_;                           ///< Where it last had all of the lane, or joined, or went on after a jump.
  gzip_sum sum_;          ///< Of all its bytes before compression, with those of the lane before `counted_`.
  gzip_sum counted_;      ///< A place in the lane, by the lane's own sum.
  bool skipping_ = false; ///< It gets the latest since `had_` when it can take bytes again, nothing of the log.
  // The last notice of lost events, as places on the scale of `own_end_`:
  uint64_t gap_begin_ = 0;
  uint64_t gap_end_ = UINT64_MAX;
  uint64_t gap_events_ = 0;
  gzip_sum gap_sum_; ///< Before it.

  std::chrono::steady_clock::time_point stuck_since_{};
  size_t chatter_ = 0;                    ///< Bytes the client has sent since its request.
  stream_end end_ = stream_end::finished; ///< Once it is `finishing_`, why.
  stream_end why_ = stream_end::client_left;
  bool spoken_ = false; ///< It was given something to send.
  bool flush_due_ = false;
  bool finishing_ = false;
  bool waiting_ = false; ///< For the socket to become writable.
  bool wrote_ = false;   ///< Since the last heartbeat sweep.
  bool closed_ = false;
  tally events_, bytes_, queued_, dropped_;
};

} // namespace sluice::http
