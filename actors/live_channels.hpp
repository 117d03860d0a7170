/// Which channels a record goes to, and as what event.
#pragma once

#include <chrono>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "sluice/channels.hpp"
#include "sluice/config.hpp"
#include "sluice/ports.hpp"
#include "sluice/record.hpp"

#include "event_reader.hpp"

namespace sluice {

/// One way from topics to channels. `[[channels]]` are these, and so are the built-in ones.
struct channel_rule {
  enum class source : uint8_t { fixed, pointer, header, record_key };
  std::vector<std::string> topics; ///< `*` stands for any characters.
  std::string name;                ///< With `{topic}` and `{value}`.
  source value = source::fixed;    ///< Where `{value}` is from.
  std::string pointer;             ///< JSON pointer or header name.
  std::string event;
  std::string event_pointer;
  std::string event_header;
  std::string hidden;        ///< Top-level member that clients do not see.
  bool wrap_summary = false; ///< Data becomes `{"type":"summary","data":…}`.
  slow_policy policy = slow_policy::disconnect;
  std::chrono::milliseconds retention{0}; ///< 0 = as long as Kafka keeps it.
};

/// What live delivery shows, from the configuration: its rules and the topics (or patterns) they read.
struct channel_rules {
  std::vector<channel_rule> rules;
  std::vector<std::string> topics; ///< Sorted, each once; patterns have a `*`.
};
channel_rules make_channel_rules(const config& cfg);
/// Topics of the notifications that sluice itself takes (POST /notifications/…).
const std::vector<std::string>& notification_topics();

/// Finds a record's channels. One per actor: it reuses its buffers.
class channel_finder {
public:
  explicit channel_finder(channel_rules rules);

  /// One event to be shown. Views are valid until the next `find`, and as long as the batch.
  struct placement {
    std::string channel;
    std::string event;     ///< Empty = `message`.
    std::string_view data; ///< JSON.
    std::chrono::milliseconds retention{0};
  };
  /// Where record `index` of `batch` goes; a channel comes once. `skipped` is set where the record cannot be shown: no
  /// value, no JSON, no usable channel name.
  const std::vector<placement>& find(const record_batch& batch, size_t index, bool& skipped);
  /// Whether records of `topic` may be shown on `channel`.
  bool feeds(const std::string& topic, std::string_view channel) const;
  /// The strictest policy of the rules that may feed `channel`.
  slow_policy policy_of(std::string_view channel) const;

private:
  struct compiled {
    channel_rule rule;
    event_reader::path value_path, event_path;
  };
  const std::vector<const compiled*>& rules_for(const std::string& topic);
  bool reads(const channel_rule& rule, const std::string& topic) const;

  std::vector<compiled> rules_;
  std::string broadcasts_; ///< The topic of broadcasts.
  std::unordered_map<std::string, std::vector<const compiled*>> by_topic_;
  event_reader reader_{"", ""};
  std::vector<placement> placements_;
  std::vector<std::string> values_;
  std::string wrapped_;
};

} // namespace sluice
