// The part of a stream that only WebSockets have: what the client says, pings, the closing handshake.
#include <algorithm>
#include <utility>

#include "http/stream.hpp"
#include "sluice/ws_format.hpp"

namespace sluice::http {

namespace {

/// Kept for a stream whose owner does not listen yet.
constexpr size_t early_messages = 16;
constexpr uint16_t no_code = 1005;
constexpr uint16_t normal = 1000;

std::string encode_control(char first_byte, std::string_view payload) {
  std::string out{first_byte, static_cast<char>(payload.size())};
  return out.append(payload);
}

} // namespace

void stream_shard::hear(stream& who, std::string_view bytes) {
  auto& ws = *who.ws_;
  ws.unanswered.reset();
  ws.heard = true;
  auto code = ws.reader.read(bytes, [&](ws_message what) {
    if (!who.closed_)
      take(who, std::move(what));
  });
  if (code != 0 && !who.closed_) {
    who.end_ = stream_end::client_left;
    ws.failed = true;
    finish(who, std::make_shared<const std::string>(encode_ws_close(code)));
  }
}

/// Who reads less than it asks for is not heard until it has read; the bytes that wait for it would have no bound.
bool stream_shard::has_answers_unread(const stream& who) const {
  return who.own_waiting() - std::min(who.taken_, who.own_waiting()) > cfg_.max_queue_bytes;
}

void stream_shard::take(stream& who, ws_message what) {
  auto& ws = *who.ws_;
  ++ws.messages;
  switch (what.what) {
  case ws_message::kind::text:
    if (who.finishing_)
      break;
    if (who.on_message_)
      guarded("on_message", [&] { who.on_message_(std::move(what.payload)); });
    else if (ws.early.size() < early_messages)
      ws.early.push_back(std::move(what.payload));
    break;
  case ws_message::kind::ping:
    ws.pong = encode_control('\x8a', what.payload);
    if (!who.waiting_) // else the last one is answered once there is room
      send_pong(who);
    break;
  case ws_message::kind::pong:
    break;
  case ws_message::kind::close:
    ws.peer_closed = true;
    if (!who.finishing_) {
      who.end_ = stream_end::client_left;
      auto code = what.code == no_code ? normal : what.code;
      finish(who, std::make_shared<const std::string>(encode_ws_close(code)));
    } else if (who.own_waiting() == 0) {
      close(who, who.end_);
    }
    break;
  }
}

void stream_shard::listen_to_messages(stream& who, std::function<void(std::string)> received) {
  if (!who.ws_ || who.finishing_)
    return;
  who.on_message_ = std::move(received);
  if (!who.on_message_)
    return;
  for (auto& text : std::exchange(who.ws_->early, {}))
    guarded("on_message", [&] { who.on_message_(std::move(text)); });
}

/// A pong that had to wait until what has gone out in part had gone out whole.
void stream_shard::send_pong(stream& who) {
  if (!who.ws_ || who.ws_->pong.empty() || who.finishing_)
    return;
  take_over_all(who);
  put_own(who, std::exchange(who.ws_->pong, {}), 0);
  flush(who);
}

/// Asks a client that has been silent since the last sweep, half a heartbeat ago, for a sign of life.
void stream_shard::ping(stream& who) {
  auto& ws = *who.ws_;
  auto now = clock::now();
  if (who.finishing_ || std::exchange(ws.heard, false))
    return;
  if (ws.unanswered && now - *ws.unanswered > cfg_.heartbeat * 3 / 2) {
    close(who, stream_end::client_left);
    return;
  }
  if (!ws.unanswered)
    ws.unanswered = now;
  put_own(who, encode_control('\x89', {}), 0);
  flush(who);
}

/// All is said, the close frame too: it is the client's turn to say so, and then ours to hang up.
void stream_shard::await_close(stream& who) {
  if (std::exchange(who.ws_->awaiting_close, true))
    return;
  closing_.emplace_back(clock::now() + cfg_.write_timeout, who.shared_from_this());
  if (!who.ws_->failed)
    return;
  // Its frames mean nothing any more, only the end of its bytes does.
  asio::error_code ignored;
  if (!who.tls_ || who.tls_->end())
    who.socket_.shutdown(asio::socket_base::shutdown_send, ignored);
}

} // namespace sluice::http
