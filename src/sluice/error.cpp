#include "sluice/error.hpp"

#include <array>
#include <utility>

#include <caf/message.hpp>

#include "sluice/interfaces.hpp" // the code's type ID, which CAF 0.18 wants
#include "sluice/utf8.hpp"

namespace sluice {

namespace {

constexpr std::size_t max_failure_text = 4096;
constexpr std::array<std::pair<ec, const char*>, 22> names{{
    {ec::no_error, "no_error"},
    {ec::malformed_record, "malformed_record"},
    {ec::queue_full, "queue_full"},
    {ec::delivery_timeout, "delivery_timeout"},
    {ec::unknown_topic, "unknown_topic"},
    {ec::kafka_refused, "kafka_refused"},
    {ec::kafka_unreachable, "kafka_unreachable"},
    {ec::fenced, "fenced"},
    {ec::retries_exhausted, "retries_exhausted"},
    {ec::shutting_down, "shutting_down"},
    {ec::invalid_config, "invalid_config"},
    {ec::processor_failed, "processor_failed"},
    {ec::unknown_client, "unknown_client"},
    {ec::rejected, "rejected"},
    {ec::attempt_timeout, "attempt_timeout"},
    {ec::expired, "expired"},
    {ec::target_unavailable, "target_unavailable"},
    {ec::rate_limited, "rate_limited"},
    {ec::busy, "busy"},
    {ec::storage_full, "storage_full"},
    {ec::store_unavailable, "store_unavailable"},
    {ec::too_large, "too_large"},
}};

} // namespace

bool is_retryable(ec code) noexcept {
  return code != ec::malformed_record && code != ec::rejected && code != ec::expired && code != ec::too_large;
}

std::string to_string(ec code) {
  for (const auto& [value, name] : names)
    if (value == code)
      return name;
  return "unknown_error";
}

bool from_string(const std::string& text, ec& code) {
  for (const auto& [value, name] : names)
    if (text == name) {
      code = value;
      return true;
    }
  return false;
}

#if CAF_VERSION >= 1800
bool from_integer(uint8_t value, ec& code) {
  for (const auto& entry : names)
    if (static_cast<uint8_t>(entry.first) == value) {
      code = entry.first;
      return true;
    }
  return false;
}
#endif

caf::error make_failure(ec code, std::string text) {
  if (text.size() > max_failure_text)
    text = text.substr(0, whole_characters(text, max_failure_text - 3)) + "…";
  return caf::error{code, caf::make_message(std::move(text))};
}

caf::error try_later(std::string text, std::chrono::milliseconds wait) {
  return caf::error{ec::rate_limited, caf::make_message(std::move(text), int64_t{wait.count()})};
}

std::optional<std::chrono::milliseconds> retry_after_of(const caf::error& error) {
  if (code_of(error) == ec::rate_limited && error.context().match_elements<std::string, int64_t>())
    return std::chrono::milliseconds{error.context().get_as<int64_t>(1)};
  return std::nullopt;
}

ec code_of(const caf::error& error) {
  if (!error)
    return ec::no_error;
  for (const auto& entry : names)
    if (error == caf::error{entry.first})
      return entry.first;
  return ec::no_error;
}

std::string text_of(const caf::error& error) {
  if (error && (error.context().match_elements<std::string>() || retry_after_of(error)))
    return error.context().get_as<std::string>(0);
  return {};
}

std::string describe(const caf::error& error) {
  if (!error)
    return "no error";
  auto code = code_of(error);
  if (code == ec::no_error)
    return caf::to_string(error);
  auto text = text_of(error);
  return text.empty() ? to_string(code) : to_string(code) + ": " + text;
}

} // namespace sluice
