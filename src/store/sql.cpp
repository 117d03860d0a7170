#include "store/sql.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include <soci/postgresql/soci-postgresql.h>
#include <soci/sqlite3/soci-sqlite3.h>
#include <sys/stat.h>

#include "sluice/config.hpp"

namespace sluice::store {

namespace {

constexpr std::string_view sqlite_prefix = "sqlite:";
constexpr const char* in_memory = ":memory:";
constexpr std::chrono::seconds patience{1};
// SQLite's result codes, which SOCI passes on without their names.
constexpr int sqlite_busy = 5, sqlite_locked = 6, sqlite_readonly = 8, sqlite_ioerr = 10, sqlite_corrupt = 11,
              sqlite_full = 13, sqlite_cantopen = 14, sqlite_notadb = 26;

/// A failure whose text is complete.
struct store_error : std::runtime_error {
  store_error(ec code, const std::string& text) : std::runtime_error(text), code(code) {}
  ec code;
};

void replace_all(std::string& text, const std::string& what, const char* by) {
  if (what.empty())
    return;
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + std::strlen(by)))
    text.replace(at, what.size(), by);
}

/// What libpq waits for is bounded, unless the URL says otherwise.
std::string bounded(std::string url) {
  for (const auto* parameter : {"connect_timeout=3", "tcp_user_timeout=5000", "application_name=sluice"}) {
    std::string name{parameter, std::strchr(parameter, '=') + 1};
    if (url.find(name) == std::string::npos)
      url += (url.find('?') == std::string::npos ? "?" : "&") + std::string{parameter};
  }
  return url;
}

std::string trimmed(std::string text) {
  for (auto& c : text)
    if (c == '\n' || c == '\t')
      c = ' ';
  while (!text.empty() && text.back() == ' ')
    text.pop_back();
  return text;
}

} // namespace

std::string without_secrets(std::string text, const std::string& url) {
  replace_all(text, url, "***");
  replace_all(text, password_in(url), "***");
  return text;
}

int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

database::database(options opts) : opts_(std::move(opts)), sqlite_(opts_.url.starts_with(sqlite_prefix)) {
  if (sqlite_ && opts_.url.substr(sqlite_prefix.size()) != in_memory)
    file_ = opts_.url.substr(sqlite_prefix.size());
}

database::~database() = default;

caf::error database::open() {
  if (session_)
    return {};
  if (last_failure_ && std::chrono::steady_clock::now() - failed_ < patience)
    return last_failure_;
  try {
    connect();
    migrate();
    return {};
  } catch (const std::exception& thrown) {
    session_.reset();
    failed_ = std::chrono::steady_clock::now();
    last_failure_ = failure_of(thrown);
    return last_failure_;
  }
}

void database::connect() {
  if (!sqlite_) {
    session_ = std::make_unique<soci::session>(soci::postgresql, bounded(opts_.url));
    *session_ << "set statement_timeout = 5000";
    *session_ << "set lock_timeout = 3000";
    *session_ << "set client_min_messages = warning";
    return;
  }
  if (!file_.empty())
    if (auto folder = std::filesystem::path{file_}.parent_path(); !folder.empty())
      if (std::filesystem::create_directories(folder)) // what events say is for nobody else's eyes
        std::filesystem::permissions(folder, std::filesystem::perms::owner_all);
  session_ = std::make_unique<soci::session>(soci::sqlite3, "db=\"" + (file_.empty() ? in_memory : file_) + "\"");
  auto& sql = *session_;
  sql << (opts_.exclusive ? "pragma busy_timeout = 0" : "pragma busy_timeout = 2000");
  sql << "pragma trusted_schema = off";
  if (file_.empty())
    return;
  if (opts_.exclusive) // before the journal's mode: without shared memory then
    sql << "pragma locking_mode = exclusive";
  std::string mode;
  sql << "pragma journal_mode = wal", soci::into(mode);
  if (mode != "wal")
    throw store_error(ec::store_unavailable, opts_.setting + ": " + file_ + " cannot be kept with a write-ahead log (" +
                                                 mode + "); choose a folder on a local disk");
  sql << "pragma synchronous = full"; // each commit is on disk when it returns
  sql << "pragma journal_size_limit = 16777216";
  struct stat seen {};
  if (stat(file_.c_str(), &seen) == 0) {
    device_ = seen.st_dev;
    inode_ = seen.st_ino;
  }
}

