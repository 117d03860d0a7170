#include "kafka_admin.hpp"

#include <algorithm>
#include <chrono>

#include "crash.hpp"

namespace sluice {

namespace {

constexpr std::chrono::milliseconds look_interval{2000};
constexpr std::chrono::milliseconds look_again_soon{500};
/// A topic that was created is in the brokers' metadata a moment later.
constexpr std::chrono::milliseconds look_after_creating{100};
/// So often at most: where credentials may create but not see topics, they never appear.
constexpr uint32_t max_looks_after_creating = 50;

} // namespace

void kafka_admin_state::look() {
  auto seen = std::make_shared<cluster_view>(admin->probe());
  if (!looked || seen->connected != view->connected) {
    if (seen->connected)
      log(log_level::info, name, "Kafka is connected", {{"topics", std::to_string(seen->topics.size())}});
    else
      log(log_level::warn, name, "Kafka is not connected", {{"cause", seen->error}});
  }
  looked = true;
  counters->kafka_away.set(seen->connected ? 0 : 1);
  if (seen->connected)
    std::erase_if(wanted, [&](const topic_spec& topic) {
      return std::any_of(seen->topics.begin(), seen->topics.end(), [&](const auto& t) { return t.name == topic.name; });
    });
  for (const auto& topic : wanted)
    seen->missing.push_back(topic.name);
  auto delay = seen->connected ? look_interval : look_again_soon;
  if (seen->connected && !wanted.empty()) { // they stay wanted until the next look has seen them
    if (auto error = admin->create(wanted)) {
      log(log_level::warn, name, "topics could not be created, trying again", {{"cause", describe(error)}});
      delay = look_again_soon;
    } else {
      seen->creating = ++looks_after_creating <= max_looks_after_creating;
      delay = seen->creating ? look_after_creating : look_again_soon;
    }
  }
  view = seen;
  self->delayed_send(self, backoff_delay(delay, delay, 1, random), atom::tick_v);
}

kafka_admin_actor::behavior_type kafka_admin(kafka_admin_state::self_pointer self, std::shared_ptr<cluster_admin> admin,
                                             std::vector<topic_spec> wanted, stats* counters) {
  auto& st = self->state;
  st.counters = counters;
  st.admin = std::move(admin);
  st.wanted = std::move(wanted);
  log_crashes(self, st.name);
  self->send(self, atom::tick_v);
  return {
      [self](atom::state) { return self->state.view; },
      [self](atom::tick) { self->state.look(); },
  };
}

} // namespace sluice
