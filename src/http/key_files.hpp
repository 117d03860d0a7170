/// Files of keys, tokens and certificates that the configuration names.
#pragma once

#include <string>

#include <caf/expected.hpp>

#include "sluice/error.hpp"

namespace sluice::http {

/// "<option>: <text>", as `invalid_config`.
caf::error wrong_option(const std::string& option, const std::string& text);

/// The whole file, 4 MiB at most. An error (`invalid_config`) names the option and what to do.
caf::expected<std::string> read_key_file(const std::string& option, const std::string& path);

} // namespace sluice::http
