/// What the routes of live delivery have in common: reading and checking what a client asks for. Pure but for the
/// rights in `request::who`, which `admit` sets.
#pragma once

#include <optional>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "routes.hpp"

namespace sluice::http {

/// 400, with the field and what is wrong with it.
response wrong_field(const std::string& field, const std::string& detail);
/// A parameter of the URL; "" where absent.
std::string parameter(const request& req, const std::string& name);

/// "a,b" as names, each once.
channel_names split_channels(const std::string& text);
/// `{"channels":["a","b"]}` as names; or the answer to what is none.
std::optional<response> read_channels(const nlohmann::json& body, channel_names& channels);
/// The answer (400, 403) where these are no channels, too many, or not for `who`.
std::optional<response> check_channels(const api& with, const identity& who, const channel_names& channels,
                                       const std::string& field);

/// Looks at the credentials and at what a stream's URL asks for; the answer where it cannot be opened. Without
/// `need_channels` a client may come with none.
std::optional<response> check_live_request(const api& with, request& req, const channel_names& channels,
                                           const std::string& field, bool need_channels);
/// The wish for live events that a checked request stands for.
live_request make_live_request(const request& req, event_stream_ptr stream, channel_names channels);

/// A broadcast `{event?, data, id?}` as a record, its key the channel; `id` becomes the publisher's id, if there is
/// one. Or the answer (400, 403) to one that is wrong.
std::optional<response> make_broadcast(const api& with, const identity& who, const std::string& channel,
                                       const nlohmann::json& body, outgoing_record& record, std::string& id);

} // namespace sluice::http
