#include "kafka/consumer_base.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "kafka/batch.hpp"
#include "kafka/conf.hpp"

namespace sluice::kafka {

using namespace std::chrono_literals;

list_handle to_list(const std::vector<topic_partition>& partitions) {
  list_handle list{rd_kafka_topic_partition_list_new(static_cast<int>(partitions.size()))};
  for (const auto& x : partitions) {
    auto* added = rd_kafka_topic_partition_list_add(list.get(), x.topic.c_str(), x.partition);
    added->offset = x.offset;
    if (x.metadata.empty())
      continue;
    // librdkafka frees it with its own allocator, which is malloc's.
    added->metadata = std::malloc(x.metadata.size()); // NOLINT(cppcoreguidelines-no-malloc)
    if (added->metadata == nullptr)
      throw std::bad_alloc{};
    std::memcpy(added->metadata, x.metadata.data(), x.metadata.size());
    added->metadata_size = x.metadata.size();
  }
  return list;
}

std::vector<topic_partition> from_list(const rd_kafka_topic_partition_list_t& list) {
  static_assert(topic_partition::stored_offset == RD_KAFKA_OFFSET_STORED);
  std::vector<topic_partition> result;
  result.reserve(static_cast<std::size_t>(list.cnt));
  for (int i = 0; i < list.cnt; ++i) {
    const auto& x = list.elems[i];
    result.push_back(
        {x.topic, x.partition, x.offset == RD_KAFKA_OFFSET_INVALID ? topic_partition::stored_offset : x.offset});
    if (x.metadata != nullptr)
      result.back().metadata.assign(static_cast<const char*>(x.metadata), x.metadata_size);
  }
  return result;
}

consumer_base::consumer_base(conf_handle conf, log_sink log, client_callbacks callbacks)
    : client_(std::make_shared<client>(RD_KAFKA_CONSUMER, std::move(conf), std::move(log), std::move(callbacks))),
      buffer_(batch_records) {
  rd_kafka_poll_set_consumer(client_->get());
  main_queue_.reset(rd_kafka_queue_get_consumer(client_->get()));
}

consumer_base::~consumer_base() {
  close();
}

void consumer_base::close() {
  if (closing_)
    return;
  closing_ = true;
  rd_kafka_queue_cb_event_enable(main_queue_.get(), nullptr, nullptr);
  while (!feeds_.empty())
    drop(feeds_.end() - 1);
  events_.clear();
  strays_.clear();
  auto* rk = client_->get();
  queue_handle queue{rd_kafka_queue_new(rk)};
  if (error_handle error{rd_kafka_consumer_close_queue(rk, queue.get())}) {
    client_->log(4, "CLOSE", rd_kafka_error_string(error.get()));
    return;
  }
  // A broker that does not answer must not hold us; without a goodbye the group notices by its session timeout.
  const auto deadline = std::chrono::steady_clock::now() + 3s;
  while (rd_kafka_consumer_closed(rk) == 0 && std::chrono::steady_clock::now() < deadline)
    message_handle{rd_kafka_consume_queue(queue.get(), 50)};
  if (rd_kafka_consumer_closed(rk) == 0)
    client_->log(4, "CLOSE", "the broker did not answer our leaving the group within 3 s");
}

void consumer_base::on_feed(rd_kafka_t*, void* opaque) {
  auto& self = *static_cast<feed*>(opaque);
  self.ready.store(true);
  self.owner->signal();
}

void consumer_base::on_ready(std::function<void()> wake) {
  waker_.wake_with(std::move(wake));
  rd_kafka_queue_cb_event_enable(main_queue_.get(), &waker::on_event, &waker_);
  waker_.signal(); // for what came before
}

source_event consumer_base::poll(bool want_records) {
  waker_.arm();
  serve_main_queue();
  collect();
  if (!fatal_told_)
    if (auto error = client_->fatal()) {
      fatal_told_ = true;
      push(std::move(error));
    }
  if (!events_.empty()) {
    auto event = std::move(events_.front());
    events_.pop_front();
    return event;
  }
  if (want_records)
    if (auto batch = next_batch())
      return batch;
  return std::monostate{};
}

void consumer_base::serve_main_queue() {
  // Group events come through callbacks from within.
  while (message_handle message{rd_kafka_consumer_poll(client_->get(), 0)}) {
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR)
      on_error(*message);
    else
      stray(std::move(message));
  }
}

