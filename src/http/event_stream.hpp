/// Event streams: plain objects owned by one shard an I/O thread, fed from logs that streams of a kind share.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <asio/io_context.hpp>
#include <asio/ip/tcp.hpp>
#include <asio/steady_timer.hpp>

#include "http/guarded_socket.hpp"
#include "http/lane_log.hpp"
#include "http/mailbox.hpp"
#include "http/stream_gate.hpp"
#include "sluice/config.hpp"
#include "sluice/ports.hpp"
#include "sluice/stats.hpp"

namespace sluice::http {

class stream;
struct ws_message;

/// What a shard needs to know.
struct shard_config {
  milliseconds heartbeat{15000};
  milliseconds write_timeout{10000};
  uint32_t max_queue_bytes = 1048576;
};

/// How a stream begins.
struct stream_opening {
  wire_format format;
  std::string head; ///< Of the response.
  stream_pass pass;
  std::unique_ptr<tls_session> tls; ///< Null: the connection is not encrypted.
};

/// All event streams of one I/O thread. Streams that get the same bytes share a lane. Events go into the log of each
/// lane they concern; a pass over a lane's streams writes to each what it has not had yet, in one call to the kernel,
/// however many events that is. Passes are cut into slices, so that accepts and reads go on. A client that cannot take
/// its bytes is left at its place in the log and catches up when it can; once it is too far behind, its slow policy
/// says what becomes of it. Everything here runs on the I/O thread.
class stream_shard {
public:
  stream_shard(asio::io_context& io, std::shared_ptr<mailbox> box, const shard_config& cfg, stats& counters,
               std::function<void(std::string_view)> log);
  ~stream_shard();

  /// Takes over a connection and gives its stream to `serve`. The head is sent after `serve`, in one piece with what
  /// `serve` sends.
  void open(asio::ip::tcp::socket socket, connection_slot slot, stream_opening how,
            const std::function<void(event_stream_ptr)>& serve);
  /// Takes events for all streams that are subscribed. They are sent after `settle`.
  void append(const live_block& block);
  /// What came by now is one batch: begins to send.
  void settle();
  /// Heartbeats and time limits. `passed`: since the last call.
  void tick(milliseconds passed);
  /// Ends every stream, with what the kernel takes at once.
  void close_all();

private:
  friend class stream;
  using clock = std::chrono::steady_clock;
  using stream_ptr = std::shared_ptr<stream>;

  /// What makes streams get the same bytes.
  struct lane_key {
    wire_format format;
    slow_policy policy = slow_policy::disconnect;
    std::vector<route_id> routes;
    bool operator==(const lane_key&) const = default;
    bool operator<(const lane_key& other) const {
      return std::tuple{format.as_tuple(), policy, std::tie(routes)} <
             std::tuple{other.format.as_tuple(), other.policy, std::tie(other.routes)};
    }
  };
  enum class pass_state : uint8_t { none, due, pausing };

  /// There may be one for each stream, so it is small and has no timer of its own.
  struct lane : std::enable_shared_from_this<lane> {
    lane(lane_key key, uint32_t max_queue_bytes, page_pool& pool, gzip_packer& packer)
        : key(std::move(key)), log(this->key.format, this->key.policy, max_queue_bytes, pool, packer) {}
    bool is_new(uint64_t block, uint32_t number);

    const lane_key key;
    lane_log log;
    std::vector<stream_ptr> streams;
    std::vector<uint32_t> seats; ///< In the shard's table, for each route of the key.
    std::vector<uint32_t> seen;  ///< Numbers of the events of `seen_block`, sorted; with several routes only.
    uint64_t seen_block = 0;
    uint32_t waiting = 0; ///< Streams whose socket is full.
    bool staged = false;  ///< Has events since the last `settle`.
    // The pass:
    pass_state pass = pass_state::none;
    bool begun = false;
    size_t cursor = 0;       ///< Streams before it have been visited.
    uint64_t goal = 0;       ///< End of the log when the pass began.
    uint64_t low = 0;        ///< Least position seen in this pass.
    bool all_level = true;   ///< Nobody seen in this pass waits for the latest.
    clock::time_point since; ///< Pass: its begin. Pause: its end.
  };
  using lane_ptr = std::shared_ptr<lane>;

