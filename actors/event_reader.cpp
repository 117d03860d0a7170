#include "event_reader.hpp"

#include <charconv>
#include <cstring>

#include <simdjson.h>

#include "sluice/json_text.hpp"

namespace sluice {

namespace {

using path = event_reader::path;

// Appends "e0" to each integer of 19 digits and more.
std::string widen_integers(std::string_view text) {
  std::string out;
  bool quoted = false;
  for (size_t i = 0; i < text.size();) {
    auto start = i;
    while (!quoted && i < text.size() && text[i] >= '0' && text[i] <= '9')
      ++i;
    auto digits = i - start;
    out.append(text, start, digits);
    if (i == text.size())
      break;
    char next = text[i];
    bool fraction_before = start > 0 && (text[start - 1] == '.' || text[start - 1] == 'e' || text[start - 1] == 'E' ||
                                         text[start - 1] == '+');
    if (digits >= 19 && next != '.' && next != 'e' && next != 'E' && !fraction_before)
      out += "e0";
    out += next;
    ++i;
    if (quoted && next == '\\' && i < text.size())
      out += text[i++];
    else if (next == '"')
      quoted = !quoted;
  }
  return out;
}

bool walk(simdjson::dom::element& at, const path& where) {
  for (const auto& part : where) {
    simdjson::dom::element next;
    if (at.is_object()) {
      if (at.get_object().at_key(part).get(next) != simdjson::SUCCESS)
        return false;
    } else if (at.is_array()) {
      size_t index = 0;
      auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), index);
      if (error != std::errc{} || end != part.data() + part.size() ||
          at.get_array().at(index).get(next) != simdjson::SUCCESS)
        return false;
    } else {
      return false;
    }
    at = next;
  }
  return true;
}

} // namespace

// "/a/b~1c" -> {"a", "b/c"}. Split once here, not once an event.
event_reader::path event_reader::split(const std::string& pointer) {
  path parts;
  for (size_t i = 0; i < pointer.size(); ++i) {
    if (pointer[i] == '/')
      parts.emplace_back();
    else if (pointer[i] == '~' && i + 1 < pointer.size())
      parts.back() += pointer[++i] == '1' ? '/' : '~';
    else
      parts.back() += pointer[i];
  }
  return parts;
}

struct event_reader::impl {
  simdjson::dom::parser parser;
  std::string padded;          // simdjson reads a little beyond the end
  simdjson::dom::element last; // what `valid` read
  path value, key;
  bool keyed = false;
  std::string key_text;

  bool parse(std::string_view text, simdjson::dom::element& root) {
    if (parse_once(text, root) == simdjson::SUCCESS)
      return true;
    // Integers beyond 64 bits are valid JSON that simdjson refuses, but not as floating point.
    auto widened = widen_integers(text);
    return widened.size() > text.size() && parse_once(widened, root) == simdjson::SUCCESS;
  }

  simdjson::error_code parse_once(std::string_view text, simdjson::dom::element& root) {
    if (padded.size() < text.size() + simdjson::SIMDJSON_PADDING)
      padded.resize(2 * text.size() + simdjson::SIMDJSON_PADDING);
    std::memcpy(padded.data(), text.data(), text.size());
    return parser.parse(padded.data(), text.size(), false).get(root);
  }
};

event_reader::event_reader(const std::string& value_pointer, const std::string& key_pointer)
    : impl_(std::make_unique<impl>()) {
  impl_->value = split(value_pointer);
  impl_->key = split(key_pointer);
  impl_->keyed = !key_pointer.empty();
}

event_reader::~event_reader() = default;
event_reader::event_reader(event_reader&&) noexcept = default;
event_reader& event_reader::operator=(event_reader&&) noexcept = default;

bool event_reader::valid(std::string_view text) {
  return impl_->parse(text, impl_->last);
}

void event_reader::texts_at(const path& where, std::vector<std::string>& out) {
  auto at = impl_->last;
  if (!walk(at, where))
    return;
  auto take = [&out](simdjson::dom::element one) {
    if (one.is_string())
      out.emplace_back(one.get_string().value());
    else if (one.is_number() || one.is_bool())
      out.push_back(simdjson::minify(one));
  };
  if (!at.is_array()) {
    take(at);
    return;
  }
  for (auto one : at.get_array())
    take(one);
}

std::string event_reader::object_without(std::string_view member) {
  simdjson::dom::object object;
  if (impl_->last.get_object().get(object) != simdjson::SUCCESS)
    return simdjson::minify(impl_->last);
  std::string out = "{";
  for (auto field : object) {
    if (field.key == member)
      continue;
    if (out.size() > 1)
      out += ',';
    append_string(out, field.key);
    out += ':';
    out += simdjson::minify(field.value);
  }
  return out + "}";
}

const char* event_reader::read(std::string_view text, double& value, std::string_view& key) {
  simdjson::dom::element root;
  if (!impl_->parse(text, root))
    return "the record's value is not valid JSON";
  auto at = root;
  if (!walk(at, impl_->value))
    return "nothing is at the value pointer";
  if (!at.is_number())
    return "what is at the value pointer is not a number";
  value = at.get_double();
  key = {};
  if (!impl_->keyed)
    return nullptr;
  at = root;
  if (!walk(at, impl_->key))
    return "nothing is at the key pointer";
  if (at.is_string())
    key = at.get_string();
  else if (at.is_number() || at.is_bool())
    key = impl_->key_text = simdjson::minify(at);
  else
    return "what is at the key pointer is neither a string, a number nor a boolean";
  return nullptr;
}

} // namespace sluice
