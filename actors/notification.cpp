#include "notification.hpp"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "sluice/channels.hpp"
#include "sluice/envelope.hpp"
#include "sluice/json_text.hpp"
#include "sluice/text_template.hpp"

#include "rate_limit.hpp"

namespace sluice {

namespace {

using nlohmann::json;

const std::string live = "live";
const std::string event_id_header = "sluice-event-id";

struct target {
  std::string channel;
  std::string to;
  /// The key of a delivery's record: by it its order is kept, its rate limited, and it is parked.
  std::string key() const { return channel + ":" + to; }
};

/// A notification as a record holds it.
struct content {
  std::string title, body, html;
  std::string name;            ///< Of a template.
  json data;                   ///< An object, or null.
  std::vector<target> targets; ///< With empty `to`: the channel's default.
  json metadata;               ///< Of the envelope; null without one.
};

caf::error malformed(const std::string& member, const std::string& text) {
  return make_failure(ec::malformed_record, member + " " + text);
}

caf::error read_text(const json& from, const char* name, std::string& text) {
  if (!from.contains(name) || from[name].is_null())
    return {};
  if (!from[name].is_string())
    return malformed(name, "is not a text");
  text = from[name].get<std::string>();
  return {};
}

caf::error read_targets(const json& all, std::vector<target>& targets) {
  if (all.is_null())
    return {};
  if (!all.is_array() || all.empty() || all.size() > context::max_emitted)
    return malformed("targets", "is not a list of 1 to " + std::to_string(context::max_emitted) +
                                    R"( targets such as {"channel":"email","to":"ann@example.com"})");
  for (size_t i = 0; i < all.size(); ++i) {
    const auto at = "targets/" + std::to_string(i);
    target one;
    if (!all[i].is_object() || !all[i].contains("channel") || !all[i]["channel"].is_string())
      return malformed(at, R"(is not a target such as {"channel":"email","to":"ann@example.com"})");
    one.channel = all[i]["channel"].get<std::string>();
    if (auto error = read_text(all[i], "to", one.to))
      return malformed(at + "/to", "is not a text");
    targets.push_back(std::move(one));
  }
  return {};
}

/// Takes the bare notification, or the envelope `{"type","data","metadata"}` around it.
caf::error read(const std::string& value, content& result) {
  if (is_nested_deeper(value, max_event_depth + 1)) // writing it down again recurses
    return make_failure(ec::malformed_record, "the notification is nested deeper than 64 levels");
  auto all = json::parse(value, nullptr, false);
  if (!all.is_object())
    return make_failure(ec::malformed_record, "a notification is a JSON object");
  if (all.contains("type") && all.contains("data") && all["type"].is_string() && all["data"].is_object()) {
    if (all.contains("metadata") && all["metadata"].is_object())
      result.metadata = all["metadata"];
    all = json(all["data"]);
  }
  for (auto [name, text] : {std::pair{"title", &result.title}, std::pair{"body", &result.body},
                            std::pair{"html", &result.html}, std::pair{"template", &result.name}})
    if (auto error = read_text(all, name, *text))
      return error;
  if (all.contains("data") && !all["data"].is_null()) {
    if (!all["data"].is_object())
      return malformed("data", "is not an object");
    result.data = all["data"];
  }
  return read_targets(all.contains("targets") ? all["targets"] : json(), result.targets);
}

/// "user.name" in `data`, as text.
caf::expected<std::string> find_field(const json& data, std::string_view name) {
  const auto* at = &data;
  for (auto rest = name; !rest.empty();) {
    const auto dot = std::min(rest.find('.'), rest.size());
    const std::string member{rest.substr(0, dot)};
    if (!at->is_object() || !at->contains(member))
      return make_failure(ec::rejected, "the template's field {{" + std::string{name} + "}} is not in data");
    at = &(*at)[member];
    rest.remove_prefix(std::min(dot + 1, rest.size()));
  }
  if (at->is_string())
    return at->get<std::string>();
  if (at->is_number() || at->is_boolean())
    return at->dump();
  return make_failure(ec::rejected, "the template's field {{" + std::string{name} +
                                        "}} is neither a text nor a number, true or false in data");
}

int64_t unix_now() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<milliseconds>(now).count();
}

class notification_processor {
public:
  notification_processor(const config& cfg, notifiers how)
      : how_(std::move(how)), broadcast_topic_(cfg.sse.broadcast_topic),
        limit_(cfg.notification.rate, cfg.notification.burst) {
    for (const auto& one : cfg.templates)
      templates_[one.name] = one;
    const auto& x = cfg.notification;
    auto add_default = [this](const char* channel, const std::string& to) {
      if (!to.empty() && how_.contains(channel))
        defaults_.push_back({channel, to});
    };
    add_default("telegram", x.telegram_chat);
    for (const auto& to : x.smtp_to)
      add_default("email", to);
    add_default("webhook", x.webhook_url);
  }

