#include "sse_session.hpp"

#include <random>
#include <string>

#include "sluice/live_format.hpp"

#include "crash.hpp"

namespace sluice {

namespace {

constexpr std::chrono::seconds join_timeout{5};

// +-20 %: clients that came together do not leave together.
std::chrono::milliseconds jittered(std::chrono::milliseconds span) {
  thread_local std::minstd_rand random{std::random_device{}()};
  return span * static_cast<int>(80 + random() % 41) / 100;
}

} // namespace

sse_session_actor::behavior_type sse_session(sse_session_actor::stateful_pointer<sse_session_state> self,
                                             live_request_ptr request, sse_hub_actor hub, session_limits limits) {
  auto& st = self->state;
  st.request = std::move(request);
  st.hub = std::move(hub);
  log_crashes(self, st.name);
  // The session itself ends with its stream.
  auto come_back = [self](std::chrono::milliseconds after, farewell why) {
    send_away(*self->state.request->stream, why, static_cast<uint64_t>(after.count()));
  };
  st.request->stream->on_closed([me = sse_session_actor{self}](stream_end why) {
    caf::anon_send(me, atom::closed_v, static_cast<uint8_t>(why));
  });
  self->set_down_handler(
      [come_back, limits](const caf::down_msg&) { come_back(jittered(limits.retry), farewell::try_later); });
  self->monitor(st.hub);
  self->request(st.hub, join_timeout, atom::join_v, st.request)
      .then([](atom::done) {},
            [come_back, limits](const caf::error& error) {
              log(log_level::warn, sse_session_state::name, "client told to come back later",
                  {{"cause", describe(error)}});
              come_back(jittered(limits.retry), farewell::try_later);
            });
  auto stay = limits.credentials_left;
  auto why = farewell::unauthorized;
  if (limits.lifetime.count() > 0) {
    auto life = jittered(limits.lifetime);
    if (!stay || life < *stay) {
      stay = life;
      why = farewell::going_away;
    }
  }
  if (stay)
    self->delayed_send(self, *stay, atom::tick_v);
  return {
      [self](atom::closed, uint8_t why) {
        constexpr const char* reasons[] = {"client left", "too slow", "finished"};
        const auto& request = *self->state.request;
        log(log_level::debug, sse_session_state::name, "stream ended",
            {{"client", request.client}, {"user", request.user}, {"reason", reasons[why]}});
        self->quit();
      },
      [come_back, limits, why](atom::tick) { come_back(jittered(limits.retry) / 10, why); },
  };
}

} // namespace sluice
