/// A client for the HTTP API of a running server, for the command line. One request a connection; blocks.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <caf/expected.hpp>

namespace sluice::http {

/// "https://host:3000/prefix" taken apart.
struct server_url {
  bool tls = false;
  std::string host; ///< Without the brackets of an IPv6 address.
  uint16_t port = 80;
  std::string prefix; ///< "" or "/prefix", without a slash at the end.
};
/// Nothing for what is no http or https URL, or has a query, a fragment or a user.
std::optional<server_url> parse_url(std::string_view text);

struct client_request {
  std::string method = "GET";
  std::string target;  ///< Path and query, encoded.
  std::string body;    ///< JSON; empty = none.
  std::string token;   ///< Empty = none.
  std::string ca_file; ///< PEM; of whom to trust with TLS. Empty = whom the system trusts.
  std::chrono::seconds timeout{60};
};
struct client_answer {
  int status = 0;
  std::string body; ///< At most 256 MiB.
};
/// Sends it and reads the whole answer. The error's text says what to do. Follows no redirections.
caf::expected<client_answer> send_request(const server_url& to, const client_request& what);

/// Status and body of an answer as it came over the wire; nothing for what is none or not whole.
std::optional<client_answer> parse_answer(std::string_view wire);

} // namespace sluice::http
