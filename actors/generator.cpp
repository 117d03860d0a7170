#include "generator.hpp"

#include <vector>

#include "crash.hpp"

namespace sluice {

namespace {

constexpr std::chrono::seconds answer_timeout{60};

} // namespace

generator_actor::behavior_type generator(generator_actor::stateful_pointer<generator_state> self,
                                         std::shared_ptr<role<kafka_producer_actor>> producer, std::string topic,
                                         std::chrono::milliseconds interval) {
  auto& st = self->state;
  st.producer = std::move(producer);
  st.topic = std::move(topic);
  st.interval = interval;
  log_crashes(self, st.name);
  self->delayed_send(self, interval, atom::tick_v);
  return {
      [self](atom::tick) {
        auto& st = self->state;
        using std::chrono::system_clock;
        auto now =
            std::chrono::duration_cast<std::chrono::milliseconds>(system_clock::now().time_since_epoch()).count();
        outgoing_record record;
        record.topic = st.topic;
        record.value =
            "{\"payload\":{\"date\":" + std::to_string(now) + ",\"times\":" + std::to_string(st.random() % 100) + "}}";
        self->request(st.producer->get(), answer_timeout,
                      outgoing_ptr{std::make_shared<std::vector<outgoing_record>>(1, record)})
            .then(
                [](const deliveries& results) {
                  if (results->front().error != ec::no_error)
                    log(log_level::warn, generator_state::name, "event not delivered",
                        {{"cause", results->front().reason}});
                },
                [](const caf::error& error) {
                  log(log_level::warn, generator_state::name, "event not delivered", {{"cause", describe(error)}});
                });
        self->delayed_send(self, st.interval, atom::tick_v);
      },
  };
}

} // namespace sluice
