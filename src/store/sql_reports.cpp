// Reports in SQL.
#include <utility>

#include "store/sql.hpp"
#include "store/sql_idempotency.hpp"
#include "store/store.hpp"

namespace sluice::store {

namespace {

const std::vector<std::vector<std::string>> migrations{
    {"create table sluice_report ("
     "  id varchar(64) primary key, event_id varchar(200) not null unique, type varchar(20) not null,"
     "  from_ms bigint not null, to_ms bigint not null, created_ms bigint not null,"
     "  json text not null, html text not null)",
     "create index sluice_report_created on sluice_report (created_ms, id)"},
};

class sql_report_shelf : public report_shelf {
public:
  explicit sql_report_shelf(const std::string& url)
      : base_({.url = url, .setting = "store.url", .schema = "report", .migrations = migrations}) {}

  caf::expected<report> keep(const report& fresh) override {
    report kept;
    auto error = base_.transact([&](soci::session& sql) {
      auto event = stored_id(fresh.event_id);
      long long from = fresh.from_ms, to = fresh.to_ms, created = fresh.created_ms;
      sql << "insert into sluice_report (id, event_id, type, from_ms, to_ms, created_ms, json, html)"
             " values (:id, :event, :type, :from, :to, :created, :json, :html)"
             " on conflict (event_id) do nothing",
          soci::use(fresh.id, "id"), soci::use(event, "event"), soci::use(fresh.type, "type"), soci::use(from, "from"),
          soci::use(to, "to"), soci::use(created, "created"), soci::use(fresh.json, "json"),
          soci::use(fresh.html, "html");
      auto found = select(sql, {.id = {}, .event_id = fresh.event_id});
      if (found.reports.empty())
        throw std::runtime_error("the report cannot be read back");
      kept = std::move(found.reports.front());
    });
    if (error)
      return error;
    return kept;
  }

  caf::expected<report_page> find(const report_query& query) override {
    report_page page;
    if (auto error = base_.transact([&](soci::session& sql) { page = select(sql, query); }))
      return error;
    return page;
  }

private:
  static report_page select(soci::session& sql, const report_query& query) {
    report next;
    long long from = 0, to = 0, created = 0;
    soci::statement rows{sql};
    for (auto* field : {&next.id, &next.event_id, &next.type})
      rows.exchange(soci::into(*field));
    for (auto* field : {&from, &to, &created})
      rows.exchange(soci::into(*field));
    const auto one = !query.id.empty() || !query.event_id.empty();
    std::string text = "select id, event_id, type, from_ms, to_ms, created_ms";
    if (one) {
      text += ", json, html";
      rows.exchange(soci::into(next.json));
      rows.exchange(soci::into(next.html));
    }
    text += " from sluice_report";
    auto event = stored_id(query.event_id);
    long long after_time = query.after ? query.after->first : 0;
    std::string after_id = query.after ? query.after->second : "";
    long long limit = static_cast<long long>(query.limit) + 1;
    if (!query.id.empty()) {
      text += " where id = :id";
      rows.exchange(soci::use(query.id, "id"));
    } else if (!query.event_id.empty()) {
      text += " where event_id = :event";
      rows.exchange(soci::use(event, "event"));
    } else if (query.after) {
      text += " where (created_ms, id) < (:after_time, :after_id)";
      rows.exchange(soci::use(after_time, "after_time"));
      rows.exchange(soci::use(after_id, "after_id"));
    }
    text += " order by created_ms desc, id desc limit :most";
    rows.exchange(soci::use(limit, "most"));
    rows.alloc();
    rows.prepare(text);
    rows.define_and_bind();
    rows.execute();
    report_page page;
    while (rows.fetch()) {
      if (page.reports.size() == query.limit) {
        page.more = true;
        break;
      }
      next.from_ms = from;
      next.to_ms = to;
      next.created_ms = created;
      page.reports.push_back(next);
    }
    return page;
  }

  database base_;
};

} // namespace

std::unique_ptr<report_shelf> make_report_shelf(const std::string& url) {
  return std::make_unique<sql_report_shelf>(url);
}

} // namespace sluice::store
