#include "dlq_workbench.hpp"

#include <algorithm>

#include "crash.hpp"

namespace sluice {

namespace {

/// Each has a Kafka client of its own.
constexpr size_t max_jobs = 4;

} // namespace

caf::expected<dlq_job_actor> dlq_workbench_state::hire(const std::string& topic) {
  if (!topic.empty() &&
      std::any_of(redrives.begin(), redrives.end(), [&topic](const auto& one) { return one.second == topic; }))
    return make_failure(ec::busy, "letters of \"" + topic + "\" are being sent back already; try again after that");
  if (jobs.size() >= max_jobs)
    return make_failure(ec::queue_full, "too many requests look into dead-letter topics; try again shortly");
  auto job = make_job();
  self->monitor(job);
  jobs[job.address()].who = caf::actor_cast<caf::actor>(job);
  if (!topic.empty())
    redrives.emplace(job.address(), topic);
  return job;
}

void dlq_workbench_state::dismiss(const caf::actor_addr& job) {
  jobs.erase(job);
  redrives.erase(job);
}

template <class Answer, class... Message>
caf::result<Answer> dlq_workbench_state::pass_on(const std::string& topic, const Message&... message) {
  auto job = hire(topic);
  if (!job)
    return job.error();
  auto promise = self->make_response_promise<Answer>();
  jobs[job->address()].fail = [promise](const caf::error& error) mutable { promise.deliver(error); };
  // The place is free before the answer is there: who has it may ask again at once.
  self->request(*job, caf::infinite, message...)
      .then(
          [this, promise, who = job->address()](const Answer& answer) mutable {
            dismiss(who);
            promise.deliver(answer);
          },
          [this, promise, who = job->address()](caf::error& error) mutable {
            dismiss(who);
            promise.deliver(std::move(error));
          });
  return promise;
}

dlq_workbench_actor::behavior_type dlq_workbench(dlq_workbench_state::self_pointer self,
                                                 std::function<dlq_job_actor()> make_job) {
  auto& st = self->state;
  st.make_job = std::move(make_job);
  log_crashes(self, st.name);
  self->set_down_handler([self](const caf::down_msg& down) { self->state.dismiss(down.source); });
  self->set_exit_handler([self](const caf::exit_msg& exit) {
    for (const auto& [address, job] : self->state.jobs) {
      job.fail(make_failure(ec::shutting_down, "the server is stopping; try again, another node may answer"));
      self->send_exit(job.who, exit.reason);
    }
    self->quit(exit.reason);
  });
  return {
      [self](const dlq_query_ptr& query) { return self->state.pass_on<dlq_page_ptr>("", query); },
      [self](const redrive_order_ptr& order) {
        return self->state.pass_on<redrive_report_ptr>(order->dry_run ? "" : order->which.topic, order);
      },
      [self](atom::state, const channel_names& topics) {
        return self->state.pass_on<dlq_overview_ptr>("", atom::state_v, topics);
      },
  };
}

} // namespace sluice
