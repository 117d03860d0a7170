/// The command line. CLI11 lives only here and in the files of subcommands.
#pragma once

#include <string>

#include "app/config_loader.hpp"
#include "app/dlq_command.hpp"

namespace sluice {

/// What the command line asks for.
struct command_line {
  std::string command;       ///< "serve", "config", "dlq", "version". Empty: print `text` and exit with `exit_code`.
  flag_values flags;         ///< For `load_config`.
  dlq_command dlq;           ///< Of `dlq`.
  bool list_options = false; ///< `sluice config --options`: print `options_markdown()`.
  std::string text;          ///< Help (exit code 0, to standard output) or what is wrong (to standard error).
  int exit_code = 0;         ///< 2 for a wrong command line.
};

/// Reads `argv`; `argv[0]` is the program. Prints nothing.
command_line parse_command_line(int argc, const char* const* argv);

/// Gives a subcommand `--config`, the short forms and `--<section>.<key>` for every option. Fills `into` while parsing,
/// which must live as long as `command`.
void add_config_flags(CLI::App& command, flag_values& into);

/// After parsing: reports what `command` did not know in `into.errors`, with the nearest flag.
void report_unknown_flags(const CLI::App& command, flag_values& into);

} // namespace sluice
