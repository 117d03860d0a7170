/// The HTTP server: RESTinio behind plain structs. Nothing outside src/http sees RESTinio.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <caf/error.hpp>

#include "sluice/config.hpp"
#include "sluice/identity.hpp"
#include "sluice/ports.hpp"
#include "sluice/stats.hpp"

namespace sluice::http {

/// A complete request. Header names are lower case.
struct request {
  std::string method;                        ///< "GET", "POST", …
  std::string path;                          ///< Decoded, without the query.
  std::map<std::string, std::string> params; ///< `:name` parts of the route, decoded.
  std::map<std::string, std::string> query;  ///< Decoded; the last of duplicates wins.
  std::map<std::string, std::string> headers;
  std::string body;
  std::string remote;     ///< Peer address, without the port.
  identity who;           ///< Set once the credentials were looked at.
  std::string event_seed; ///< What event ids are made of, so that a repeated request has the same; empty = random ones.
  std::string_view header(const std::string& lower_case_name) const; ///< "" where absent.
};

/// Names and values; those with control characters are dropped and logged.
using header_list = std::vector<std::pair<std::string, std::string>>;

struct response {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  header_list headers;
};

/// RFC 9457 problem with `"ok": false`. `detail` says what to do; `field` (a JSON pointer or name) and `extra` are
/// optional.
response problem(int status, std::string_view detail, std::string_view field = {}, header_list headers = {});

/// Answers one request, once, from any thread. Answering is optional: unanswered ones get 504 after `request_timeout`;
/// a later answer is dropped.
using responder = std::function<void(response)>;

using handler = std::function<void(request, responder)>;
/// For GET routes that keep the response open, as text/event-stream or as a WebSocket. Runs on the I/O thread, as
/// handlers do.
using stream_handler = std::function<void(request, event_stream_ptr)>;
/// What a check says of a request for a stream.
struct stream_verdict {
  std::optional<response> instead; ///< Goes out instead of the stream.
  header_list headers;             ///< Added to the head of the stream.
};
/// Looks at a request before its stream is opened, and may set `request::who`. Must not block.
using stream_check = std::function<stream_verdict(request&)>;

/// Routes by method and pattern ("/kafka/send/:topic"). Answers 404, 405 with Allow, HEAD from GET and OPTIONS by
/// itself.
class router {
public:
  /// `max_body_bytes`: of this route's requests; 0 = `http.maxBodyBytes`. Few requests at a time may have more than
  /// that.
  void add(std::string method, const std::string& pattern, handler fn, uint32_t max_body_bytes = 0);
  void add_stream(const std::string& pattern, stream_handler fn, stream_check check = {});
  /// As `add_stream`, for WebSockets. Requests that are none are answered with 426.
  void add_socket(const std::string& pattern, stream_handler fn, stream_check check = {});
  struct route {
    std::string method;
    std::vector<std::string> parts; ///< ":x" = a parameter.
    handler answer;
    stream_handler stream;
    stream_check check;
    stream_protocol protocol = stream_protocol::sse; ///< Of `stream`.
    uint32_t max_body_bytes = 0;
  };
  struct match {
    const route* found = nullptr;
    std::map<std::string, std::string> params;
    std::string allow; ///< Methods this path has, where it has some.
  };
  /// `path` as it came, without the query: parts are decoded one by one. Words win over parameters, whatever the order
  /// of `add`; a slash at the end does not matter.
  match find(std::string_view method, std::string_view path) const;
  /// The largest `max_body_bytes` of all.
  uint32_t largest_body() const;
  /// "GET /events" for each route, for the test that holds them against openapi.yaml.
  std::vector<std::string> list() const;

private:
  std::vector<route> routes_;
};

/// Does `work` on the calling I/O thread, once that has seen to all that has come in; at once, where the caller is
/// none.
void at_turn_end(const std::function<void()>& work);

/// Listens and serves on its own I/O threads from construction until `stop`.
class server {
public:
  /// Throws std::runtime_error with the mend where the port cannot be had, or certificate or key are not usable.
  /// `counters` and everything `routes`' handlers use must outlive the server. `log` is told, from any I/O thread, of
  /// what the code around it did wrong: handlers that throw, headers that had to be dropped.
  server(const http_config& http, const sse_config& sse, router routes, stats& counters,
         std::function<void(std::string_view)> log = {});
  ~server();
  server(const server&) = delete;
  server& operator=(const server&) = delete;

  /// Reads certificate and key again, for connections that come from now on. On an error (`invalid_config`), which says
  /// what to do, the former ones hold. Any thread.
  caf::error reload();
  uint16_t port() const noexcept; ///< The real one, where 0 was asked for.
  fan_out& live() noexcept;       ///< All streams of all I/O threads.
  /// Takes no further connections; open ones go on. Any thread.
  void stop_accepting();
  /// Ends all streams, closes all connections and joins the threads. Not from an I/O thread.
  void stop();

private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

} // namespace sluice::http
