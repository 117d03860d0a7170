/// Reads the number (and the key) of an event, fast. One per actor: it reuses its buffers.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

/// Reads JSON with simdjson: the whole text is checked, then the members at two JSON pointers are taken.
class event_reader {
public:
  /// Pointers as in RFC 6901; an empty `key_pointer` means "no key", an empty `value_pointer` the whole value.
  event_reader(const std::string& value_pointer, const std::string& key_pointer);
  ~event_reader();
  event_reader(event_reader&&) noexcept;
  event_reader& operator=(event_reader&&) noexcept;

  /// Reads `text`. On success `value` and `key` are set; `key` is valid until the next call. Otherwise the answer says,
  /// for people, what is wrong. Strings are taken as keys as they are, numbers and booleans as their JSON text.
  const char* read(std::string_view text, double& value, std::string_view& key);
  /// Whether `text` is one valid JSON document.
  bool valid(std::string_view text);
  /// A JSON pointer's parts, decoded.
  using path = std::vector<std::string>;
  static path split(const std::string& pointer);
  /// What is at `where` in the document that was read last (and was valid), appended to `out`: a string as it is, a
  /// number or boolean as its JSON text, a list's elements each. Anything else, or nothing there: nothing.
  void texts_at(const path& where, std::vector<std::string>& out);
  /// The document that was read last, without this member, as JSON; whole where it is no object.
  std::string object_without(std::string_view member);

private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

} // namespace sluice
