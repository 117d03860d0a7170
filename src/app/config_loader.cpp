#include "app/config_loader.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>

#include "app/config_file.hpp"
#include "app/options.hpp"
#include "sluice/config_check.hpp"

extern char** environ; // POSIX declares it nowhere

namespace sluice {

namespace {

constexpr std::string_view default_source = "default";

/// Kubernetes gives every pod variables about the services of its namespace. One named "sluice" (or "sluice-http")
/// makes SLUICE_PORT=tcp://10.0.0.1:3000, SLUICE_SERVICE_HOST and more, which are nobody's settings.
bool is_service_link(const std::string& name, const std::string& value) {
  if (name.ends_with("_SERVICE_HOST") || name.ends_with("_SERVICE_PORT") || name.find("_SERVICE_PORT_") != name.npos)
    return true;
  static constexpr std::array<std::string_view, 3> protocols{"tcp", "udp", "sctp"};
  static constexpr std::array<std::string_view, 3> port_variables{"_TCP", "_UDP", "_SCTP"};
  if (name.ends_with("_PORT") && std::any_of(protocols.begin(), protocols.end(), [&value](std::string_view protocol) {
        return value.starts_with(std::string{protocol} + "://");
      }))
    return true;
  // SLUICE_PORT_3000_TCP, SLUICE_PORT_3000_TCP_ADDR, …
  auto at = name.find("_PORT_");
  if (at == std::string::npos)
    return false;
  auto rest = std::string_view{name}.substr(at + std::string_view{"_PORT_"}.size());
  auto digits = std::min(rest.find_first_not_of("0123456789"), rest.size());
  rest.remove_prefix(digits);
  return digits > 0 && std::any_of(port_variables.begin(), port_variables.end(),
                                   [rest](std::string_view protocol) { return rest.starts_with(protocol); });
}

class loader {
public:
  loader(const flag_values& flags, const std::map<std::string, std::string>& environment)
      : flags_(flags), environment_(environment) {}

  load_result run(const std::string& directory) {
    result_.errors = flags_.errors;
    lists_at_ = read_config_file(flags_.config_file, directory, result_);
    read_environment();
    read_flags();
    fill_node();
    name_defaults();
    report_problems();
    return std::move(result_);
  }

private:
  /// Takes a text from environment or flag; `source` reads "environment PORT".
  void take(const option& opt, const std::string& text, const std::string& source) {
    const auto* list = list_of(opt);
    if (list != nullptr && !list->has_default) {
      result_.errors.push_back(source + ": " + file_only_hint(opt.key).value_or("is set by the file only"));
      return;
    }
    if (list != nullptr && lists_at_.count(list->plural) > 0) {
      result_.errors.push_back(source + ": changes the one default " + list->singular + ", but " +
                               lists_at_[list->plural] + " defines [[" + list->plural + "]]; change it there");
      return;
    }
    // Of a list not in the file there is exactly the default element.
    if (auto wrong = set_text(opt, result_.settings.value, 0, text)) {
      result_.errors.push_back(source + ": " + *wrong);
      return;
    }
    result_.settings.sources[shown_key(opt, 0)] = source;
  }

  void read_environment() {
    std::vector<std::string> known;
    for (const auto& opt : options()) {
      known.insert(known.end(), opt.env.begin(), opt.env.end());
      for (const auto& name : opt.env) {
        auto found = environment_.find(name);
        // Compose files and CI systems pass variables on as empty where they are not set.
        if (found == environment_.end() || found->second.empty() || is_service_link(name, found->second))
          continue;
        take(opt, found->second, "environment " + name);
        break;
      }
    }
    for (const auto& [name, value] : environment_)
      if (name.starts_with("SLUICE_") && std::find(known.begin(), known.end(), name) == known.end() &&
          !is_service_link(name, value))
        report_unknown_variable(name, known);
  }

  void report_unknown_variable(const std::string& name, const std::vector<std::string>& known) {
    if (auto hint = file_only_hint(name)) {
      result_.errors.push_back("environment " + name + ": " + *hint);
      return;
    }
    auto meant = nearest(name, known);
    result_.errors.push_back("environment " + name + ": unknown variable; " +
                             (meant ? "did you mean " + *meant + "?" : "`sluice config --options` lists all of them"));
  }

