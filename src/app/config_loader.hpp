/// Reads the configuration: defaults, then one file, then the environment, then flags.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "sluice/config.hpp"

namespace sluice {

/// A flag as it was given.
struct flag_value {
  std::string flag; ///< As written: "--port" or "--http.port".
  std::string text;
};

/// All configuration flags of one command line.
struct flag_values {
  std::string config_file;                  ///< Of `--config`; empty = `sluice.toml` where it exists.
  std::map<std::string, flag_value> by_key; ///< By the option's key.
  std::vector<std::string> properties;      ///< Of `--kafka.properties`, each "name=value".
  std::vector<std::string> errors;          ///< Unknown flags and the like; reported with all other errors.
};

/// The effective configuration and where each value is from.
struct loaded {
  config value;
  /// By key: "default", "sluice.toml:12", "environment KAFKA_BROKERS" or "flag --port". The keys of a list's
  /// element read `aggregations[0].batchSize`, a librdkafka property's `kafka.properties.<name>`.
  std::map<std::string, std::string> sources;
};

struct load_result {
  loaded settings;                 ///< Only to be used where `errors` is empty.
  std::vector<std::string> errors; ///< Every error found, one line each, without secrets.
  explicit operator bool() const noexcept { return errors.empty(); }
};

/// Loads and checks everything. `directory` is where `sluice.toml` is looked for and what a relative `--config` starts
/// from. Reads files and the host's name, changes nothing; from any thread.
load_result load_config(const flag_values& flags, const std::map<std::string, std::string>& environment,
                        const std::string& directory = ".");

/// The process's environment variables. Not while another thread changes them.
std::map<std::string, std::string> process_environment();

/// The effective configuration as TOML, each value with its source in a comment and secrets as "***".
std::string render(const loaded& settings);

} // namespace sluice
