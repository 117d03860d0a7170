/// What bodies must be, member by member, and what becomes of them.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "routes.hpp"

namespace sluice::http {

/// One member of a contract. `check` returns what is wrong with a value that is there, or "".
struct member {
  const char* name;
  bool needed;
  std::function<std::string(const nlohmann::json&)> check;
};

/// A string that is not empty, of 10,000 bytes at most.
std::string check_text(const nlohmann::json& value);
std::string check_anything(const nlohmann::json& value);

/// The answer to a body that is not as it must be; every field that is wrong is named, not only the first. `what` is
/// what the body stands for.
std::optional<response> check_members(const nlohmann::json& body, const std::vector<member>& members, const char* what);

/// For routes that try a processor: writes `data` in an envelope to the processor's topic, where the sender may, and
/// answers with `answer` and the event's id.
void publish_event(const api& with, const request& req, const std::string& topic, nlohmann::json data,
                   nlohmann::json answer, const responder& respond);

} // namespace sluice::http
