#include "app/command_line.hpp"

#include <algorithm>
#include <optional>
#include <sstream>
#include <string_view>
#include <vector>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "app/options.hpp"

namespace sluice {

namespace {

constexpr int usage_error = 2;

/// Takes a flag's value; a second spelling of the same option would leave it open which one is meant.
void take_flag(flag_values& into, const option& opt, const std::string& flag, const std::string& text) {
  auto [at, is_new] = into.by_key.try_emplace(opt.key, flag_value{flag, text});
  if (!is_new && at->second.flag != flag)
    into.errors.push_back("flag " + flag + ": is given as " + at->second.flag + " too; keep one");
}

void add_option_flag(CLI::App& command, flag_values& into, const option& opt) {
  auto group = section_of(opt).empty() ? "Settings" : "Settings [" + section_of(opt) + "]";
  auto flag = "--" + opt.key;
  command
      .add_option_function<std::string>(
          flag, [&into, &opt, flag](const std::string& text) { take_flag(into, opt, flag, text); }, flag_help(opt))
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
      ->type_name("VALUE")
      ->group(group);
}

void add_short_flag(CLI::App& command, flag_values& into, const option& opt) {
  auto take = [&into, &opt](const std::string& text) { take_flag(into, opt, opt.flag, text); };
  static config defaults;
  auto is_switch = std::holds_alternative<bool*>(opt.field(defaults, 0));
  auto help = opt.help;
  std::erase(help, '`');
  if (is_switch)
    command.add_flag_callback(
        opt.flag, [take] { take("true"); }, help);
  else
    command.add_option_function<std::string>(opt.flag, take, help)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
        ->type_name(opt.flag == "--port" ? "N" : "VALUE");
}

std::vector<std::string> known_flags() {
  std::vector<std::string> flags{"--config", "--help", "--kafka.properties"};
  for (const auto& opt : options()) {
    if (!is_file_only(opt))
      flags.push_back("--" + opt.key);
    if (!opt.flag.empty())
      flags.push_back(opt.flag);
  }
  return flags;
}

/// The lists that have no flags, a line each.
std::string file_only_help() {
  std::string result;
  for (const auto& list : list_sections())
    if (!list.has_default)
      result += "[[" + list.plural + "]] is set by the file only, without environment variables and flags.\n";
  return result;
}

/// What is wrong with the first word of a command line, if anything.
std::optional<std::string> wrong_command(const CLI::App& app, const std::string& word) {
  std::vector<std::string> names;
  for (const auto* command : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(command->get_name());
  if (word == "-h" || word == "--help" || std::find(names.begin(), names.end(), word) != names.end())
    return std::nullopt;
  if (word.starts_with("-"))
    return "sluice: flags stand after the command, as in `sluice serve --port 3000`; `sluice --help` lists the "
           "commands\n";
  auto meant = nearest(word, names);
  return "sluice: unknown command " + toml_string(word) + "; " +
         (meant ? "did you mean `sluice " + *meant + "`?\n" : "`sluice --help` lists the commands\n");
}

} // namespace

void add_config_flags(CLI::App& command, flag_values& into) {
  command.allow_extras(); // unknown flags are reported with all other errors
  command
      .add_option("--config", into.config_file, "Configuration file, which must exist. Default: sluice.toml, if there.")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
      ->type_name("F");
  for (const auto& opt : options())
    if (!opt.flag.empty())
      add_short_flag(command, into, opt);
  for (const auto& opt : options())
    if (!is_file_only(opt))
      add_option_flag(command, into, opt);
  command
      .add_option_function<std::vector<std::string>>(
          "--kafka.properties", [&into](const std::vector<std::string>& given) { into.properties = given; },
          "Any librdkafka property; may be given many times. Wins over every other kafka option.")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->type_name("NAME=VALUE")
      ->group("Settings [kafka]");
}

void report_unknown_flags(const CLI::App& command, flag_values& into) {
  auto after_unknown_flag = false; // what follows one is probably its value, perhaps a secret: not shown
  for (const auto& word : command.remaining()) {
    if (!word.starts_with("-")) {
      if (!after_unknown_flag)
        into.errors.push_back("argument " + toml_string(word) + ": is not expected; flags begin with --");
      after_unknown_flag = false;
      continue;
    }
    after_unknown_flag = true;
    auto flag = word.substr(0, word.find('='));
    if (auto hint = file_only_hint(flag)) {
      into.errors.push_back("flag " + flag + ": " + *hint);
      continue;
    }
    auto meant = nearest(flag, known_flags());
    into.errors.push_back("flag " + flag + ": unknown; " +
                          (meant ? "did you mean " + *meant + "?" : "`--help` lists all flags"));
  }
}

command_line parse_command_line(int argc, const char* const* argv) {
  command_line result;
  CLI::App app{"sluice: an event gateway for Kafka. Publishes over HTTP, aggregates exactly once, streams to browsers.",
               "sluice"};
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  app.add_flag("--version")->description("Print the version and exit");

  auto* serve = app.add_subcommand("serve", "Run the gateway");
  serve->footer(
      "Every option also stands in sluice.toml and the environment: defaults < file < environment < flags.\n" +
      file_only_help() + "`sluice config` shows the effective configuration and where each value is from.");
  add_config_flags(*serve, result.flags);

  auto* show = app.add_subcommand("config", "Check the configuration and print the effective one, with sources");
  add_config_flags(*show, result.flags);
  show->add_flag("--options", result.list_options, "List all options with defaults and environment variables instead");

  auto* dlq = add_dlq_command(app, result.dlq, result.flags.config_file);

  auto* version = app.add_subcommand("version", "Print the version");

  // CLI11 insists on a subcommand before it looks at flags, and does not say which word it did not know.
  if (argc < 2 || std::string_view{argv[1]} == "--version") {
    result.command = argc < 2 ? "" : "version";
    result.text = argc < 2 ? app.help() : "";
    result.exit_code = argc < 2 ? usage_error : 0;
    return result;
  }
  if (auto wrong = wrong_command(app, argv[1])) {
    result.text = *wrong;
    result.exit_code = usage_error;
    return result;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::ostringstream out;
    std::ostringstream err;
    result.exit_code = app.exit(error, out, err) == 0 ? 0 : usage_error;
    result.text = out.str() + err.str();
    return result;
  }
  for (const auto* command : {serve, show, dlq, version})
    if (command->parsed())
      result.command = command->get_name();
  for (const auto* command : {serve, show})
    if (command->parsed())
      report_unknown_flags(*command, result.flags);
  return result;
}

} // namespace sluice
