/// Event streams: plain objects owned by one shard an I/O thread, fed from a log they share.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/steady_timer.hpp>

#include "http/guarded_socket.hpp"
#include "http/mailbox.hpp"
#include "http/stream_log.hpp"
#include "sluice/config.hpp"
#include "sluice/ports.hpp"
#include "sluice/stats.hpp"

namespace sluice::http {

class stream;

/// What a shard needs to know.
struct shard_config {
  milliseconds heartbeat{15000};
  milliseconds write_timeout{10000};
  uint32_t max_queue_bytes = 1048576;
};

/// All event streams of one I/O thread. Frames go into a log; a pass over the streams writes to each what it has not
/// had yet, in one call to the kernel, however many frames that is. A pass is cut into slices, so that accepts and
/// reads go on. A client that cannot take its bytes is left at its place in the log and catches up when it can, or is
/// closed once it is too far behind. Everything here runs on the I/O thread.
class stream_shard {
public:
  stream_shard(asio::io_context& io, std::shared_ptr<mailbox> box, const shard_config& cfg, stats& counters,
               std::function<void(std::string_view)> log);
  ~stream_shard();

  /// Takes over a connection and gives its stream to `serve`. `head` is the response's head; it is sent after `serve`,
  /// in one piece with what `serve` sends.
  void open(asio::ip::tcp::socket socket, connection_slot slot, std::string head, bool chunked,
            const std::function<void(event_stream_ptr)>& serve);
  /// Takes a block of `events` events for all streams that have joined. It is sent after `settle`.
  void append(const frame& block, uint32_t events);
  /// Frames appended by now are one batch: begins to send.
  void settle();
  /// Heartbeats and time limits. `passed`: since the last call.
  void tick(milliseconds passed);
  /// Ends every stream, with what the kernel takes at once.
  void close_all();

private:
  friend class stream;
  static constexpr size_t slice = 256;

  /// Streams with the same bytes: those with chunks, and those of HTTP/1.0 clients, which do not know chunks.
  struct lane {
    lane(asio::io_context& io, bool chunked) : chunked(chunked), pause(io) {}
    const bool chunked;
    std::vector<std::shared_ptr<stream>> streams;
    stream_log log;
    std::string staged; ///< Blocks of this batch.
    uint64_t staged_events = 0;
    uint64_t events = 0; ///< In the log since it began.
    // The pass:
    bool passing = false; ///< A pass, or the pause after it.
    asio::steady_timer pause;
    std::chrono::steady_clock::time_point began;
    size_t cursor = 0; ///< Streams before it have been visited.
    uint64_t goal = 0; ///< End of the log when the pass began.
    uint64_t low = 0;  ///< Least position seen in this pass.
    // The heartbeat sweep:
    size_t beat_cursor = 0;
    double beats_due = 0;
  };

  void seal(lane& where);
  void begin_pass(lane& where);
  void run_slice(lane& where);
  void end_pass(lane& where);
  void join(stream& who, const frame& hello);
  void finish(stream& who, const frame& last);
  void greet(stream& who);
  void beat(stream& who);
  void watch(const std::shared_ptr<stream>& who);
  void wait_writable(stream& who);
  void flush(stream& who);
  void caught_up(stream& who);
  void close(stream& who, stream_end why);
  void remove(stream& who);
  void count_deliveries();

  asio::io_context& io_;
  std::shared_ptr<mailbox> box_;
  shard_config cfg_;
  stats& counters_;
  std::function<void(std::string_view)> log_;
  std::array<lane, 2> lanes_;
  uint64_t delivered_ = 0; ///< Not yet in the counters.
};

} // namespace sluice::http
