#include "store/record_bytes.hpp"

#include <cstdint>
#include <utility>

namespace sluice::store {

namespace {

// A version, then fields in order: numbers as eight bytes, the lowest first; texts as their length, or -1 where there
// is none, and their bytes.
constexpr char version = 1;

void put(std::string& out, int64_t number) {
  auto bits = static_cast<uint64_t>(number);
  for (int i = 0; i < 8; ++i, bits >>= 8)
    out += static_cast<char>(bits & 0xff);
}

void put(std::string& out, std::string_view text) {
  put(out, static_cast<int64_t>(text.size()));
  out += text;
}

void put(std::string& out, const std::optional<std::string>& text) {
  if (text)
    put(out, std::string_view{*text});
  else
    put(out, int64_t{-1});
}

class reader {
public:
  explicit reader(std::string_view bytes) : left_(bytes) {}

  int64_t number() {
    if (left_.size() < 8) {
      broken = true;
      return 0;
    }
    uint64_t bits = 0;
    for (std::size_t i = 8; i-- > 0;)
      bits = bits << 8 | static_cast<unsigned char>(left_[i]);
    left_.remove_prefix(8);
    return static_cast<int64_t>(bits);
  }

  std::optional<std::string> text() {
    auto size = number();
    if (broken || size == -1)
      return std::nullopt;
    if (size < 0 || static_cast<uint64_t>(size) > left_.size()) {
      broken = true;
      return std::nullopt;
    }
    std::string out{left_.substr(0, static_cast<std::size_t>(size))};
    left_.remove_prefix(static_cast<std::size_t>(size));
    return out;
  }

  bool at_end() const { return left_.empty(); }
  bool broken = false;

private:
  std::string_view left_;
};

} // namespace

std::string to_bytes(const outgoing_record& record) {
  std::string out(1, version);
  put(out, record.key);
  put(out, record.value);
  put(out, int64_t{record.partition});
  put(out, record.timestamp_ms);
  put(out, static_cast<int64_t>(record.headers.size()));
  for (const auto& header : record.headers) {
    put(out, std::string_view{header.name});
    put(out, header.has_value ? std::optional{header.value} : std::nullopt);
  }
  return out;
}

std::optional<outgoing_record> from_bytes(std::string_view bytes) {
  if (bytes.empty() || bytes.front() != version)
    return std::nullopt;
  reader in{bytes.substr(1)};
  outgoing_record record;
  record.key = in.text();
  record.value = in.text();
  record.partition = static_cast<int32_t>(in.number());
  record.timestamp_ms = in.number();
  for (auto headers = in.number(); headers > 0 && !in.broken; --headers) {
    auto name = in.text(), value = in.text();
    if (name)
      record.headers.push_back({std::move(*name), value.value_or(""), value.has_value()});
    else
      in.broken = true;
  }
  if (in.broken || !in.at_end())
    return std::nullopt;
  return record;
}

} // namespace sluice::store
