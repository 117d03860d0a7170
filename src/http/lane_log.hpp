/// A lane's bytes with what is known of them: where events end, how many there are, which is the latest of a key.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "http/gzip.hpp"
#include "http/stream_log.hpp"
#include "sluice/ports.hpp"

namespace sluice::http {

/// How a stream's bytes are wrapped for the wire.
struct wire_format {
  stream_protocol protocol = stream_protocol::sse;
  bool chunked = false; ///< HTTP/1.1's chunks.
  bool gzip = false;    ///< Within the chunks.
  auto as_tuple() const { return std::tie(protocol, chunked, gzip); }
  bool operator==(const wire_format&) const = default;
};

/// A place between two batches of a lane, by what came before it.
struct lane_point {
  uint64_t position = 0; ///< Bytes, as they go over the wire.
  uint64_t entries = 0;  ///< Events and moves of the cursor.
  uint64_t events = 0;   ///< Entries that fire.
  gzip_sum sum;          ///< Of the bytes before compression; with gzip only.
};

/// Entries are staged until `seal` makes them one batch, which is one chunk. One thread.
class lane_log {
public:
  /// `packer` and `pool` are shared by all lanes of a thread.
  lane_log(wire_format format, slow_policy policy, uint32_t max_queue_bytes, page_pool& pool, gzip_packer& packer);

  /// Stages an entry: bytes as a stream of this protocol gets them, before chunks.
  void add(std::string_view bytes, uint64_t key, bool fires);
  /// What is staged is now in the log.
  void seal();
  /// As `seal`, and gives the memory for staging back.
  void seal_and_release();
  /// The place after the last batch.
  const lane_point& end() const noexcept { return end_; }
  size_t gather(uint64_t from, iovec* out, size_t room) const { return log_.gather(from, out, room); }
  bool is_empty() const noexcept { return log_.begin() == log_.end(); }
  /// Nobody needs what is before `below`.
  void trim(uint64_t below);

  // For policies that leave events out; the others remember no places.
  /// The first place from `position` on.
  lane_point place_from(uint64_t position) const;
  /// The first place with at most `bytes` behind it.
  lane_point place_before_end(uint64_t bytes) const;

  // For `slow_policy::latest`:
  /// Appends the latest entry of each key after `since` to `out`, in order. Returns how many of them fire.
  uint64_t latest_since(const lane_point& since, std::string& out) const;
  /// False: there were too many keys; the latest since `since` are not all known.
  bool knows_latest_since(const lane_point& since) const;
  /// Nobody will ask for what is in the log by now.
  void forget_latest();

private:
  static constexpr size_t max_keys = 10000;
  struct latest_entry {
    uint64_t number = 0; ///< Among the lane's entries.
    std::string bytes;
  };
  struct latest_entries {
    std::unordered_map<uint64_t, latest_entry> by_key;
    latest_entry cursor; ///< The last one that did not fire.
    size_t bytes = 0;
    uint64_t from = 0; ///< Entries up to this number have been forgotten.
  };

  void remember(std::string_view bytes, uint64_t key, bool fires);

  const wire_format format_;
  const uint32_t max_queue_bytes_;
  stream_log log_;
  gzip_packer& packer_;
  std::string staged_;
  uint32_t staged_entries_ = 0;
  uint32_t staged_events_ = 0;
  lane_point end_;
  std::unique_ptr<std::deque<lane_point>> places_; ///< After each batch that someone may still need.
  std::unique_ptr<latest_entries> latest_;
};

} // namespace sluice::http
