/// The whole of sluice as one object, for programs that embed it; `sluice serve` is a thin shell around it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <caf/expected.hpp>

#include "sluice/config.hpp"
#include "sluice/envelope.hpp"
#include "sluice/processor.hpp"
#include "sluice/stats.hpp"

namespace sluice {

/// What `server::health_check` found.
struct health {
  bool connected = false; ///< Kafka answers.
  bool producer = false;  ///< Events can be published.
  size_t consumers = 0;   ///< Aggregations and processors that read.
  std::string brokers;    ///< Bootstrap addresses.
  std::string error;      ///< Why it is not connected; empty where it is.
};

/// Construct, `start`, wait as you like, `stop`. Methods from one thread at a time, except where said.
class server {
public:
  explicit server(config cfg);
  ~server(); ///< Stops at once if `stop` was not called.
  server(const server&) = delete;
  server& operator=(const server&) = delete;

  /// Runs `what` on the records of `settings.topics`, as a member of a consumer group of its own: retried, in order by
  /// key, dead-lettered. `[[processors]]` of the configuration changes the settings by name. Before `start`, which
  /// checks them; throws `std::logic_error` after it.
  void add_processor(processor_config settings, processor what);
  /// Calls `handler` for each event of `topic`, as a member of the consumer group `group`: a processor of the name
  /// "<group>.<topic>". The handler returns nothing, or a `caf::error` as a processor's function does. Before `start`,
  /// as `add_processor`.
  template <class Handler>
  void subscribe(std::string_view topic, const std::string& group, Handler handler) {
    add_processor({.name = group + "." + std::string{topic}, .topics = {std::string{topic}}, .group = group},
                  make_event_processor(std::move(handler)));
  }
  /// Writes an event; ready once the broker has acknowledged it, or with the reason why it is not in Kafka
  /// (`kafka.deliveryTimeout` at most); `delivery::queued` where Kafka is away and it is on disk. What `create_event`
  /// would fill in is filled in; `malformed_record` where it would throw. Events of one key stay in order. From `start`
  /// to `stop`, any thread but an actor's; processors use `context::emit`.
  std::future<caf::expected<delivery>> publish(std::string_view topic, const event& what,
                                               std::optional<std::string> key = std::nullopt);
  /// How it stands with Kafka; waits `patience` at most. From `start` to `stop`, any thread but an actor's.
  health health_check(std::chrono::milliseconds patience = std::chrono::seconds{1});
  /// Spawns the supervision tree and listens. A broker that is away is no error: it is reported and waited for.
  /// An error (`invalid_config`) names what is wrong and the mend: port taken, bad Kafka settings.
  caf::error start();
  /// Called once, from any thread, when the root gives up on a role; the text says which and why. Set before `start`.
  void on_failure(std::function<void(std::string)> failed);
  /// Reads the files of the certificate with its key, and those of keys and tokens, again. An error (`invalid_config`)
  /// names what is wrong; that of the two stays as it was then.
  caf::error reload();
  /// The ordered stop: readiness fails, intake ends, offsets are committed, streams end cleanly. Blocks at most the
  /// grace period. Returns false where it was over before all was done.
  bool stop();

  uint16_t port() const;              ///< Where it listens; the real one, where 0 was configured.
  const std::string& brokers() const; ///< Bootstrap addresses in use; the embedded broker's, where there is one.
  const stats& counters() const;      ///< Any thread.

private:
  struct impl;
  std::unique_ptr<impl> impl_;
};

} // namespace sluice
