/// Records on their way to the producer, and who waits for what becomes of them.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "sluice/caf.hpp"
#include "sluice/error.hpp"
#include "sluice/record.hpp"

namespace sluice {

class publication;
/// Takes over what could not be written because no broker was to be reached: the publication, with its records, and
/// what became of each.
using diversion = std::function<void(publication, std::vector<delivery>)>;

/// What somebody outside the actors wants written. Answered exactly once: by the producer, or, where it is gone before
/// it got to that, by the destructor (`kafka_unreachable`). One thread at a time.
class publication {
public:
  /// One delivery a record, in the same order; or what kept all of them from being taken.
  using outcome = caf::expected<std::vector<delivery>>;
  /// `answer` is called on any thread; it must neither block nor throw.
  /// `divert`, where there is one, must outlive the publication; it is called by `answer`.
  publication(std::vector<outgoing_record> records, std::function<void(outcome)> answer,
              const diversion* divert = nullptr)
      : records(std::move(records)), answer_(std::move(answer)), divert_(divert) {}
  ~publication() {
    if (answer_)
      answer_(make_failure(ec::kafka_unreachable, "what writes to Kafka is being restarted"));
  }
  publication(publication&& other) noexcept
      : records(std::move(other.records)), answer_(std::exchange(other.answer_, nullptr)), divert_(other.divert_) {}
  publication(const publication&) = delete;
  publication& operator=(const publication&) = delete;
  publication& operator=(publication&&) = delete;

  /// Once. Where it is to be diverted and a broker was not reached, somebody else will answer.
  void answer(outcome what) {
    if (divert_ != nullptr && what && std::any_of(what->begin(), what->end(), away)) {
      auto divert = std::exchange(divert_, nullptr);
      (*divert)(std::move(*this), std::move(*what));
      return;
    }
    std::exchange(answer_, nullptr)(std::move(what));
  }
  /// Whether the records are needed until the answer.
  bool keeps_records() const noexcept { return divert_ != nullptr; }
  /// Whether the record may be written once Kafka is back.
  static bool away(const delivery& one) noexcept {
    return one.error == ec::delivery_timeout || one.error == ec::kafka_unreachable;
  }

  std::vector<outgoing_record> records;

private:
  std::function<void(outcome)> answer_;
  const diversion* divert_ = nullptr;
};

/// How publications travel: many in one message, for one receiver, which takes them out. Local only.
using publications = std::shared_ptr<std::vector<publication>>;

} // namespace sluice
