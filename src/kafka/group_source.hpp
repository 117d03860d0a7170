/// A member of a consumer group.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "kafka/consumer_base.hpp"

namespace sluice::kafka {

class group_source : public consumer_base {
public:
  group_source(const kafka_config& cfg, const std::string& group, const std::vector<std::string>& topics, log_sink log);
  ~group_source() override;

  void assign(const std::vector<topic_partition>& partitions) override;
  void unassign(const std::vector<topic_partition>& partitions) override;
  void commit(const std::vector<topic_partition>& next_offsets) override;
  caf::expected<std::vector<topic_partition>> committed(const std::vector<topic_partition>& partitions) override;

  /// A number per partition, different for each time it was assigned; 0 = not ours now. Any thread.
  std::vector<uint64_t> tenures(const std::vector<topic_partition>& partitions) const;

private:
  void on_rebalance(rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t* list);
  void forget(const std::vector<topic_partition>& partitions);

  using key = std::pair<std::string, int32_t>;
  mutable std::mutex tenures_mutex_;
  std::map<key, uint64_t> tenures_;
  uint64_t last_tenure_ = 0;
  /// The group event that still waits for its `assign` or `unassign`.
  std::optional<source_event> awaited_;
  bool was_assigned_ = false;
  int request_timeout_ms_;
};

} // namespace sluice::kafka
