// The audit trail in SQL.
#include <array>
#include <utility>

#include <nlohmann/json.hpp>
#include <openssl/evp.h>

#include "store/sql.hpp"
#include "store/sql_idempotency.hpp"
#include "store/store.hpp"

namespace sluice::store {

namespace {

constexpr const char* no_hash = "0000000000000000000000000000000000000000000000000000000000000000";
constexpr long long most_names = 1000;
/// Of entries in one step of `verify`, about.
constexpr long long verified_bytes = 4194304;

// The head says where the chain ends, so that entries missing there show, and is what writers lock. The indexes are in
// the order of the answers: none of these questions looks at more than it answers.
constexpr const char* entries_table =
    "create table sluice_audit ("
    "  number bigint primary key, event_id varchar(200) not null unique, time_ms bigint not null,"
    "  tenant text not null, user_id text not null, action text not null, resource text not null,"
    "  resource_id text not null, details text not null, previous_hash char(64) not null, hash char(64) not null)";
constexpr const char* head_table = "create table sluice_audit_head (one integer primary key check (one = 1),"
                                   "  number bigint not null, hash char(64) not null)";
const std::vector<std::string> tables{
    entries_table,
    head_table,
    std::string{"insert into sluice_audit_head (one, number, hash) values (1, 0, '"} + no_hash + "')",
    "create index sluice_audit_time on sluice_audit (time_ms, number)",
    "create index sluice_audit_action on sluice_audit (action, time_ms, number)",
    "create index sluice_audit_resource on sluice_audit (resource, time_ms, number)",
    "create index sluice_audit_resource_id on sluice_audit (resource_id, time_ms, number)",
    "create index sluice_audit_user on sluice_audit (user_id, time_ms, number)",
    "create index sluice_audit_tenant on sluice_audit (tenant, time_ms, number)",
};

// They keep honest mistakes out. Who owns the database can drop them; then the chain tells.
const std::vector<std::string> sqlite_guards{
    "create trigger sluice_audit_no_update before update on sluice_audit"
    " begin select raise(abort, 'the audit trail is only added to'); end",
    "create trigger sluice_audit_no_delete before delete on sluice_audit"
    " begin select raise(abort, 'the audit trail is only added to'); end",
};
const std::vector<std::string> postgres_guards{
    "create or replace function sluice_audit_refuse() returns trigger language plpgsql as"
    " $$begin raise exception 'the audit trail is only added to'; end$$",
    "create trigger sluice_audit_no_change before update or delete or truncate on sluice_audit"
    " for each statement execute function sluice_audit_refuse()",
};

std::vector<std::vector<std::string>> migrations_for(const std::string& url) {
  auto first = tables;
  const auto& guards = url.starts_with("sqlite:") ? sqlite_guards : postgres_guards;
  first.insert(first.end(), guards.begin(), guards.end());
  return {first};
}

/// Each field with its length before it: no two entries have one form.
std::string canonical(const audit_entry& one) {
  std::string out;
  auto add = [&out](const std::string& field) { out += std::to_string(field.size()) + ":" + field + ","; };
  add("sluice-audit-1");
  add(std::to_string(one.number));
  add(one.event_id);
  add(std::to_string(one.time_ms));
  for (const auto* field : {&one.tenant, &one.user, &one.action, &one.resource, &one.resource_id, &one.details})
    add(*field);
  add(one.previous_hash);
  return out;
}

std::string hash_of(const audit_entry& one) {
  auto text = canonical(one);
  std::array<unsigned char, 32> digest{};
  EVP_Digest(text.data(), text.size(), digest.data(), nullptr, EVP_sha256(), nullptr);
  constexpr const char* hex = "0123456789abcdef";
  std::string out;
  out.reserve(64);
  for (auto byte : digest) {
    out += hex[byte >> 4];
    out += hex[byte & 15];
  }
  return out;
}

/// The time may differ: an entry without one of its own has that of its record.
bool says_the_same(const audit_entry& a, const audit_entry& b) {
  return a.tenant == b.tenant && a.user == b.user && a.action == b.action && a.resource == b.resource &&
         a.resource_id == b.resource_id && a.details == b.details;
}

struct chain_end {
  long long number = 0;
  std::string hash;
};

/// Rows of the trail as entries: `into` it, then read `entry` after each fetch.
struct row {
  audit_entry entry;
  long long number = 0, time_ms = 0;
  long long chosen = 0; ///< Rows there are, with those that were beyond `:bytes`.
  static constexpr const char* columns =
      "number, event_id, time_ms, tenant, user_id, action, resource, resource_id, details, previous_hash, hash";
  void bind(soci::statement& to) {
    to.exchange(soci::into(number));
    to.exchange(soci::into(entry.event_id));
    to.exchange(soci::into(time_ms));
    for (auto* field : {&entry.tenant, &entry.user, &entry.action, &entry.resource, &entry.resource_id, &entry.details,
                        &entry.previous_hash, &entry.hash})
      to.exchange(soci::into(*field));
  }
  /// At most `:most` rows, and of those no more than come to `:bytes`, but one: a driver holds a whole result.
  static std::string select(const std::string& where, const std::string& order) {
    const std::string all = columns;
    return "select " + all + ", chosen from (select " + all +
           ", count(*) over () as chosen, coalesce(sum(300 + length(details)) over (order by " + order +
           " rows between unbounded preceding and 1 preceding), 0) as before from (select " + all +
           " from sluice_audit" + where + " order by " + order +
           " limit :most) as those) as sized"
           " where before = 0 or before + 300 + length(details) <= :bytes order by " +
           order;
  }
  const audit_entry& read() {
    entry.number = number;
    entry.time_ms = time_ms;
    return entry;
  }
};

void run(soci::statement& what, const std::string& text) {
  what.alloc();
  what.prepare(text);
  what.define_and_bind();
  what.execute();
}

class sql_audit_log : public audit_log {
public:
  explicit sql_audit_log(const std::string& url)
      : base_({.url = url, .setting = "store.url", .schema = "audit", .migrations = migrations_for(url)}) {}