  caf::error process(const record& in, context& out) {
    content what;
    if (auto error = read(in.value, what))
      return error;
    const auto is_delivery =
        what.targets.size() == 1 && what.name.empty() && !what.targets[0].to.empty() && what.targets[0].key() == in.key;
    return is_delivery ? deliver(in, out, what) : share_out(in, out, std::move(what));
  }

private:
  /// One delivery for each target, each once.
  caf::error share_out(const record& in, context& out, content what) {
    if (auto error = fill_in(what))
      return error;
    std::map<std::string, target> all;
    if (auto error = resolve(what.targets, all))
      return error;
    json data{{"title", what.title}, {"body", what.body}};
    if (!what.html.empty())
      data["html"] = what.html;
    if (!what.data.is_null())
      data["data"] = what.data;
    auto metadata = what.metadata.is_null() ? json::object() : what.metadata;
    if (!metadata.contains("eventId"))
      metadata["eventId"] = out.event_id();
    if (!metadata.contains("timestamp"))
      metadata["timestamp"] = in.timestamp_ms;
    for (const auto& [key, one] : all) {
      data["targets"] = json::array({{{"channel", one.channel}, {"to", one.to}}});
      json envelope{{"type", notifications_in}, {"data", data}, {"metadata", metadata}};
      out.emit({.topic = in.topic, .key = key, .value = envelope.dump(-1, ' ', false, json::error_handler_t::replace)});
    }
    return {};
  }

  /// Makes title, body and HTML of the template, where one is asked for.
  caf::error fill_in(content& what) {
    if (what.name.empty()) {
      if (what.title.empty() && what.body.empty())
        return make_failure(ec::rejected, "it has neither title nor body, and names no template");
      return {};
    }
    auto found = templates_.find(what.name);
    if (found == templates_.end())
      return make_failure(ec::rejected, "there is no template \"" + what.name + "\"; add it as [[templates]]");
    auto plain = [&what](std::string_view name) { return find_field(what.data, name); };
    auto escaped = [&what](std::string_view name) {
      auto text = find_field(what.data, name);
      return text ? caf::expected<std::string>{escape_html(*text)} : text;
    };
    const auto& from = found->second;
    auto title = expand(from.title, plain);
    auto body = expand(from.body, plain);
    auto html = expand(from.html, escaped);
    for (const auto* one : {&title, &body, &html})
      if (!*one)
        return make_failure(code_of(one->error()), "template \"" + what.name + "\": " + text_of(one->error()));
    what.title = std::move(*title);
    what.body = std::move(*body);
    what.html = std::move(*html);
    return {};
  }

  caf::error resolve(const std::vector<target>& asked, std::map<std::string, target>& all) {
    auto add = [&all](const target& one) { all.try_emplace(one.key(), one); };
    if (asked.empty())
      for (const auto& one : defaults_)
        add(one);
    for (const auto& one : asked) {
      if (one.channel != live && !how_.contains(one.channel))
        return make_failure(ec::rejected, unknown_channel(one.channel));
      if (!one.to.empty()) {
        add(one);
        continue;
      }
      const auto before = all.size();
      for (const auto& fallback : defaults_)
        if (fallback.channel == one.channel)
          add(fallback);
      if (all.size() == before && std::none_of(all.begin(), all.end(), [&one](const auto& other) {
            return other.second.channel == one.channel;
          }))
        return make_failure(ec::rejected, "a target of channel " + one.channel +
                                              " lacks \"to\", and [notification] names no default for it");
    }
    if (all.empty())
      return make_failure(ec::rejected, "it names no targets, and [notification] names no default ones "
                                        "(telegramChat, smtpTo, webhookUrl)");
    if (all.size() > context::max_emitted)
      return make_failure(ec::rejected, "it has more than " + std::to_string(context::max_emitted) + " targets");
    return {};
  }

