/// Numbers in URLs.
#pragma once

#include <charconv>
#include <optional>
#include <string>

namespace sluice::http {

/// `text` as a number from `least` to `most`; nothing for anything else.
template <class Number>
std::optional<Number> number_of(const std::string& text, Number least, Number most) {
  Number result{};
  auto [at, error] = std::from_chars(text.data(), text.data() + text.size(), result);
  auto good = error == std::errc{} && at == text.data() + text.size() && result >= least && result <= most;
  return good ? std::optional{result} : std::nullopt;
}

} // namespace sluice::http
