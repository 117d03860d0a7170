/// Responses as bytes. Pure functions.
#pragma once

#include <ctime>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "http/server.hpp"

namespace sluice::http {

/// "Not Found" for 404; "Unknown" for a status without a name.
std::string_view reason_phrase(int status);

/// "Sun, 06 Nov 1994 08:49:37 GMT", whatever the locale.
std::string http_date(std::time_t now);

/// How a response goes out, besides what it says.
struct rendering {
  bool keep_alive = true;          ///< False: `Connection: close`.
  bool confirm_keep_alive = false; ///< True: `Connection: keep-alive`, for clients that asked by header.
  bool head_only = false;          ///< HEAD: the length of the body, but not the body.
  std::string_view date;           ///< Value of the Date header.
  header_list more{};              ///< Further headers, after the response's own.
};

/// Told the name of each header that was dropped: broken names, control characters, or ours to set.
using dropped_header = std::function<void(std::string_view name)>;

/// Status line, headers and body. No header can be injected through names or values.
std::string render(const response& what, const rendering& how, const dropped_header& dropped = {});

/// The head of an event stream: status 200 and everything that keeps caches and proxies from holding it back.
/// `headers` are dropped as in `render`.
std::string render_stream_head(std::string_view date, bool chunked, const header_list& headers = {},
                               const dropped_header& dropped = {});

/// The answer that makes a connection a WebSocket. `accept`: RFC 6455, 4.2.2; `subprotocol` may be empty.
std::string render_socket_head(std::string_view date, std::string_view accept, std::string_view subprotocol,
                               const header_list& headers = {}, const dropped_header& dropped = {});

/// What precedes a chunk of `size` bytes; CR LF follows it.
std::string chunk_head(size_t size);

} // namespace sluice::http
