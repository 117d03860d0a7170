/// `sluice dlq`: the workbench of dead letters on the command line, by the HTTP API of a running server.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include <caf/expected.hpp>

#include "delivery/api_client.hpp"

namespace CLI {
class App;
} // namespace CLI

namespace sluice {

/// What a command for a running server has in common with the others.
struct remote_options {
  std::string url;     ///< Empty = where the configuration has the server listen.
  std::string ca_file; ///< Whom to trust with https; empty = whom the system trusts.
  bool json = false;
};

struct dlq_command {
  std::string action; ///< "list", "show", "redrive".
  remote_options remote;
  std::string topic; ///< Of `list` empty = all topics.
  std::vector<std::string> ids;
  std::map<std::string, std::string> filter; ///< As the API's: error, processor, key, text, from, to, redriven.
  bool all = false;
  bool dry_run = false;
  bool again = false;
  std::optional<std::string> value;
  std::string value_file;
  uint32_t rate = 0;
  uint32_t limit = 0; ///< 0 = the API's own for `list`, any number for `redrive`.
  std::string after;
};

/// Adds `dlq` with its actions; `into` is filled while parsing and must live as long as `app`. `config_file` gets what
/// `--config` names.
CLI::App* add_dlq_command(CLI::App& app, dlq_command& into, std::string& config_file);

/// Asks the API: method, path with query, JSON body ("" = none).
using api_call =
    std::function<caf::expected<outbound::api_answer>(const std::string&, const std::string&, const std::string&)>;

/// Does what the command asks for. Returns the exit code: 0 well; 1 the server refused, could not be reached, or not
/// all letters were sent back; 2 the command line is wrong.
int run_dlq(const dlq_command& command, const api_call& call, std::ostream& out, std::ostream& err);

} // namespace sluice
