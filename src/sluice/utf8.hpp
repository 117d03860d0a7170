/// UTF-8. Pure functions: any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace sluice {

/// Whether it is UTF-8: no overlong forms, no surrogates, nothing beyond U+10FFFF.
bool is_utf8(std::string_view text);

/// The bytes of the first character; 0 where `text` is empty or does not begin with a whole one.
std::size_t character_size(std::string_view text);

/// `text` with U+FFFD for each byte that is part of no character.
std::string repair_utf8(std::string_view text);

/// The length of the longest beginning of `text`, UTF-8, that has at most `most` bytes and no half character at its
/// end.
std::size_t whole_characters(std::string_view text, std::size_t most);

/// Appends a code point; U+FFFD for what is none.
void append_utf8(std::string& out, char32_t point);

} // namespace sluice
