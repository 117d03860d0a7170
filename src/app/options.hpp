/// The one table of options. File, environment, flags, `--help`, `sluice config` and docs/configuration.md derive from
/// it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "sluice/config.hpp"

namespace sluice {

/// Where an option's value is kept; the alternative is its type.
using field_ref =
    std::variant<std::string*, std::vector<std::string>*, bool*, uint16_t*, uint32_t*, int32_t*, milliseconds*>;

/// A value on its way in, typed; durations are milliseconds.
using option_value = std::variant<bool, int64_t, std::string, std::vector<std::string>>;

struct option {
  std::string key; ///< `section.key`, or `key` at the top. With a list's singular as section: a field of one element.
  /// The field in `cfg`; of element number `element` for options of a list, which others ignore.
  field_ref (*field)(config& cfg, std::size_t element) = nullptr;
  std::string help;
  std::vector<std::string> env{};     ///< Environment variables, the strongest first. Complete in `options()`.
  std::string flag{};                 ///< A short form of `--<key>`, e.g. `--port`.
  std::string alias{};                ///< Another name in the file; for options of a list.
  int64_t min = 0;                    ///< Least number or milliseconds.
  int64_t max = 0;                    ///< Greatest number or milliseconds.
  std::vector<std::string> choices{}; ///< All texts allowed; empty = any.
  bool secret = false;                ///< Never shown.
};

/// A list of tables in the file, such as `[[aggregations]]`. Its options are those of one element.
struct list_section {
  std::string singular; ///< "aggregation": the section of its options' keys.
  std::string plural;   ///< "aggregations": its key in the file.
  std::size_t (*count)(const config& cfg) = nullptr;
  void (*clear)(config& cfg) = nullptr;
  void (*add)(config& cfg) = nullptr; ///< Appends an element of defaults.
  /// Whether there is one element without a file, which environment and flags change. Else only the file sets the list,
  /// and its options have neither variables nor flags. Complete in `list_sections()`.
  bool has_default = false;
};

/// All options, in the order they are shown; those of lists stand last. Immutable, from any thread.
const std::vector<option>& options();

/// All lists, in the order they are shown. Immutable, from any thread.
const std::vector<list_section>& list_sections();

/// The list whose element the option describes, or null.
const list_section* list_of(const option& opt);

/// Whether neither environment nor flags can set the option.
bool is_file_only(const option& opt);

/// What to tell someone who tries with the variable or flag `word`: nothing where it is none of such a list.
std::optional<std::string> file_only_hint(std::string_view word);

/// How messages and sources call an element: "aggregations[0]".
std::string element_name(const list_section& list, std::size_t element);

/// How messages and sources call an option: its key, or "aggregations[0].batchSize".
std::string shown_key(const option& opt, std::size_t element);

/// The option with that key, or null.
const option* find_option(std::string_view key);

/// "kafka" for `kafka.brokers`, "" for `node`.
std::string section_of(const option& opt);

/// "brokers" for `kafka.brokers`.
std::string name_of(const option& opt);

/// What a value may be, for messages and docs: "a number from 0 to 65535", "one of human, json", …
std::string expectation(const option& opt);

/// Checks a typed value and stores it. Returns what is wrong (`"abc" is not a number from 0 to 65535`), else nothing.
std::optional<std::string> set_value(const option& opt, config& cfg, std::size_t element, const option_value& value);

/// The same for a text from environment or flag: "42", "5s", "true", "a,b".
std::optional<std::string> set_text(const option& opt, config& cfg, std::size_t element, std::string_view text);

/// The value as a TOML literal; a secret that is not empty becomes "***".
std::string to_toml(const option& opt, const config& cfg, std::size_t element);

/// A TOML basic string, escaped.
std::string toml_string(std::string_view text);

/// The candidate nearest to `word`, if there is one that may be meant. Case, '_' and '-' do not count, and a word that
/// is a candidate's last part (`port` for `http.port`) is nearest.
std::optional<std::string> nearest(std::string_view word, const std::vector<std::string>& candidates);

/// The tables of all options for docs/configuration.md, one a section, in Markdown.
std::string options_markdown();

/// Help of one option with its values, default and environment variables, for `--help`.
std::string flag_help(const option& opt);

} // namespace sluice
