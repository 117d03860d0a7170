#include "audit.hpp"

#include <chrono>
#include <cmath>
#include <initializer_list>
#include <utility>

#include <nlohmann/json.hpp>

#include "sluice/dead_letters.hpp"
#include "sluice/envelope.hpp"

#include "crash.hpp"

namespace sluice {

namespace {

using json = nlohmann::ordered_json; // details stay in their sender's order

constexpr size_t max_text_bytes = 1000;
constexpr size_t max_details_bytes = 256 * 1024;
constexpr int64_t max_time_ms = 253402300799999; // the end of the year 9999
/// The database says by then that it cannot.
constexpr std::chrono::seconds answer_timeout{20};

caf::error malformed(const std::string& member, const std::string& text) {
  return make_failure(ec::malformed_record, member + " " + text);
}

std::string to_text(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

/// No SQL text can hold a NUL.
caf::error check_text(const std::string& member, const std::string& text) {
  if (text.size() > max_text_bytes)
    return malformed(member, "is longer than 1,000 bytes");
  if (text.find('\0') != std::string::npos)
    return malformed(member, "holds a NUL character");
  return {};
}

/// Takes the first of `names` that is there; numbers as texts.
caf::error take_name(const json& from, std::initializer_list<const char*> names, std::string& to) {
  for (const auto* name : names) {
    auto it = from.find(name);
    if (it == from.end() || it->is_null())
      continue;
    if (!it->is_string() && !it->is_number_integer())
      return malformed(name, "is neither a text nor a whole number");
    to = it->is_string() ? it->get<std::string>() : to_text(*it);
    return check_text(name, to);
  }
  return {};
}

caf::error take_needed(const json& from, const char* name, std::string& to) {
  auto it = from.find(name);
  if (it == from.end())
    return malformed(name, "is missing");
  if (!it->is_string() || it->get_ref<const std::string&>().empty())
    return malformed(name, "is not a text with at least one character");
  to = it->get<std::string>();
  return check_text(name, to);
}

caf::error take_resource_id(const json& from, std::string& to) {
  auto it = from.find("resourceId");
  if (it == from.end() || it->is_null())
    return {};
  if (!it->is_string() && !it->is_number())
    return malformed("resourceId", "is neither a text nor a number");
  // Beyond 2^53 it has become another number already.
  if (it->is_number_float() && std::abs(it->get<double>()) >= 9007199254740992.0)
    return malformed("resourceId", "is too large a number to be kept as it is; send it as a text");
  if (it->is_string())
    if (auto error = check_text("resourceId", it->get_ref<const std::string&>()))
      return error;
  to = to_text(*it);
  return {};
}

caf::error take_all(const json& from, audit_entry& to) {
  if (auto error = take_needed(from, "action", to.action))
    return error;
  if (auto error = take_needed(from, "resource", to.resource))
    return error;
  if (auto error = take_resource_id(from, to.resource_id))
    return error;
  if (auto error = take_name(from, {"userId", "user", "actor"}, to.user))
    return error;
  if (auto error = take_name(from, {"tenantId", "tenant"}, to.tenant))
    return error;
  if (auto it = from.find("details"); it != from.end() && !it->is_null())
    to.details = to_text(*it);
  if (to.details.size() > max_details_bytes)
    return malformed("details", "is longer than 256 KiB");
  return {};
}

} // namespace

processor_config audit_settings() {
  processor_config settings;
  settings.name = "audit";
  settings.topics = {audit_topic};
  settings.group = "paka-audit-logger";
  settings.concurrency = 256; // so many entries share a transaction
  settings.timeout = answer_timeout + milliseconds{5000};
  settings.max_attempts = 1000000; // the budget ends it
  settings.retry_initial = milliseconds{500};
  settings.retry_max = milliseconds{15000};
  settings.retry_budget = std::chrono::hours{24 * 7};
  return settings;
}

caf::expected<audit_entry> audit_entry_of(const record& what) {
  auto found = event_of(what);
  if (!found)
    return found.error();
  auto data = json::parse(found->data, nullptr, false);
  if (!data.is_object())
    return make_failure(ec::malformed_record,
                        R"(an audit event is a JSON object such as {"action":"…","resource":"…"}, in data or bare)");
  audit_entry entry;
  entry.event_id = found->metadata.event_id;
  entry.time_ms = found->metadata.timestamp_ms;
  if (entry.time_ms < 0 || entry.time_ms > max_time_ms)
    return malformed("metadata.timestamp", "is no time in Unix milliseconds");
  entry.tenant = found->metadata.tenant_id;
  if (auto error = take_all(data, entry))
    return error;
  if (auto error = check_text("metadata.tenantId", entry.tenant))
    return error;
  return entry;
}

processor_actor::behavior_type audit_logger(audit_logger_state::self_pointer self,
                                            std::shared_ptr<role<archive_actor>> archive) {
  self->state.archive = std::move(archive);
  log_crashes(self, self->state.name);
  return {
      [self](const context_ptr& job) -> caf::result<atom::done> {
        auto entry = audit_entry_of(job->input());
        if (!entry)
          return entry.error();
        auto promise = self->make_response_promise<atom::done>();
        auto entries = std::make_shared<std::vector<audit_entry>>();
        entries->push_back(std::move(*entry));
        self->request(self->state.archive->get(), answer_timeout, audit_entries_ptr{entries})
            .then(
                [promise, entries](const audit_fates_ptr& fates) mutable {
                  if (fates->front() == audit_fate::differs)
                    promise.deliver(make_failure(ec::rejected, "metadata.eventId " + entries->front().event_id +
                                                                   " is that of another entry already"));
                  else
                    promise.deliver(atom::done_v);
                },
                [promise](const caf::error& error) mutable {
                  auto known = code_of(error) != ec::no_error;
                  promise.deliver(known ? error
                                        : make_failure(ec::store_unavailable,
                                                       "store.url: the audit trail does not answer in time"));
                });
        return promise;
      },
  };
}

} // namespace sluice
