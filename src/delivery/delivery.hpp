/// The deliveries' constructors. Nothing outside src/delivery sees libcurl.
#pragma once

#include <memory>

#include "sluice/config.hpp"
#include "sluice/ports.hpp"

namespace sluice::outbound {

/// Messages by a Telegram bot, to chats: "-1001234" or "@channel".
std::shared_ptr<notifier> make_telegram(const notification_config& cfg);

/// E-mail by the configured server, to one address each.
std::shared_ptr<notifier> make_mailer(const notification_config& cfg);

/// POST of the notification's JSON to a URL, signed; redirects are not followed, and only public addresses are
/// connected to, unless `inner_hosts` names the host.
std::shared_ptr<notifier> make_webhook(const notification_config& cfg);

/// Vectors from `documents.embeddingsUrl`, which must be set. What it says of a request that it refuses is in the
/// error.
std::shared_ptr<embedder> make_embeddings(const documents_config& cfg);

} // namespace sluice::outbound
