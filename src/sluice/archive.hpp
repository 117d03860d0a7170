/// What the archive keeps for good: the audit trail, and reports.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace sluice {

// -- the audit trail --------------------------------------------------------------------------------------------------

/// What somebody did. Texts are UTF-8 without NULs; "" = none.
struct audit_entry {
  std::string event_id; ///< Unique in the trail.
  int64_t time_ms = 0;  ///< When it was done, Unix milliseconds.
  std::string tenant;
  std::string user; ///< Who did it.
  std::string action;
  std::string resource;
  std::string resource_id; ///< JSON: a text or a number, as it was given.
  std::string details;     ///< JSON.
  // Set by the trail.
  int64_t number = 0;        ///< From 1 on, without gaps, in the order of arrival.
  std::string previous_hash; ///< Of the entry before it; 64 zeros for the first.
  std::string hash;          ///< SHA-256 in hexadecimal, see docs/audit-and-reports.md.
};

/// What became of an entry for the trail.
enum class audit_fate : uint8_t {
  added,
  known,   ///< It is there already.
  differs, ///< Another one with its event id is there already.
};

/// A place in the trail's order by time, which no two entries share.
struct audit_place {
  int64_t time_ms = 0;
  int64_t number = 0;
};

/// Entries that somebody looks for. What is not set does not matter.
struct audit_query {
  std::optional<std::string> action, resource, user, tenant;
  std::optional<std::string> resource_id;  ///< As a text, whether it was given as one or as a number.
  std::optional<int64_t> from_ms, to_ms;   ///< At or after; before.
  std::optional<audit_place> after{};      ///< Only those older than this one.
  uint32_t limit = 100;                    ///< From 1 on.
  std::size_t max_bytes = 4 * 1024 * 1024; ///< About so much, at most, but one entry at least.
};

struct audit_page {
  std::vector<audit_entry> entries; ///< Newest first.
  bool more = false;                ///< There are older ones.
};

/// What a look at a piece of the chain has found.
struct audit_check {
  struct fault {
    int64_t number = 0; ///< The first entry that is not as it must be.
    std::string reason;
  };
  uint64_t checked = 0;  ///< Entries that are as they must be.
  int64_t last = 0;      ///< The last of them: go on behind it.
  bool complete = false; ///< That was the end of the chain.
  int64_t head = 0;      ///< The newest entry's number, 0 = there is none, ...
  std::string head_hash; ///< ... and its hash.
  std::optional<fault> broken{};
};

/// How often each name occurs.
using name_counts = std::map<std::string, uint64_t>;

/// Numbers of the entries of some time.
struct audit_counts {
  uint64_t total = 0;
  name_counts actions, resources, users; ///< Of each the most frequent ones, 1,000 at most.
};

// -- reports ----------------------------------------------------------------------------------------------------------

struct report {
  std::string id;
  std::string event_id; ///< Of the request: one report for each.
  std::string type;     ///< daily, weekly, monthly
  int64_t from_ms = 0;  ///< Unix milliseconds.
  int64_t to_ms = 0;    ///< Not included.
  int64_t created_ms = 0;
  std::string json; ///< All of it, for machines ...
  std::string html; ///< ... and for people.
};

/// Which reports somebody asks for: one by its id or by its request's event, or else the newest.
struct report_query {
  std::string id;
  std::string event_id;
  std::optional<std::pair<int64_t, std::string>> after{}; ///< `created_ms` and `id`: only older ones.
  uint32_t limit = 100;
};

struct report_page {
  std::vector<report> reports; ///< Newest first; a list of them is without `json` and `html`.
  bool more = false;
};

using audit_entries_ptr = std::shared_ptr<const std::vector<audit_entry>>;
using audit_fates_ptr = std::shared_ptr<const std::vector<audit_fate>>;
using audit_query_ptr = std::shared_ptr<const audit_query>;
using audit_page_ptr = std::shared_ptr<const audit_page>;
using audit_check_ptr = std::shared_ptr<const audit_check>;
using audit_counts_ptr = std::shared_ptr<const audit_counts>;
using report_ptr = std::shared_ptr<const report>;
using report_query_ptr = std::shared_ptr<const report_query>;
using report_page_ptr = std::shared_ptr<const report_page>;

} // namespace sluice
