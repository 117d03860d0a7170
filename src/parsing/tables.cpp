// JSON and CSV: each value keeps its name, so that a piece of the text says what it is about.
#include "parsing/parsing.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "sluice/error.hpp"
#include "sluice/json_text.hpp"
#include "sluice/utf8.hpp"

namespace sluice::parsing {

namespace {

using nlohmann::json;

constexpr int max_depth = 64;
constexpr size_t max_columns = 10000;
/// Names stand before each of their values: bounded, or a small file makes an endless text.
constexpr size_t max_name = 200;

std::string short_name(const std::string& name) {
  return name.substr(0, whole_characters(name, max_name));
}

/// Writes values as they come, without a document in memory.
class value_writer : public nlohmann::json_sax<json> {
public:
  bool null() override { return true; }
  bool boolean(bool value) override { return put(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { return put(std::to_string(value)); }
  bool number_unsigned(number_unsigned_t value) override { return put(std::to_string(value)); }
  bool number_float(number_float_t, const string_t& text) override { return put(text); }
  bool string(string_t& value) override { return put(value); }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override {
    names_.emplace_back();
    return true;
  }
  bool key(string_t& value) override {
    names_.back() = short_name(value);
    return true;
  }
  bool end_object() override {
    names_.pop_back();
    return true;
  }
  bool start_array(std::size_t) override { return true; }
  bool end_array() override { return true; }
  bool parse_error(std::size_t at, const std::string&, const nlohmann::detail::exception&) override {
    wrong_at = at;
    return false;
  }

  /// More than that nobody takes.
  bool is_full() const { return text.size() > max_document_text; }

  std::string text;
  std::size_t wrong_at = 0;

private:
  bool put(const std::string& value) {
    std::string path;
    for (const auto& name : names_)
      path += (path.empty() ? "" : "/") + name;
    text += path.empty() ? value : path + ": " + value;
    text += '\n';
    return !is_full();
  }
  std::vector<std::string> names_;
};

char separator_of(std::string_view csv) {
  const auto line = csv.substr(0, csv.find('\n'));
  char best = ',';
  std::ptrdiff_t most = 0;
  for (char c : {',', ';', '\t', '|'})
    if (const auto n = std::count(line.begin(), line.end(), c); n > most) {
      best = c;
      most = n;
    }
  return best;
}

/// Reads one row (RFC 4180) and leaves `csv` behind it; false where a quote does not end.
bool take_row(std::string_view& csv, char separator, std::vector<std::string>& row) {
  row.assign(1, {});
  bool is_quoted = false;
  size_t at = 0;
  for (; at < csv.size(); ++at) {
    const char c = csv[at];
    if (is_quoted) {
      if (c != '"')
        row.back() += c;
      else if (at + 1 < csv.size() && csv[at + 1] == '"')
        row.back() += csv[++at];
      else
        is_quoted = false;
    } else if (c == '"' && row.back().empty()) {
      is_quoted = true;
    } else if (c == separator && row.size() < max_columns) {
      row.emplace_back();
    } else if (c == '\n') {
      break;
    } else if (c != '\r') {
      row.back() += c;
    }
  }
  csv.remove_prefix(std::min(at + 1, csv.size()));
  for (auto& field : row) {
    field.erase(0, field.find_first_not_of(" \t"));
    field.resize(field.find_last_not_of(" \t") + 1);
  }
  return !is_quoted;
}

} // namespace

caf::expected<std::string> json_text(std::string_view text) {
  if (is_nested_deeper(text, max_depth))
    return make_failure(ec::rejected, "the JSON is nested deeper than 64 levels");
  value_writer writer;
  if (!json::sax_parse(text, &writer) && !writer.is_full())
    return make_failure(ec::rejected,
                        "the text is no valid JSON: it goes wrong at byte " + std::to_string(writer.wrong_at));
  return std::move(writer.text);
}

caf::expected<std::string> csv_text(std::string_view csv) {
  const auto separator = separator_of(csv);
  std::vector<std::string> names, row;
  std::string out;
  for (size_t number = 1; !csv.empty() && out.size() <= max_document_text; ++number) {
    if (!take_row(csv, separator, row))
      return make_failure(ec::rejected,
                          "the CSV is damaged: a quote in row " + std::to_string(number) + " does not end");
    if (number == 1) {
      for (const auto& name : row) {
        out += (names.empty() ? "" : "; ") + name;
        names.push_back(short_name(name));
      }
      out += '\n';
      continue;
    }
    bool is_first = true;
    for (size_t i = 0; i < row.size(); ++i) {
      if (row[i].empty())
        continue;
      out += std::exchange(is_first, false) ? "" : "; ";
      out += (i < names.size() && !names[i].empty() ? names[i] + ": " : "") + row[i];
    }
    out += '\n';
  }
  return out;
}

} // namespace sluice::parsing