void consumer_base::stray(message_handle message) {
  std::string topic = rd_kafka_topic_name(message->rkt);
  const auto partition = message->partition;
  std::vector<message_handle> one;
  one.push_back(std::move(message));
  strays_.push_back(std::make_shared<message_batch>(client_, std::move(topic), partition, std::move(one)));
}

batch_ptr consumer_base::next_batch() {
  if (!strays_.empty()) {
    auto batch = std::move(strays_.front());
    strays_.pop_front();
    return batch;
  }
  const auto n = feeds_.size();
  for (std::size_t i = 0; i < n; ++i) {
    auto& candidate = *feeds_[(cursor_ + i) % n];
    if (candidate.taken_back)
      continue;
    if (auto batch = read(candidate)) {
      cursor_ = (cursor_ + i + 1) % n;
      return batch;
    }
  }
  return nullptr;
}

batch_ptr consumer_base::read(feed& from) {
  // Cleared before the queue is emptied: what comes meanwhile sets it again.
  while (from.ready.exchange(false)) {
    const auto count = rd_kafka_consume_batch_queue(from.queue.get(), 0, buffer_.data(), buffer_.size());
    if (count <= 0)
      continue;
    const auto filled = static_cast<std::size_t>(count);
    // librdkafka reports only that an empty queue has got something, so a queue that may not be empty stays ready.
    if (filled == buffer_.size())
      from.ready.store(true);
    watch_level(from, filled < buffer_.size());
    std::vector<message_handle> messages;
    messages.reserve(filled);
    for (std::size_t i = 0; i < filled; ++i) {
      message_handle message{buffer_[i]};
      if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
        messages.push_back(std::move(message));
      else
        on_error(*message);
    }
    if (!messages.empty())
      return std::make_shared<message_batch>(client_, from.topic, from.partition, std::move(messages));
  }
  return nullptr;
}

void consumer_base::watch_level(feed& of, bool emptied) {
  constexpr auto full = static_cast<std::size_t>(queued_records);
  const auto level = rd_kafka_queue_length(of.queue.get());
  const bool drained = of.full && level < full * 3 / 4;
  // Large records fill it by their bytes, long before there are many of them: then only its being empty tells.
  const bool ran_empty = of.backlog && emptied;
  of.full = level >= full || (of.full && !drained);
  of.backlog = !emptied;
  if (drained || ran_empty)
    client_->fetch_again();
}

consumer_base::feed* consumer_base::find(const std::string& topic, int32_t partition) {
  auto found = std::find_if(feeds_.begin(), feeds_.end(),
                            [&](const auto& x) { return x->partition == partition && x->topic == topic; });
  return found == feeds_.end() ? nullptr : found->get();
}

void consumer_base::drop(std::vector<std::unique_ptr<feed>>::iterator where) {
  // No callback runs any more when this returns.
  rd_kafka_queue_cb_event_enable((*where)->queue.get(), nullptr, nullptr);
  feeds_.erase(where);
}

void consumer_base::push(source_event event) {
  events_.push_back(std::move(event));
}

void consumer_base::take_back(const std::vector<topic_partition>& partitions) {
  for (const auto& x : partitions)
    if (auto* known = find(x.topic, x.partition))
      known->taken_back = true;
}

void consumer_base::assign(const std::vector<topic_partition>& partitions) {
  if (partitions.empty())
    return;
  for (const auto& x : partitions) {
    missing_topics_.erase(x.topic);
    if (find(x.topic, x.partition) != nullptr)
      continue;
    queue_handle queue{rd_kafka_queue_get_partition(client_->get(), x.topic.c_str(), x.partition)};
    if (!queue)
      continue; // its records then come through the main queue
    // Before the assignment, which otherwise forwards the partition's queue to the main one.
    rd_kafka_queue_forward(queue.get(), nullptr);
    auto added = std::make_unique<feed>();
    added->owner = &waker_;
    added->topic = x.topic;
    added->partition = x.partition;
    added->queue = std::move(queue);
    rd_kafka_queue_cb_event_enable(added->queue.get(), &consumer_base::on_feed, added.get());
    feeds_.push_back(std::move(added));
  }
  apply_assign(to_list(partitions).get());
  waker_.signal(); // leftovers in a queue would keep it from reporting
}

