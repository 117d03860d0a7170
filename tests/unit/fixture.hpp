/// What the actor tests share: virtual time, batches made by hand, actors that are ended before the scheduler is.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "sluice/interfaces.hpp"
#include "sluice/stats.hpp"

#include <caf/all.hpp>
#include <caf/test/dsl.hpp>

#include "role.hpp"

namespace sluice::testing {

using namespace std::chrono_literals;

/// A batch whose records the test wrote.
class batch_fake : public record_batch {
public:
  batch_fake(std::string topic, int32_t partition, int64_t first_offset, std::vector<std::string> values)
      : topic_(std::move(topic)), partition_(partition), values_(std::move(values)) {
    for (const auto& value : values_) {
      record_view view;
      view.value = value;
      view.has_value = true;
      view.offset = first_offset++;
      view.timestamp_ms = 1000;
      views_.push_back(view);
    }
  }
  const std::string& topic() const noexcept override { return topic_; }
  int32_t partition() const noexcept override { return partition_; }
  std::span<const record_view> records() const noexcept override { return views_; }
  std::vector<record_header> headers(std::size_t) const override { return {{"traceparent", "00-1-2-01"}}; }

private:
  std::string topic_;
  int32_t partition_;
  std::vector<std::string> values_;
  std::vector<record_view> views_;
};

inline batch_ptr batch(std::string topic, int32_t partition, int64_t first_offset, std::vector<std::string> values) {
  return std::make_shared<batch_fake>(std::move(topic), partition, first_offset, std::move(values));
}

inline std::string event(double times, const std::string& key = "") {
  auto text = std::to_string(times);
  return "{\"payload\":{\"date\":1,\"times\":" + text + "}" + (key.empty() ? "" : ",\"key\":\"" + key + "\"") + "}";
}

/// Deterministic scheduler and clock. Actors given to `keep` are ended with the test: a periodic one would never let
/// the base's destructor go.
class actor_fixture : public test_coordinator_fixture<actor_config<caf::id_block::sluice>> {
public:
  ~actor_fixture() override {
    for (auto& one : kept_)
      caf::anon_send_exit(one, caf::exit_reason::user_shutdown);
    consume_messages();
  }
  template <class Handle>
  Handle keep(Handle handle) {
    kept_.push_back(caf::actor_cast<caf::actor>(handle));
    return handle;
  }
  /// Lets `span` pass in steps of a millisecond to a tenth of it, all messages consumed after each.
  void pass(std::chrono::milliseconds span) {
    auto step = std::max<std::chrono::milliseconds>(span / 20, 1ms);
    consume_messages();
    for (auto gone = 0ms; gone < span; gone += step) {
      advance_time(step);
      consume_messages();
    }
  }

  stats counters;

private:
  std::vector<caf::actor> kept_;
};

} // namespace sluice::testing
