/// Records on their way to the producer, and who waits for what becomes of them.
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "sluice/caf.hpp"
#include "sluice/error.hpp"
#include "sluice/record.hpp"

namespace sluice {

/// What somebody outside the actors wants written. Answered exactly once: by the producer, or, where it is gone before
/// it got to that, by the destructor (`kafka_unreachable`). One thread at a time.
class publication {
public:
  /// One delivery a record, in the same order; or what kept all of them from being taken.
  using outcome = caf::expected<std::vector<delivery>>;
  /// `answer` is called on any thread; it must neither block nor throw.
  publication(std::vector<outgoing_record> records, std::function<void(outcome)> answer)
      : records(std::move(records)), answer_(std::move(answer)) {}
  ~publication() {
    if (answer_)
      answer(make_failure(ec::kafka_unreachable, "the producer is being restarted"));
  }
  publication(publication&& other) noexcept
      : records(std::move(other.records)), answer_(std::exchange(other.answer_, nullptr)) {}
  publication(const publication&) = delete;
  publication& operator=(const publication&) = delete;
  publication& operator=(publication&&) = delete;

  /// Once.
  void answer(outcome what) { std::exchange(answer_, nullptr)(std::move(what)); }

  std::vector<outgoing_record> records;

private:
  std::function<void(outcome)> answer_;
};

/// How publications travel: many in one message, for one receiver, which takes them out. Local only.
using publications = std::shared_ptr<std::vector<publication>>;

} // namespace sluice
