#include "sse_session.hpp"

#include <string>

#include "sluice/sse_format.hpp"

#include "crash.hpp"

namespace sluice {

namespace {

constexpr std::chrono::seconds join_timeout{5};

} // namespace

sse_session_actor::behavior_type sse_session(sse_session_actor::stateful_pointer<sse_session_state> self,
                                             event_stream_ptr stream, sse_hub_actor hub,
                                             std::chrono::milliseconds retry) {
  auto& st = self->state;
  st.stream = std::move(stream);
  st.hub = std::move(hub);
  log_crashes(self, st.name);
  auto come_back_later = [self, retry] {
    self->state.stream->finish(std::make_shared<const std::string>(encode_retry(static_cast<uint64_t>(retry.count()))));
    self->quit();
  };
  st.stream->on_closed([me = sse_session_actor{self}](stream_end why) {
    caf::anon_send(me, atom::closed_v, static_cast<uint8_t>(why));
  });
  self->set_down_handler([come_back_later](const caf::down_msg&) { come_back_later(); });
  self->monitor(st.hub);
  self->request(st.hub, join_timeout, atom::join_v, st.stream)
      .then([](atom::done) {},
            [come_back_later](const caf::error& error) {
              log(log_level::warn, sse_session_state::name, "client told to come back later",
                  {{"cause", describe(error)}});
              come_back_later();
            });
  return {
      [self](atom::closed, uint8_t why) {
        constexpr const char* reasons[] = {"client left", "too slow", "finished"};
        log(log_level::debug, sse_session_state::name, "stream ended",
            {{"stream", std::to_string(self->state.stream->id())}, {"reason", reasons[why]}});
        self->quit();
      },
  };
}

} // namespace sluice
