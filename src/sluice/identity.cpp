#include "sluice/identity.hpp"

#include <algorithm>

namespace sluice {

namespace {

constexpr std::string_view user_mark = "{user}";
constexpr std::string_view own_channel = "user:";

bool any_covers(const std::vector<std::string>& patterns, std::string_view name, std::string_view user) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const std::string& pattern) { return covers(pattern, name, user); });
}

} // namespace

bool identity::may_subscribe(std::string_view channel) const {
  auto own = !user.empty() && channel.starts_with(own_channel) && channel.substr(own_channel.size()) == user;
  return all || own || any_covers(subscribe, channel, user);
}

bool identity::may_publish(std::string_view topic) const {
  return all || any_covers(publish, topic, user);
}

bool identity::has_role(std::string_view role) const {
  return all || std::find(roles.begin(), roles.end(), role) != roles.end();
}

// Each mark eats as much of the name as it ever can, so nothing has to be tried twice.
bool covers(std::string_view pattern, std::string_view name, std::string_view user) {
  for (size_t at = 0; at < pattern.size();) {
    auto rest = pattern.substr(at);
    auto begins_part = at == 0 || pattern[at - 1] == '.';
    if (rest == "*")
      return true;
    if (begins_part && rest.starts_with("*.")) {
      auto part = std::min(name.find('.'), name.size());
      if (part == 0)
        return false;
      name.remove_prefix(part);
      ++at;
    } else if (rest.starts_with(user_mark)) {
      if (user.empty() || !name.starts_with(user))
        return false;
      name.remove_prefix(user.size());
      at += user_mark.size();
    } else {
      if (!name.starts_with(rest.front()))
        return false;
      name.remove_prefix(1);
      ++at;
    }
  }
  return name.empty();
}

} // namespace sluice
