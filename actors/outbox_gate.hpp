/// Who has to wait behind events that are in the outbox, and how much room there is in it.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "sluice/error.hpp"
#include "sluice/ports.hpp"
#include "sluice/record.hpp"

namespace sluice {

/// Shared by those who publish and the outbox. Any thread; without locks while nothing waits.
class outbox_gate {
public:
  /// A place for records on their way to the outbox; given up by its destructor. Must not outlive the gate.
  class ticket {
  public:
    ticket() = default;
    ticket(ticket&& other) noexcept
        : gate_(std::exchange(other.gate_, nullptr)), records_(std::move(other.records_)), bytes_(other.bytes_) {}
    ticket& operator=(ticket&& other) noexcept;
    ~ticket();

  private:
    friend class outbox_gate;
    outbox_gate* gate_ = nullptr;
    std::unordered_map<std::string, uint64_t> records_;
    uint64_t bytes_ = 0;
  };

  explicit outbox_gate(uint64_t max_bytes) : max_bytes_(max_bytes) {}

  /// Whether events of one of these topics wait: what comes later must not overtake them.
  bool holds(const std::vector<outgoing_record>& records) const;
  /// A place for these; `storage_full` beyond `outbox.maxBytes`.
  caf::expected<ticket> enter(const std::vector<outgoing_record>& records);

  // -- for the outbox -------------------------------------------------------------------------------------------------

  /// What is on disk, as `outbox_log::contents` says.
  void reset(const std::map<std::string, outbox_log::usage>& contents);
  void came(const std::string& topic, uint64_t bytes);
  /// One of the topic's records is out of the way: written (`bytes` are free again), or set aside (0).
  void went(const std::string& topic, uint64_t bytes);

private:
  void leave(const ticket& what);

  const uint64_t max_bytes_;
  std::atomic<uint64_t> waiting_{0}; ///< All records.
  mutable std::mutex mutex_;
  std::unordered_map<std::string, uint64_t> stored_, coming_; ///< Records by topic, none with 0.
  uint64_t stored_bytes_ = 0, coming_bytes_ = 0;
};

} // namespace sluice
