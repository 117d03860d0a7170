#include "store/sql_idempotency.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <tuple>
#include <utility>

#include <openssl/evp.h>

#include "store/sql.hpp"
#include "store/store.hpp"

namespace sluice::store {

namespace {

// done: 0 = claimed, until until_ms; 1 = done, remembered until then.
const std::vector<std::vector<std::string>> migrations{
    {"create table sluice_idempotency ("
     "  scope varchar(200) not null, id varchar(200) not null, owner varchar(200) not null,"
     "  fingerprint varchar(200) not null, done integer not null, answer text not null, until_ms bigint not null,"
     "  primary key (scope, id))",
     "create index sluice_idempotency_until on sluice_idempotency (until_ms)"},
};

class sql_idempotency_store : public idempotency_store {
public:
  explicit sql_idempotency_store(const std::string& url)
      : base_({.url = url, .setting = "store.url", .schema = "idempotency", .migrations = migrations}) {}

  caf::expected<std::vector<standing>> begin(const std::vector<claim>& claims) override {
    std::vector<standing> found(claims.size());
    // In the order of their ids: two nodes that lock the same rows never wait for each other in a circle.
    std::vector<std::size_t> order(claims.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&claims](std::size_t a, std::size_t b) {
      return std::tie(claims[a].scope, claims[a].id) < std::tie(claims[b].scope, claims[b].id);
    });
    auto error = base_.transact([&](soci::session& sql) {
      std::string scope, id, owner, fingerprint, holder, its_fingerprint, answer;
      long long now = now_ms(), until = 0;
      int done = 0;
      soci::statement take =
          (sql.prepare << "insert into sluice_idempotency (scope, id, owner, fingerprint, done, answer, until_ms)"
                          " values (:scope, :id, :owner, :fingerprint, 0, '', :until)"
                          " on conflict (scope, id) do update set owner = excluded.owner,"
                          " fingerprint = excluded.fingerprint, done = 0, answer = '', until_ms = excluded.until_ms"
                          " where sluice_idempotency.until_ms <= :now"
                          " or (sluice_idempotency.done = 0 and sluice_idempotency.owner = excluded.owner)",
           soci::use(scope, "scope"), soci::use(id, "id"), soci::use(owner, "owner"),
           soci::use(fingerprint, "fingerprint"), soci::use(until, "until"), soci::use(now, "now"));
      soci::statement look = (sql.prepare << "select owner, fingerprint, done, answer from sluice_idempotency"
                                             " where scope = :scope and id = :id",
                              soci::into(holder), soci::into(its_fingerprint), soci::into(done), soci::into(answer),
                              soci::use(scope, "scope"), soci::use(id, "id"));
      for (auto i : order) {
        const auto& one = claims[i];
        scope = stored_id(one.scope);
        id = stored_id(one.id);
        owner = stored_id(one.owner);
        fingerprint = stored_id(one.fingerprint);
        until = now + one.lease.count();
        take.execute(true);
        look.execute(true);
        auto& result = found[i];
        result.fingerprint = its_fingerprint;
        if (done != 0) {
          result.what = standing::state::done;
          result.answer = answer;
        } else if (holder != owner) {
          result.what = standing::state::busy;
        }
      }
    });
    if (error)
      return error;
    return found;
  }

  caf::error settle(const std::vector<settlement>& all) override {
    return base_.transact([&all](soci::session& sql) {
      auto sorted = all;
      std::stable_sort(sorted.begin(), sorted.end(), [](const settlement& a, const settlement& b) {
        return std::tie(a.scope, a.id) < std::tie(b.scope, b.id);
      });
      for (const auto& one : sorted)
        settle_within(sql, one);
    });
  }

  caf::expected<std::size_t> sweep(std::size_t most) override {
    std::size_t gone = 0;
    auto error = base_.transact([&](soci::session& sql) {
      long long now = now_ms();
      auto limit = static_cast<long long>(most);
      soci::statement forget =
          (sql.prepare << "delete from sluice_idempotency where until_ms <= :now and (scope, id) in"
                          " (select scope, id from sluice_idempotency where until_ms <= :now"
                          " order by until_ms limit :most)",
           soci::use(now, "now"), soci::use(limit, "most"));
      forget.execute(true);
      gone = static_cast<std::size_t>(std::max<long long>(forget.get_affected_rows(), 0));
    });
    if (error)
      return error;
    return gone;
  }

private:
  database base_;
};

} // namespace

std::string stored_id(const std::string& id) {
  constexpr std::size_t longest = 150;
  constexpr const char* mark = "sha256:"; // what begins so by itself could be another's digest
  if (id.size() <= longest && !id.starts_with(mark) &&
      std::all_of(id.begin(), id.end(), [](char c) { return c >= ' ' && c <= '~'; }))
    return id;
  std::array<unsigned char, 32> digest{};
  EVP_Digest(id.data(), id.size(), digest.data(), nullptr, EVP_sha256(), nullptr);
  constexpr const char* hex = "0123456789abcdef";
  std::string text = mark;
  for (auto byte : digest) {
    text += hex[byte >> 4];
    text += hex[byte & 15];
  }
  return text;
}

void settle_within(soci::session& sql, const settlement& one) {
  auto scope = stored_id(one.scope), id = stored_id(one.id), owner = stored_id(one.owner);
  if (!one.done) {
    sql << "delete from sluice_idempotency where scope = :scope and id = :id and owner = :owner and done = 0",
        soci::use(scope, "scope"), soci::use(id, "id"), soci::use(owner, "owner");
    return;
  }
  long long now = now_ms(), until = now + one.ttl.count();
  // Where the claim has run out meanwhile and nobody else has it, it is done all the same.
  sql << "insert into sluice_idempotency (scope, id, owner, fingerprint, done, answer, until_ms)"
         " values (:scope, :id, :owner, '', 1, :answer, :until)"
         " on conflict (scope, id) do update set owner = excluded.owner, done = 1, answer = excluded.answer,"
         " until_ms = excluded.until_ms where sluice_idempotency.owner = excluded.owner"
         " or (sluice_idempotency.done = 0 and sluice_idempotency.until_ms <= :now)",
      soci::use(scope, "scope"), soci::use(id, "id"), soci::use(owner, "owner"), soci::use(one.answer, "answer"),
      soci::use(until, "until"), soci::use(now, "now");
}

std::unique_ptr<idempotency_store> make_sql_idempotency_store(const std::string& url) {
  return std::make_unique<sql_idempotency_store>(url);
}

} // namespace sluice::store
