/// What the Kafka integration tests share: names, settings, a thread of a consumer's life, records written.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <mutex>
#include <random>
#include <thread>

#include <caf/test/unit_test.hpp>

#include "kafka/kafka.hpp"

namespace sluice::kafka::testing {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

/// Lines of all clients; shown when SLUICE_TEST_VERBOSE is set.
class log_book {
public:
  log_sink sink() {
    return [this](int level, const std::string& component, const std::string& text) {
      std::lock_guard guard{mutex_};
      all_ += component + " " + text + "\n";
      if (std::getenv("SLUICE_TEST_VERBOSE") != nullptr)
        std::cerr << "[" << level << " " << component << "] " << text << std::endl;
    };
  }
  bool contains(const std::string& text) {
    std::lock_guard guard{mutex_};
    return all_.find(text) != std::string::npos;
  }

private:
  std::mutex mutex_;
  std::string all_;
};

inline log_book& book() {
  static log_book instance;
  return instance;
}

/// A name no other test or run uses.
inline std::string fresh(const std::string& prefix) {
  static std::random_device random;
  return prefix + "-" + std::to_string(random());
}

inline kafka_config config_for(const std::string& brokers) {
  kafka_config cfg;
  cfg.brokers = brokers;
  cfg.properties = embedded_broker::client_properties();
  cfg.properties["session.timeout.ms"] = "6000";
  return cfg;
}

/// Waits until `condition` holds, ten seconds at most unless told.
template <class F>
bool eventually(F condition, clock::duration patience = 15s) {
  const auto end = clock::now() + patience;
  while (clock::now() < end) {
    if (condition())
      return true;
    std::this_thread::sleep_for(5ms);
  }
  return condition();
}

/// Writes the records and waits for all outcomes.
inline std::vector<delivery> write(record_sink& sink, const std::vector<outgoing_record>& records) {
  std::vector<delivery> result(records.size());
  std::size_t done = 0;
  std::size_t sent = 0;
  while (done < records.size()) {
    while (sent < records.size()) {
      if (auto error = sink.send(records[sent], sent)) {
        if (code_of(error) == ec::queue_full)
          break;
        result[sent].error = code_of(error);
        result[sent].reason = text_of(error);
        ++done;
      }
      ++sent;
    }
    for (auto& x : sink.poll()) {
      result[x.tag] = std::move(x.result);
      ++done;
    }
    std::this_thread::sleep_for(1ms);
  }
  return result;
}

inline outgoing_record record(std::string topic, std::string key, std::string value, int32_t partition = -1) {
  outgoing_record result;
  result.topic = std::move(topic);
  result.key = std::move(key);
  result.value = std::move(value);
  result.partition = partition;
  return result;
}

/// Lives a kafka_consumer's life in a thread of its own: polls when woken, hands partitions back, keeps the records.
class reader {
public:
  explicit reader(std::shared_ptr<record_source> source, bool want_records = true)
      : source_(std::move(source)), want_(want_records) {
    source_->on_ready([this] { wake(); });
    thread_ = std::thread{[this] { run(); }};
  }
  ~reader() { stop(); }
  reader(const reader&) = delete;
  reader& operator=(const reader&) = delete;

