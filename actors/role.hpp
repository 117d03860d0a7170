/// Where a role's current actor is found: survives the restarts of the actor in it.
#pragma once

#include <functional>
#include <mutex>
#include <utility>

namespace sluice {

/// Written by whoever starts the actor (the root's child), read by its clients. Any thread.
template <class Handle>
class role {
public:
  Handle get() const {
    std::lock_guard guard(mutex_);
    return handle_;
  }
  void set(Handle handle) {
    std::lock_guard guard(mutex_);
    handle_ = std::move(handle);
  }

  /// Forgets the actor. CAF keeps a detached actor's thread until its last handle is gone.
  void clear() { set(Handle{}); }

private:
  mutable std::mutex mutex_;
  Handle handle_;
};

} // namespace sluice
