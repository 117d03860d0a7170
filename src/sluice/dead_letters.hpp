/// Dead letters as operators see them: read, searched, sent back to where they came from.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sluice/record.hpp"

namespace sluice {

/// `<topic>.dlq` has the dead letters of `<topic>`.
inline constexpr std::string_view dlq_suffix = ".dlq";
/// How often the record was sent back already; counted up by each redrive.
inline constexpr std::string_view redrives_header = "sluice-redrives";
/// Where it is written down who has done what.
inline constexpr const char* audit_topic = "audit.event";

/// Where a letter lies in its dead-letter topic. As text: "<partition>-<offset>".
struct letter_id {
  int32_t partition = -1;
  int64_t offset = -1;
  friend bool operator==(const letter_id&, const letter_id&) = default;
  friend bool operator<(const letter_id& a, const letter_id& b) {
    return a.partition != b.partition ? a.partition < b.partition : a.offset < b.offset;
  }
};
std::string to_string(letter_id id);
/// Reads `to_string`'s output back; nothing for any other text.
std::optional<letter_id> parse_letter_id(std::string_view text);

/// That a letter was sent back: kept in `dlq.redrivesTopic`, by topic and id.
struct redrive_mark {
  int64_t letter_ms = -1; ///< The letter's timestamp: another letter in its place is not meant.
  int64_t at_ms = 0;      ///< Unix milliseconds.
  std::string by;         ///< User; empty where credentials name nobody.
  topic_partition target; ///< Where the record is now.
};

/// A record of a dead-letter topic, taken apart.
struct dlq_letter {
  std::string topic;
  letter_id id;
  int64_t timestamp_ms = -1; ///< When it became a dead letter.
  std::optional<std::string> key;
  std::optional<std::string> value;
  std::vector<record_header> headers{}; ///< The record's own, in their order; no `sluice-dlq-…`.
  topic_partition origin;               ///< Its topic is empty where the headers do not tell it.
  int64_t origin_timestamp_ms = -1;
  std::string processor, error, reason;
  /// What it does not have, as it was too large for the dead-letter topic: "", "value" or "value,key,headers".
  std::string missing;
  uint32_t attempts = 0;
  int64_t first_failure_ms = 0;
  int64_t last_failure_ms = 0;
  uint32_t redrives = 0; ///< Of the record, before this letter.
  std::string event_id;  ///< `event_id_of` the record.
  std::optional<redrive_mark> redriven{};
};

dlq_letter read_dead_letter(const record_batch& batch, std::size_t index);
/// The record to send back: to its partition of its topic, key, value and headers as they were, `sluice-redrives`
/// counted up. It keeps its event id, so that who has processed it already can tell; and loses a `sluice-deadline` that
/// has passed at `now_ms`, by which it would come straight back.
outgoing_record redriven_record(const dlq_letter& letter, int64_t now_ms);

/// Which letters are meant; what is absent does not matter.
struct letter_filter {
  std::optional<std::string> error, processor, key;
  std::optional<int64_t> from_ms, to_ms; ///< When it became a dead letter, Unix milliseconds, both ends included.
  std::string text;                      ///< Somewhere in key, value or reason, to the byte.
  std::optional<bool> redriven;
  bool fits(const dlq_letter& letter) const;
};

/// A question for letters of one topic, in the order of their ids.
struct dlq_query {
  std::string topic;
  std::vector<letter_id> ids{}; ///< These, whatever the filter says; empty = by filter.
  letter_filter filter{};
  std::optional<letter_id> after{}; ///< Only those behind it.
  uint32_t limit = 100;             ///< Letters, at most.
  uint64_t preview_bytes = 0;       ///< Keys and values are cut to this; 0 = whole.
};
struct dlq_page {
  struct entry {
    dlq_letter letter;
    uint64_t key_bytes = 0, value_bytes = 0; ///< Before they were cut.
  };
  std::vector<entry> letters;
  bool complete = true;           ///< Nothing that fits comes behind.
  std::optional<letter_id> after; ///< Where it has come to, where that is not the end.
  uint64_t scanned = 0;           ///< Letters looked at.
  bool knows_redriven = true;     ///< False: those without a mark may have been sent back.
};

/// What there is of one dead-letter topic.
struct dlq_topic_view {
  std::string topic;
  uint32_t partitions = 0;
  uint64_t letters = 0;
  std::optional<uint64_t> redriven; ///< Of them; nothing where there was no time to see.
  std::optional<int64_t> oldest_ms, newest_ms;
  std::vector<std::pair<std::string, uint64_t>> errors{}; ///< Letters by error code, of those looked at.
  bool complete = false;                                  ///< All were looked at.
};
struct dlq_overview {
  std::vector<dlq_topic_view> topics;
  std::size_t left_out = 0; ///< Topics that nobody looked at: there are too many.
};

/// A wish to send letters back.
struct redrive_order {
  dlq_query which;
  bool replace = false; ///< The record gets `value`; with exactly one id.
  std::optional<std::string> value{};
  bool dry_run = false;
  bool again = false; ///< Also those that were sent back before.
  uint32_t rate = 0;  ///< Records a second, at most; 0 = as fast as it goes.
  std::string user;   ///< Who wants it; empty where credentials name nobody.
  std::string remote; ///< Address.
};
struct redrive_report {
  struct result {
    letter_id id;
    std::string error; ///< Empty = sent back, or would be in a dry run.
    std::string detail;
    topic_partition target{}; ///< Offset -1 in a dry run.
    std::string event_id;
    uint32_t redrives = 0;
    bool recorded = true; ///< Its mark and its audit entry are written.
  };
  std::vector<result> results;
  uint64_t skipped = 0; ///< By filter: sent back before.
  bool complete = true;
  std::optional<letter_id> after{};
};

using dlq_query_ptr = std::shared_ptr<const dlq_query>;
using dlq_page_ptr = std::shared_ptr<const dlq_page>;
using dlq_overview_ptr = std::shared_ptr<const dlq_overview>;
using redrive_order_ptr = std::shared_ptr<const redrive_order>;
using redrive_report_ptr = std::shared_ptr<const redrive_report>;

} // namespace sluice
