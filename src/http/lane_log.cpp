#include "http/lane_log.hpp"

#include <algorithm>
#include <utility>

#include "http/wire.hpp"

namespace sluice::http {

namespace {

/// Staging memory that a busy lane keeps for its next batch.
constexpr size_t kept_staging = 1024 * 1024;

} // namespace

lane_log::lane_log(wire_format format, slow_policy policy, uint32_t max_queue_bytes, page_pool& pool,
                   gzip_packer& packer)
    : format_(format), max_queue_bytes_(max_queue_bytes), log_(pool), packer_(packer) {
  if (policy != slow_policy::disconnect)
    places_ = std::make_unique<std::deque<lane_point>>(1);
  if (policy == slow_policy::latest)
    latest_ = std::make_unique<latest_entries>();
}

void lane_log::add(std::string_view bytes, uint64_t key, bool fires) {
  staged_.append(bytes);
  ++staged_entries_;
  staged_events_ += fires ? 1 : 0;
  if (latest_)
    remember(bytes, key, fires);
  // A client can only leave whole batches out, so these stay small against its queue.
  if (places_ && staged_.size() >= max_queue_bytes_ / 16)
    seal();
}

void lane_log::seal() {
  if (staged_entries_ == 0)
    return;
  std::string_view bytes = staged_;
  if (format_.gzip) {
    end_.sum.add(bytes);
    bytes = packer_.pack(bytes);
  }
  if (format_.chunked)
    log_.append(chunk_head(bytes.size()), bytes, "\r\n");
  else
    log_.append({}, bytes);
  staged_.clear();
  if (staged_.capacity() > kept_staging)
    staged_.shrink_to_fit();
  end_.position = log_.end();
  end_.entries += std::exchange(staged_entries_, 0);
  end_.events += std::exchange(staged_events_, 0);
  if (places_)
    places_->push_back(end_);
}

void lane_log::seal_and_release() {
  seal();
  std::string{}.swap(staged_);
}

void lane_log::trim(uint64_t below) {
  log_.trim(below);
  while (places_ && !places_->empty() && places_->front().position < below)
    places_->pop_front();
}

lane_point lane_log::place_from(uint64_t position) const {
  auto at = std::partition_point(places_->begin(), places_->end(),
                                 [position](const lane_point& place) { return place.position < position; });
  return at == places_->end() ? end_ : *at;
}

lane_point lane_log::place_before_end(uint64_t bytes) const {
  return place_from(end_.position - std::min(bytes, end_.position));
}

void lane_log::remember(std::string_view bytes, uint64_t key, bool fires) {
  auto& all = *latest_;
  auto number = end_.entries + staged_entries_;
  auto is_known = !fires || all.by_key.contains(key);
  if (all.bytes + bytes.size() > max_queue_bytes_ || (!is_known && all.by_key.size() >= max_keys)) {
    all = {};
    all.from = number - 1;
  }
  auto& entry = fires ? all.by_key[key] : all.cursor;
  all.bytes += bytes.size() - entry.bytes.size();
  entry.bytes = bytes;
  entry.number = number;
}

uint64_t lane_log::latest_since(const lane_point& since, std::string& out) const {
  std::vector<const latest_entry*> found;
  for (const auto& [key, entry] : latest_->by_key)
    if (entry.number > since.entries)
      found.push_back(&entry);
  auto events = found.size();
  if (latest_->cursor.number > since.entries)
    found.push_back(&latest_->cursor);
  std::sort(found.begin(), found.end(), [](auto* a, auto* b) { return a->number < b->number; });
  for (const auto* entry : found)
    out.append(entry->bytes);
  return events;
}

bool lane_log::knows_latest_since(const lane_point& since) const {
  return latest_->from <= since.entries;
}

void lane_log::forget_latest() {
  if (!latest_ || staged_entries_ != 0 || latest_->from == end_.entries)
    return;
  *latest_ = {};
  latest_->from = end_.entries;
}

} // namespace sluice::http
