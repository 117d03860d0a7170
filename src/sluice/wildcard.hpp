/// Names with wildcards.
#pragma once

#include <string_view>

namespace sluice {

/// Whether `text` fits `pattern`, in which `*` stands for any characters, also none. Linear in practice, never
/// exponential.
constexpr bool fits_pattern(std::string_view pattern, std::string_view text) {
  // Greedy with one step back: the last `*` takes one character more when what follows does not fit.
  size_t p = 0;
  size_t t = 0;
  size_t star = std::string_view::npos;
  size_t from = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      from = t;
    } else if (p < pattern.size() && pattern[p] == text[t]) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++from;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

} // namespace sluice