  void read_flags() {
    for (const auto& [key, given] : flags_.by_key)
      if (const auto* opt = find_option(key))
        take(*opt, given.text, "flag " + given.flag);
    for (const auto& property : flags_.properties) {
      auto equals = property.find('=');
      if (equals == 0 || equals == std::string::npos) {
        // Without "=" it may be anything, even a password: do not show it.
        result_.errors.emplace_back("flag --kafka.properties: the value is not NAME=VALUE");
        continue;
      }
      auto name = property.substr(0, equals);
      result_.settings.value.kafka.properties[name] = property.substr(equals + 1);
      result_.settings.sources["kafka.properties." + name] = "flag --kafka.properties";
    }
  }

  void fill_node() {
    auto& cfg = result_.settings.value;
    if (cfg.node.empty() && cfg.http.port != 0) { // else the port is not known yet
      cfg.node = host_name() + "-" + std::to_string(cfg.http.port);
      result_.settings.sources["node"] = default_source;
    }
  }

  void name_defaults() {
    auto& settings = result_.settings;
    for (const auto& opt : options()) {
      const auto* list = list_of(opt);
      auto elements = list == nullptr ? 1 : list->count(settings.value);
      for (std::size_t i = 0; i < elements; ++i)
        settings.sources.try_emplace(shown_key(opt, i), default_source);
    }
  }

  void report_problems() {
    for (const auto& problem : check(result_.settings.value)) {
      auto source = source_of(problem.key);
      auto is_file = !source.starts_with("environment ") && !source.starts_with("flag ");
      auto text =
          is_file || problem.key.starts_with("kafka.properties.") ? problem.key + ": " + problem.text : problem.text;
      result_.errors.push_back(source == default_source ? text : source + ": " + text);
    }
  }

  /// Where to look for the mistake: the value itself, or else the list's element that lacks it.
  std::string source_of(const std::string& key) const {
    const auto& sources = result_.settings.sources;
    for (const auto& candidate : {key, key.substr(0, key.find('.'))})
      if (auto found = sources.find(candidate); found != sources.end() && found->second != default_source)
        return found->second;
    return std::string{default_source};
  }

  const flag_values& flags_;
  const std::map<std::string, std::string>& environment_;
  /// Where the file defines a list, by its plural, as "sluice.toml:12".
  std::map<std::string, std::string> lists_at_;
  load_result result_;
};

std::string with_source(const std::string& line, const loaded& settings, const std::string& key) {
  auto found = settings.sources.find(key);
  return line + "  # " + (found == settings.sources.end() ? std::string{default_source} : found->second) + "\n";
}

std::string render_properties(const loaded& settings) {
  const auto& properties = settings.value.kafka.properties;
  if (properties.empty())
    return {};
  std::string result = "\n[kafka.properties]\n";
  for (const auto& [name, value] : properties)
    result += with_source(toml_string(name) + " = " +
                              (is_secret_property(name) && !value.empty() ? "\"***\"" : toml_string(value)),
                          settings, "kafka.properties." + name);
  return result;
}

} // namespace

load_result load_config(const flag_values& flags, const std::map<std::string, std::string>& environment,
                        const std::string& directory) {
  return loader{flags, environment}.run(directory);
}

std::map<std::string, std::string> process_environment() {
  std::map<std::string, std::string> result;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    std::string_view text = *entry;
    if (auto equals = text.find('='); equals != std::string_view::npos)
      result.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return result;
}

std::string render(const loaded& settings) {
  const auto& cfg = settings.value;
  std::string result;
  std::string section;
  for (const auto& opt : options()) {
    auto next = section_of(opt);
    if (list_of(opt) != nullptr)
      continue;
    if (next != section) {
      // Keys without a section must all stand before the first one.
      if (section.empty())
        for (const auto& list : list_sections())
          if (list.has_default && list.count(cfg) == 0)
            result += list.plural + " = []\n";
      if (section == "kafka")
        result += render_properties(settings);
      section = next;
      result += "\n[" + section + "]\n";
    }
    result += with_source(name_of(opt) + " = " + to_toml(opt, cfg, 0), settings, opt.key);
  }
  for (const auto& list : list_sections())
    for (std::size_t i = 0; i < list.count(cfg); ++i) {
      result += "\n[[" + list.plural + "]]\n";
      for (const auto& opt : options())
        if (list_of(opt) == &list)
          result += with_source(name_of(opt) + " = " + to_toml(opt, cfg, i), settings, shown_key(opt, i));
    }
  return result;
}

} // namespace sluice
