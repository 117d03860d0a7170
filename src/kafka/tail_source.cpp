#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <random>
#include <set>
#include <thread>
#include <utility>

#include "kafka/conf.hpp"
#include "kafka/consumer_base.hpp"
#include "sluice/wildcard.hpp"

namespace sluice::kafka {

namespace {

using namespace std::chrono_literals;

/// librdkafka wants a group even of those who never join one.
std::string private_group() {
  std::random_device random;
  return "sluice-tail-" + std::to_string(random()) + "-" + std::to_string(random());
}

property_list tail_properties() {
  auto properties = consumer_properties(private_group());
  // Tells that nothing is missing, where transactions' markers are all that came last.
  properties.emplace_back("enable.partition.eof", "true");
  return properties;
}

/// Reads all partitions from their end. Its own thread looks for them, since that blocks on the network. The first
/// `partitions_assigned` holds what there is by then, maybe nothing; from then on no record is missed. Later ones hold
/// what was created later, to be read from the beginning.
class tail_source : public consumer_base {
public:
  tail_source(const kafka_config& cfg, const std::vector<std::string>& topics, log_sink log)
      : consumer_base(make_conf(cfg, tail_properties()), std::move(log), {}) {
    for (const auto& topic : topics)
      (topic.find('*') == std::string::npos ? topics_ : patterns_).push_back(topic);
    for (const auto& topic : topics_)
      handles_.emplace_back(rd_kafka_topic_new(kafka().get(), topic.c_str(), nullptr));
    watcher_ = std::thread{[this] { watch(); }};
  }

  ~tail_source() override {
    {
      std::lock_guard guard{mutex_};
      stopping_ = true;
    }
    stop_.notify_one();
    watcher_.join();
    handles_.clear();
    close();
  }

  void on_ready(std::function<void()> wake) override {
    std::lock_guard guard{mutex_};
    consumer_base::on_ready(std::move(wake));
    listening_ = true;
  }

  void commit(const std::vector<topic_partition>&) override {}
  caf::expected<std::vector<topic_partition>> committed(const std::vector<topic_partition>& partitions) override {
    return partitions; // without a group there are no commits
  }

protected:
  void collect() override {
    std::lock_guard guard{mutex_};
    for (auto& x : found_)
      push(std::move(x));
    found_.clear();
  }

private:
  enum class look { complete, incomplete };

  void watch() {
    std::unique_lock guard{mutex_};
    for (int looks = 0; !stopping_;) {
      guard.unlock();
      const auto result = look_around();
      guard.lock();
      // Topics that are just being made at start are found at once.
      const auto pause = result == look::complete ? 3000ms : ++looks <= 20 ? 100ms : 500ms;
      stop_.wait_for(guard, pause, [this] { return stopping_; });
    }
  }

  bool stopping() {
    std::lock_guard guard{mutex_};
    return stopping_;
  }

  look look_around() {
    std::vector<topic_partition> fresh;
    bool complete = true;
    if (!patterns_.empty() && !find_topics())
      return look::incomplete;
    for (std::size_t i = 0; i < topics_.size(); ++i) {
      if (stopping())
        return look::incomplete;
      const rd_kafka_metadata_t* raw = nullptr;
      const auto error = rd_kafka_metadata(kafka().get(), 0, handles_[i].get(), &raw, timeout_ms);
      metadata_handle metadata{raw};
      if (error != RD_KAFKA_RESP_ERR_NO_ERROR)
        return look::incomplete;
      if (metadata->topic_cnt != 1 || metadata->topics[0].err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        complete = false;
        complain(topics_[i]);
        continue;
      }
      for (int p = 0; p < metadata->topics[0].partition_cnt; ++p) {
        const auto id = metadata->topics[0].partitions[p].id;
        if (known_.count({topics_[i], id}) == 0)
          fresh.push_back({topics_[i], id, RD_KAFKA_OFFSET_BEGINNING});
      }
    }
    if (first_ && !resolve_ends(fresh))
      return look::incomplete;
    if (first_ || !fresh.empty())
      announce(std::move(fresh));
    return complete ? look::complete : look::incomplete;
  }

  /// Adds the topics that fit a pattern by now.
  bool find_topics() {
    const rd_kafka_metadata_t* raw = nullptr;
    if (rd_kafka_metadata(kafka().get(), 1, nullptr, &raw, timeout_ms) != RD_KAFKA_RESP_ERR_NO_ERROR)
      return false;
    metadata_handle metadata{raw};
    for (int i = 0; i < metadata->topic_cnt; ++i) {
      const std::string name = metadata->topics[i].topic;
      const bool wanted = std::any_of(patterns_.begin(), patterns_.end(),
                                      [&name](const auto& pattern) { return fits_pattern(pattern, name); });
      // `__consumer_offsets` and the like are nobody's events.
      if (!wanted || name.starts_with("__") || std::find(topics_.begin(), topics_.end(), name) != topics_.end())
        continue;
      topics_.push_back(name);
      handles_.emplace_back(rd_kafka_topic_new(kafka().get(), name.c_str(), nullptr));
    }
    return true;
  }

  /// Sets each partition's offset to its present end.
  bool resolve_ends(std::vector<topic_partition>& partitions) {
    if (partitions.empty())
      return true;
    for (auto& x : partitions)
      x.offset = RD_KAFKA_OFFSET_END; // the time that stands for "now" in a ListOffsets request
    auto list = to_list(partitions);
    if (rd_kafka_offsets_for_times(kafka().get(), list.get(), timeout_ms) != RD_KAFKA_RESP_ERR_NO_ERROR)
      return false;
    for (int i = 0; i < list->cnt; ++i)
      if (list->elems[i].err != RD_KAFKA_RESP_ERR_NO_ERROR || list->elems[i].offset < 0)
        return false;
    partitions = from_list(*list);
    return true;
  }

  void announce(std::vector<topic_partition> fresh) {
    for (const auto& x : fresh)
      known_.insert({x.topic, x.partition});
    first_ = false;
    std::lock_guard guard{mutex_};
    found_.push_back(partitions_assigned{std::move(fresh)});
    if (listening_)
      waker_.signal();
  }

  void complain(const std::string& topic) {
    if (complained_.insert(topic).second)
      kafka().log(4, "TOPIC",
                  "topic \"" + topic +
                      "\" does not exist: create it, or set kafka.createTopics; reading "
                      "begins when it is there");
  }

  static constexpr int timeout_ms = 1500; ///< Of one request; bounds how long the destructor waits for the watcher.
  // The watcher's own.
  std::vector<std::string> topics_; ///< Names; those that fit a pattern are added as they are found.
  std::vector<std::string> patterns_;
  std::vector<topic_handle> handles_;
  std::set<std::pair<std::string, int32_t>> known_;
  std::set<std::string> complained_;
  bool first_ = true;
  // Shared.
  std::mutex mutex_;
  std::condition_variable stop_;
  bool stopping_ = false;
  bool listening_ = false; ///< `on_ready` was called.
  std::vector<partitions_assigned> found_;
  std::thread watcher_; ///< Last: begins when all else is there.
};

} // namespace

std::unique_ptr<record_source> make_tail_source(const kafka_config& cfg, const std::vector<std::string>& topics,
                                                log_sink log) {
  return std::make_unique<tail_source>(cfg, topics, std::move(log));
}

} // namespace sluice::kafka
