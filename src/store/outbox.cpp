#include <chrono>
#include <utility>

#include "sluice/log.hpp"
#include "store/record_bytes.hpp"
#include "store/sql.hpp"
#include "store/store.hpp"

namespace sluice::store {

namespace {

// Ids are never used again, so that their order is the order of arrival. refused: why Kafka does not take it.
const std::vector<std::vector<std::string>> migrations{
    {"create table sluice_outbox ("
     "  id integer primary key autoincrement, topic text not null, bytes integer not null, record blob not null,"
     "  refused text)"},
};

class sqlite_outbox : public outbox_log {
public:
  explicit sqlite_outbox(const std::string& folder)
      : base_({.url = "sqlite:" + folder + "/outbox.db",
               .setting = "store.path",
               .exclusive = true,
               .schema = "outbox",
               .migrations = migrations}) {}

  caf::error open() { return base_.open(); }

  caf::expected<std::vector<uint64_t>> commit(const std::vector<const outgoing_record*>& fresh,
                                              const std::vector<int64_t>& written,
                                              const std::vector<refusal>& refused) override {
    std::vector<uint64_t> sizes;
    auto error = base_.transact([&](soci::session& sql) {
      sizes = append(sql, fresh);
      long long id = 0;
      if (!written.empty()) {
        soci::statement remove = (sql.prepare << "delete from sluice_outbox where id = :id", soci::use(id, "id"));
        for (auto one : written) {
          id = one;
          remove.execute(true);
        }
      }
      for (const auto& one : refused)
        sql << "update sluice_outbox set refused = :reason where id = :id", soci::use(one.reason, "reason"),
            soci::use(static_cast<long long>(one.id), "id");
    });
    if (error)
      return error;
    if (!written.empty())
      give_back();
    return sizes;
  }

  caf::expected<std::vector<entry>> read(int64_t after, std::size_t records, std::size_t bytes) override {
    std::vector<entry> found;
    auto error = base_.transact([&](soci::session& sql) {
      long long from = after, id = 0, size = 0, limit = static_cast<long long>(records);
      std::string topic, text;
      soci::blob record{sql};
      soci::statement next = (sql.prepare << "select id, topic, bytes, record from sluice_outbox"
                                             " where id > :from and refused is null order by id limit :most",
                              soci::into(id), soci::into(topic), soci::into(size), soci::into(record),
                              soci::use(from, "from"), soci::use(limit, "most"));
      next.execute();
      for (std::size_t taken = 0; taken < bytes && next.fetch();) {
        text.resize(record.get_len());
        if (!text.empty())
          record.read(0, text.data(), text.size());
        auto read_back = from_bytes(text);
        if (!read_back)
          throw std::runtime_error("event " + std::to_string(id) + " in it cannot be read");
        read_back->topic = topic;
        found.push_back({id, std::move(*read_back), static_cast<uint64_t>(size)});
        taken += static_cast<std::size_t>(size);
      }
    });
    if (error)
      return error;
    return found;
  }

  caf::expected<std::map<std::string, usage>> contents() override {
    std::map<std::string, usage> all;
    auto error = base_.transact([&](soci::session& sql) {
      std::string topic;
      long long records = 0, bytes = 0;
      soci::statement sums =
          (sql.prepare << "select case when refused is null then topic else '' end, count(*), sum(bytes)"
                          " from sluice_outbox group by 1",
           soci::into(topic), soci::into(records), soci::into(bytes));
      sums.execute();
      while (sums.fetch())
        all[topic] = {static_cast<uint64_t>(records), static_cast<uint64_t>(bytes)};
    });
    if (error)
      return error;
    return all;
  }

  caf::error readmit() override {
    return base_.transact(
        [](soci::session& sql) { sql << "update sluice_outbox set refused = null where refused is not null"; });
  }

private:
  static std::vector<uint64_t> append(soci::session& sql, const std::vector<const outgoing_record*>& fresh) {
    std::vector<uint64_t> sizes;
    if (fresh.empty())
      return sizes;
    std::string topic;
    long long size = 0;
    soci::blob record{sql};
    soci::statement add = (sql.prepare << "insert into sluice_outbox (topic, bytes, record)"
                                          " values (:topic, :bytes, :record)",
                           soci::use(topic, "topic"), soci::use(size, "bytes"), soci::use(record, "record"));
    for (const auto* one : fresh) {
      auto text = to_bytes(*one);
      topic = one->topic;
      auto bytes = text.size() + topic.size();
      size = static_cast<long long>(bytes);
      record.trim(0);
      record.write(0, text.data(), text.size());
      add.execute(true);
      sizes.push_back(bytes);
    }
    return sizes;
  }

  /// Gives the disk back once nothing waits and much is free. A failure is no loss: the file is only larger.
  void give_back() {
    int left = 1, free = 0;
    auto error = base_.transact([&](soci::session& sql) {
      sql << "select exists (select 1 from sluice_outbox)", soci::into(left);
      sql << "pragma freelist_count", soci::into(free);
    });
    constexpr int many_pages = 256;
    if (error || left != 0 || free < many_pages)
      return;
    for (const auto* statement : {"vacuum", "pragma wal_checkpoint(truncate)"})
      if (error = base_.execute(statement); error)
        log(log_level::debug, "outbox", "the outbox's file could not be made smaller", {{"cause", describe(error)}});
  }

  database base_;
};

} // namespace

caf::expected<std::unique_ptr<outbox_log>> open_outbox(const std::string& folder) {
  auto fresh = std::make_unique<sqlite_outbox>(folder);
  if (auto error = fresh->open())
    return make_failure(ec::invalid_config, text_of(error) + " (or do without it by outbox.enabled = false)");
  return std::unique_ptr<outbox_log>{std::move(fresh)};
}

} // namespace sluice::store
