#include "archive.hpp"

#include <iterator>
#include <utility>

#include "crash.hpp"

namespace sluice {

namespace {

/// Entries in one transaction, so that nobody waits long for it. More go into the next.
constexpr size_t max_batch = 1000;
/// Requests gathered, at most.
constexpr size_t max_waiting = 10000;
/// Entries looked at in one go, so that others come in between.
constexpr size_t verified_at_once = 2000;

} // namespace

caf::result<audit_fates_ptr> archive_state::take(const audit_entries_ptr& entries) {
  if (writers.size() >= max_waiting)
    return make_failure(ec::queue_full, "too many entries wait for the audit trail; try again in a moment");
  auto promise = self->make_response_promise<audit_fates_ptr>();
  writers.push_back({promise, entries});
  // By a message to itself: all that is in the mailbox before it shares the transaction.
  if (!std::exchange(armed, true))
    self->send(self, atom::commit_v);
  return promise;
}

void archive_state::commit() {
  armed = false;
  std::vector<audit_entry> all;
  size_t taken = 0;
  for (; taken < writers.size() && all.size() < max_batch; ++taken)
    all.insert(all.end(), writers[taken].entries->begin(), writers[taken].entries->end());
  std::vector<writer> served(std::make_move_iterator(writers.begin()),
                             std::make_move_iterator(writers.begin() + static_cast<std::ptrdiff_t>(taken)));
  writers.erase(writers.begin(), writers.begin() + static_cast<std::ptrdiff_t>(taken));
  auto fates = trail->append(all);
  note(fates ? caf::error{} : fates.error());
  auto begin = fates ? fates->begin() : std::vector<audit_fate>::iterator{};
  for (auto& one : served) {
    if (!fates) {
      one.promise.deliver(fates.error());
      continue;
    }
    auto end = begin + static_cast<std::ptrdiff_t>(one.entries->size());
    one.promise.deliver(audit_fates_ptr{std::make_shared<std::vector<audit_fate>>(begin, end)});
    begin = end;
  }
  if (!writers.empty()) {
    armed = true;
    self->send(self, atom::commit_v);
  }
}

void archive_state::note(const caf::error& error) {
  if (error)
    counters->store_errors.add();
  auto before = std::exchange(failing, static_cast<bool>(error));
  if (error && !before)
    log(log_level::error, name, "the audit trail's database cannot be used", {{"cause", describe(error)}});
  else if (!error && before)
    log(log_level::info, name, "the audit trail's database can be used again");
}

archive_actor::behavior_type archive(archive_state::self_pointer self, std::shared_ptr<audit_log> trail,
                                     std::shared_ptr<report_shelf> reports, stats* counters) {
  auto& st = self->state;
  st.trail = std::move(trail);
  st.reports = std::move(reports);
  st.counters = counters;
  log_crashes(self, st.name);
  self->set_exit_handler([self](const caf::exit_msg& exit) { // 0.17 breaks no promise by itself
    auto error = make_failure(ec::shutting_down, "the server is stopping; try again");
    for (auto& one : std::exchange(self->state.writers, {}))
      one.promise.deliver(error);
    self->quit(exit.reason);
  });
  return {
      [self](const audit_entries_ptr& entries) { return self->state.take(entries); },
      [self](const audit_query_ptr& query) { return self->state.answer(self->state.trail->find(*query)); },
      [self](atom::verify, int64_t after) {
        return self->state.answer(self->state.trail->verify(after, verified_at_once));
      },
      [self](atom::count, int64_t from_ms, int64_t to_ms) {
        return self->state.answer(self->state.trail->count(from_ms, to_ms));
      },
      [self](const report_ptr& fresh) { return self->state.answer(self->state.reports->keep(*fresh)); },
      [self](const report_query_ptr& query) { return self->state.answer(self->state.reports->find(*query)); },
      [self](atom::commit) { self->state.commit(); },
  };
}

} // namespace sluice
