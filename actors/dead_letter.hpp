#pragma once

#include <memory>
#include <random>
#include <unordered_map>

#include <caf/stateful_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include "sluice/interfaces.hpp"
#include "sluice/stats.hpp"

#include "role.hpp"

namespace sluice {

/// The record at `index` as it was read; who gave up, when and why is for the caller to say.
failed_record failed_record_of(const record_batch& batch, std::size_t index);

/// How much of a record goes into its letter. Less than all only where Kafka does not take that.
enum class letter_size : uint8_t { whole, without_value, place_only };

/// The record for `<topic>.dlq`: key, value and headers as they were, plus the `sluice-dlq-*` headers that say where it
/// came from, why it is here, and what is missing. The reason has 4 KiB at most.
outgoing_record make_dead_letter(const failed_record& failed, letter_size size = letter_size::whole);

struct dead_letter_state {
  using self_pointer = dead_letter_actor::stateful_pointer<dead_letter_state>;
  struct letter {
    failed_ptr failed;
    outgoing_ptr record;
    caf::typed_response_promise<atom::done> promise;
    uint32_t attempts = 0;
    letter_size size = letter_size::whole;
  };
  explicit dead_letter_state(self_pointer self) : self(self) {}
  void attempt(uint64_t id);
  void repeat(uint64_t id, const std::string& reason);
  /// Makes the letter smaller; false where it cannot be.
  bool shrink(uint64_t id, const std::string& reason);

  self_pointer self;
  std::shared_ptr<role<kafka_producer_actor>> producer;
  stats* counters = nullptr;
  std::unordered_map<uint64_t, letter> letters;
  uint64_t next_id = 0;
  std::minstd_rand random{std::random_device{}()};
  static inline const char* name = "dead_letter";
};

/// Writes failed records to their dead-letter topics, as often as it takes. Its clients bound how many wait here.
/// `counters` must outlive it.
dead_letter_actor::behavior_type dead_letter(dead_letter_state::self_pointer self,
                                             std::shared_ptr<role<kafka_producer_actor>> producer, stats* counters);

} // namespace sluice
