/// What the group source and the tail source share: a queue per partition, wake-ups, batches.
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "kafka/client.hpp"
#include "kafka/handles.hpp"
#include "sluice/ports.hpp"

namespace sluice::kafka {

/// The longest batch, in records.
inline constexpr std::size_t batch_records = 1000;

/// librdkafka's list of `partitions`, with their offsets, and back.
list_handle to_list(const std::vector<topic_partition>& partitions);
std::vector<topic_partition> from_list(const rd_kafka_topic_partition_list_t& list);

/// A consumer whose partitions keep their records in queues of their own. Thus the main queue (group, errors) can be
/// served at any time while records wait, and the process stays in its group under back-pressure.
class consumer_base : public record_source {
public:
  void on_ready(std::function<void()> wake) override;
  source_event poll(bool want_records) override;
  void assign(const std::vector<topic_partition>& partitions) override;
  void unassign(const std::vector<topic_partition>& partitions) override;

  client& kafka() const noexcept { return *client_; }

protected:
  consumer_base(conf_handle conf, log_sink log, client_callbacks callbacks);
  ~consumer_base() override;

  /// Lets go of the queues and leaves the group, serving what the group wants meanwhile; three seconds at most. Called
  /// by the destructors of derived classes, since it may call back.
  void close();
  bool closing() const noexcept { return closing_; }
  /// Called by every `poll`; adds what else has happened to `events_`.
  virtual void collect() {}
  /// Records of these stay where they are from now on.
  void take_back(const std::vector<topic_partition>& partitions);
  void push(source_event event);
  /// (Un)assigns in librdkafka only, as the group's protocol wants it.
  void apply_assign(rd_kafka_topic_partition_list_t* list);
  void apply_unassign(rd_kafka_topic_partition_list_t* list);

  std::shared_ptr<client> client_;
  waker waker_;

private:
  /// One partition's queue.
  struct feed {
    waker* owner;
    std::string topic;
    int32_t partition;
    queue_handle queue;
    std::atomic<bool> ready{true}; ///< There may be records. At first: leftovers of an earlier assignment.
    bool taken_back = false;
    bool full = false;    ///< It holds so much that librdkafka has stopped to fetch more.
    bool backlog = false; ///< More records waited than one batch takes.
  };

  static void on_feed(rd_kafka_t*, void* opaque);
  feed* find(const std::string& topic, int32_t partition);
  void drop(std::vector<std::unique_ptr<feed>>::iterator where);
  void serve_main_queue();
  batch_ptr next_batch();
  batch_ptr read(feed& from);
  void watch_level(feed& of, bool emptied);
  void stray(message_handle message);
  void on_error(const rd_kafka_message_t& message);
  void log_once(int level, const std::string& text);

  queue_handle main_queue_;
  std::vector<std::unique_ptr<feed>> feeds_;
  std::size_t cursor_ = 0; ///< The feed whose turn it is.
  std::deque<source_event> events_;
  std::deque<batch_ptr> strays_; ///< Records that came through the main queue.
  std::vector<rd_kafka_message_t*> buffer_;
  std::set<std::string> missing_topics_; ///< Already complained about.
  std::string last_text_;
  std::chrono::steady_clock::time_point last_logged_;
  bool closing_ = false;
  bool fatal_told_ = false;
};

} // namespace sluice::kafka
