/// Reads sluice.toml. toml11 lives only here.
#pragma once

#include <map>
#include <string>

#include "app/config_loader.hpp"

namespace sluice {

/// Reads `file` (must exist), or `sluice.toml` in `directory` where it exists and `file` is empty. Adds its values,
/// their sources ("<file>:<line>") and every error to `result`.
/// Returns where the file defines lists, by their plural; these replace the default elements, also when there are none.
std::map<std::string, std::string> read_config_file(const std::string& file, const std::string& directory,
                                                    load_result& result);

} // namespace sluice
