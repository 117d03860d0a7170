#include "app/config_file.hpp"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <sstream>
#include <system_error>

#include <toml.hpp>

#include "app/options.hpp"

namespace sluice {

namespace {

constexpr const char* default_file = "sluice.toml";

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

  std::map<std::string, std::string> read(const std::filesystem::path& path) {
    std::error_code ignored;
    if (std::filesystem::is_directory(path, ignored)) {
      result_.errors.push_back(name_ + ": is a directory, not a file");
      return {};
    }
    errno = 0;
    std::ifstream in{path, std::ios::binary};
    std::stringstream text;
    text << in.rdbuf();
    // An empty file sets text's failbit, not in's badbit.
    if (!in.is_open() || in.bad()) {
      result_.errors.push_back(name_ + ": cannot be read: " + reason(errno));
      return {};
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
    return std::move(lists_at_);
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
    std::vector<std::string> keys{"kafka.properties"};
    for (const auto& list : list_sections())
      keys.push_back(list.plural);
    for (const auto& opt : options())
      if (list_of(opt) == nullptr)
        keys.push_back(opt.key);
    for (const auto& section : sections())
      keys.push_back(section);
    return keys;
  }

  static std::set<std::string> sections() {
    std::set<std::string> result;
    for (const auto& opt : options())
      if (auto section = section_of(opt); !section.empty() && list_of(opt) == nullptr)
        result.insert(section);
    return result;
  }

  void take(const option& opt, std::size_t element, const toml::value& value) {
    auto typed = to_option_value(value);
    auto wrong = typed ? set_value(opt, result_.settings.value, element, *typed)
                       : std::optional{type_text(value) + " is not " + expectation(opt)};
    auto key = shown_key(opt, element);
    if (wrong)
      add_error(value, key + ": " + *wrong);
    else
      result_.settings.sources[key] = at(value);
  }

  void take_root(const toml::value& root) {
    const auto known_sections = sections();
    for (const auto& [key, value] : in_order(root)) {
      if (const auto* list = find_list(key))
        take_list(*list, *value);
      else if (known_sections.count(key) > 0)
        take_section(key, *value);
      else if (const auto* opt = find_option(key); opt != nullptr && list_of(*opt) == nullptr)
        take(*opt, 0, *value);
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
        take(*opt, 0, *value);
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

  static const list_section* find_list(const std::string& key) {
    for (const auto& list : list_sections())
      if (list.plural == key)
        return &list;
    return nullptr;
  }

  void take_list(const list_section& list, const toml::value& value) {
    lists_at_[list.plural] = at(value);
    if (!value.is_array()) {
      add_error(value, list.plural + ": is a list; write [[" + list.plural + "]] with two brackets");
      return;
    }
    auto& cfg = result_.settings.value;
    list.clear(cfg);
    for (const auto& table : value.as_array()) {
      auto element = list.count(cfg);
      list.add(cfg);
      auto name = element_name(list, element);
      result_.settings.sources[name] = at(table);
      if (table.is_table())
        take_element(list, element, table);
      else
        add_error(table, name + ": is not a table; write [[" + list.plural + "]] and its keys below");
    }
  }

  void take_element(const list_section& list, std::size_t element, const toml::value& table) {
    std::vector<std::string> known;
    for (const auto& opt : options())
      if (list_of(opt) == &list)
        known.push_back(list.plural + "." + name_of(opt));
    for (const auto& [name, value] : in_order(table)) {
      const auto* opt = find_member(list, name);
      if (opt == nullptr)
        report_unknown(*value, list.plural + "." + name, known);
      else if (name == opt->alias && table.as_table().count(name_of(*opt)) > 0)
        add_error(*value, element_name(list, element) + "." + name + ": is another name of " + name_of(*opt) +
                              ", which is given too; keep one");
      else
        take(*opt, element, *value);
    }
  }

  /// The option of the list's elements with that name or alias, or null.
  static const option* find_member(const list_section& list, const std::string& name) {
    for (const auto& opt : options())
      if (list_of(opt) == &list && (name == name_of(opt) || (!opt.alias.empty() && name == opt.alias)))
        return &opt;
    return nullptr;
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
  std::map<std::string, std::string> lists_at_;
};

} // namespace

std::map<std::string, std::string> read_config_file(const std::string& file, const std::string& directory,
                                                    load_result& result) {
  namespace fs = std::filesystem;
  auto name = file.empty() ? std::string{default_file} : file;
  auto path = fs::path{directory} / name; // an absolute name replaces the directory
  std::error_code ignored;
  if (file.empty() && !fs::exists(fs::symlink_status(path, ignored)))
    return {};
  return file_reader{name, result}.read(path);
}

} // namespace sluice
