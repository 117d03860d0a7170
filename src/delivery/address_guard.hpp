/// Which addresses belong to the internet at large. Pure functions, from any thread.
#pragma once

#include <string>

#include <sys/socket.h>

namespace sluice::outbound {

/// Whether the address is a public one: not of this host, a private network, a link, a multicast group, a documentation
/// or a reserved range (IANA's special-purpose registries). IPv4 inside IPv6 (mapped, NAT64) counts as what is inside;
/// tunnels (6to4, Teredo) and families other than IP are not public.
bool is_public(const sockaddr& address);

/// "127.0.0.1" or "::1"; "?" for other families.
std::string text_of_address(const sockaddr& address);

} // namespace sluice::outbound
