#include "app/options.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <numeric>
#include <type_traits>
#include <utility>

#include "sluice/ascii.hpp"

namespace sluice {

namespace {

struct duration_unit {
  std::string_view suffix;
  int64_t milliseconds;
};
/// The longest first, so that a duration is shown in the longest unit that divides it.
constexpr std::array<duration_unit, 4> duration_units{{{"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}}};

std::string format_duration(int64_t ms) {
  for (const auto& unit : duration_units)
    if (ms != 0 && ms % unit.milliseconds == 0)
      return std::to_string(ms / unit.milliseconds) + std::string{unit.suffix};
  return std::to_string(ms) + "ms";
}

std::optional<int64_t> parse_number(std::string_view text) {
  int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size())
    return std::nullopt;
  return value;
}

/// "250ms", "5s", "1m", "2h", or a number of milliseconds.
std::optional<int64_t> parse_duration(std::string_view text) {
  auto digits = std::min(text.find_first_not_of("0123456789"), text.size());
  auto value = parse_number(text.substr(0, digits));
  auto suffix = text.substr(digits);
  if (!value)
    return std::nullopt;
  if (suffix.empty())
    return value;
  for (const auto& unit : duration_units)
    if (suffix == unit.suffix && *value <= std::numeric_limits<int64_t>::max() / unit.milliseconds)
      return *value * unit.milliseconds;
  return std::nullopt;
}

std::vector<std::string> split_list(std::string_view text) {
  std::vector<std::string> result;
  while (!text.empty()) {
    auto comma = std::min(text.find(','), text.size());
    auto item = text.substr(0, comma);
    auto first = std::min(item.find_first_not_of(' '), item.size());
    item = item.substr(first, item.find_last_not_of(' ') + 1 - first);
    result.emplace_back(item);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return result;
}

std::string join(const std::vector<std::string>& items, std::string_view separator) {
  std::string result;
  for (const auto& item : items)
    result += (result.empty() ? "" : std::string{separator}) + item;
  return result;
}

/// How a wrong value reads in a message.
std::string shown(const option_value& value) {
  if (auto* flag = std::get_if<bool>(&value))
    return *flag ? "true" : "false";
  if (auto* number = std::get_if<int64_t>(&value))
    return std::to_string(*number);
  if (auto* text = std::get_if<std::string>(&value))
    return toml_string(*text);
  return "[" + join(std::get<std::vector<std::string>>(value), ", ") + "]";
}

/// A field's address as read from a const configuration; nothing is written through it.
field_ref field_of(const option& opt, const config& cfg, std::size_t element) {
  return opt.field(const_cast<config&>(cfg), element);
}

/// A configuration whose fields say each option's type and default, with an element in each list.
const config& defaults() {
  static const config value = [] {
    config result;
    for (const auto& list : list_sections())
      if (!list.has_default)
        list.add(result);
    return result;
  }();
  return value;
}

template <class T>
bool holds(const option& opt) {
  return std::holds_alternative<T*>(field_of(opt, defaults(), 0));
}

bool is_number(const option& opt) {
  return holds<uint16_t>(opt) || holds<uint32_t>(opt) || holds<int32_t>(opt);
}

/// Stores `value` in the field; false where its type, range or choice is wrong.
class storer {
public:
  storer(const option& opt, const option_value& value) : opt_(opt), value_(value) {}

  bool operator()(bool* field) const { return copy(field); }

  bool operator()(std::vector<std::string>* field) const {
    if (copy(field))
      return true;
    if (auto* text = std::get_if<std::string>(&value_)) { // one topic, or "a,b", instead of an array
      *field = split_list(*text);
      return true;
    }
    return false;
  }

  bool operator()(std::string* field) const {
    auto* text = std::get_if<std::string>(&value_);
    if (text == nullptr)
      return false;
    if (opt_.choices.empty()) {
      *field = *text;
      return true;
    }
    for (const auto& choice : opt_.choices)
      if (lower(choice) == lower(*text)) { // KafkaJS writes mechanisms in lower case
        *field = choice;
        return true;
      }
    return false;
  }

  bool operator()(milliseconds* field) const {
    auto* number = std::get_if<int64_t>(&value_);
    auto* text = std::get_if<std::string>(&value_);
    auto ms = number != nullptr ? std::optional{*number} : text != nullptr ? parse_duration(*text) : std::nullopt;
    if (!ms || *ms < opt_.min || *ms > opt_.max)
      return false;
    *field = milliseconds{*ms};
    return true;
  }

  template <class Int>
  bool operator()(Int* field) const {
    auto* number = std::get_if<int64_t>(&value_);
    if (number == nullptr || *number < opt_.min || *number > opt_.max || !std::in_range<Int>(*number))
      return false;
    *field = static_cast<Int>(*number);
    return true;
  }

private:
  template <class T>
  bool copy(T* field) const {
    if (auto* given = std::get_if<T>(&value_)) {
      *field = *given;
      return true;
    }
    return false;
  }

  const option& opt_;
  const option_value& value_;
};

/// Lower case without '_' and '-': how names are compared when someone mistyped one.
std::string normalised(std::string_view word) {
  auto result = lower(word);
  std::erase_if(result, [](char c) { return c == '_' || c == '-'; });
  return result;
}

/// Levenshtein distance.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    auto diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      auto substituted = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({substituted, diagonal + 1, row[j] + 1});
    }
  }
  return row.back();
}

std::string default_text(const option& opt) {
  auto text = to_toml(opt, defaults(), 0);
  return text == "\"\"" ? std::string{} : text;
}

std::string wrong_value(const option& opt, const std::string& value) {
  return (opt.secret ? "the value (not shown here)" : value) + " is not " + expectation(opt);
}

/// What goes into the docs' column "values".
std::string values_text(const option& opt) {
  if (is_number(opt))
    return std::to_string(opt.min) + " to " + std::to_string(opt.max);
  if (holds<milliseconds>(opt))
    return format_duration(opt.min) + " to " + format_duration(opt.max);
  if (holds<bool>(opt))
    return "true, false";
  if (holds<std::vector<std::string>>(opt))
    return "list of texts";
  return opt.choices.empty() ? "text" : join(opt.choices, ", ");
}

} // namespace

const option* find_option(std::string_view key) {
  for (const auto& opt : options())
    if (opt.key == key)
      return &opt;
  return nullptr;
}

std::string section_of(const option& opt) {
  auto dot = opt.key.find('.');
  return dot == std::string::npos ? std::string{} : opt.key.substr(0, dot);
}

std::string name_of(const option& opt) {
  auto dot = opt.key.find('.');
  return dot == std::string::npos ? opt.key : opt.key.substr(dot + 1);
}

const list_section* list_of(const option& opt) {
  auto section = section_of(opt);
  for (const auto& list : list_sections())
    if (list.singular == section)
      return &list;
  return nullptr;
}

bool is_file_only(const option& opt) {
  const auto* list = list_of(opt);
  return list != nullptr && !list->has_default;
}

std::optional<std::string> file_only_hint(std::string_view word) {
  auto name = normalised(word);
  if (name.starts_with("sluice"))
    name.erase(0, std::string_view{"sluice"}.size());
  for (const auto& list : list_sections())
    if (!list.has_default && name.starts_with(list.singular))
      return list.plural + " are set by the file only; write [[" + list.plural + "]] there";
  return std::nullopt;
}

std::string element_name(const list_section& list, std::size_t element) {
  return list.plural + "[" + std::to_string(element) + "]";
}

std::string shown_key(const option& opt, std::size_t element) {
  const auto* list = list_of(opt);
  return list == nullptr ? opt.key : element_name(*list, element) + "." + name_of(opt);
}

std::string expectation(const option& opt) {
  if (is_number(opt))
    return "a number from " + std::to_string(opt.min) + " to " + std::to_string(opt.max);
  if (holds<milliseconds>(opt))
    return "a duration from " + format_duration(opt.min) + " to " + format_duration(opt.max) +
           " (250ms, 5s, 1m, 1h, or a number of milliseconds)";
  if (holds<bool>(opt))
    return "true or false";
  if (holds<std::vector<std::string>>(opt))
    return "a list of texts";
  return opt.choices.empty() ? "a text" : "one of " + join(opt.choices, ", ");
}

std::optional<std::string> set_value(const option& opt, config& cfg, std::size_t element, const option_value& value) {
  if (std::visit(storer{opt, value}, opt.field(cfg, element)))
    return std::nullopt;
  return wrong_value(opt, shown(value));
}

std::optional<std::string> set_text(const option& opt, config& cfg, std::size_t element, std::string_view text) {
  option_value value = std::string{text};
  if (is_number(opt)) {
    if (auto number = parse_number(text))
      value = *number;
  } else if (holds<bool>(opt)) {
    auto word = lower(text);
    if (word == "true" || word == "1" || word == "yes" || word == "on")
      value = true;
    else if (word == "false" || word == "0" || word == "no" || word == "off")
      value = false;
  }
  if (std::visit(storer{opt, value}, opt.field(cfg, element)))
    return std::nullopt;
  return wrong_value(opt, toml_string(text)); // as it was written, also where it was read as a number
}

std::string to_toml(const option& opt, const config& cfg, std::size_t element) {
  auto show = [&opt](const auto* field) -> std::string {
    using field_type = std::remove_cvref_t<decltype(*field)>;
    if constexpr (std::is_same_v<field_type, std::string>) {
      return opt.secret && !field->empty() ? "\"***\"" : toml_string(*field);
    } else if constexpr (std::is_same_v<field_type, std::vector<std::string>>) {
      std::vector<std::string> items;
      for (const auto& item : *field)
        items.push_back(toml_string(item));
      return "[" + join(items, ", ") + "]";
    } else if constexpr (std::is_same_v<field_type, bool>) {
      return *field ? "true" : "false";
    } else if constexpr (std::is_same_v<field_type, milliseconds>) {
      return toml_string(format_duration(field->count()));
    } else {
      return std::to_string(*field);
    }
  };
  return std::visit(show, field_of(opt, cfg, element));
}

std::string toml_string(std::string_view text) {
  static constexpr std::string_view hex = "0123456789abcdef";
  std::string result = "\"";
  for (char c : text) {
    auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      result += "\\u00";
      result += hex[byte >> 4U];
      result += hex[byte & 15U];
    } else {
      result += c;
    }
  }
  return result + '"';
}