void database::migrate() {
  auto& sql = *session_;
  sql << (sqlite_ ? "begin immediate" : "begin");
  // Several nodes may come at once.
  if (!sqlite_)
    sql << "select pg_advisory_xact_lock(7310582)";
  sql << "create table if not exists sluice_schema (name varchar(64) primary key, version integer not null)";
  int version = 0;
  soci::indicator found = soci::i_null;
  sql << "select max(version) from sluice_schema where name = :name", soci::into(version, found),
      soci::use(opts_.schema, "name");
  if (found == soci::i_null)
    version = 0;
  auto known = static_cast<int>(opts_.migrations.size());
  if (version > known)
    throw store_error(ec::store_unavailable, opts_.setting + ": the database has version " + std::to_string(version) +
                                                 " of " + opts_.schema +
                                                 ", written by a newer sluice; this one knows " +
                                                 std::to_string(known) + "; use the newer one or another database");
  for (int i = version; i < known; ++i)
    for (const auto& statement : opts_.migrations[static_cast<std::size_t>(i)])
      sql << statement;
  if (version < known) {
    sql << "delete from sluice_schema where name = :name", soci::use(opts_.schema, "name");
    sql << "insert into sluice_schema (name, version) values (:name, :version)", soci::use(opts_.schema, "name"),
        soci::use(known, "version");
  }
  sql << "commit";
}

bool database::is_in_place() const {
  if (file_.empty())
    return true;
  struct stat seen {};
  return stat(file_.c_str(), &seen) == 0 && seen.st_dev == device_ && seen.st_ino == inode_;
}

caf::error database::transact(const std::function<void(soci::session&)>& work) {
  if (auto error = open())
    return error;
  try {
    // SQLite would go on writing into a file that no longer has a name.
    if (!is_in_place())
      throw store_error(ec::store_unavailable,
                        opts_.setting + ": " + file_ + " was removed or replaced while it was in use; leave it alone");
    auto& sql = *session_;
    sql << (sqlite_ ? "begin immediate" : "begin");
    work(sql);
    sql << "commit";
    return {};
  } catch (const std::exception& thrown) {
    auto error = failure_of(thrown);
    try {
      *session_ << "rollback";
    } catch (const std::exception&) { // NOLINT: there is none any more
    }
    // What a lock or a full disk has stopped goes on with the same connection; anything else may be the connection.
    const auto* sqlite = dynamic_cast<const soci::sqlite3_soci_error*>(&thrown);
    auto code = sqlite == nullptr ? 0 : sqlite->result() & 0xff;
    if (code != sqlite_busy && code != sqlite_full)
      session_.reset();
    return error;
  }
}

caf::error database::execute(const std::string& statement) {
  if (auto error = open())
    return error;
  try {
    *session_ << statement;
    return {};
  } catch (const std::exception& thrown) {
    return failure_of(thrown);
  }
}

caf::error database::failure_of(const std::exception& thrown) const {
  if (const auto* complete = dynamic_cast<const store_error*>(&thrown))
    return make_failure(complete->code, complete->what());
  auto say = [&](ec code, const std::string& what, const std::string& mend) {
    return make_failure(code, opts_.setting + ": " + without_secrets(what, opts_.url) + "; " + mend);
  };
  const auto* soci = dynamic_cast<const soci::soci_error*>(&thrown);
  // Without the statement and its values, which `what` adds.
  auto text = trimmed(soci == nullptr ? thrown.what() : soci->get_error_message());
  if (!sqlite_) {
    const auto* pg = dynamic_cast<const soci::postgresql_soci_error*>(&thrown);
    auto state = pg == nullptr ? std::string{} : pg->sqlstate();
    if (state == "53100")
      return say(ec::storage_full, "PostgreSQL has no disk space left: " + text, "free some there");
    if (state == "55P03" || state == "57014" || state == "40P01")
      return say(ec::store_unavailable, "PostgreSQL is locked: " + text, "end what holds the lock");
    return say(ec::store_unavailable, "PostgreSQL: " + text, "see that it runs and that user and rights are right");
  }
  const auto* sqlite = dynamic_cast<const soci::sqlite3_soci_error*>(&thrown);
  auto result = sqlite == nullptr ? 0 : sqlite->result() & 0xff;
  auto where = file_.empty() ? std::string{"the database in memory"} : file_;
  if (const auto* fs = dynamic_cast<const std::filesystem::filesystem_error*>(&thrown))
    return say(fs->code() == std::errc::no_space_on_device ? ec::storage_full : ec::store_unavailable,
               "the folder of " + where + " cannot be made (" + fs->code().message() + ")",
               "name one that this user may write to");
  switch (result) {
  case sqlite_busy:
  case sqlite_locked:
    return say(ec::store_unavailable, where + " is locked by another process",
               "end that, or give each node a place of its own");
  case sqlite_full:
    return say(ec::storage_full, where + ": no space left on its disk", "free some, or move it");
  case sqlite_readonly:
  case sqlite_cantopen:
    return say(ec::store_unavailable, where + " cannot be opened for writing",
               "name a place where this user may write");
  case sqlite_corrupt:
  case sqlite_notadb:
    return say(ec::store_unavailable, where + " is damaged, or no SQLite database (" + text + ")",
               "move it away and start again, or restore it");
  case sqlite_ioerr:
    if (errno == ENOSPC)
      return say(ec::storage_full, where + ": no space left on its disk", "free some, or move it");
    return say(ec::store_unavailable, where + " cannot be read or written (" + text + ")", "look at its disk");
  default:
    // Opening fails without a code.
    return say(ec::store_unavailable, where + ": " + text, "name a place where this user may write");
  }
}

} // namespace sluice::store
