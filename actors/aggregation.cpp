#include "aggregation.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "sluice/json_text.hpp"

namespace sluice {

namespace {

constexpr size_t none = std::numeric_limits<size_t>::max();
// A summary has to fit into a record, which by Kafka's defaults is 1 MiB.
constexpr size_t max_sample_bytes = 65536;
constexpr size_t max_samples_bytes = 524288;
constexpr size_t max_key_bytes = 1024;

void append_sums(std::string& out, const event_sums& sums, bool with_average) {
  out += "\"totalEvents\":" + std::to_string(sums.count) + ",\"sumOfValues\":";
  append_number(out, sums.sum);
  if (with_average) {
    out += ",\"averageValue\":";
    append_number(out, sums.sum / static_cast<double>(sums.count));
  }
  out += ",\"minValue\":";
  append_number(out, sums.count > 0 ? sums.min : std::nan(""));
  out += ",\"maxValue\":";
  append_number(out, sums.count > 0 ? sums.max : std::nan(""));
}

std::string mark_key(const std::string& topic, int32_t partition, const std::string& key) {
  return topic + "/" + std::to_string(partition) + "/" + key;
}

} // namespace

void event_sums::add(double value) noexcept {
  min = count == 0 ? value : std::min(min, value);
  max = count == 0 ? value : std::max(max, value);
  sum += value;
  ++count;
}

void event_sums::add(const event_sums& other) noexcept {
  if (other.count == 0)
    return;
  min = count == 0 ? other.min : std::min(min, other.min);
  max = count == 0 ? other.max : std::max(max, other.max);
  sum += other.sum;
  count += other.count;
}

aggregation::aggregation(const aggregation_config& cfg)
    : cfg_(cfg), reader_(cfg.value_pointer, cfg.key_pointer), recent_(cfg.sample_size) {
  // nop
}

// -- partitions
// ---------------------------------------------------------------------------------------------------------

size_t aggregation::find(const std::string& topic, int32_t partition) const {
  for (size_t i = 0; i < sources_.size(); ++i)
    if (sources_[i].partition == partition && sources_[i].topic == topic)
      return i;
  return none;
}

void aggregation::assign(const topic_partition& where, const std::vector<outgoing_record>& marks) {
  auto index = find(where.topic, where.partition);
  if (index == none) {
    index = sources_.size();
    sources_.emplace_back();
  }
  auto& src = sources_[index];
  src = source{};
  src.topic = where.topic;
  src.partition = where.partition;
  src.active = true;
  auto prefix = mark_key(where.topic, where.partition, {});
  for (const auto& record : marks)
    if (record.key && record.value && record.key->starts_with(prefix)) {
      int64_t last = -1;
      auto [end, error] = std::from_chars(record.value->data(), record.value->data() + record.value->size(), last);
      if (error == std::errc{})
        src.covered[record.key->substr(prefix.size())] = mark{last, true, false};
    }
}

void aggregation::revoke(const topic_partition& where) {
  auto index = find(where.topic, where.partition);
  if (index == none)
    return;
  for (auto it = windows_.begin(); it != windows_.end();) {
    auto gone = std::find_if(it->shares.begin(), it->shares.end(), [&](const share& s) { return s.source == index; });
    if (gone != it->shares.end()) {
      it->count -= gone->sums.count;
      it->shares.erase(gone);
      std::erase_if(it->samples, [&](const sample& s) { return s.source == index; });
    }
    if (it->shares.empty()) {
      by_key_.erase(it->key);
      it = windows_.erase(it);
    } else {
      ++it;
    }
  }
  // The slot stays: windows refer to partitions by index.
  auto& src = sources_[index];
  src.active = false;
  src.dead.clear();
  src.covered.clear();
}

// -- counting
// -----------------------------------------------------------------------------------------------------------

aggregation::window_iterator aggregation::window_of(std::string_view key, const moment& at) {
  bool keyed = !cfg_.key_pointer.empty();
  if (!keyed && !windows_.empty()) // then there is never more than one
    return windows_.begin();
  last_key_.assign(key);
  if (keyed) {
    if (auto it = by_key_.find(last_key_); it != by_key_.end())
      return it->second;
    if (windows_.size() >= cfg_.max_windows) {
      ++evicted_;
      close(windows_.begin(), at);
    }
  }
  auto& fresh = windows_.emplace_back();
  fresh.key = last_key_;
  fresh.due = at.now + cfg_.interval;
  fresh.opened_ms = at.unix_ms;
  auto where = std::prev(windows_.end());
  if (keyed)
    by_key_[last_key_] = where;
  return where;
}

void aggregation::remember(window& where, size_t source, std::string_view event) {
  if (event.size() > max_sample_bytes)
    return;
  if (where.samples.size() < cfg_.sample_size) {
    where.samples.emplace_back();
  } else { // reuse the oldest one's memory
    where.samples.push_back(std::move(where.samples.front()));
    where.samples.pop_front();
  }
  where.samples.back().source = source;
  where.samples.back().event.assign(event);
}

std::vector<aggregation::failure> aggregation::add(const record_batch& batch, const moment& at) {
  std::vector<failure> failures;
  auto index = find(batch.topic(), batch.partition());
  if (index == none || !sources_[index].active)
    return failures; // revoked meanwhile: its next owner counts it
  auto& src = sources_[index];
  auto records = batch.records();
  bool keyed = !cfg_.key_pointer.empty();
  // Without keys only the last few events of a batch or a window can become samples: their texts are copied once it is
  // known which they are.
  size_t recent = 0;
  auto remember_recent = [&](window& where) {
    for (auto left = std::min<size_t>(recent, cfg_.sample_size); left > 0; --left)
      remember(where, index, records[recent_[(recent - left) % cfg_.sample_size]].value);
    recent = 0;
  };
  for (size_t i = 0; i < records.size(); ++i) {
    const auto& record = records[i];
    if (record.offset < src.position)
      continue;
    src.position = record.offset + 1;
    double value = 0;
    std::string_view key;
    const char* wrong = record.has_value ? reader_.read(record.value, value, key) : "the record has no value";
    if (wrong == nullptr && key.size() > max_key_bytes)
      wrong = "what is at the key pointer is longer than 1,024 bytes";
    if (wrong != nullptr) {
      src.dead.insert(record.offset);
      failures.push_back({i, wrong});
      continue;
    }
    if (keyed && !src.covered.empty()) {
      last_key_.assign(key);
      if (auto it = src.covered.find(last_key_); it != src.covered.end() && record.offset <= it->second.last)
        continue;
    }
    auto where = window_of(key, at);
    auto& win = *where;
    auto mine = std::find_if(win.shares.begin(), win.shares.end(), [&](const share& s) { return s.source == index; });
    if (mine == win.shares.end()) {
      win.shares.push_back({index, {}, record.offset, record.offset});
      mine = std::prev(win.shares.end());
    }
    mine->sums.add(value);
    mine->last = record.offset;
    ++win.count;
    ++counted_;
    if (cfg_.sample_size > 0) {
      if (keyed)
        remember(win, index, record.value);
      else
        recent_[recent++ % cfg_.sample_size] = i;
    }
    if (win.count >= cfg_.batch_size) {
      remember_recent(win);
      close(where, at);
    }
  }
  if (recent > 0)
    remember_recent(windows_.front());
  return failures;
}

void aggregation::dead_letter_kept(const topic_partition& where) {
  if (auto index = find(where.topic, where.partition); index != none)
    sources_[index].dead.erase(where.offset);
}

void aggregation::close_due(const moment& at) {
  while (!windows_.empty() && windows_.front().due <= at.now)
    close(windows_.begin(), at);
}

std::optional<aggregation::time_point> aggregation::next_due() const {
  if (windows_.empty())
    return std::nullopt;
  return windows_.front().due;
}

void aggregation::close(window_iterator which, const moment& at) {
  event_sums total;
  std::string covers;
  for (const auto& part : which->shares) {
    total.add(part.sums);
    auto& src = sources_[part.source];
    if (!cfg_.key_pointer.empty()) {
      auto& known = src.covered[which->key];
      known.last = part.last;
      known.dirty = true;
    }
    covers += (covers.empty() ? "" : ",") + src.topic + "/" + std::to_string(src.partition) + ":" +
              std::to_string(part.first) + "-" + std::to_string(part.last);
  }
  outgoing_record record;
  record.topic = cfg_.sink;
  record.key = cfg_.key_pointer.empty() ? cfg_.name : which->key;
  record.value = summary(*which, total, at);
  record.headers.push_back({"sluice-covers", std::move(covers)});
  pending_.push_back(std::move(record));
  if (!cfg_.key_pointer.empty())
    by_key_.erase(which->key);
  windows_.erase(which);
}

// -- committing
// ---------------------------------------------------------------------------------------------------------

int64_t aggregation::committable(size_t index) const {
  const auto& src = sources_[index];
  auto offset = src.position;
  if (!src.dead.empty())
    offset = std::min(offset, *src.dead.begin());
  for (const auto& win : windows_)
    for (const auto& part : win.shares)
      if (part.source == index)
        offset = std::min(offset, part.first);
  return offset;
}

bool aggregation::worth_committing() const {
  if (!pending_.empty())
    return true;
  // Without open windows only dead letters and skipped records move offsets.
  return windows_.empty() && std::any_of(sources_.begin(), sources_.end(), [](const source& src) {
           return src.active && src.position > src.committed &&
                  (src.dead.empty() || *src.dead.begin() > src.committed) && src.position >= 0;
         });
}

aggregation::commitment aggregation::take() {
  commitment all;
  all.summaries = pending_.size();
  all.records = std::move(pending_);
  pending_.clear();
  for (size_t i = 0; i < sources_.size(); ++i) {
    auto& src = sources_[i];
    if (!src.active || src.position < 0)
      continue;
    auto next = committable(i);
    if (next > src.committed) {
      src.committed = next;
      all.next_offsets.push_back({src.topic, src.partition, next});
    }
    for (auto it = src.covered.begin(); it != src.covered.end();) {
      auto& known = it->second;
      bool needed = known.last >= next;
      if ((needed && known.dirty) || (!needed && known.written)) {
        outgoing_record record;
        record.topic = covered_topic_of(cfg_);
        record.key = mark_key(src.topic, src.partition, it->first);
        record.partition = 0;
        if (needed)
          record.value = std::to_string(known.last);
        all.records.push_back(std::move(record));
      }
      if (needed) {
        known.written = true;
        known.dirty = false;
        ++it;
      } else {
        it = src.covered.erase(it);
      }
    }
  }
  return all;
}

// -- texts
// --------------------------------------------------------------------------------------------------------------

std::string aggregation::summary(const window& which, const event_sums& total, const moment& at) {
  if (at.unix_ms == last_summary_ms_) {
    ++summaries_in_ms_;
  } else {
    last_summary_ms_ = at.unix_ms;
    summaries_in_ms_ = 0;
  }
  std::string out = "{\"id\":\"summary-" + std::to_string(at.unix_ms);
  if (summaries_in_ms_ > 0) // ids stay unique when a millisecond has more than one
    out += "-" + std::to_string(summaries_in_ms_);
  out += "\",\"timestamp\":" + std::to_string(at.unix_ms) + ",\"aggregation\":";
  append_string(out, cfg_.name);
  if (!cfg_.key_pointer.empty()) {
    out += ",\"key\":";
    append_string(out, which.key);
  }
  out += ",\"aggregationPeriod\":{\"start\":" + std::to_string(which.opened_ms) +
         ",\"end\":" + std::to_string(at.unix_ms) + ",\"durationMs\":" + std::to_string(at.unix_ms - which.opened_ms) +
         "},\"statistics\":{";
  append_sums(out, total, true);
  out += "},\"eventSample\":[";
  size_t bytes = 0;
  auto first = which.samples.end();
  while (first != which.samples.begin() && (bytes += std::prev(first)->event.size()) <= max_samples_bytes)
    --first;
  const char* comma = "";
  for (; first != which.samples.end(); ++first) {
    out += comma;
    out += first->event;
    comma = ",";
  }
  out += "]}";
  return out;
}

std::string aggregation::view() const {
  event_sums total;
  for (const auto& win : windows_)
    for (const auto& part : win.shares)
      total.add(part.sums);
  std::string out = "{\"currentBuffer\":" + std::to_string(total.count) + ",\"stats\":{";
  append_sums(out, total, false);
  out += "}}";
  return out;
}

} // namespace sluice
