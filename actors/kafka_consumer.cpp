#include "kafka_consumer.hpp"

#include <algorithm>
#include <chrono>

#include "crash.hpp"

namespace sluice {

namespace {

// Well inside max.poll.interval.ms (300 s): a member that does not ask for so long is thrown out of its group.
constexpr std::chrono::seconds keep_alive{1};
// The handler waits for its transaction before it answers, and that for a broker. Past it, the role starts anew.
constexpr std::chrono::minutes group_event_timeout{4};

std::string names(const partition_list& partitions) {
  std::string text;
  for (const auto& p : partitions)
    text += (text.empty() ? "" : ",") + p.topic + "/" + std::to_string(p.partition);
  return text;
}

} // namespace

void kafka_consumer_state::pump() {
  while (source) {
    auto event = source->poll(credit > 0 && !revoking && !drain);
    if (std::holds_alternative<std::monostate>(event))
      return;
    if (auto* batch = std::get_if<batch_ptr>(&event)) {
      auto n = (*batch)->records().size();
      credit -= static_cast<int64_t>(n);
      counters->records_consumed.add(n);
      self->send(handler, std::move(*batch));
    } else if (auto* end = std::get_if<partition_reached>(&event)) {
      self->send(handler, atom::reached_v, std::move(end->where));
    } else if (auto* error = std::get_if<caf::error>(&event)) {
      log(log_level::error, name, "the source cannot go on", {{"cause", describe(*error)}});
      self->quit(*error);
      return;
    } else {
      revoking = revoking || std::holds_alternative<partitions_revoked>(event);
      group_events.push_back(std::move(event));
      next_group_event();
    }
  }
}

void kafka_consumer_state::next_group_event() {
  if (busy)
    return;
  if (group_events.empty()) {
    if (drain)
      leave();
    return;
  }
  busy = true;
  auto event = std::move(group_events.front());
  group_events.pop_front();
  if (auto* assigned = std::get_if<partitions_assigned>(&event))
    assign(*assigned);
  else
    revoke(std::get<partitions_revoked>(event));
}

void kafka_consumer_state::assign(const partitions_assigned& event) {
  counters->rebalances.add();
  log(log_level::info, name, "partitions assigned", {{"partitions", names(event.partitions)}});
  self->request(handler, group_event_timeout, atom::assigned_v, event.partitions)
      .then(
          [this](const partition_list& starts) {
            owned.insert(owned.end(), starts.begin(), starts.end());
            source->assign(starts);
            busy = false;
            next_group_event();
            pump();
          },
          [this](const caf::error& error) { self->quit(error); });
}

void kafka_consumer_state::revoke(const partitions_revoked& event) {
  counters->rebalances.add();
  log(log_level::info, name, event.lost ? "partitions lost" : "partitions revoked",
      {{"partitions", names(event.partitions)}});
  self->request(handler, group_event_timeout, atom::revoked_v, event.partitions, event.lost)
      .then(
          [this, partitions = event.partitions](atom::done) {
            forget(partitions);
            source->unassign(partitions);
            busy = false;
            revoking = std::any_of(group_events.begin(), group_events.end(),
                                   [](const auto& e) { return std::holds_alternative<partitions_revoked>(e); });
            next_group_event();
            pump();
          },
          [this](const caf::error& error) { self->quit(error); });
}

void kafka_consumer_state::forget(const partition_list& partitions) {
  std::erase_if(owned, [&](const topic_partition& mine) {
    return std::any_of(partitions.begin(), partitions.end(),
                       [&](const auto& p) { return p.topic == mine.topic && p.partition == mine.partition; });
  });
}

void kafka_consumer_state::leave() {
  busy = true;
  self->request(handler, group_event_timeout, atom::revoked_v, owned, false)
      .then(
          [this](atom::done) {
            source.reset();
            drain->deliver(atom::done_v);
            self->quit(caf::exit_reason::normal);
          },
          [this](const caf::error& error) {
            drain->deliver(error);
            self->quit(error);
          });
}

kafka_consumer_actor::behavior_type kafka_consumer(kafka_consumer_state::self_pointer self,
                                                   std::shared_ptr<record_source> source, record_handler_actor handler,
                                                   uint32_t credit, stats* counters) {
  auto& st = self->state;
  st.source = std::move(source);
  st.handler = std::move(handler);
  st.counters = counters;
  st.credit = credit;
  log_crashes(self, st.name);
  self->link_to(st.handler);
  st.source->on_ready([me = kafka_consumer_actor{self}] { caf::anon_send(me, atom::wake_v); });
  self->delayed_send(self, keep_alive, atom::tick_v);
  return {
      [self](atom::credit, uint32_t records) {
        self->state.credit += records;
        self->state.pump();
      },
      [self](atom::commit, const partition_list& next_offsets) {
        if (self->state.source)
          self->state.source->commit(next_offsets);
      },
      [self](atom::restore, const partition_list& partitions) -> caf::result<partition_list> {
        if (!self->state.source)
          return make_failure(ec::shutting_down, "the group has been left");
        auto found = self->state.source->committed(partitions);
        if (!found)
          return std::move(found.error());
        return std::move(*found);
      },
      [self](atom::drain) -> caf::result<atom::done> {
        auto promise = self->make_response_promise<atom::done>();
        self->state.drain = promise;
        self->state.next_group_event();
        return promise;
      },
      [self](atom::wake) { self->state.pump(); },
      [self](atom::tick) {
        self->state.pump();
        self->delayed_send(self, keep_alive, atom::tick_v);
      },
  };
}

} // namespace sluice
