#pragma once

#include <caf/stateful_actor.hpp>

#include "sluice/interfaces.hpp"
#include "sluice/stats.hpp"

namespace sluice {

struct sse_session_state {
  event_stream_ptr stream;
  sse_hub_actor hub;
  static inline const char* name = "sse_session";
};

/// Joins `stream` to `hub` and ends with it. Where the hub is gone or too busy, the client is told to come back later
/// and its stream ends cleanly. The session holds the stream; the stream's bytes do not pass through it.
sse_session_actor::behavior_type sse_session(sse_session_actor::stateful_pointer<sse_session_state> self,
                                             event_stream_ptr stream, sse_hub_actor hub,
                                             std::chrono::milliseconds retry);

} // namespace sluice
