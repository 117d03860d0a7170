#include "terminator.hpp"

#include <utility>

#include "crash.hpp"

namespace sluice {

void terminator_state::next() {
  if (at == steps.size()) {
    finish(true);
    return;
  }
  log(log_level::info, name, "draining", {{"step", steps[at].name}});
  steps[at].begin(self, [this] {
    auto pause = steps[at++].pause;
    if (pause.count() > 0)
      self->delayed_send(self, pause, atom::start_v);
    else
      self->send(self, atom::start_v);
  });
}

void terminator_state::finish(bool clean) {
  if (!finished)
    return;
  if (!clean)
    log(log_level::warn, name, "the grace period is over, stopping at once", {{"step", steps[at].name}});
  std::exchange(finished, nullptr)(clean);
  self->quit();
}

terminator_actor::behavior_type terminator(terminator_state::self_pointer self, std::vector<drain_step> steps,
                                           std::chrono::milliseconds grace_period, std::function<void(bool)> finished) {
  auto& st = self->state;
  st.steps = std::move(steps);
  st.finished = std::move(finished);
  log_crashes(self, st.name);
  self->send(self, atom::start_v);
  self->delayed_send(self, grace_period, atom::tick_v);
  return {
      [self](atom::start) { self->state.next(); },
      [self](atom::tick) { self->state.finish(false); },
  };
}

} // namespace sluice
