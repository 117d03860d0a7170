#pragma once

#include <memory>
#include <vector>

#include <caf/stateful_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include "sluice/interfaces.hpp"
#include "sluice/stats.hpp"

namespace sluice {

struct archive_state {
  using self_pointer = archive_actor::stateful_pointer<archive_state>;
  struct writer {
    caf::typed_response_promise<audit_fates_ptr> promise;
    audit_entries_ptr entries;
  };
  explicit archive_state(self_pointer self) : self(self) {}
  caf::result<audit_fates_ptr> take(const audit_entries_ptr& entries);
  void commit();
  /// Counts an error and logs the first of several.
  void note(const caf::error& error);
  /// An answer of one of the ports as one message.
  template <class T>
  caf::result<std::shared_ptr<const T>> answer(caf::expected<T> outcome) {
    note(outcome ? caf::error{} : outcome.error());
    if (!outcome)
      return outcome.error();
    return std::shared_ptr<const T>{std::make_shared<T>(std::move(*outcome))};
  }

  self_pointer self;
  std::shared_ptr<audit_log> trail;
  std::shared_ptr<report_shelf> reports;
  stats* counters = nullptr;
  std::vector<writer> writers;
  bool armed = false;
  bool failing = false;
  static inline const char* name = "archive";
};

/// Asks `trail` and `reports` on behalf of all; spawn it detached, for they block. `counters` must outlive it.
archive_actor::behavior_type archive(archive_state::self_pointer self, std::shared_ptr<audit_log> trail,
                                     std::shared_ptr<report_shelf> reports, stats* counters);

} // namespace sluice
