#include "processor_worker.hpp"

#include <chrono>

#include "crash.hpp"

namespace sluice {

namespace {

using fate = processor_work::fate;

int64_t milliseconds_of(caf::actor_clock::time_point when) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(when.time_since_epoch()).count();
}

} // namespace

processor_worker_state::~processor_worker_state() {
  if (asked)
    caf::anon_send_exit(asked, caf::exit_reason::user_shutdown);
}

void processor_worker_state::run(const processor_work_ptr& work, uint32_t index) {
  if (index == 0)
    failed_keys.clear();
  const auto size = static_cast<uint32_t>(work->items.size());
  const cancel_flag cancelled{work, &work->cancelled};
  context attempt{processor_name, cancelled};
  for (; index < size && work->claim(index); ++index) {
    const auto& item = work->items[index];
    if (!what.function) {
      auto job = std::make_shared<context>(processor_name, cancelled);
      job->begin(*item.batch, item.index, item.attempt);
      auto decided = decide(*work, item, *job);
      if (decided != fate::none) {
        work->outcomes[index].what = decided;
        continue;
      }
      self->request(asked, caf::infinite, job)
          .then(
              [this, work, index, job](atom::done) {
                settle(*work, index, *job, {});
                run(work, index + 1);
              },
              [this, work, index, job](caf::error& error) {
                // It was gone before, or it has thrown, which ended it: nothing more for it, and nothing of the next
                // record's. The supervisor sees where we were.
                if (error == caf::sec::request_receiver_down || error == caf::sec::runtime_error) {
                  self->quit(error);
                  return;
                }
                settle(*work, index, *job, std::move(error));
                run(work, index + 1);
              });
      return;
    }
    attempt.begin(*item.batch, item.index, item.attempt);
    auto decided = decide(*work, item, attempt);
    if (decided != fate::none) {
      work->outcomes[index].what = decided;
      continue;
    }
    auto error = process(what.function, attempt);
    settle(*work, index, attempt, std::move(error));
  }
  if (index == size)
    work->claim(size);
  self->send(supervisor, atom::done_v, work, index);
}

fate processor_worker_state::decide(const processor_work& work, const processor_work::item& item,
                                    const context& attempt) {
  if (!failed_keys.empty() && failed_keys.contains(item.batch->records()[item.index].key))
    return fate::held;
  if (auto deadline = attempt.deadline_ms();
      deadline && *deadline <= milliseconds_of(self->clock().now()) + work.unix_offset_ms)
    return fate::expired;
  return fate::none;
}

void processor_worker_state::settle(processor_work& work, uint32_t index, context& attempt, caf::error error) {
  auto& outcome = work.outcomes[index];
  if (!error) {
    if (auto emitted = attempt.take_emitted())
      outcome.emitted = std::move(*emitted);
    else
      error = std::move(emitted.error());
  }
  outcome.what = error ? fate::failed : fate::done;
  if (error && is_retryable(code_of(error))) {
    const auto& item = work.items[index];
    if (const auto& record = item.batch->records()[item.index]; record.has_key)
      failed_keys.insert(record.key);
  }
  outcome.error = std::move(error);
}

processor_worker_actor::behavior_type processor_worker(processor_worker_state::self_pointer self,
                                                       std::string processor_name, processor what,
                                                       processor_supervisor_actor supervisor) {
  auto& st = self->state;
  st.processor_name = std::move(processor_name);
  st.what = std::move(what);
  st.supervisor = std::move(supervisor);
  log_crashes(self, st.name);
  self->monitor(st.supervisor);
  if (!st.what.function) {
    st.asked = st.what.make(self->system());
    self->monitor(st.asked);
  }
  self->set_down_handler([self](const caf::down_msg& down) {
    auto& st = self->state;
    if (down.source == st.supervisor)
      self->quit(caf::exit_reason::user_shutdown);
    else // by itself, as it seems: with us it would have ended later
      self->quit(down.reason ? down.reason : make_failure(ec::processor_failed, "the processor's actor has ended"));
  });
  return {[self](const processor_work_ptr& work) { self->state.run(work, 0); }};
}

} // namespace sluice
