/// The whole of sluice as one object, for programs that embed it; `sluice serve` is a thin shell around it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "sluice/config.hpp"
#include "sluice/processor.hpp"
#include "sluice/stats.hpp"

namespace sluice {

/// Construct, `start`, wait as you like, `stop`. Methods from one thread at a time, except where said.
class server {
public:
  explicit server(config cfg);
  ~server(); ///< Stops at once if `stop` was not called.
  server(const server&) = delete;
  server& operator=(const server&) = delete;

  /// Runs `what` on the records of `settings.topics`, as a member of a consumer group of its own: retried, in order by
  /// key, dead-lettered. `[[processors]]` of the configuration changes the settings by name. Before `start`, which
  /// checks them.
  void add_processor(processor_config settings, processor what);
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
