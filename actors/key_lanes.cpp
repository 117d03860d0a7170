#include "key_lanes.hpp"

#include <string_view>
#include <utility>

namespace sluice {

uint32_t key_lanes::make_node(item what) {
  if (free_.empty()) {
    nodes_.push_back({std::move(what), none});
    return static_cast<uint32_t>(nodes_.size() - 1);
  }
  const auto index = free_.back();
  free_.pop_back();
  nodes_[index] = {std::move(what), none};
  return index;
}

key_lanes::item key_lanes::free_node(uint32_t index) {
  free_.push_back(index);
  return std::move(nodes_[index].what);
}

void key_lanes::push(item what) {
  const auto& record = what.batch->records()[what.index];
  what.lane = static_cast<uint32_t>((record.has_key ? std::hash<std::string_view>{}(record.key) : keyless_++) % count);
  const auto index = what.lane;
  auto& lane = lanes_[index];
  const auto added = make_node(std::move(what));
  if (lane.first != none)
    nodes_[lane.last].next = added;
  else
    lane.first = added;
  if (lane.first == added && lane.taken == 0)
    become_ready(index);
  lane.last = added;
}

std::vector<key_lanes::item> key_lanes::take(std::size_t max, std::size_t max_lanes, std::size_t queue) {
  std::vector<item> taken;
  auto& ready = ready_[queue];
  for (; max_lanes > 0 && taken.size() < max && !ready.empty(); --max_lanes) {
    auto& lane = lanes_[ready.front()];
    ready.pop_front();
    while (lane.first != none && taken.size() < max) {
      const auto index = std::exchange(lane.first, nodes_[lane.first].next);
      taken.push_back(free_node(index));
      ++lane.taken;
    }
  }
  return taken;
}

void key_lanes::done(const item& what) {
  auto& lane = lanes_[what.lane];
  if (--lane.taken == 0 && lane.first != none)
    become_ready(what.lane);
}

void key_lanes::put_back(item what) {
  const auto index = what.lane;
  auto& lane = lanes_[index];
  const auto added = make_node(std::move(what));
  nodes_[added].next = lane.first;
  if (lane.first == none)
    lane.last = added;
  lane.first = added;
  if (--lane.taken == 0)
    become_ready(index);
}

void key_lanes::erase_if(const std::function<bool(const item&)>& goes) {
  for (auto& lane : lanes_) {
    uint32_t last = none;
    for (auto* link = &lane.first; *link != none;) {
      const auto index = *link;
      if (goes(nodes_[index].what)) {
        *link = nodes_[index].next;
        free_node(index);
      } else {
        last = index;
        link = &nodes_[index].next;
      }
    }
    lane.last = last;
  }
  for (auto& ready : ready_)
    std::erase_if(ready, [this](uint32_t index) { return lanes_[index].first == none; });
}

} // namespace sluice
