#include "store/store.hpp"

#include "store/redis_idempotency.hpp"
#include "store/sql_idempotency.hpp"

namespace sluice::store {

std::unique_ptr<idempotency_store> make_idempotency_store(const std::string& url) {
  return url.starts_with("redis://") ? make_redis_idempotency_store(url) : make_sql_idempotency_store(url);
}

} // namespace sluice::store