void consumer_base::unassign(const std::vector<topic_partition>& partitions) {
  apply_unassign(to_list(partitions).get());
  for (const auto& x : partitions) {
    auto where = std::find_if(feeds_.begin(), feeds_.end(),
                              [&](const auto& f) { return f->partition == x.partition && f->topic == x.topic; });
    if (where == feeds_.end())
      continue;
    // What is left is outdated now: frees it.
    const auto count = rd_kafka_consume_batch_queue((*where)->queue.get(), 0, buffer_.data(), buffer_.size());
    for (ssize_t i = 0; i < count; ++i)
      message_handle{buffer_[static_cast<std::size_t>(i)]};
    drop(where);
  }
}

void consumer_base::apply_assign(rd_kafka_topic_partition_list_t* list) {
  auto* rk = client_->get();
  if (std::strcmp(rd_kafka_rebalance_protocol(rk), "EAGER") == 0) {
    if (const auto error = rd_kafka_assign(rk, list))
      client_->log(3, "ASSIGN", rd_kafka_err2str(error));
    return;
  }
  if (error_handle error{rd_kafka_incremental_assign(rk, list)})
    client_->log(3, "ASSIGN", rd_kafka_error_string(error.get()));
}

void consumer_base::apply_unassign(rd_kafka_topic_partition_list_t* list) {
  auto* rk = client_->get();
  if (std::strcmp(rd_kafka_rebalance_protocol(rk), "EAGER") == 0) {
    rd_kafka_assign(rk, nullptr);
    return;
  }
  error_handle error{rd_kafka_incremental_unassign(rk, list)};
  if (!error)
    return;
  client_->log(4, "UNASSIGN", rd_kafka_error_string(error.get()));
  // The group waits for this call to succeed, so what never was assigned is left out.
  rd_kafka_topic_partition_list_t* assigned = nullptr;
  if (rd_kafka_assignment(rk, &assigned) != RD_KAFKA_RESP_ERR_NO_ERROR)
    return;
  list_handle owned{assigned};
  list_handle both{rd_kafka_topic_partition_list_new(list->cnt)};
  for (int i = 0; i < list->cnt; ++i)
    if (rd_kafka_topic_partition_list_find(owned.get(), list->elems[i].topic, list->elems[i].partition) != nullptr)
      rd_kafka_topic_partition_list_add(both.get(), list->elems[i].topic, list->elems[i].partition);
  error.reset(rd_kafka_incremental_unassign(rk, both.get()));
  if (error)
    client_->log(3, "UNASSIGN", rd_kafka_error_string(error.get()));
}

void consumer_base::on_error(const rd_kafka_message_t& message) {
  switch (message.err) {
  case RD_KAFKA_RESP_ERR__PARTITION_EOF: // after the records before it, which `read` returns first
    push(partition_reached{{rd_kafka_topic_name(message.rkt), message.partition, message.offset}});
    return;
  case RD_KAFKA_RESP_ERR__FATAL: // `poll` asks for it
    return;
  case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
  case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
  case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION: {
    std::string topic = message.rkt == nullptr ? "?" : rd_kafka_topic_name(message.rkt);
    if (missing_topics_.insert(topic).second)
      client_->log(4, "TOPIC",
                   "topic \"" + topic +
                       "\" does not exist: create it, or set kafka.createTopics; "
                       "reading begins when it is there");
    return;
  }
  default: {
    const auto* text = rd_kafka_message_errstr(&message);
    log_once(4, text == nullptr ? rd_kafka_err2str(message.err) : text);
  }
  }
}

void consumer_base::log_once(int level, const std::string& text) {
  const auto now = std::chrono::steady_clock::now();
  if (text == last_text_ && now - last_logged_ < 30s)
    return;
  last_text_ = text;
  last_logged_ = now;
  client_->log(level, "CONSUMER", text);
}

} // namespace sluice::kafka