  std::string unknown_channel(const std::string& name) const {
    std::string known = live;
    for (const auto& [channel, ignored] : how_)
      known += ", " + channel;
    return "channel \"" + name + "\" is none of those configured: " + known;
  }

  caf::error deliver(const record& in, context& out, const content& what) {
    const auto& to = what.targets.front();
    const auto found = how_.find(to.channel);
    if (to.channel != live && found == how_.end())
      return make_failure(ec::rejected, unknown_channel(to.channel));
    if (to.channel == live && !is_channel_name(user_prefix + to.to))
      return make_failure(ec::rejected, "\"" + to.to + "\" is no user id");
    if (auto wait = limit_.take(to.key(), rate_limit::clock::now()); wait.count() > 0)
      return try_later("more notifications to this target than notification.rate allows", wait);
    const auto id = out.event_id();
    json whole{{"id", id}, {"timestamp", in.timestamp_ms}, {"title", what.title}, {"body", what.body}};
    if (!what.html.empty())
      whole["html"] = what.html;
    if (!what.data.is_null())
      whole["data"] = what.data;
    auto text = whole.dump(-1, ' ', false, json::error_handler_t::replace);
    if (to.channel == live) {
      out.emit({.topic = broadcast_topic_,
                .key = user_prefix + to.to,
                .value = std::move(text),
                .headers = {{event_name_header, "notification"}, {event_id_header, id}}});
    } else {
      notification told{id, what.title, what.body, what.html, std::move(text)};
      if (auto error = found->second->tell(to.to, told, [&out] { return out.cancelled(); }))
        return error;
    }
    report(in, out, what);
    return {};
  }

  /// Says that it was delivered.
  void report(const record& in, context& out, const content& what) {
    const auto& to = what.targets.front();
    const auto own_id = out.event_id();
    const auto id = own_id + "/sent";
    json request =
        what.metadata.is_object() && what.metadata.contains("eventId") ? what.metadata["eventId"] : json(own_id);
    json metadata = what.metadata.is_null() ? json::object() : what.metadata;
    metadata["eventId"] = id;
    metadata["timestamp"] = unix_now();
    metadata["source"] = "sluice";
    metadata["version"] = 1;
    json envelope{{"type", notifications_out},
                  {"data",
                   {{"notificationId", request},
                    {"deliveryId", own_id},
                    {"channel", to.channel},
                    {"to", to.to},
                    {"title", what.title},
                    {"status", "sent"},
                    {"attempts", out.attempt()}}},
                  {"metadata", std::move(metadata)}};
    out.emit({.topic = notifications_out,
              .key = in.key,
              .value = envelope.dump(-1, ' ', false, json::error_handler_t::replace),
              .headers = {{event_id_header, id}}});
  }

  const notifiers how_;
  const std::string broadcast_topic_;
  std::map<std::string, template_config> templates_;
  std::vector<target> defaults_;
  rate_limit limit_;
};

} // namespace

processor_config notification_settings(const config& cfg) {
  processor_config settings;
  settings.name = "notification";
  settings.topics = {notifications_in};
  settings.outputs = {notifications_out};
  settings.group = "paka-notification-processor";
  settings.concurrency = 8;
  settings.timeout = cfg.notification.timeout + milliseconds{5000}; // the delivery's own comes first
  settings.max_attempts = 8;
  settings.retry_initial = milliseconds{1000};
  settings.retry_max = milliseconds{60000};
  settings.retry_budget = std::chrono::hours{1};
  settings.remember = cfg.idempotency.ttl; // nobody wants the same mail again after a crash or a replay
  return settings;
}

processor_function notification_function(const config& cfg, notifiers how) {
  // Shared by all workers: nothing in it changes but the limit, which has a lock of its own.
  auto shared = std::make_shared<notification_processor>(cfg, std::move(how));
  return [shared](const record& in, context& out) { return shared->process(in, out); };
}

} // namespace sluice
