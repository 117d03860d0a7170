#include "root.hpp"

#include <utility>

#include "crash.hpp"

namespace sluice {

void root_state::start(size_t index) {
  auto child = children[index].start();
  if (!child) {
    crashed(index, child.error());
    return;
  }
  self->monitor(*child);
  running[child->address()] = index;
}

void root_state::crashed(size_t index, const caf::error& reason) {
  if (!give_up) // already given up
    return;
  auto now = self->clock().now();
  crashes.push_back(now);
  while (crashes.front() + cfg.restart_window < now)
    crashes.pop_front();
  auto cause = describe(reason);
  if (crashes.size() > cfg.max_restarts) {
    log(log_level::error, name, "restart budget is used up", {{"role", children[index].name}, {"cause", cause}});
    std::exchange(give_up, nullptr)(children[index].name + ": " + cause);
    return;
  }
  counters->restarts.add();
  auto delay = backoff_delay(cfg.backoff_initial, cfg.backoff_max, static_cast<uint32_t>(crashes.size()), random);
  log(log_level::warn, name, "role ended, starting it again",
      {{"role", children[index].name}, {"cause", cause}, {"delayMs", std::to_string(delay.count())}});
  self->delayed_send(self, delay, atom::start_v, static_cast<uint64_t>(index));
}

root_actor::behavior_type root(root_state::self_pointer self, supervision_config cfg, std::vector<child_spec> children,
                               const std::function<void()>& started, std::function<void(std::string)> give_up,
                               stats* counters) {
  auto& st = self->state;
  st.cfg = cfg;
  st.children = std::move(children);
  st.give_up = std::move(give_up);
  st.counters = counters;
  self->set_down_handler([self](const caf::down_msg& down) {
    auto& st = self->state;
    auto it = st.running.find(down.source);
    if (it == st.running.end())
      return;
    auto index = it->second;
    st.running.erase(it);
    if (down.reason && down.reason != caf::exit_reason::user_shutdown) // those ended because they were told to
      st.crashed(index, down.reason);
  });
  for (size_t i = 0; i < st.children.size(); ++i)
    st.start(i);
  started();
  return {
      [self](atom::start, uint64_t index) { self->state.start(index); },
      [self](atom::drain) { // restarts nothing more
        self->state.give_up = nullptr;
      },
  };
}

} // namespace sluice
