#include <algorithm>
#include <array>
#include <set>

#include "kafka/client.hpp"
#include "kafka/conf.hpp"

namespace sluice::kafka {

namespace {

class admin : public cluster_admin {
public:
  admin(const kafka_config& cfg, log_sink log)
      : timeout_ms_(static_cast<int>(cfg.request_timeout.count())),
        client_(RD_KAFKA_PRODUCER, make_conf(cfg, {}), std::move(log)) {}

  cluster_view probe() override {
    cluster_view view;
    auto metadata = look(std::min(timeout_ms_, probe_timeout_ms), view.error);
    if (!metadata)
      return view;
    view.connected = true;
    for (int i = 0; i < metadata->topic_cnt; ++i)
      view.topics.push_back({metadata->topics[i].topic, metadata->topics[i].partition_cnt});
    return view;
  }

  caf::error create(const std::vector<topic_spec>& topics) override {
    if (topics.empty())
      return {};
    std::string why;
    auto metadata = look(timeout_ms_, why);
    if (!metadata)
      return make_failure(ec::kafka_unreachable, why);
    std::set<std::string> present;
    for (int i = 0; i < metadata->topic_cnt; ++i)
      present.insert(metadata->topics[i].topic);
    std::vector<new_topic_handle> missing;
    for (const auto& spec : topics) {
      if (!present.insert(spec.name).second)
        continue;
      std::array<char, 512> text{};
      missing.emplace_back(rd_kafka_NewTopic_new(spec.name.c_str(), spec.partitions, -1, text.data(), text.size()));
      if (!missing.back())
        return make_failure(ec::kafka_refused, "topic \"" + spec.name + "\": " + text.data());
      if (spec.compacted)
        rd_kafka_NewTopic_set_config(missing.back().get(), "cleanup.policy", "compact");
    }
    return missing.empty() ? caf::error{} : create(missing);
  }

private:
  /// One metadata request; on failure null, and `why` says the most telling reason.
  metadata_handle look(int timeout_ms, std::string& why) {
    const rd_kafka_metadata_t* raw = nullptr;
    const auto error = rd_kafka_metadata(client_.get(), 1, nullptr, &raw, timeout_ms);
    metadata_handle metadata{raw};
    rd_kafka_poll(client_.get(), 0); // for the errors
    if (error == RD_KAFKA_RESP_ERR_NO_ERROR) {
      client_.forget_error();
      return metadata;
    }
    why = client_.last_error();
    if (why.empty())
      why = error == RD_KAFKA_RESP_ERR__TIMED_OUT ? "no answer within " + std::to_string(timeout_ms) + " ms"
                                                  : rd_kafka_err2str(error);
    return nullptr;
  }

  caf::error create(const std::vector<new_topic_handle>& missing) {
    auto* rk = client_.get();
    admin_options_handle options{rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_CREATETOPICS)};
    rd_kafka_AdminOptions_set_request_timeout(options.get(), std::min(timeout_ms_, create_timeout_ms), nullptr, 0);
    std::vector<rd_kafka_NewTopic_t*> raw;
    for (const auto& x : missing)
      raw.push_back(x.get());
    queue_handle queue{rd_kafka_queue_new(rk)};
    rd_kafka_CreateTopics(rk, raw.data(), raw.size(), options.get(), queue.get());
    event_handle event{rd_kafka_queue_poll(queue.get(), std::min(timeout_ms_, create_timeout_ms) + 1000)};
    if (!event)
      return make_failure(ec::kafka_unreachable, "no answer to CreateTopics");
    if (const auto error = rd_kafka_event_error(event.get()))
      return make_failure(code_of_kafka(error),
                          std::string{"CreateTopics: "} + rd_kafka_event_error_string(event.get()));
    std::size_t count = 0;
    const auto** results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event.get()), &count);
    for (std::size_t i = 0; i < count; ++i) {
      const auto error = rd_kafka_topic_result_error(results[i]);
      if (error == RD_KAFKA_RESP_ERR_NO_ERROR || error == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
        continue;
      const char* said = rd_kafka_topic_result_error_string(results[i]);
      return make_failure(code_of_kafka(error), std::string{"topic \""} + rd_kafka_topic_result_name(results[i]) +
                                                    "\": " + (said == nullptr ? rd_kafka_err2str(error) : said));
    }
    return {};
  }

  static constexpr int probe_timeout_ms = 2000;
  static constexpr int create_timeout_ms = 10000;
  const int timeout_ms_;
  client client_;
};

} // namespace

std::unique_ptr<cluster_admin> make_admin(const kafka_config& cfg, log_sink log) {
  return std::make_unique<admin>(cfg, std::move(log));
}

} // namespace sluice::kafka
