/// Claims and what became of them, in Redis.
#pragma once

#include <memory>
#include <string>

#include "sluice/ports.hpp"

namespace sluice::store {

std::unique_ptr<idempotency_store> make_redis_idempotency_store(const std::string& url);

} // namespace sluice::store
