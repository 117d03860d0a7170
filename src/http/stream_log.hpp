/// The bytes all streams of one I/O thread have in common, kept until the slowest reader has had them.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>

namespace sluice::http {

/// An endless row of bytes, numbered from 0, of which the last part is in memory. One thread.
class stream_log {
public:
  /// The number of the next byte.
  uint64_t end() const noexcept { return end_; }
  /// Bytes in memory begin here.
  uint64_t begin() const noexcept { return pages_.empty() ? end_ : pages_.front().begin; }

  void append(std::string_view bytes) {
    if (pages_.empty() || pages_.back().bytes.size() + bytes.size() > pages_.back().bytes.capacity()) {
      auto& page = pages_.emplace_back();
      page.begin = end_;
      if (spare_.capacity() >= bytes.size())
        page.bytes.swap(spare_);
      page.bytes.reserve(std::max(page_bytes, bytes.size()));
    }
    pages_.back().bytes.append(bytes);
    end_ += bytes.size();
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
    while (!pages_.empty() && pages_.front().begin + pages_.front().bytes.size() <= below) {
      auto& bytes = pages_.front().bytes;
      if (bytes.capacity() >= page_bytes && bytes.capacity() < 2 * page_bytes) {
        bytes.clear();
        spare_.swap(bytes);
      }
      pages_.pop_front();
    }
  }

private:
  static constexpr size_t page_bytes = 65536;
  struct page {
    uint64_t begin = 0;
    std::string bytes;
  };
  std::deque<page> pages_;
  std::string spare_; ///< A page that was freed last is the next one: still warm in the cache.
  uint64_t end_ = 0;
};

} // namespace sluice::http
