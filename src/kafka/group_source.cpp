#include "kafka/group_source.hpp"

#include "kafka/conf.hpp"

namespace sluice::kafka {

group_source::group_source(const kafka_config& cfg, const std::string& group, const std::vector<std::string>& topics,
                           log_sink log)
    : consumer_base(make_conf(cfg, consumer_properties(group)), std::move(log),
                    {.rebalance = [this](rd_kafka_resp_err_t code,
                                         rd_kafka_topic_partition_list_t* list) { on_rebalance(code, list); },
                     .commit =
                         [this](rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t*) {
                           if (code != RD_KAFKA_RESP_ERR_NO_ERROR && code != RD_KAFKA_RESP_ERR__NO_OFFSET)
                             kafka().log(4, "COMMIT", std::string{"offsets not committed: "} + rd_kafka_err2str(code));
                         },
                     .delivery = nullptr}),
      request_timeout_ms_(static_cast<int>(cfg.request_timeout.count())) {
  std::vector<topic_partition> wanted;
  for (const auto& topic : topics)
    wanted.push_back({topic, RD_KAFKA_PARTITION_UA});
  if (const auto error = rd_kafka_subscribe(kafka().get(), to_list(wanted).get()))
    throw conf_error(std::string{"cannot subscribe: "} + rd_kafka_err2str(error));
}

group_source::~group_source() {
  // The group waits for an answer to its last event; leaving it takes that answer.
  if (awaited_) {
    if (const auto* assigned = std::get_if<partitions_assigned>(&*awaited_))
      apply_assign(to_list(assigned->partitions).get());
    else if (const auto* revoked = std::get_if<partitions_revoked>(&*awaited_))
      apply_unassign(to_list(revoked->partitions).get());
  }
  close();
  // Before 2.3.0 librdkafka fails an assertion when a member is destroyed between joining its group and its first
  // assignment (librdkafka issue 4381).
  if (!was_assigned_ && rd_kafka_version() < 0x020300ff)
    kafka().abandon();
}

void group_source::on_rebalance(rd_kafka_resp_err_t code, rd_kafka_topic_partition_list_t* list) {
  const bool given = code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
  if (!given && code != RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS) {
    kafka().log(3, "REBALANCE", rd_kafka_err2str(code));
    rd_kafka_assign(kafka().get(), nullptr);
    return;
  }
  was_assigned_ = was_assigned_ || given;
  auto partitions = from_list(*list);
  const bool lost = !given && rd_kafka_assignment_lost(kafka().get()) != 0;
  if (lost)
    forget(partitions);
  // Nobody to ask when closing, nothing to ask about in a rebalance that changes nothing for us.
  if (closing() || partitions.empty()) {
    given ? apply_assign(list) : apply_unassign(list);
    return;
  }
  if (given) {
    for (auto& x : partitions)
      x.offset = topic_partition::stored_offset;
    awaited_ = partitions_assigned{std::move(partitions)};
  } else {
    take_back(partitions);
    awaited_ = partitions_revoked{std::move(partitions), lost};
  }
  push(*awaited_);
}

void group_source::assign(const std::vector<topic_partition>& partitions) {
  awaited_.reset();
  {
    std::lock_guard guard{tenures_mutex_};
    for (const auto& x : partitions)
      tenures_[{x.topic, x.partition}] = ++last_tenure_;
  }
  consumer_base::assign(partitions);
}

void group_source::unassign(const std::vector<topic_partition>& partitions) {
  awaited_.reset();
  forget(partitions);
  consumer_base::unassign(partitions);
}

void group_source::forget(const std::vector<topic_partition>& partitions) {
  std::lock_guard guard{tenures_mutex_};
  for (const auto& x : partitions)
    tenures_.erase({x.topic, x.partition});
}

std::vector<uint64_t> group_source::tenures(const std::vector<topic_partition>& partitions) const {
  std::lock_guard guard{tenures_mutex_};
  std::vector<uint64_t> result;
  result.reserve(partitions.size());
  for (const auto& x : partitions) {
    auto found = tenures_.find({x.topic, x.partition});
    result.push_back(found == tenures_.end() ? 0 : found->second);
  }
  return result;
}

void group_source::commit(const std::vector<topic_partition>& next_offsets) {
  if (next_offsets.empty())
    return;
  if (const auto error = rd_kafka_commit(kafka().get(), to_list(next_offsets).get(), 1))
    kafka().log(4, "COMMIT", std::string{"offsets not committed: "} + rd_kafka_err2str(error));
}

caf::expected<std::vector<topic_partition>> group_source::committed(const std::vector<topic_partition>& partitions) {
  auto list = to_list(partitions);
  if (const auto error = rd_kafka_committed(kafka().get(), list.get(), request_timeout_ms_))
    return kafka_failure(error, "the group's offsets could not be read");
  return from_list(*list);
}

std::unique_ptr<record_source> make_group_source(const kafka_config& cfg, const std::string& group,
                                                 const std::vector<std::string>& topics, log_sink log) {
  return std::make_unique<group_source>(cfg, group, topics, std::move(log));
}

} // namespace sluice::kafka
