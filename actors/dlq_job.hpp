/// What the workbench has done: looking into dead-letter topics, sending letters back.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <caf/stateful_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include "sluice/interfaces.hpp"
#include "sluice/stats.hpp"

#include "letter_reader.hpp"
#include "role.hpp"

namespace sluice {

struct dlq_settings {
  uint32_t max_redrives = 3;
  std::string redrives_topic = "sluice-redrives";
  std::string source = "sluice";        ///< Who writes audit entries.
  bool seek_by_time = true;             ///< The broker can tell the offset of a time.
  std::chrono::milliseconds time{4000}; ///< For one task; then it says how far it has come.
  uint64_t bytes = 67108864;            ///< To be read for one task.
  uint64_t mark_bytes = 268435456;      ///< Of marks, before that; for as long as `time` once more.
  std::function<std::string()> make_id; ///< For audit entries.
  std::function<int64_t()> unix_ms;     ///< The time.
};

/// Letters that fit, in order, as many as time and bytes allow. `unknown_topic` where there is no such topic. Blocks.
caf::expected<dlq_page> find_letters(replay_source& source, const dlq_query& query, const dlq_settings& settings);

/// What there is of `topics`, of each partition the first letters counted by error code. Blocks.
caf::expected<dlq_overview> survey(replay_source& source, const channel_names& topics, const dlq_settings& settings);

struct dlq_job_state {
  using self_pointer = dlq_job_actor::stateful_pointer<dlq_job_state>;
  explicit dlq_job_state(self_pointer self) : self(self) {}
  /// Opens the topic for a redrive; what keeps it from that, if anything.
  caf::error begin();
  void step();
  void read();
  /// Takes the next letters that wait and sends those that may go.
  void send_some();
  /// Why this letter stays where it is; empty = it may go.
  redrive_report::result examine(const dlq_letter& letter) const;
  void sent(const deliveries& results);
  void record();
  void recorded(bool well);
  void pause();
  void finish();

  self_pointer self;
  dlq_settings settings;
  std::unique_ptr<replay_source> source;
  std::shared_ptr<role<kafka_producer_actor>> producer;
  stats* counters = nullptr;
  // Of a redrive:
  redrive_order_ptr order;
  caf::typed_response_promise<redrive_report_ptr> promise;
  std::optional<read_budget> budget;
  std::optional<range_reader> reader;
  redrive_marks marks;
  std::deque<letter_id> outdated; ///< Marks whose letters are gone, to be removed.
  std::deque<dlq_letter> waiting; ///< Read, and not looked at yet.
  struct letter_out {
    dlq_letter letter;
    redrive_report::result outcome;
  };
  std::vector<letter_out> out; ///< On their way.
  redrive_report report;
  uint32_t handled = 0;
  bool stuck = false; ///< Kafka does not take records now.
  static inline const char* name = "dlq";
};

/// Does one task of the workbench with a source of its own, and ends. Blocks: spawn detached.
dlq_job_actor::behavior_type dlq_job(dlq_job_state::self_pointer self, dlq_settings settings,
                                     const std::function<std::unique_ptr<replay_source>()>& make_source,
                                     std::shared_ptr<role<kafka_producer_actor>> producer, stats* counters);

} // namespace sluice
