#pragma once

#include <string>

#include "delivery/transfer.hpp"

namespace sluice::outbound {

/// Whether Telegram has such chats: a number, perhaps negative, or "@name".
bool is_chat(std::string_view text);

/// What an answer of the Bot API means.
caf::error judge_telegram(const reply& what);

} // namespace sluice::outbound
