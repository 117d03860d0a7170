/// What must hold between options, whatever they were read from: file, environment, flags, or a program's own code.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "sluice/config.hpp"

namespace sluice {

/// One thing wrong with a configuration.
struct config_problem {
  std::string key;  ///< The option, e.g. `http.host` or `aggregations[1].sink` (counted from 0).
  std::string text; ///< What is wrong and what to do; never shows a secret.
};

/// Everything wrong with `cfg`, in the order of its members; empty = usable. Pure, from any thread.
/// An empty `node` is accepted: it has a default that only the loader knows.
std::vector<config_problem> check(const config& cfg);

/// Whether only processes of this machine can reach a server bound to `host`.
bool is_loopback(std::string_view host);

/// Whether Kafka takes `name` as a topic's: 1 to 249 of `[a-zA-Z0-9._-]`, not "." or "..".
bool is_topic_name(std::string_view name);

/// Whether librdkafka's property `name` holds something nobody should read in a log.
bool is_secret_property(std::string_view name);

/// Every non-empty secret in `cfg`, to mask in logs: tokens, passwords, keys.
std::vector<std::string> secrets_of(const config& cfg);

} // namespace sluice
