/// Work for one I/O thread, from any thread, done in the order it was given.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include <asio/io_context.hpp>
#include <asio/post.hpp>

namespace sluice::http {

/// Tasks that come while others wait share one wake-up of the I/O thread. Outlives its io_context harmlessly.
class mailbox : public std::enable_shared_from_this<mailbox> {
public:
  using task = std::function<void()>;

  /// `after` runs on the I/O thread after each batch of tasks.
  mailbox(asio::io_context& io, task after) : io_(&io), after_(std::move(after)) {}

  /// Returns false, without running `work`, once the mailbox is closed. Any thread.
  bool post(task work) {
    std::lock_guard guard{mutex_};
    if (io_ == nullptr)
      return false;
    tasks_.push_back(std::move(work));
    if (tasks_.size() == 1)
      asio::post(*io_, [self = shared_from_this()] { self->run(); });
    return true;
  }

  /// Does what is left and takes no more. On the I/O thread, when its io_context has stopped.
  void close() {
    {
      std::lock_guard guard{mutex_};
      io_ = nullptr;
    }
    run();
    after_ = nullptr;
  }

private:
  void run() {
    std::vector<task> now;
    {
      std::lock_guard guard{mutex_};
      now.swap(tasks_);
    }
    if (now.empty())
      return;
    for (auto& work : now)
      work();
    now.clear();
    after_();
  }

  std::mutex mutex_;
  asio::io_context* io_; ///< Null when closed. Guarded by `mutex_`, so that nobody posts to a context that is gone.
  std::vector<task> tasks_;
  task after_;
};

} // namespace sluice::http
