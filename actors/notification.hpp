#pragma once

#include <map>
#include <memory>
#include <string>

#include "sluice/config.hpp"
#include "sluice/ports.hpp"
#include "sluice/processor.hpp"

namespace sluice {

/// Where notifications come in, and where it is told which were delivered.
inline const std::string notifications_in = "notification.send";
inline const std::string notifications_out = "notification.sent";

/// By the channel's name: "telegram", "email", "webhook".
using notifiers = std::map<std::string, std::shared_ptr<notifier>>;

/// The processor's place and policies: group `paka-notification-processor`, patient with systems that are away.
processor_config notification_settings(const config& cfg);

/// The processor's function. A record is one of two things:
/// - a request, for any number of targets: the template is filled in, and each target gets a delivery of its own on the
///   same topic, so that each is retried, limited and given up on by itself;
/// - a delivery: one target, by whose name ("email:ann@example.com") the record is keyed. It is told, and that goes to
///   `notification.sent`.
/// `how` has a notifier for each channel that is configured; "live", the user's own channel, needs none.
processor_function notification_function(const config& cfg, notifiers how);

} // namespace sluice
