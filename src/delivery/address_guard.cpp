#include "delivery/address_guard.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include <arpa/inet.h>
#include <netinet/in.h>

namespace sluice::outbound {

namespace {

struct network4 {
  uint32_t address;
  int bits;
};

constexpr uint32_t v4(uint32_t a, uint32_t b, uint32_t c = 0, uint32_t d = 0) {
  return a << 24U | b << 16U | c << 8U | d;
}

constexpr std::array<network4, 15> inner4{{
    {v4(0, 0), 8},          // this network
    {v4(10, 0), 8},         // private
    {v4(100, 64), 10},      // carriers' NAT
    {v4(127, 0), 8},        // loopback
    {v4(169, 254), 16},     // link-local, clouds' metadata
    {v4(172, 16), 12},      // private
    {v4(192, 0, 0), 24},    // protocol assignments
    {v4(192, 0, 2), 24},    // documentation
    {v4(192, 88, 99), 24},  // 6to4 relays
    {v4(192, 168), 16},     // private
    {v4(198, 18), 15},      // benchmarks
    {v4(198, 51, 100), 24}, // documentation
    {v4(203, 0, 113), 24},  // documentation
    {v4(224, 0), 4},        // multicast
    {v4(240, 0), 4},        // reserved, broadcast
}};

bool is_public4(uint32_t address) {
  return std::none_of(inner4.begin(), inner4.end(), [address](const network4& one) {
    return (address ^ one.address) >> static_cast<unsigned>(32 - one.bits) == 0;
  });
}

using bytes6 = std::array<uint8_t, 16>;

struct network6 {
  bytes6 address;
  int bits;
};

/// All of 2000::/3 is public but these; of all else only IPv4 inside is.
constexpr std::array<network6, 4> inner6{{
    {{0x20, 0x01}, 23},             // protocol assignments, Teredo
    {{0x20, 0x01, 0x0d, 0xb8}, 32}, // documentation
    {{0x20, 0x02}, 16},             // 6to4
    {{0x3f, 0xff}, 20},             // documentation
}};
constexpr network6 global6{{0x20}, 3};
constexpr network6 mapped4{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 96};
constexpr network6 nat64{{0, 0x64, 0xff, 0x9b}, 96};

bool holds(const network6& network, const bytes6& address) {
  for (int bit = 0; bit < network.bits; bit += 8) {
    const auto at = static_cast<size_t>(bit / 8);
    const auto left = static_cast<unsigned>(std::min(network.bits - bit, 8));
    if ((network.address[at] ^ address[at]) >> (8U - left) != 0)
      return false;
  }
  return true;
}

bool is_public6(const bytes6& address) {
  if (holds(mapped4, address) || holds(nat64, address))
    return is_public4(v4(address[12], address[13], address[14], address[15]));
  return holds(global6, address) &&
         std::none_of(inner6.begin(), inner6.end(), [&](const network6& one) { return holds(one, address); });
}

} // namespace

bool is_public(const sockaddr& address) {
  if (address.sa_family == AF_INET) {
    sockaddr_in in{};
    std::memcpy(&in, &address, sizeof in);
    return is_public4(ntohl(in.sin_addr.s_addr));
  }
  if (address.sa_family == AF_INET6) {
    sockaddr_in6 in{};
    std::memcpy(&in, &address, sizeof in);
    bytes6 bytes{};
    std::memcpy(bytes.data(), &in.sin6_addr, bytes.size());
    return is_public6(bytes);
  }
  return false;
}

std::string text_of_address(const sockaddr& address) {
  std::array<char, INET6_ADDRSTRLEN> text{"?"};
  if (address.sa_family == AF_INET) {
    sockaddr_in in{};
    std::memcpy(&in, &address, sizeof in);
    inet_ntop(AF_INET, &in.sin_addr, text.data(), text.size());
  } else if (address.sa_family == AF_INET6) {
    sockaddr_in6 in{};
    std::memcpy(&in, &address, sizeof in);
    inet_ntop(AF_INET6, &in.sin6_addr, text.data(), text.size());
  }
  return text.data();
}

} // namespace sluice::outbound