  void stop() {
    if (!thread_.joinable())
      return;
    stopping_ = true;
    wake();
    thread_.join();
    source_.reset();
  }
  void want(bool on) {
    want_ = on;
    wake();
  }
  std::vector<std::string> values() {
    std::lock_guard guard{mutex_};
    return values_;
  }
  std::vector<topic_partition> owned() {
    std::lock_guard guard{mutex_};
    return owned_;
  }
  std::vector<batch_ptr> batches() {
    std::lock_guard guard{mutex_};
    return batches_;
  }
  std::size_t count() {
    std::lock_guard guard{mutex_};
    return values_.size();
  }
  std::atomic<int> assignments{0};
  std::atomic<int> wakes{0};
  std::atomic<bool> failed{false};

private:
  void wake() {
    std::lock_guard guard{wake_mutex_};
    ++wakes;
    woken_ = true;
    woken_cv_.notify_one();
  }
  void run() {
    while (!stopping_) {
      {
        // No time-out that would hide a lost wake-up; the keep-alive is far beyond what a test waits for.
        std::unique_lock guard{wake_mutex_};
        woken_cv_.wait_for(guard, 60s, [this] { return woken_; });
        woken_ = false;
      }
      while (!stopping_) {
        auto event = source_->poll(want_);
        if (std::holds_alternative<std::monostate>(event))
          break;
        handle(event);
      }
    }
  }
  void handle(source_event& event) {
    if (auto* given = std::get_if<partitions_assigned>(&event)) {
      source_->assign(given->partitions);
      std::lock_guard guard{mutex_};
      owned_.insert(owned_.end(), given->partitions.begin(), given->partitions.end());
      ++assignments;
    } else if (auto* taken = std::get_if<partitions_revoked>(&event)) {
      source_->unassign(taken->partitions);
      std::lock_guard guard{mutex_};
      std::erase_if(owned_, [&](const auto& mine) {
        for (const auto& x : taken->partitions)
          if (x.topic == mine.topic && x.partition == mine.partition)
            return true;
        return false;
      });
    } else if (auto* batch = std::get_if<batch_ptr>(&event)) {
      std::lock_guard guard{mutex_};
      for (const auto& view : (*batch)->records())
        values_.push_back(view.has_value ? std::string{view.value} : "<tombstone>");
      batches_.push_back(*batch);
    } else {
      failed = true;
    }
  }

  std::shared_ptr<record_source> source_;
  std::atomic<bool> want_;
  std::atomic<bool> stopping_{false};
  std::mutex wake_mutex_;
  std::condition_variable woken_cv_;
  bool woken_ = false;
  std::mutex mutex_;
  std::vector<std::string> values_;
  std::vector<topic_partition> owned_;
  std::vector<batch_ptr> batches_;
  std::thread thread_;
};

inline bool always() {
  return true;
}

inline std::vector<std::string> sorted(std::vector<std::string> values) {
  std::sort(values.begin(), values.end());
  return values;
}

/// A broker and a topic of this test's own.
struct fixture {
  fixture() {
    if (const char* given = std::getenv("SLUICE_TEST_KAFKA"))
      brokers = given;
    if (brokers.empty())
      return;
    cfg = config_for(brokers);
    admin = make_admin(cfg, book().sink());
    sink = make_sink(cfg, book().sink());
    sink->on_ready([] {});
  }
  /// Says why and returns false where there is no broker.
  bool skipped() const {
    if (!brokers.empty())
      return false;
    std::cerr << "SKIPPED: SLUICE_TEST_KAFKA=host:port is not set" << std::endl;
    if (std::getenv("CI") != nullptr)
      CAF_FAIL("a skip is a failure in CI");
    return true;
  }
  std::string topic(int32_t partitions, bool compacted = false) {
    auto name = fresh("t");
    auto error = admin->create({{name, partitions, compacted}});
    CAF_REQUIRE_EQUAL(describe(error), "no error");
    return name;
  }
  std::shared_ptr<record_source> member(const std::string& group, const std::string& topic) {
    return make_group_source(cfg, group, {topic}, book().sink());
  }
  std::vector<delivery> write(const std::vector<outgoing_record>& records) {
    return sluice::kafka::testing::write(*sink, records);
  }
  /// What a new member of a new group finds.
  std::vector<std::string> committed_values(const std::string& topic, std::size_t expected) {
    reader all{member(fresh("g"), topic)};
    eventually([&] { return all.count() >= expected; });
    std::this_thread::sleep_for(300ms); // for what should not come
    return all.values();
  }
  std::string brokers;
  kafka_config cfg;
  std::unique_ptr<cluster_admin> admin;
  std::unique_ptr<record_sink> sink;
};

} // namespace sluice::kafka::testing