  // Lanes:
  void subscribe(stream& who, stream_subscription what);
  void leave(stream& who);
  lane_ptr lane_for(lane_key key);
  void drop(lane& where);
  void tidy(lane& where);

  // Passes:
  void schedule(const lane_ptr& where);
  void run_slice();
  size_t visit(lane& where, size_t at_most);
  void end_pass(const lane_ptr& where);
  uint64_t queue_limit(const lane& where) const;
  static bool ends_later(const lane_ptr& a, const lane_ptr& b);
  void arm_pacer();
  void resume_paused();

  // One stream:
  void send(stream& who, const frame& bytes, uint32_t events);
  void finish(stream& who, const frame& last);
  void when_sent(stream& who, std::function<void()> sent);
  void greet(stream& who);
  void beat(stream& who);
  void put_own(stream& who, std::string_view bytes, uint64_t events);
  static void take_over(stream& who, const lane_point& place);
  static void put_chunk(stream& who, std::string_view bytes);
  static void sum_up(stream& who);
  static void go_on_from(stream& who, const lane_point& place);
  void take_over_all(stream& who);
  void flush_soon(stream& who);
  void flush(stream& who);
  void has_written(stream& who, size_t bytes);
  void caught_up(stream& who);
  void watch(const stream_ptr& who);
  void listen(const stream_ptr& who);
  void wait_writable(stream& who);
  void close(stream& who, stream_end why);
  void count(stream& who, uint64_t events);
  void count_deliveries();
  void guarded(const char* what, const std::function<void()>& callback);

  // WebSockets:
  void hear(stream& who, std::string_view bytes);
  bool has_answers_unread(const stream& who) const;
  void take(stream& who, ws_message what);
  void listen_to_messages(stream& who, std::function<void(std::string)> received);
  void send_pong(stream& who);
  void ping(stream& who);
  void await_close(stream& who);

  // Slow clients:
  static uint64_t ahead(const stream& who);
  static uint64_t backlog(const stream& who);
  void hold_to_policy(stream& who);
  void drop_oldest(stream& who);
  void skip_to_latest(stream& who);
  void send_latest(stream& who);
  void put_gap(stream& who, uint64_t events);
  void count_dropped(stream& who, uint64_t events);

  asio::io_context& io_;
  std::shared_ptr<mailbox> box_;
  shard_config cfg_;
  stats& counters_;
  std::function<void(std::string_view)> log_;
  page_pool pages_;
  gzip_packer packer_;
  std::map<lane_key, lane_ptr> lanes_;
  std::vector<std::vector<lane*>> by_route_;
  std::vector<stream_ptr> streams_;
  uint64_t blocks_ = 0;
  std::vector<lane_ptr> staged_;    ///< Lanes with events since the last `settle`.
  std::deque<stream_ptr> to_flush_; ///< Streams with bytes of their own since then.
  std::deque<lane_ptr> due_;        ///< For a pass or its next slice.
  std::vector<lane_ptr> overfull_;  ///< With streams that were too far behind after a pass.
  std::vector<lane_ptr> paused_;    ///< A heap: the pause that ends first is in front.
  asio::steady_timer pacer_;
  clock::time_point pacer_end_ = clock::time_point::max();
  bool slicing_ = false;                                         ///< The next slice has been posted.
  std::deque<std::pair<clock::time_point, stream_ptr>> closing_; ///< Wait for the client's close frame until then.
  std::vector<stream_ptr> hushed_;                               ///< Have said enough for now.
  uint64_t ticks_ = 0;
  // The heartbeat sweep:
  size_t beat_cursor_ = 0;
  double beats_due_ = 0;
  uint64_t delivered_ = 0; ///< Not yet in the counters.
};

} // namespace sluice::http
