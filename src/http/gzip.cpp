#include "http/gzip.hpp"

#include <algorithm>
#include <new>

#include <zlib.h>

#include "sluice/ascii.hpp"

namespace sluice::http {

namespace {

/// zlib's count is 32 bits wide.
constexpr size_t most_at_once = 1 << 30;
constexpr size_t kept_output = 1 << 20;
constexpr int plain_deflate = -15; ///< No header of zlib's own; the largest window.
constexpr int memory_level = 8;

const unsigned char* bytes_of(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

} // namespace

void gzip_sum::add(std::string_view bytes) {
  length += bytes.size();
  crc = static_cast<uint32_t>(::crc32_z(crc, bytes_of(bytes), bytes.size()));
}

void gzip_sum::add_between(const gzip_sum& from, const gzip_sum& to) {
  auto size = static_cast<z_off_t>(to.length - from.length);
  if (size == 0)
    return;
  auto between = to.crc ^ static_cast<uint32_t>(::crc32_combine(from.crc, 0, size));
  crc = static_cast<uint32_t>(::crc32_combine(crc, between, size));
  length += static_cast<uint64_t>(size);
}

struct gzip_packer::state {
  state() {
    if (::deflateInit2(&zlib, Z_DEFAULT_COMPRESSION, Z_DEFLATED, plain_deflate, memory_level, Z_DEFAULT_STRATEGY) !=
        Z_OK)
      throw std::bad_alloc{};
  }
  ~state() { ::deflateEnd(&zlib); }
  z_stream zlib{};
  std::string out;
};

gzip_packer::gzip_packer() = default;
gzip_packer::~gzip_packer() = default;

std::string_view gzip_packer::pack(std::string_view plain) {
  if (!state_)
    state_ = std::make_unique<state>();
  auto& zlib = state_->zlib;
  auto& out = state_->out;
  if (out.size() > kept_output)
    std::string{}.swap(out);
  ::deflateReset(&zlib); // forgets the block before
  size_t used = 0;
  while (!plain.empty()) {
    auto part = plain.substr(0, most_at_once);
    plain.remove_prefix(part.size());
    zlib.next_in = const_cast<unsigned char*>(bytes_of(part)); // deflate only reads
    zlib.avail_in = static_cast<uInt>(part.size());
    do {
      if (out.size() - used < 256)
        out.resize(std::max<size_t>(2 * out.size(), ::deflateBound(&zlib, zlib.avail_in) + 256));
      auto room = std::min(out.size() - used, most_at_once);
      zlib.next_out = reinterpret_cast<unsigned char*>(out.data()) + used;
      zlib.avail_out = static_cast<uInt>(room);
      ::deflate(&zlib, Z_FULL_FLUSH);
      used += room - zlib.avail_out;
    } while (zlib.avail_out == 0);
  }
  return {out.data(), used};
}

std::string_view gzip_header() {
  // Deflate, no flags, no time, no hint, "unknown" system (RFC 1952).
  return {"\x1f\x8b\x08\0\0\0\0\0\0\xff", 10};
}

std::string gzip_trailer(const gzip_sum& sum) {
  std::string out{"\x03\x00", 2}; // the last block, an empty one
  for (auto number : {sum.crc, static_cast<uint32_t>(sum.length)})
    for (int shift = 0; shift < 32; shift += 8)
      out.push_back(static_cast<char>(number >> shift));
  return out;
}

bool accepts_gzip(std::string_view accept_encoding) {
  while (!accept_encoding.empty()) {
    auto comma = accept_encoding.find(',');
    auto one = accept_encoding.substr(0, comma);
    accept_encoding.remove_prefix(comma == std::string_view::npos ? accept_encoding.size() : comma + 1);
    auto semicolon = one.find(';');
    if (auto name = lower(trimmed(one.substr(0, semicolon))); name != "gzip" && name != "x-gzip")
      continue;
    auto weight = semicolon == std::string_view::npos ? std::string{} : lower(trimmed(one.substr(semicolon + 1)));
    // "q=0", "q=0.0" and the like: not that.
    return !weight.starts_with("q=0") || weight.find_first_of("123456789") != std::string::npos;
  }
  return false;
}

} // namespace sluice::http
