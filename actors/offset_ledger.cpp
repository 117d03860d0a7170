#include "offset_ledger.hpp"

#include <algorithm>
#include <optional>

namespace sluice {

namespace {

// "s1:", then pairs of numbers in groups of five bits, the highest first, each but the last of a number marked: how
// many offsets lie unfinished before a finished range, and how many the range has. Texts survive tools that show
// metadata.
constexpr std::string_view mark = "s1:";
constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr unsigned group_bits = 5;
constexpr uint64_t group_mask = (1U << group_bits) - 1;
constexpr unsigned more = 1U << group_bits;

void append(std::string& text, uint64_t number) {
  unsigned groups = 1;
  while (groups * group_bits < 64 && (number >> (groups * group_bits)) != 0)
    ++groups;
  while (groups-- > 0)
    text += digits[((number >> (groups * group_bits)) & group_mask) | (groups > 0 ? more : 0)];
}

std::optional<int64_t> take(std::string_view& text) {
  uint64_t number = 0;
  while (!text.empty()) {
    auto digit = digits.find(text.front());
    text.remove_prefix(1);
    if (digit == std::string_view::npos || number > (uint64_t{1} << 50U))
      return std::nullopt;
    number = (number << group_bits) | (digit & group_mask);
    if ((digit & more) == 0)
      return static_cast<int64_t>(number);
  }
  return std::nullopt;
}

} // namespace

void offset_ledger::restore(int64_t committed, std::string_view metadata) {
  if (!metadata.starts_with(mark) || committed < 0)
    return;
  metadata.remove_prefix(mark.size());
  auto at = committed;
  while (!metadata.empty()) {
    auto gap = take(metadata);
    auto count = gap ? take(metadata) : std::nullopt;
    if (!count || *count == 0)
      return; // someone else's, or cut off: what was read holds
    restored_.push_back({at + *gap, at + *gap + *count - 1});
    at = restored_.back().last + 1;
  }
}

bool offset_ledger::was_finished(int64_t offset) {
  while (!restored_.empty() && restored_.front().last < offset)
    restored_.pop_front();
  return !restored_.empty() && restored_.front().first <= offset;
}

uint64_t offset_ledger::begin(int64_t offset) {
  if (next_ < 0)
    next_ = offset;
  entries_.push_back({offset, false});
  ++in_flight_;
  return base_ + entries_.size() - 1;
}

void offset_ledger::finish(uint64_t number) {
  entries_[number - base_].finished = true;
  --in_flight_;
  while (!entries_.empty() && entries_.front().finished) {
    next_ = entries_.front().offset + 1;
    entries_.pop_front();
    ++base_;
  }
}

std::vector<offset_ledger::range> offset_ledger::finished_ranges(std::size_t max) const {
  std::vector<range> found;
  bool open = false; // the last range may go on; holes between finished records belong to it
  for (const auto& one : entries_) {
    if (!one.finished) {
      open = false;
      if (found.size() == max)
        return found;
    } else if (open) {
      found.back().last = one.offset;
    } else {
      found.push_back({one.offset, one.offset});
      open = true;
    }
  }
  auto begun = entries_.empty() ? next_ : entries_.back().offset + 1;
  for (const auto& one : restored_) // not read again yet, but finished all the same
    if (one.last >= begun && found.size() < max)
      found.push_back({std::max(one.first, begun), one.last});
  return found;
}

std::string offset_ledger::metadata() const {
  std::string text;
  auto at = next_;
  for (const auto& one : finished_ranges(max_metadata / 2)) {
    std::string pair;
    append(pair, static_cast<uint64_t>(one.first - at));
    append(pair, static_cast<uint64_t>(one.last - one.first + 1));
    if (mark.size() + text.size() + pair.size() > max_metadata)
      break;
    text += pair;
    at = one.last + 1;
  }
  return text.empty() ? text : std::string{mark} + text;
}

} // namespace sluice
