/// gzip for streams that never end: blocks that stand alone, and sums that can be joined.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace sluice::http {

/// What gzip's trailer has to say of a row of bytes.
struct gzip_sum {
  uint32_t crc = 0;
  uint64_t length = 0;

  void add(std::string_view bytes);
  /// As if the bytes between two places of another row had been added; each place by the sum of all before it.
  void add_between(const gzip_sum& from, const gzip_sum& to);
};

/// Compresses blocks, each for itself: nobody has to have read one to understand the next. One thread.
class gzip_packer {
public:
  gzip_packer();
  ~gzip_packer();
  gzip_packer(const gzip_packer&) = delete;
  gzip_packer& operator=(const gzip_packer&) = delete;

  /// Holds until the next call. Throws std::bad_alloc.
  std::string_view pack(std::string_view plain);

private:
  struct state;
  std::unique_ptr<state> state_; ///< A quarter of a MiB, from the first call on.
};

/// What precedes the first block.
std::string_view gzip_header();
/// What follows the last block of the bytes with this sum.
std::string gzip_trailer(const gzip_sum& sum);

/// Whether a client with this Accept-Encoding takes gzip.
bool accepts_gzip(std::string_view accept_encoding);

} // namespace sluice::http
