// Live delivery over WebSocket: the same channels, cursors and rights as streams of server-sent events.
#include <atomic>
#include <utility>

#include <nlohmann/json.hpp>

#include "sluice/channels.hpp"
#include "sluice/envelope.hpp"
#include "sluice/ws_format.hpp"

#include "live_requests.hpp"
#include "routes.hpp"

namespace sluice::http {

namespace {

using nlohmann::json;

/// Publications of one client that wait for Kafka.
constexpr uint32_t max_pending = 64;

/// One client's side of the conversation. Messages come on the I/O thread; answers go out from any.
class conversation : public std::enable_shared_from_this<conversation> {
public:
  conversation(std::shared_ptr<const api> with, identity who, event_stream_ptr stream, std::string client)
      : with_(std::move(with)), who_(std::move(who)), stream_(std::move(stream)), client_(std::move(client)) {}

  void take(const std::string& text) {
    auto message = json::parse(text, nullptr, false);
    if (!message.is_object() || !message.contains("type") || !message["type"].is_string()) {
      refuse(json(), "send a JSON object with a type: subscribe, unsubscribe, publish or ping");
      return;
    }
    const auto& type = message["type"].get_ref<const std::string&>();
    auto ref = message.value("ref", json());
    if (type == "ping")
      say({{"type", "pong"}, {"ref", ref}});
    else if (type == "subscribe" || type == "unsubscribe")
      change(message, type == "subscribe", ref);
    else if (type == "publish")
      publish(message, ref);
    else
      refuse(ref, "type is none of subscribe, unsubscribe, publish and ping");
  }

private:
  void say(const json& what) const {
    auto text = what.dump(-1, ' ', false, json::error_handler_t::replace);
    stream_->send(std::make_shared<const std::string>(encode_ws_text(text)), 0);
  }
  void refuse(const json& ref, const std::string& why) const {
    say({{"type", "error"}, {"ref", ref}, {"detail", why}});
  }
  /// The text of an answer that HTTP would have given.
  void refuse(const json& ref, const response& instead) const {
    refuse(ref, json::parse(instead.body).value("detail", ""));
  }

  void change(const json& message, bool add, const json& ref) {
    channel_names channels;
    auto wrong = read_channels(message, channels);
    if (!wrong)
      wrong = check_channels(*with_, who_, channels, "/channels");
    if (wrong) {
      refuse(ref, *wrong);
      return;
    }
    with_->change_channels(client_, channels, add,
                           [self = shared_from_this(), ref](const caf::expected<channel_names>& now) {
                             if (now)
                               self->say({{"type", "ack"}, {"ref", ref}, {"channels", *now}});
                             else
                               self->refuse(ref, text_of(now.error()));
                           });
  }

  void publish(const json& message, const json& ref) {
    auto body = message;
    for (const auto* known : {"type", "ref", "channel"})
      body.erase(known);
    auto channel = message.contains("channel") && message["channel"].is_string() ? message["channel"].get<std::string>()
                                                                                 : std::string{};
    outgoing_record record;
    auto id = make_uuid();
    auto wrong = make_broadcast(*with_, who_, channel, body, record, id);
    if (wrong) {
      refuse(ref, *wrong);
      return;
    }
    if (pending_.fetch_add(1) >= max_pending) {
      --pending_;
      refuse(ref, "64 of your publications wait for Kafka; wait for an ack");
      return;
    }
    record.headers.push_back({event_id_header, id});
    with_->publish(
        {std::move(record)}, [self = shared_from_this(), ref, id](const caf::expected<std::vector<delivery>>& outcome) {
          --self->pending_;
          if (!outcome)
            self->refuse(ref, text_of(outcome.error()));
          else if (const auto& one = outcome->front(); one.error != ec::no_error)
            self->refuse(ref, one.reason);
          else if (one.queued)
            self->say({{"type", "ack"}, {"ref", ref}, {"eventId", id}, {"topic", one.topic}, {"queued", true}});
          else
            self->say({{"type", "ack"},
                       {"ref", ref},
                       {"eventId", id},
                       {"topic", one.topic},
                       {"partition", one.partition},
                       {"offset", one.offset}});
        });
  }

  const std::shared_ptr<const api> with_; ///< One for all clients: it is large.
  const identity who_;
  const event_stream_ptr stream_;
  const std::string client_;
  std::atomic<uint32_t> pending_{0};
};

} // namespace

void add_socket_routes(router& routes, const api& with) {
  auto shared = std::make_shared<const api>(with);
  routes.add_socket(
      "/ws",
      [shared](const request& req, const event_stream_ptr& stream) {
        auto wish = make_live_request(req, stream, split_channels(parameter(req, "channels")));
        auto talk = std::make_shared<conversation>(shared, req.who, stream, wish.client);
        stream->on_message([talk](const std::string& text) { talk->take(text); }); // let go of with the stream
        shared->open_session(std::move(wish));
      },
      [shared](request& req) {
        auto channels = split_channels(parameter(req, "channels"));
        return stream_verdict{check_live_request(*shared, req, channels, "channels", !channels.empty()), {}};
      });
}

} // namespace sluice::http
