#include "app/config_file.hpp"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <system_error>

#include <toml.hpp>

#include "app/options.hpp"

namespace sluice {

namespace {

constexpr const char* default_file = "sluice.toml";
/// The reference's name of an aggregation's `interval`.
constexpr const char* interval_alias = "intervalMs";

std::string reason(int error) {
  return std::generic_category().message(error);
}

/// toml11's report without its excerpt of the file, which may show a secret.
std::string first_line(std::string_view text) {
  for (std::string_view noise : {"[error] ", "toml::"})
    if (text.starts_with(noise))
      text.remove_prefix(noise.size());
  if (auto colon = text.find(": "); colon != std::string_view::npos && text.starts_with("parse_"))
    text.remove_prefix(colon + 2);
  return std::string{text.substr(0, text.find('\n'))};
}

std::string in_quotes(const std::string& key) {
  return '"' + key + '"';
}

/// The value where an option can take its type: bool, integer, text, array of texts.
std::optional<option_value> to_option_value(const toml::value& value) {
  if (value.is_boolean())
    return value.as_boolean();
  if (value.is_integer())
    return int64_t{value.as_integer()};
  if (value.is_string())
    return value.as_string().str;
  if (value.is_array()) {
    std::vector<std::string> items;
    for (const auto& item : value.as_array()) {
      if (!item.is_string())
        return std::nullopt;
      items.push_back(item.as_string().str);
    }
    return items;
  }
  return std::nullopt;
}

/// A type no option has, in words.
std::string type_text(const toml::value& value) {
  switch (value.type()) {
  case toml::value_t::floating:
    return "a number with a fraction";
  case toml::value_t::table:
    return "a table";
  case toml::value_t::array:
    return "this array";
  default:
    return "a date or time";
  }
}

class file_reader {
public:
  file_reader(std::string name, load_result& result) : name_(std::move(name)), result_(result) {}

  std::optional<std::string> read(const std::filesystem::path& path) {
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored)) {
      result_.errors.push_back(name_ + ": is a directory, not a file");
      return std::nullopt;
    }
    errno = 0;
    std::ifstream in{path, std::ios::binary};
    std::stringstream text;
    text << in.rdbuf();
    // An empty file sets text's failbit, not in's badbit.
    if (!in.is_open() || in.bad()) {
      result_.errors.push_back(name_ + ": cannot be read: " + reason(errno));
      return std::nullopt;
    }
    try {
      text.clear();
      take_root(toml::parse(text, name_));
    } catch (const toml::syntax_error& error) {
      result_.errors.push_back(name_ + ":" + std::to_string(error.location().line()) +
                               ": is not TOML: " + first_line(error.what()));
    } catch (const std::exception& error) { // toml11 throws others for bytes that are no text
      result_.errors.push_back(name_ + ": is not TOML: " + first_line(error.what()));
    }
    return aggregations_at_;
  }

private:
  std::string at(const toml::value& value) const { return name_ + ":" + std::to_string(value.location().line()); }

  void add_error(const toml::value& value, const std::string& text) {
    result_.errors.push_back(at(value) + ": " + text);
  }

  void report_unknown(const toml::value& value, const std::string& key, const std::vector<std::string>& known) {
    auto meant = nearest(key, known);
    add_error(value,
              "unknown key " + in_quotes(key) + "; " +
                  (meant ? "did you mean " + in_quotes(*meant) + "?" : "`sluice config --options` lists all keys"));
  }

  static std::vector<std::string> known_keys() {
    std::vector<std::string> keys{"kafka.properties", "aggregations"};
    for (const auto& opt : options())
      if (section_of(opt) != "aggregation")
        keys.push_back(opt.key);
    for (const auto& section : sections())
      keys.push_back(section);
    return keys;
  }

  static std::set<std::string> sections() {
    std::set<std::string> result;
    for (const auto& opt : options())
      if (auto section = section_of(opt); !section.empty() && section != "aggregation")
        result.insert(section);
    return result;
  }

  /// Stores one value; `shown_key` is how errors and sources call it. True where it was right.
  bool take(const option& opt, std::size_t aggregation, const toml::value& value, const std::string& shown_key) {
    auto typed = to_option_value(value);
    auto wrong = typed ? set_value(opt, result_.settings.value, aggregation, *typed)
                       : std::optional{type_text(value) + " is not " + expectation(opt)};
    if (wrong)
      add_error(value, shown_key + ": " + *wrong);
    else
      result_.settings.sources[shown_key] = at(value);
    return !wrong;
  }

