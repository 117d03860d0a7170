#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>

#include <caf/stateful_actor.hpp>

#include "sluice/interfaces.hpp"

namespace sluice {

struct dlq_workbench_state {
  using self_pointer = dlq_workbench_actor::stateful_pointer<dlq_workbench_state>;
  explicit dlq_workbench_state(self_pointer self) : self(self) {}
  /// A job for the next task; `topic`: it sends letters of it back.
  caf::expected<dlq_job_actor> hire(const std::string& topic);
  void dismiss(const caf::actor_addr& job);
  /// Has a job do what the message says.
  template <class Answer, class... Message>
  caf::result<Answer> pass_on(const std::string& topic, const Message&... message);

  self_pointer self;
  std::function<dlq_job_actor()> make_job;
  struct job {
    caf::actor who;
    std::function<void(const caf::error&)> fail; ///< Answers whoever waits for it.
  };
  std::map<caf::actor_addr, job> jobs;
  std::map<caf::actor_addr, std::string> redrives; ///< The topic of each that sends letters back.
  static inline const char* name = "dlq";
};

/// Has every task done by a job of its own, a few at a time, and one redrive a topic.
dlq_workbench_actor::behavior_type dlq_workbench(dlq_workbench_state::self_pointer self,
                                                 std::function<dlq_job_actor()> make_job);

} // namespace sluice
