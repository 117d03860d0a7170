/// The durable stores. SQL (SQLite and PostgreSQL, by SOCI) and Redis (hiredis) live in this folder only.
#pragma once

#include <memory>
#include <string>

#include <caf/expected.hpp>

#include "sluice/ports.hpp"

namespace sluice::store {

/// The store that `url` names: "sqlite:/path/of/file.db" (its folder is made where it is missing), "sqlite::memory:",
/// "postgresql://…" or "redis://[user[:password]@]host[:port][/number]". Nothing is opened before the first call, nor
/// held against it that a call failed: the next one tries anew, a second later at the earliest. `url` must be one that
/// `sluice::check` accepts.
std::unique_ptr<idempotency_store> make_idempotency_store(const std::string& url);

/// The audit trail and the reports in the database that `url` names, which is none of Redis; as above in all else.
std::unique_ptr<audit_log> make_audit_log(const std::string& url);
std::unique_ptr<report_shelf> make_report_shelf(const std::string& url);

/// Documents in SQLite or PostgreSQL; `url` as above, but none of Redis.
std::shared_ptr<document_store> make_document_store(const std::string& url);

/// Opens the outbox in this folder, which is made where it is missing. An error (`invalid_config`) names what is wrong
/// and the mend: another process has it open, the folder cannot be written, the file is no outbox.
caf::expected<std::unique_ptr<outbox_log>> open_outbox(const std::string& folder);

} // namespace sluice::store
