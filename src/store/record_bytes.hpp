/// A record as bytes on disk. Pure functions, from any thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "sluice/record.hpp"

namespace sluice::store {

/// All of the record but its topic.
std::string to_bytes(const outgoing_record& record);

/// Reads `to_bytes`'s output back; nothing for anything else.
std::optional<outgoing_record> from_bytes(std::string_view bytes);

} // namespace sluice::store
