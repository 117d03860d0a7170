/// What a browser makes of an event stream: WHATWG HTML 9.2.5 and 9.2.6 to the letter, written without a look at the
/// encoder. Takes the bytes in any cuts.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::test {

/// UTF-8 as the Encoding Standard decodes it: what is invalid becomes U+FFFD. Gives UTF-8 again.
class utf8_decoder {
public:
  void feed(char c, std::string& out) {
    auto byte = static_cast<uint8_t>(c);
    if (missing_ > 0 && (byte < low_ || byte > high_))
      finish(out); // and this byte begins anew
    if (missing_ > 0) {
      held_ += c;
      low_ = 0x80;
      high_ = 0xbf;
      if (--missing_ == 0)
        out += std::exchange(held_, {});
    } else if (byte < 0x80) {
      out += c;
    } else if (byte >= 0xc2 && byte <= 0xf4) {
      missing_ = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
      low_ = byte == 0xe0 ? 0xa0 : byte == 0xf0 ? 0x90 : 0x80;
      high_ = byte == 0xed ? 0x9f : byte == 0xf4 ? 0x8f : 0xbf;
      held_ = c;
    } else {
      out += replacement;
    }
  }

  /// Nothing more comes, or nothing that fits.
  void finish(std::string& out) {
    if (std::exchange(missing_, 0) > 0)
      out += replacement;
    held_.clear();
  }

private:
  static constexpr std::string_view replacement = "\xEF\xBF\xBD";
  std::string held_;
  int missing_ = 0;
  uint8_t low_ = 0x80, high_ = 0xbf; ///< Between these the next byte has to be.
};

inline std::string decode_utf8(std::string_view bytes) {
  std::string out;
  utf8_decoder decoder;
  for (char c : bytes)
    decoder.feed(c, out);
  decoder.finish(out);
  return out;
}

struct fired_event {
  std::string type, data, id;
  bool operator==(const fired_event&) const = default;
};

class event_source {
public:
  std::vector<fired_event> fired;
  std::string last_event_id; ///< What would be sent back.
  std::optional<uint64_t> retry;
  size_t comments = 0;
  size_t ignored = 0; ///< Lines that are no comment and have no effect: unknown fields, bad ids, bad times.

  void feed(std::string_view bytes) {
    for (char c : bytes) {
      std::string text;
      decoder_.feed(c, text);
      for (char one : text)
        take(one);
    }
  }

private:
  void take(char c) {
    if (std::exchange(after_cr_, c == '\r') && c == '\n')
      return; // of one CRLF
    if (c != '\r' && c != '\n') {
      line_ += c;
      return;
    }
    if (std::exchange(at_start_, false) && line_.starts_with("\xEF\xBB\xBF"))
      line_.erase(0, 3);
    end_line(std::exchange(line_, {}));
  }

  void end_line(const std::string& line) {
    if (line.empty()) {
      dispatch();
      return;
    }
    auto colon = line.find(':');
    if (colon == 0) {
      ++comments;
      return;
    }
    auto value = colon == std::string::npos ? std::string{} : line.substr(colon + 1);
    if (value.starts_with(' '))
      value.erase(0, 1);
    if (!process(line.substr(0, colon), value))
      ++ignored;
  }

  bool process(const std::string& name, const std::string& value) {
    if (name == "event") {
      type_ = value;
    } else if (name == "data") {
      data_ += value + "\n";
    } else if (name == "id" && value.find('\0') == std::string::npos) {
      id_ = value;
    } else if (name == "retry" && !value.empty() &&
               std::all_of(value.begin(), value.end(), [](char c) { return c >= '0' && c <= '9'; })) {
      retry = std::stoull(value);
    } else {
      return false;
    }
    return true;
  }

  void dispatch() {
    last_event_id = id_;
    auto type = std::exchange(type_, {});
    auto data = std::exchange(data_, {});
    if (data.empty())
      return;
    data.pop_back(); // the last line's end
    fired.push_back({type.empty() ? "message" : type, data, last_event_id});
  }

  utf8_decoder decoder_;
  bool at_start_ = true, after_cr_ = false;
  std::string line_, type_, data_, id_;
};

/// A source that was given the bytes in pieces of `cut` bytes; 0: all at once.
inline event_source parse_stream(std::string_view bytes, size_t cut = 0) {
  event_source source;
  while (!bytes.empty()) {
    auto size = cut == 0 ? bytes.size() : std::min(cut, bytes.size());
    source.feed(bytes.substr(0, size));
    bytes.remove_prefix(size);
  }
  return source;
}

} // namespace sluice::test
