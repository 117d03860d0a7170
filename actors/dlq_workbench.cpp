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
  jobs.emplace(job.address(), caf::actor_cast<caf::actor>(job));
  if (!topic.empty())
    redrives.emplace(job.address(), topic);
  return job;
}

dlq_workbench_actor::behavior_type dlq_workbench(dlq_workbench_state::self_pointer self,
                                                 std::function<dlq_job_actor()> make_job) {
  auto& st = self->state;
  st.make_job = std::move(make_job);
  log_crashes(self, st.name);
  self->set_down_handler([self](const caf::down_msg& down) {
    self->state.jobs.erase(down.source);
    self->state.redrives.erase(down.source);
  });
  self->set_exit_handler([self](const caf::exit_msg& exit) {
    for (const auto& job : self->state.jobs)
      self->send_exit(job.second, exit.reason);
    self->quit(exit.reason);
  });
  return {
      [self](const dlq_query_ptr& query) -> caf::result<dlq_page_ptr> {
        auto job = self->state.hire();
        if (!job)
          return job.error();
        return self->delegate(*job, query);
      },
      [self](const redrive_order_ptr& order) -> caf::result<redrive_report_ptr> {
        auto job = self->state.hire(order->dry_run ? "" : order->which.topic);
        if (!job)
          return job.error();
        return self->delegate(*job, order);
      },
      [self](atom::state, const channel_names& topics) -> caf::result<dlq_overview_ptr> {
        auto job = self->state.hire();
        if (!job)
          return job.error();
        return self->delegate(*job, atom::state_v, topics);
      },
  };
}

} // namespace sluice