  caf::expected<std::vector<audit_fate>> append(const std::vector<audit_entry>& entries) override {
    std::vector<audit_fate> fates;
    auto error = base_.transact([&](soci::session& sql) {
      auto end = lock_end(sql);
      const auto before = end.number;
      audit_entry next;
      long long time = 0;
      soci::statement add =
          (sql.prepare << "insert into sluice_audit (number, event_id, time_ms, tenant, user_id, action, resource,"
                          " resource_id, details, previous_hash, hash) values (:number, :event, :time, :tenant, :user,"
                          " :action, :resource, :resource_id, :details, :previous, :hash)"
                          " on conflict (event_id) do nothing",
           soci::use(end.number, "number"), soci::use(next.event_id, "event"), soci::use(time, "time"),
           soci::use(next.tenant, "tenant"), soci::use(next.user, "user"), soci::use(next.action, "action"),
           soci::use(next.resource, "resource"), soci::use(next.resource_id, "resource_id"),
           soci::use(next.details, "details"), soci::use(next.previous_hash, "previous"), soci::use(next.hash, "hash"));
      for (const auto& one : entries) {
        next = one;
        next.event_id = stored_id(one.event_id);
        next.number = ++end.number;
        next.previous_hash = end.hash;
        next.hash = hash_of(next);
        time = next.time_ms;
        add.execute(true);
        if (add.get_affected_rows() == 1) {
          end.hash = next.hash;
          fates.push_back(audit_fate::added);
        } else {
          --end.number;
          fates.push_back(says_the_same(one, stored(sql, next.event_id)) ? audit_fate::known : audit_fate::differs);
        }
      }
      if (end.number != before)
        sql << "update sluice_audit_head set number = :number, hash = :hash", soci::use(end.number, "number"),
            soci::use(end.hash, "hash");
    });
    if (error)
      return error;
    return fates;
  }

  caf::expected<audit_page> find(const audit_query& query) override {
    audit_page page;
    auto error = base_.transact([&](soci::session& sql) {
      soci::statement rows{sql};
      row next;
      next.bind(rows);
      std::string where;
      auto that = [&where](const char* condition) {
        where += (where.empty() ? " where " : " and ") + std::string{condition};
      };
      auto equal = [&](const char* condition, const std::optional<std::string>& value, const char* name) {
        if (value) {
          that(condition);
          rows.exchange(soci::use(*value, name));
        }
      };
      equal("action = :action", query.action, "action");
      equal("resource = :resource", query.resource, "resource");
      equal("user_id = :user", query.user, "user");
      equal("tenant = :tenant", query.tenant, "tenant");
      std::optional<std::string> quoted;
      if (query.resource_id)
        quoted = nlohmann::json(*query.resource_id).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
      equal("resource_id in (:quoted, :plain)", quoted, "quoted");
      if (quoted)
        rows.exchange(soci::use(*query.resource_id, "plain"));
      long long from = query.from_ms.value_or(0), to = query.to_ms.value_or(0);
      if (query.from_ms) {
        that("time_ms >= :from");
        rows.exchange(soci::use(from, "from"));
      }
      if (query.to_ms) {
        that("time_ms < :to");
        rows.exchange(soci::use(to, "to"));
      }
      auto after = query.after.value_or(audit_place{});
      long long after_time = after.time_ms, after_number = after.number;
      if (query.after) {
        that("(time_ms, number) < (:after_time, :after_number)");
        rows.exchange(soci::use(after_time, "after_time"));
        rows.exchange(soci::use(after_number, "after_number"));
      }
      long long limit = static_cast<long long>(query.limit) + 1;
      long long bytes = static_cast<long long>(query.max_bytes);
      rows.exchange(soci::into(next.chosen));
      rows.exchange(soci::use(limit, "most"));
      rows.exchange(soci::use(bytes, "bytes"));
      run(rows, row::select(where, "time_ms desc, number desc"));
      while (page.entries.size() < query.limit && rows.fetch())
        page.entries.push_back(next.read());
      page.more = static_cast<std::size_t>(next.chosen) > page.entries.size();
    });
    if (error)
      return error;
    return page;
  }

