#pragma once

#include <optional>
#include <string>
#include <vector>

namespace sluice::outbound {

/// Where a URL leads, in lower case.
struct web_target {
  std::string host;           ///< Of an IPv6 address: in brackets.
  std::string host_with_port; ///< "host:443", also where the URL has no port.
};

/// Takes a URL apart; nothing for what is none of http or https, or has a user name or password in it.
std::optional<web_target> read_web_url(const std::string& url);

/// Whether the target is in the list, by its host or with its port.
bool is_listed(const web_target& target, const std::vector<std::string>& hosts);

} // namespace sluice::outbound
