/// Claims and what became of them, in SQL.
#pragma once

#include <memory>
#include <string>

#include "sluice/ports.hpp"
#include "store/soci.hpp"

namespace sluice::store {

std::unique_ptr<idempotency_store> make_sql_idempotency_store(const std::string& url);

/// Settles within the transaction that `sql` has open: for stores that keep an effect and its settlement together.
void settle_within(soci::session& sql, const settlement& one);

/// How `id` is kept: as it is where it is short, plain and does not begin as a digest does, else as
/// its SHA-256 digest. Not to be applied twice.
std::string stored_id(const std::string& id);

} // namespace sluice::store