std::optional<std::string> nearest(std::string_view word, const std::vector<std::string>& candidates) {
  auto wanted = normalised(word);
  std::optional<std::string> best;
  auto best_distance = std::max<std::size_t>(2, wanted.size() / 3) + 1; // further away is another word
  for (const auto& candidate : candidates) {
    auto name = normalised(candidate);
    auto far = name.ends_with("." + wanted) ? 0 : distance(wanted, name);
    if (far < best_distance) {
      best_distance = far;
      best = candidate;
    }
  }
  return best;
}

std::string options_markdown() {
  std::string result;
  std::optional<std::string> section;
  for (const auto& opt : options()) {
    if (section != section_of(opt)) {
      section = section_of(opt);
      const auto* list = list_of(opt);
      auto title = section->empty()  ? "At the top of the file"
                   : list != nullptr ? "`[[" + list->plural + "]]`"
                                     : "`[" + *section + "]`";
      result += (result.empty() ? "### " : "\n### ") + title + "\n\n";
      if (is_file_only(opt))
        result += "Set by the file only: without environment variables and flags.\n\n";
      result += "| key | values | default | environment | meaning |\n|---|---|---|---|---|\n";
    }
    auto fallback = default_text(opt);
    std::string variables;
    for (const auto& name : opt.env)
      variables += (variables.empty() ? "`" : ", `") + name + "`";
    result += "| `" + opt.key + "`" + (opt.flag.empty() ? "" : " (`" + opt.flag + "`)") + " | " + values_text(opt) +
              " | " + (fallback.empty() ? "" : "`" + fallback + "`") + " | " + variables + " | " + opt.help +
              (opt.secret ? " Secret." : "") + " |\n";
  }
  return result;
}

std::string flag_help(const option& opt) {
  auto fallback = default_text(opt);
  std::string help = opt.help;
  std::erase(help, '`');
  return help + " [" + values_text(opt) + (fallback.empty() ? "" : "; default " + fallback) + "; env " +
         join(opt.env, ", ") + "]";
}

} // namespace sluice
