/// The bytes the streams of a lane have in common, kept until the slowest reader has had them.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::http {

/// A page that was freed last is the next one: still warm in the cache. Shared by the logs of one thread.
struct page_pool {
  std::string spare;
};

/// An endless row of bytes, numbered from 0, of which the last part is in memory. One thread. Holds no memory but its
/// own few words while nobody has bytes to read.
class stream_log {
public:
  explicit stream_log(page_pool& pool) : pool_(&pool) {}

  /// The number of the next byte.
  uint64_t end() const noexcept { return end_; }
  /// Bytes in memory begin here.
  uint64_t begin() const noexcept { return pages_.empty() ? end_ : pages_.front().begin; }

  /// The three parts lie side by side.
  void append(std::string_view head, std::string_view body, std::string_view tail = {}) {
    auto size = head.size() + body.size() + tail.size();
    if (size == 0)
      return;
    if (pages_.empty() || pages_.back().bytes.size() + size > pages_.back().bytes.capacity())
      add_page(size);
    pages_.back().bytes.append(head).append(body).append(tail);
    end_ += size;
  }

  /// Fills up to `room` entries with the bytes from number `from` on; returns how many. They hold until the next
  /// `append` or `trim`.
  size_t gather(uint64_t from, iovec* out, size_t room) const {
    // Most readers are at the last page or one before it.
    auto page = pages_.end();
    while (page != pages_.begin() && (page == pages_.end() || page->begin > from))
      --page;
    size_t used = 0;
    for (; page != pages_.end() && used < room && from < end_; ++page) {
      auto skipped = static_cast<size_t>(from - page->begin);
      auto length = page->bytes.size() - skipped;
      // sendmsg takes non-const pointers, but only reads.
      out[used++] = {const_cast<char*>(page->bytes.data()) + skipped, length};
      from += length;
    }
    return used;
  }

  /// Nobody needs bytes before `below` any more.
  void trim(uint64_t below) {
    auto page = pages_.begin();
    for (; page != pages_.end() && page->begin + page->bytes.size() <= below; ++page) {
      auto& bytes = page->bytes;
      if (bytes.capacity() > pool_->spare.capacity() && bytes.capacity() <= 2 * largest_page) {
        bytes.clear();
        pool_->spare.swap(bytes);
      }
    }
    if (page == pages_.end())
      std::vector<one_page>{}.swap(pages_);
    else
      pages_.erase(pages_.begin(), page);
  }

private:
  static constexpr size_t first_page = 4096;
  static constexpr size_t largest_page = 65536;
  struct one_page {
    uint64_t begin = 0;
    std::string bytes;
  };

  /// A lane of few bytes gets by with little; one whose readers are behind needs few large pages.
  void add_page(size_t at_least) {
    auto wanted = pages_.empty() ? first_page : std::min(2 * pages_.back().bytes.capacity(), largest_page);
    wanted = std::max(wanted, at_least);
    auto& page = pages_.emplace_back();
    page.begin = end_;
    if (pool_->spare.capacity() >= wanted && pool_->spare.capacity() <= 4 * wanted)
      page.bytes.swap(pool_->spare);
    page.bytes.reserve(wanted);
  }

  std::vector<one_page> pages_;
  page_pool* pool_;
  uint64_t end_ = 0;
};

} // namespace sluice::http
