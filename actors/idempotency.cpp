#include "idempotency.hpp"

#include <chrono>
#include <iterator>

#include "crash.hpp"

namespace sluice {

namespace {

/// Claims and settlements in one transaction, so that nobody waits long for it. More go into the next.
constexpr size_t max_batch = 10000;
/// Requests gathered, at most.
constexpr size_t max_waiting = 10000;
constexpr size_t sweep_entries = 1000;
constexpr std::chrono::milliseconds sweep_interval{60000};
constexpr std::chrono::milliseconds sweep_again{1000}; ///< While there is more to forget.

caf::error too_many() {
  return make_failure(ec::queue_full, "too many requests wait for the store (store.url); try again in a moment");
}

} // namespace

caf::result<standings_ptr> idempotency_state::take(const claims_ptr& claims) {
  if (askers.size() >= max_waiting)
    return too_many();
  auto promise = self->make_response_promise<standings_ptr>();
  askers.push_back({promise, claims});
  counters->claims_queued.add();
  arm_commit();
  return promise;
}

caf::result<atom::done> idempotency_state::take(const settlements_ptr& settlements) {
  if (settlers.size() >= max_waiting)
    return too_many();
  auto promise = self->make_response_promise<atom::done>();
  settlers.push_back({promise, settlements});
  counters->claims_queued.add();
  arm_commit();
  return promise;
}

// By a message to itself: all that is in the mailbox before it shares the transaction.
void idempotency_state::arm_commit() {
  if (!std::exchange(armed, true))
    self->send(self, atom::commit_v);
}

void idempotency_state::commit() {
  armed = false;
  settle_all(); // first: it may answer what is claimed next
  begin_all();
  if (!askers.empty() || !settlers.empty())
    arm_commit();
}

void idempotency_state::settle_all() {
  std::vector<settlement> all;
  size_t taken = 0;
  for (; taken < settlers.size() && all.size() < max_batch; ++taken)
    all.insert(all.end(), settlers[taken].settlements->begin(), settlers[taken].settlements->end());
  if (taken == 0)
    return;
  std::vector<settler> served(std::make_move_iterator(settlers.begin()),
                              std::make_move_iterator(settlers.begin() + static_cast<std::ptrdiff_t>(taken)));
  settlers.erase(settlers.begin(), settlers.begin() + static_cast<std::ptrdiff_t>(taken));
  counters->claims_queued.sub(taken);
  auto error = store->settle(all);
  note(error);
  for (auto& one : served) {
    if (error)
      one.promise.deliver(error);
    else
      one.promise.deliver(atom::done_v);
  }
}

void idempotency_state::begin_all() {
  std::vector<claim> all;
  size_t taken = 0;
  for (; taken < askers.size() && all.size() < max_batch; ++taken)
    all.insert(all.end(), askers[taken].claims->begin(), askers[taken].claims->end());
  if (taken == 0)
    return;
  std::vector<asker> served(std::make_move_iterator(askers.begin()),
                            std::make_move_iterator(askers.begin() + static_cast<std::ptrdiff_t>(taken)));
  askers.erase(askers.begin(), askers.begin() + static_cast<std::ptrdiff_t>(taken));
  counters->claims_queued.sub(taken);
  auto found = store->begin(all);
  note(found ? caf::error{} : found.error());
  if (!found) {
    for (auto& one : served)
      one.promise.deliver(found.error());
    return;
  }
  for (const auto& one : *found) {
    using state = standing::state;
    (one.what == state::granted ? counters->claims_granted
     : one.what == state::busy  ? counters->claims_busy
                                : counters->claims_done)
        .add();
  }
  auto next = std::make_move_iterator(found->begin());
  for (auto& one : served) {
    auto end = next + static_cast<std::ptrdiff_t>(one.claims->size());
    one.promise.deliver(standings_ptr{std::make_shared<std::vector<standing>>(next, end)});
    next = end;
  }
}

void idempotency_state::sweep() {
  auto gone = store->sweep(sweep_entries);
  note(gone ? caf::error{} : gone.error());
  auto delay = gone && *gone == sweep_entries ? sweep_again : sweep_interval;
  self->delayed_send(self, backoff_delay(delay, delay, 1, random), atom::tick_v);
}

void idempotency_state::note(const caf::error& error) {
  if (error)
    counters->store_errors.add();
  auto before = std::exchange(failing, static_cast<bool>(error));
  if (error && !before)
    log(log_level::error, name, "the store cannot be used", {{"cause", describe(error)}});
  else if (!error && before)
    log(log_level::info, name, "the store can be used again");
}

idempotency_actor::behavior_type idempotency(idempotency_state::self_pointer self,
                                             std::shared_ptr<idempotency_store> store, stats* counters) {
  auto& st = self->state;
  st.store = std::move(store);
  st.counters = counters;
  log_crashes(self, st.name);
  self->set_exit_handler([self](const caf::exit_msg& exit) { // 0.17 breaks no promise by itself
    auto& st = self->state;
    st.counters->claims_queued.sub(st.askers.size() + st.settlers.size());
    auto error = make_failure(ec::shutting_down, "the server is stopping; try again");
    for (auto& one : std::exchange(st.askers, {}))
      one.promise.deliver(error);
    for (auto& one : std::exchange(st.settlers, {}))
      one.promise.deliver(error);
    self->quit(exit.reason);
  });
  self->send(self, atom::tick_v); // what is wrong with the store is in the log from the start
  return {
      [self](const claims_ptr& claims) { return self->state.take(claims); },
      [self](const settlements_ptr& settlements) { return self->state.take(settlements); },
      [self](atom::commit) { self->state.commit(); },
      [self](atom::tick) { self->state.sweep(); },
  };
}

} // namespace sluice
