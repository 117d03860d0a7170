#pragma once

#include <caf/stateful_actor.hpp>

#include "document.hpp"
#include "sluice/interfaces.hpp"

namespace sluice {

struct document_desk_state {
  using self_pointer = document_desk_actor::stateful_pointer<document_desk_state>;
  explicit document_desk_state(self_pointer self) : self(self) {}
  caf::result<document_reply_ptr> answer(document_request& asked);

  self_pointer self;
  document_tools tools;
  static inline const char* name = "document_desk";
};

/// Spawn it detached: the store blocks.
document_desk_actor::behavior_type document_desk(document_desk_state::self_pointer self, document_tools tools);

} // namespace sluice
