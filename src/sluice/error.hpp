/// sluice's error codes and how they read.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include <caf/error.hpp>

#include "sluice/caf.hpp"

namespace sluice {

/// Why something failed. Rendered by `to_string`, carried between actors in a `caf::error`.
enum class ec : uint8_t {
  /// No error.
  no_error = 0,
  /// A record's value is not what its reader needs: not JSON, or nothing usable at the configured pointer. Not
  /// retryable.
  malformed_record,
  /// A bound was reached (queue, windows, connections). Retry later.
  queue_full,
  /// The broker did not acknowledge within the delivery timeout. The record was dropped from the local queue.
  delivery_timeout,
  /// The topic does not exist and may not be created.
  unknown_topic,
  /// The broker refused the record, the group or the credentials; the text says which.
  kafka_refused,
  /// No broker can be reached.
  kafka_unreachable,
  /// Another producer with the same transactional id took over, or the group moved on. The role must start anew.
  fenced,
  /// All attempts of the retry policy failed.
  retries_exhausted,
  /// The receiver is about to stop and takes no more work.
  shutting_down,
  /// A configuration value is wrong; the text names key and mend.
  invalid_config,
  /// A processor threw; the text is the exception's.
  processor_failed,
  /// No client of that id is connected.
  unknown_client,
  /// A processor refuses the record for good. Not retryable.
  rejected,
  /// A processor did not come to an end within its timeout.
  attempt_timeout,
  /// The record's deadline has passed before it was processed. Not retryable.
  expired,
  /// An outside system does not answer, or says that it cannot do it now. Retry later.
  target_unavailable,
  /// Too much for an outside system at once. Made by `try_later`, which says when to come back.
  rate_limited,
  /// Somebody else is doing the same at the moment.
  busy,
  /// There is no room for it on disk: the disk is full, or a bound of the configuration is reached; the text names it.
  storage_full,
  /// The store (SQLite, PostgreSQL, Redis) is locked, gone or not to be reached; the text says which and the mend.
  store_unavailable,
  /// The record is larger than its topic takes. Not retryable.
  too_large,
};

/// Whether trying the same again may help: false for what is wrong with the record itself (`malformed_record`,
/// `rejected`, `expired`, `too_large`).
bool is_retryable(ec code) noexcept;

/// The code's name in words, for logs, metrics and dead letters, e.g. `malformed_record`.
std::string to_string(ec code);

/// Reads `to_string`'s output back; needed by CAF 0.18 only. Returns false for an unknown name.
bool from_string(const std::string& text, ec& code);

/// "code: text", or "code" where the error has no text. Works without an actor system, from any thread.
std::string describe(const caf::error& error);

/// An error with a code and a text for people, of which 4 KiB are kept.
caf::error make_failure(ec code, std::string text);

/// The error `rate_limited` of a processor that is to be asked again after `wait`. The attempt does not count; only the
/// retry budget bounds how often this may be said.
caf::error try_later(std::string text, std::chrono::milliseconds wait);

/// How long an error made by `try_later` says to wait; nothing for all others.
std::optional<std::chrono::milliseconds> retry_after_of(const caf::error& error);

/// The code of an error made of one; `no_error` for an error that is not sluice's own.
ec code_of(const caf::error& error);

/// The text of an error made by `make_failure` or `try_later`, else "".
std::string text_of(const caf::error& error);

#if CAF_VERSION >= 1800
bool from_integer(uint8_t value, ec& code);
template <class Inspector>
bool inspect(Inspector& f, ec& x) {
  auto get = [&x] { return static_cast<uint8_t>(x); };
  auto set = [&x](uint8_t value) { return from_integer(value, x); };
  return f.apply(get, set);
}
#endif

} // namespace sluice

#if CAF_VERSION < 1800
CAF_ERROR_CODE_ENUM(sluice::ec, "sluice")
#else
CAF_ERROR_CODE_ENUM(sluice::ec)
#endif