  void take_root(const toml::value& root) {
    const auto known_sections = sections();
    for (const auto& [key, value] : in_order(root)) {
      if (key == "aggregations")
        take_aggregations(*value);
      else if (known_sections.count(key) > 0)
        take_section(key, *value);
      else if (const auto* opt = find_option(key))
        take(*opt, 0, *value, key);
      else
        report_unknown(*value, key, known_keys());
    }
  }

  void take_section(const std::string& section, const toml::value& table) {
    if (!table.is_table()) {
      add_error(table, section + ": is a section; write [" + section + "] and its keys below");
      return;
    }
    for (const auto& [name, value] : in_order(table)) {
      auto key = section + "." + name;
      if (key == "kafka.properties")
        take_properties("", *value);
      else if (const auto* opt = find_option(key))
        take(*opt, 0, *value, key);
      else
        report_unknown(*value, key, known_keys());
    }
  }

  /// librdkafka's names hold dots: `ssl.key.password = …` without quotes is a table in a table for TOML.
  void take_properties(const std::string& prefix, const toml::value& value) {
    if (value.is_table()) {
      for (const auto& [name, inner] : in_order(value))
        take_properties(prefix.empty() ? name : prefix + "." + name, *inner);
      return;
    }
    auto key = prefix.empty() ? std::string{"kafka.properties"} : "kafka.properties." + prefix;
    auto& properties = result_.settings.value.kafka.properties;
    if (prefix.empty())
      add_error(value, key + ": is a section; write [kafka.properties] and librdkafka's properties below");
    else if (value.is_string())
      properties[prefix] = value.as_string().str;
    else if (value.is_integer())
      properties[prefix] = std::to_string(value.as_integer());
    else if (value.is_boolean())
      properties[prefix] = value.as_boolean() ? "true" : "false";
    else
      add_error(value, key + ": " + type_text(value) + " is not a text, a whole number, or true or false");
    result_.settings.sources[key] = at(value);
  }

  void take_aggregations(const toml::value& value) {
    aggregations_at_ = at(value);
    if (!value.is_array()) {
      add_error(value, "aggregations: is a list; write [[aggregations]] with two brackets");
      return;
    }
    auto& aggregations = result_.settings.value.aggregations;
    aggregations.clear();
    for (const auto& table : value.as_array()) {
      auto index = aggregations.size();
      aggregations.emplace_back();
      auto prefix = "aggregations[" + std::to_string(index) + "]";
      result_.settings.sources[prefix] = at(table);
      if (table.is_table())
        take_aggregation(index, prefix, table);
      else
        add_error(table, prefix + ": is not a table; write [[aggregations]] and its keys below");
    }
  }

  void take_aggregation(std::size_t index, const std::string& prefix, const toml::value& table) {
    std::vector<std::string> known;
    for (const auto& opt : options())
      if (section_of(opt) == "aggregation")
        known.push_back("aggregations." + name_of(opt));
    for (const auto& [name, value] : in_order(table)) {
      auto is_alias = name == interval_alias;
      if (is_alias && table.as_table().count("interval") > 0)
        add_error(*value, prefix + "." + name + ": is another name of interval, which is given too; keep one");
      else if (const auto* opt = find_option("aggregation." + (is_alias ? "interval" : name)))
        take(*opt, index, *value, prefix + "." + name_of(*opt));
      else
        report_unknown(*value, "aggregations." + name, known);
    }
  }

  /// A table's members by their line: errors are reported in the file's order.
  static std::vector<std::pair<std::string, const toml::value*>> in_order(const toml::value& table) {
    std::vector<std::pair<std::string, const toml::value*>> members;
    for (const auto& [key, value] : table.as_table())
      members.emplace_back(key, &value);
    std::sort(members.begin(), members.end(), [](const auto& a, const auto& b) {
      return std::pair{a.second->location().line(), a.first} < std::pair{b.second->location().line(), b.first};
    });
    return members;
  }

  std::string name_;
  load_result& result_;
  std::optional<std::string> aggregations_at_;
};

} // namespace

std::optional<std::string> read_config_file(const std::string& file, const std::string& directory,
                                            load_result& result) {
  namespace fs = std::filesystem;
  auto name = file.empty() ? std::string{default_file} : file;
  auto path = fs::path{directory} / name; // an absolute name replaces the directory
  std::error_code ignored;
  if (file.empty() && !fs::exists(fs::symlink_status(path, ignored)))
    return std::nullopt;
  return file_reader{name, result}.read(path);
}

} // namespace sluice
