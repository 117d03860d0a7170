/// A client for the HTTP API of a running server, for the command line. One request a connection; blocks.
#pragma once

#include <string>
#include <string_view>

#include <caf/expected.hpp>

namespace sluice::outbound {

/// Whether it is a URL a server can be called at: http or https, without user, query and fragment.
bool is_server_url(const std::string& text);

struct api_request {
  std::string url; ///< The server's, with or without a path before those of the API; `is_server_url`.
  std::string method = "GET";
  std::string target;  ///< Path and query, encoded; begins with a slash.
  std::string body;    ///< JSON; empty = none.
  std::string token;   ///< Empty = none.
  std::string ca_file; ///< PEM; of whom to trust with TLS. Empty = whom the system trusts.
};

struct api_answer {
  int status = 0;
  std::string body; ///< At most 256 MiB.
};

/// Sends it and reads the whole answer; a server that says nothing for a minute has failed. Follows no redirections,
/// takes no proxy. The error's text says what to do.
caf::expected<api_answer> call_api(const api_request& what);

} // namespace sluice::outbound
