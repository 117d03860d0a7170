#pragma once

#include <memory>

#include <caf/expected.hpp>
#include <caf/stateful_actor.hpp>

#include "sluice/config.hpp"
#include "sluice/interfaces.hpp"
#include "sluice/processor.hpp"

#include "role.hpp"

namespace sluice {

/// The processor's place and policies: group `paka-audit-logger`. Entries wait for a database that is away rather than
/// become dead letters.
processor_config audit_settings();

/// The entry that a record stands for: `{"action","resource","resourceId"?,"details"?,"userId"?,"tenantId"?}`, bare or
/// in an envelope, whose metadata has the event's id, its time and perhaps the tenant. `malformed_record` names the
/// field that is wrong.
caf::expected<audit_entry> audit_entry_of(const record& what);

struct audit_logger_state {
  using self_pointer = processor_actor::stateful_pointer<audit_logger_state>;
  std::shared_ptr<role<archive_actor>> archive;
  static inline const char* name = "audit_logger";
};

/// Adds records to the trail. An actor, not a function: many of them wait for one transaction, without a thread each.
processor_actor::behavior_type audit_logger(audit_logger_state::self_pointer self,
                                            std::shared_ptr<role<archive_actor>> archive);

} // namespace sluice
