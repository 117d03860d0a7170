#pragma once

#include <chrono>
#include <optional>

#include <caf/stateful_actor.hpp>

#include "sluice/interfaces.hpp"

namespace sluice {

/// How long a client may stay.
struct session_limits {
  std::chrono::milliseconds retry{3000}; ///< What a client that cannot be served now is told to wait.
  std::chrono::milliseconds lifetime{0}; ///< Ends then, and may come back; 0 = no limit. +-20 %.
  std::optional<std::chrono::milliseconds> credentials_left; ///< Ends then, and has to authenticate anew.
};

struct sse_session_state {
  live_request_ptr request;
  sse_hub_actor hub;
  static inline const char* name = "sse_session";
};

/// Joins `request->stream` to `hub` and ends with it. Where the hub is gone or too busy, the client is told to come
/// back later and its stream ends cleanly. The session holds the stream; the stream's bytes do not pass through it.
sse_session_actor::behavior_type sse_session(sse_session_actor::stateful_pointer<sse_session_state> self,
                                             live_request_ptr request, sse_hub_actor hub, session_limits limits);

} // namespace sluice