  caf::expected<audit_check> verify(int64_t after, std::size_t most) override {
    audit_check found;
    auto error = base_.transact([&](soci::session& sql) {
      auto end = lock_end(sql); // nobody adds while we look
      found = {.last = after, .head = end.number, .head_hash = end.hash};
      std::string previous = no_hash;
      if (after > 0) {
        long long number = after;
        sql << "select hash from sluice_audit where number = :number", soci::into(previous),
            soci::use(number, "number");
        if (!sql.got_data()) {
          found.broken = {after, "it is missing"};
          return;
        }
      }
      soci::statement rows{sql};
      row next;
      next.bind(rows);
      long long begin = after, limit = static_cast<long long>(most), bytes = verified_bytes;
      rows.exchange(soci::use(begin, "begin"));
      rows.exchange(soci::into(next.chosen));
      rows.exchange(soci::use(limit, "most"));
      rows.exchange(soci::use(bytes, "bytes"));
      run(rows, row::select(" where number > :begin", "number"));
      long long seen = 0;
      while (!found.broken && rows.fetch()) {
        ++seen;
        take(next.read(), end, previous, found);
      }
      if (found.broken || seen == limit || seen < next.chosen)
        return;
      found.complete = true;
      if (found.last < end.number)
        found.broken = {found.last + 1, "it is missing"};
      else if (previous != end.hash)
        found.broken = {found.last, "it is not the entry that was written last"};
    });
    if (error)
      return error;
    return found;
  }

  caf::expected<audit_counts> count(int64_t from_ms, int64_t to_ms) override {
    audit_counts found;
    auto error = base_.transact([&](soci::session& sql) {
      long long from = from_ms, to = to_ms, total = 0;
      sql << "select count(*) from sluice_audit where time_ms >= :from and time_ms < :to", soci::into(total),
          soci::use(from, "from"), soci::use(to, "to");
      found.total = static_cast<uint64_t>(total);
      for (auto [column, counts] : {std::pair{"action", &found.actions}, std::pair{"resource", &found.resources},
                                    std::pair{"user_id", &found.users}}) {
        std::string name;
        long long times = 0, limit = most_names;
        soci::statement names =
            (sql.prepare << std::string{"select "} + column +
                                ", count(*) from sluice_audit where time_ms >= :from and time_ms < :to group by 1"
                                " order by 2 desc, 1 limit :most",
             soci::into(name), soci::into(times), soci::use(from, "from"), soci::use(to, "to"),
             soci::use(limit, "most"));
        names.execute();
        while (names.fetch())
          (*counts)[name] = static_cast<uint64_t>(times);
      }
    });
    if (error)
      return error;
    return found;
  }

private:
  /// Where the chain ends; it stays so until this transaction does. SQLite has one writer at a time anyway.
  chain_end lock_end(soci::session& sql) const {
    chain_end end;
    sql << std::string{"select number, hash from sluice_audit_head"} + (base_.is_sqlite() ? "" : " for update"),
        soci::into(end.number), soci::into(end.hash);
    if (!sql.got_data())
      throw std::runtime_error("the audit trail has lost its head (table sluice_audit_head)");
    return end;
  }

  static audit_entry stored(soci::session& sql, const std::string& event_id) {
    soci::statement rows{sql};
    row found;
    found.bind(rows);
    rows.exchange(soci::use(event_id, "event"));
    run(rows, std::string{"select "} + row::columns + " from sluice_audit where event_id = :event");
    rows.fetch();
    return found.read();
  }

  static void take(const audit_entry& one, const chain_end& end, std::string& previous, audit_check& found) {
    if (one.number != found.last + 1)
      found.broken = {found.last + 1, "it is missing"};
    else if (one.number > end.number)
      found.broken = {one.number, "it was not added by sluice: the chain ends before it"};
    else if (one.previous_hash != previous)
      found.broken = {one.number, "it does not follow the entry before it: one of both was changed or replaced"};
    else if (one.hash != hash_of(one))
      found.broken = {one.number, "it was changed: its hash is that of other fields"};
    if (found.broken)
      return;
    ++found.checked;
    found.last = one.number;
    previous = one.hash;
  }

  database base_;
};

} // namespace

std::unique_ptr<audit_log> make_audit_log(const std::string& url) {
  return std::make_unique<sql_audit_log>(url);
}

} // namespace sluice::store
