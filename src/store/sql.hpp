/// What all SQL stores share: opening, migrating, transactions, and errors that say what to do.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <caf/error.hpp>

#include "sluice/error.hpp"
#include "store/soci.hpp"

namespace sluice::store {

/// One database, opened when it is first used, and again after an error. One thread at a time.
class database {
public:
  struct options {
    std::string url;        ///< "sqlite:…", "postgresql://…" or "postgres://…".
    std::string setting;    ///< The option that named it, for errors: "store.url".
    bool exclusive = false; ///< SQLite: for this process alone.
    /// Statements that bring the schema from version `i` to `i + 1`. Only ever added to: what is in the database is
    /// brought up to date in one transaction when it is opened. A newer version than these is an error.
    std::string schema; ///< What they are the schema of; versions are counted for each name.
    std::vector<std::vector<std::string>> migrations;
  };
  explicit database(options opts);
  ~database();
  database(const database&) = delete;
  database& operator=(const database&) = delete;

  bool is_sqlite() const noexcept { return sqlite_; }
  /// Opens where it is not open. A second after a failure at the earliest: until then that failure is the answer.
  caf::error open();
  /// Runs `work` in one transaction, which is on disk when this returns. `work` may run only once; what it throws
  /// (`soci::soci_error`) undoes the transaction and becomes an error.
  caf::error transact(const std::function<void(soci::session&)>& work);

  /// Runs a statement that must stand outside of transactions.
  caf::error execute(const std::string& statement);

private:
  void connect();
  void migrate();
  /// SQLite: whether the file that is open still stands where it stood.
  bool is_in_place() const;
  caf::error failure_of(const std::exception& thrown) const;

  options opts_;
  bool sqlite_;
  std::string file_; ///< SQLite's; empty in memory.
  std::unique_ptr<soci::session> session_;
  uint64_t device_ = 0, inode_ = 0;
  caf::error last_failure_;
  std::chrono::steady_clock::time_point failed_;
};

/// `text` without the password of `url`, and without `url`.
std::string without_secrets(std::string text, const std::string& url);

/// Unix milliseconds.
int64_t now_ms();

} // namespace sluice::store
