#include "live_channels.hpp"

#include <algorithm>

#include "sluice/wildcard.hpp"

namespace sluice {

namespace {

constexpr std::string_view topic_mark = "{topic}";
constexpr std::string_view value_mark = "{value}";

std::string replaced(std::string text, std::string_view mark, std::string_view by) {
  if (auto at = text.find(mark); at != std::string::npos)
    text.replace(at, mark.size(), by);
  return text;
}

slow_policy policy_named(const std::string& name) {
  if (name == "dropOldest")
    return slow_policy::drop_oldest;
  return name == "latest" ? slow_policy::latest : slow_policy::disconnect;
}

bool is_event_name(std::string_view text) {
  return text.find_first_of(std::string_view{"\r\n\0", 3}) == std::string_view::npos;
}

std::optional<std::string> header_of(const record_batch& batch, size_t index, const std::string& name) {
  for (auto& header : batch.headers(index))
    if (header.name == name)
      return std::move(header.value);
  return std::nullopt;
}

} // namespace

const std::vector<std::string>& notification_topics() {
  static const std::vector<std::string> topics{"session-notifications", "concept-notifications", "notifications"};
  return topics;
}

channel_rules make_channel_rules(const config& cfg) {
  channel_rules all;
  channel_rule events;
  events.name = events_channel;
  events.topics = cfg.sse.topics;
  channel_rule summaries = events;
  summaries.topics.clear();
  summaries.wrap_summary = true;
  for (const auto& one : cfg.aggregations)
    summaries.topics.push_back(one.sink);
  auto is_sink = [&summaries](const std::string& topic) {
    return std::find(summaries.topics.begin(), summaries.topics.end(), topic) != summaries.topics.end();
  };
  for (const auto& one : cfg.aggregations)
    for (const auto& topic : one.topics)
      if (!is_sink(topic)) // else one aggregation reads another's summaries
        events.topics.push_back(topic);
  all.rules = {events, summaries};

  channel_rule broadcasts;
  broadcasts.topics = {cfg.sse.broadcast_topic};
  broadcasts.name = value_mark;
  broadcasts.value = channel_rule::source::record_key;
  broadcasts.event_header = event_name_header;
  all.rules.push_back(broadcasts);

  channel_rule notifications;
  notifications.topics = notification_topics();
  notifications.name = user_prefix + std::string{value_mark};
  notifications.value = channel_rule::source::pointer;
  notifications.pointer = "/userIds";
  notifications.hidden = "userIds"; // who else is told is nobody's business
  notifications.event = "notification";
  notifications.event_pointer = "/type";
  all.rules.push_back(notifications);

  for (const auto& one : cfg.channels) {
    channel_rule rule;
    rule.topics = one.topics;
    rule.name = one.name;
    if (!one.pointer.empty())
      rule.value = channel_rule::source::pointer;
    else if (!one.header.empty())
      rule.value = channel_rule::source::header;
    rule.pointer = one.pointer.empty() ? one.header : one.pointer;
    rule.event = one.event;
    rule.event_pointer = one.event_pointer;
    rule.policy = policy_named(one.policy);
    rule.retention = one.retention;
    all.rules.push_back(std::move(rule));
  }

  std::set<std::string> topics;
  for (const auto& rule : all.rules)
    topics.insert(rule.topics.begin(), rule.topics.end());
  all.topics.assign(topics.begin(), topics.end());
  return all;
}

bool channel_finder::reads(const channel_rule& rule, const std::string& topic) const {
  return std::any_of(rule.topics.begin(), rule.topics.end(), [&](const std::string& pattern) {
    // Broadcasts say themselves where they go; a pattern of someone else's topics is not about them.
    return pattern == topic || (topic != broadcasts_ && fits_pattern(pattern, topic));
  });
}

channel_finder::channel_finder(channel_rules rules) {
  for (auto& rule : rules.rules) {
    compiled one;
    one.value_path = event_reader::split(rule.value == channel_rule::source::pointer ? rule.pointer : std::string{});
    one.event_path = event_reader::split(rule.event_pointer);
    if (rule.value == channel_rule::source::record_key)
      broadcasts_ = rule.topics.front();
    one.rule = std::move(rule);
    rules_.push_back(std::move(one));
  }
}

const std::vector<const channel_finder::compiled*>& channel_finder::rules_for(const std::string& topic) {
  auto [at, is_new] = by_topic_.try_emplace(topic);
  if (is_new)
    for (const auto& one : rules_)
      if (reads(one.rule, topic))
        at->second.push_back(&one);
  return at->second;
}

const std::vector<channel_finder::placement>& channel_finder::find(const record_batch& batch, size_t index,
                                                                   bool& skipped) {
  placements_.clear();
  skipped = false;
  const auto& rules = rules_for(batch.topic());
  if (rules.empty())
    return placements_;
  const auto& record = batch.records()[index];
  if (!record.has_value || !reader_.valid(record.value)) {
    skipped = true;
    return placements_;
  }
  for (const auto* one : rules) {
    const auto& rule = one->rule;
    values_.clear();
    switch (rule.value) {
    case channel_rule::source::fixed:
      values_.emplace_back();
      break;
    case channel_rule::source::pointer:
      reader_.texts_at(one->value_path, values_);
      break;
    case channel_rule::source::header:
      if (auto text = header_of(batch, index, rule.pointer))
        values_.push_back(std::move(*text));
      break;
    case channel_rule::source::record_key:
      if (record.has_key)
        values_.emplace_back(record.key);
      break;
    }
    if (values_.empty()) {
      skipped = true;
      continue;
    }
    placement place;
    place.retention = rule.retention;
    place.event = rule.event;
    if (!rule.event_header.empty()) {
      if (auto text = header_of(batch, index, rule.event_header))
        place.event = std::move(*text);
    } else if (!rule.event_pointer.empty()) {
      std::vector<std::string> names;
      reader_.texts_at(one->event_path, names);
      if (!names.empty())
        place.event = std::move(names.front());
    }
    if (!is_event_name(place.event))
      place.event = rule.event;
    place.data = record.value;
    if (rule.wrap_summary) {
      wrapped_.assign("{\"type\":\"summary\",\"data\":").append(record.value).append("}");
      place.data = wrapped_;
    } else if (!rule.hidden.empty()) {
      wrapped_ = reader_.object_without(rule.hidden);
      place.data = wrapped_;
    }
    for (const auto& value : values_) {
      place.channel = replaced(replaced(rule.name, topic_mark, batch.topic()), value_mark, value);
      auto known = std::any_of(placements_.begin(), placements_.end(),
                               [&place](const placement& other) { return other.channel == place.channel; });
      if (!is_channel_name(place.channel))
        skipped = true;
      else if (!known)
        placements_.push_back(place);
    }
  }
  return placements_;
}

bool channel_finder::feeds(const std::string& topic, std::string_view channel) const {
  return std::any_of(rules_.begin(), rules_.end(), [&](const compiled& one) {
    return fits_pattern(replaced(replaced(one.rule.name, topic_mark, topic), value_mark, "*"), channel) &&
           reads(one.rule, topic);
  });
}

slow_policy channel_finder::policy_of(std::string_view channel) const {
  std::optional<slow_policy> found;
  for (const auto& one : rules_)
    for (const auto& topic : one.rule.topics)
      // Broadcasts may go to every channel and say nothing about it.
      if (one.rule.value != channel_rule::source::record_key &&
          fits_pattern(replaced(replaced(one.rule.name, topic_mark, topic), value_mark, "*"), channel))
        found = found ? std::min(*found, one.rule.policy) : one.rule.policy;
  return found.value_or(slow_policy::disconnect);
}

} // namespace sluice
