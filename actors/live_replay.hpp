/// Brings clients from an old cursor to the present.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <caf/stateful_actor.hpp>

#include "sluice/interfaces.hpp"
#include "sluice/stats.hpp"

#include "live_channels.hpp"
#include "live_cursor.hpp"

namespace sluice {

/// Encodes old records for one client, each with the cursor that stands after it.
class replay_writer {
public:
  /// `cursor` has all partitions of the client's topics. `now_ms`: Unix milliseconds, for channels' retention.
  replay_writer(stream_protocol protocol, const channel_names& channels, live_cursor cursor, int64_t now_ms)
      : protocol_(protocol), channels_(channels.begin(), channels.end()), cursor_(std::move(cursor)), now_ms_(now_ms) {}

  /// Appends the events of this record to `out` and moves the cursor behind it. Records before the cursor are left out.
  void add(std::string& out, channel_finder& finder, const record_batch& batch, size_t index);
  /// Everything before this offset has been there.
  void reached(const topic_partition& where);
  /// Appends a `gap` notice: events are missing, for this reason; `missed` < 0 = nobody knows how many.
  void put_gap(std::string& out, std::string_view reason, int64_t missed) const;

  const live_cursor& cursor() const { return cursor_; }
  std::string cursor_text() const { return encode_cursor_text(cursor_); }
  uint32_t take_events() { return std::exchange(events_, 0); }  ///< Appended since the last call.
  int64_t take_expired() { return std::exchange(expired_, 0); } ///< Left out as too old since the last call.

private:
  int64_t* next_of(const std::string& topic, int32_t partition);

  stream_protocol protocol_;
  std::set<std::string, std::less<>> channels_;
  live_cursor cursor_;
  int64_t now_ms_;
  uint32_t events_ = 0;
  int64_t expired_ = 0;
};

using replay_source_factory = std::function<std::unique_ptr<replay_source>()>;

struct live_replay_state {
  using self_pointer = live_replay_actor::stateful_pointer<live_replay_state>;
  explicit live_replay_state(self_pointer self) : self(self) {}
  /// Finds where to begin; false where it cannot.
  bool begin();
  void step();
  void give(std::string text, uint32_t events);
  void end(const std::string& cursor);

  self_pointer self;
  live_request_ptr request;
  std::vector<std::string> topics;
  sse_hub_actor hub;
  replay_source_factory make_source;
  std::unique_ptr<replay_source> source;
  std::optional<channel_finder> finder;
  std::optional<replay_writer> writer;
  std::optional<live_cursor> cursor;
  std::set<std::pair<std::string, int32_t>> behind; ///< Partitions whose end has not been seen.
  uint64_t unsent = 0;                              ///< Bytes given to the stream since it last said that all is sent.
  bool waiting = false;
  stats* counters = nullptr;
  static inline const char* name = "live_replay";
};

/// Reads `topics` from `cursor` (none: from where `request->from` says) and sends what `request` asks for to its
/// stream, no faster than the client takes it; then tells `hub` the cursor it has come to. What Kafka has no longer
/// becomes a `gap` notice. Blocks: spawn detached. Ends with the stream's session or the hub.
live_replay_actor::behavior_type live_replay(live_replay_state::self_pointer self, live_request_ptr request,
                                             std::optional<live_cursor> cursor, std::vector<std::string> topics,
                                             channel_rules rules, replay_source_factory make_source,
                                             const caf::actor_addr& session, sse_hub_actor hub, stats* counters);

} // namespace sluice
