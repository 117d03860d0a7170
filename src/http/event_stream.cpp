#include "http/event_stream.hpp"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <utility>

#include <asio/post.hpp>

#include "http/stream.hpp"

namespace sluice::http {

namespace {

/// Visits to streams between two looks at everything else.
constexpr size_t slice = 256;
/// What the kernel holds for one client before it says "full". Bounds the memory of clients that stall.
constexpr int kernel_backlog_bytes = 128 * 1024;
constexpr milliseconds longest_pause{5};
/// A lane of fewer streams is served at once and keeps no memory at hand: a pause would save less than it costs.
constexpr size_t small_lane = 16;

} // namespace

/// Numbers mostly ascend, so that this is one comparison.
bool stream_shard::lane::is_new(uint64_t block, uint32_t number) {
  if (std::exchange(seen_block, block) != block)
    seen.clear();
  if (!seen.empty() && number <= seen.back()) {
    auto at = std::lower_bound(seen.begin(), seen.end(), number);
    if (*at == number)
      return false;
    seen.insert(at, number);
  } else {
    seen.push_back(number);
  }
  return true;
}

stream_shard::stream_shard(asio::io_context& io, std::shared_ptr<mailbox> box, const shard_config& cfg, stats& counters,
                           std::function<void(std::string_view)> log)
    : io_(io), box_(std::move(box)), cfg_(cfg), counters_(counters), log_(std::move(log)), pacer_(io) {}

stream_shard::~stream_shard() = default;

void stream_shard::open(asio::ip::tcp::socket socket, connection_slot slot, stream_opening how,
                        const std::function<void(event_stream_ptr)>& serve) {
  static std::atomic<uint64_t> next_id{1};
  auto fd = socket.native_handle();
  ::setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &kernel_backlog_bytes, sizeof kernel_backlog_bytes);
  // Bytes that nobody acknowledges for so long: the client is gone without a word.
  auto patience = static_cast<unsigned>((cfg_.heartbeat + cfg_.write_timeout).count());
  ::setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &patience, sizeof patience);
  auto opened =
      std::make_shared<stream>(next_id.fetch_add(1), box_, *this, std::move(socket), std::move(slot), how.format);
  opened->pass_ = std::move(how.pass);
  opened->tls_ = std::move(how.tls);
  opened->append_own(how.head);
  if (how.format.gzip)
    put_chunk(*opened, gzip_header());
  opened->index_ = streams_.size();
  streams_.push_back(opened);
  counters_.clients.add();
  counters_.clients_total.add();
  watch(opened);
  try {
    serve(opened);
  } catch (const std::exception& failure) {
    if (log_)
      log_(std::string{"The handler of a stream threw: "} + failure.what());
    opened->finish(nullptr);
  }
  // Behind what `serve` has done, so that the head and its first bytes share a packet.
  box_->post([opened, this] {
    if (!opened->closed_)
      greet(*opened);
  });
}

// -- lanes ------------------------------------------------------------------------------------------------------------

void stream_shard::append(const live_block& block) {
  ++blocks_;
  for (const auto& event : block.events) {
    if (event.route >= by_route_.size())
      continue;
    for (auto* where : by_route_[event.route]) {
      auto bytes = where->key.format.protocol == stream_protocol::websocket
                       ? std::string_view{block.ws}.substr(event.ws_begin, event.ws_size)
                       : std::string_view{block.sse}.substr(event.sse_begin, event.sse_size);
      // An event comes by each of its routes, and one lane may have several of them.
      if (bytes.empty() || (where->key.routes.size() > 1 && !where->is_new(blocks_, event.number)))
        continue;
      if (!std::exchange(where->staged, true))
        staged_.push_back(where->shared_from_this());
      where->log.add(bytes, event.key, event.fires);
    }
  }
}

stream_shard::lane_ptr stream_shard::lane_for(lane_key key) {
  auto& found = lanes_[key];
  if (found)
    return found;
  found = std::make_shared<lane>(std::move(key), cfg_.max_queue_bytes, pages_, packer_);
  for (auto route : found->key.routes) {
    if (route >= by_route_.size())
      by_route_.resize(route + size_t{1});
    found->seats.push_back(static_cast<uint32_t>(by_route_[route].size()));
    by_route_[route].push_back(found.get());
  }
  return found;
}

void stream_shard::drop(lane& where) {
  const auto& routes = where.key.routes;
  for (size_t i = 0; i < routes.size(); ++i) {
    auto& row = by_route_[routes[i]];
    auto* last = row.back();
    auto at = std::lower_bound(last->key.routes.begin(), last->key.routes.end(), routes[i]);
    last->seats[static_cast<size_t>(at - last->key.routes.begin())] = where.seats[i];
    row[where.seats[i]] = last;
    row.pop_back();
    if (row.empty())
      std::vector<lane*>{}.swap(row);
  }
  lanes_.erase(where.key);
}

void stream_shard::subscribe(stream& who, stream_subscription what) {
  if (who.finishing_)
    return;
  lane_key key{who.format_, what.policy, std::move(what.routes)};
  if (who.lane_ && who.lane_->key == key)
    return;
  take_over_all(who);
  if (who.closed_)
    return;
  leave(who);
  flush_soon(who);
  if (key.routes.empty())
    return;
  auto where = lane_for(std::move(key));
  where->log.seal(); // events published before are not for this stream
  who.lane_index_ = where->streams.size();
  where->streams.push_back(who.shared_from_this());
  where->waiting += who.waiting_ ? 1 : 0;
  go_on_from(who, where->log.end());
  who.lane_ = std::move(where);
}

void stream_shard::leave(stream& who) {
  auto where = std::exchange(who.lane_, nullptr);
  if (!where)
    return;
  auto& all = where->streams;
  auto fill = [&all](size_t hole, size_t from) {
    if (hole != from) {
      all[hole] = std::move(all[from]);
      all[hole]->lane_index_ = hole;
    }
  };
  auto hole = who.lane_index_;
  // Streams before the cursor have been visited; the last one, which has not, may not slip in among them.
  if (where->begun && hole < where->cursor) {
    --where->cursor;
    fill(hole, where->cursor);
    hole = where->cursor;
  }
  fill(hole, all.size() - 1);
  all.pop_back();
  where->waiting -= who.waiting_ ? 1 : 0;
  who.skipping_ = false;
  if (all.empty())
    drop(*where);
  else
    tidy(*where);
}

/// A lane where nobody is behind keeps no bytes.
void stream_shard::tidy(lane& where) {
  auto end = where.log.end().position;
  if (where.pass == pass_state::none && where.waiting == 0 && where.goal == end && !where.log.is_empty())
    where.log.trim(end);
}

// -- passes -----------------------------------------------------------------------------------------------------------

void stream_shard::settle() {
  for (auto& where : staged_) {
    where->staged = false;
    if (where->streams.size() < small_lane) {
      where->log.seal_and_release();
      std::vector<uint32_t>{}.swap(where->seen);
    } else {
      where->log.seal();
    }
    schedule(where);
  }
  staged_.clear();
  if (!slicing_)
    run_slice();
}

/// Bytes of a lane that was sealed by the way, before its `settle`, come here too.
void stream_shard::schedule(const lane_ptr& where) {
  if (where->pass != pass_state::none || where->log.end().position == where->goal)
    return;
  where->pass = pass_state::due;
  due_.push_back(where);
}

void stream_shard::run_slice() {
  size_t visits = 0;
  for (; visits < slice / 2 && !to_flush_.empty(); ++visits) {
    auto who = std::move(to_flush_.front());
    to_flush_.pop_front();
    who->flush_due_ = false;
    if (!who->closed_)
      flush(*who);
  }
  while (visits < slice && !due_.empty()) {
    auto where = std::move(due_.front());
    due_.pop_front();
    visits += visit(*where, slice - visits) + 1;
    if (where->cursor < where->streams.size())
      due_.push_back(std::move(where)); // lanes take turns
    else
      end_pass(where);
  }
  count_deliveries();
  slicing_ = !due_.empty() || !to_flush_.empty();
  if (slicing_)
    asio::post(io_, [this] { run_slice(); });
}

/// Goes on with the pass of a lane, for so many streams. Returns how many there were.
size_t stream_shard::visit(lane& where, size_t at_most) {
  if (!std::exchange(where.begun, true)) {
    where.since = clock::now();
    where.cursor = 0;
    where.goal = where.low = where.log.end().position;
    where.all_level = true;
  }
  size_t visits = 0;
  for (; visits < at_most && where.cursor < where.streams.size(); ++visits) {
    auto who = where.streams[where.cursor];
    if (who->waiting_)
      hold_to_policy(*who);
    else if (who->position_ < where.log.end().position)
      flush(*who);
    if (who->lane_.get() != &where)
      continue; // another one has taken its place
    if (who->skipping_)
      where.all_level = false;
    else
      where.low = std::min(where.low, who->position_);
    ++where.cursor;
  }
  return visits;
}

void stream_shard::end_pass(const lane_ptr& where) {
  where->begun = false;
  where->pass = pass_state::none;
  if (where->streams.empty())
    return; // dropped
  where->log.trim(where->low);
  if (where->all_level && where->low == where->log.end().position)
    where->log.forget_latest();
  // A client whose queue is full was given it just now; it is judged by the next pass, or soon if there is none.
  if (where->log.end().position - where->low > queue_limit(*where))
    overfull_.push_back(where);
  if (where->streams.size() < small_lane) {
    schedule(where);
    return;
  }
  // Under load, a pause as long as the pass lets frames gather, so that more of them share a write.
  auto now = clock::now();
  where->since = now + std::min<clock::duration>(now - where->since, longest_pause);
  where->pass = pass_state::pausing;
  paused_.push_back(where);
  std::push_heap(paused_.begin(), paused_.end(), ends_later);
  arm_pacer();
}

uint64_t stream_shard::queue_limit(const lane& where) const {
  // A client that wants the latest wants it soon, not after a whole queue of what is no longer true.
  return where.key.policy == slow_policy::latest ? cfg_.max_queue_bytes / 4 : cfg_.max_queue_bytes;
}

bool stream_shard::ends_later(const lane_ptr& a, const lane_ptr& b) {
  return a->since > b->since;
}

void stream_shard::arm_pacer() {
  if (paused_.empty() || paused_.front()->since >= pacer_end_)
    return;
  pacer_end_ = paused_.front()->since;
  pacer_.expires_at(pacer_end_);
  pacer_.async_wait([this](asio::error_code ec) {
    if (ec)
      return; // armed anew
    pacer_end_ = clock::time_point::max();
    resume_paused();
  });
}

void stream_shard::resume_paused() {
  auto now = clock::now();
  while (!paused_.empty() && paused_.front()->since <= now) {
    std::pop_heap(paused_.begin(), paused_.end(), ends_later);
    auto where = std::move(paused_.back());
    paused_.pop_back();
    where->pass = pass_state::none;
    if (where->streams.empty())
      continue; // dropped
    schedule(where);
    tidy(*where);
  }
  arm_pacer();
  if (!slicing_)
    run_slice();
}

// -- all streams ------------------------------------------------------------------------------------------------------

void stream_shard::tick(milliseconds passed) {
  // Each stream is looked at twice a heartbeat; one that had no write between two looks gets a comment. So no client
  // waits longer than the heartbeat, and the work spreads over it.
  auto share =
      2.0 * static_cast<double>(passed.count()) / static_cast<double>(std::max<int64_t>(cfg_.heartbeat.count(), 1));
  beats_due_ += share * static_cast<double>(streams_.size());
  for (; beats_due_ >= 1 && !streams_.empty(); beats_due_ -= 1) {
    if (beat_cursor_ >= streams_.size())
      beat_cursor_ = 0;
    auto who = streams_[beat_cursor_++];
    beat(*who);
  }
  if (streams_.empty())
    beats_due_ = 0;
  for (auto& where : std::exchange(overfull_, {})) {
    if (where->pass != pass_state::none || where->streams.empty())
      continue;
    where->pass = pass_state::due;
    due_.push_back(std::move(where));
  }
  if (!slicing_)
    run_slice();
  ++ticks_;
  for (auto& who : std::exchange(hushed_, {})) {
    if (who->closed_)
      continue;
    if (has_answers_unread(*who))
      hushed_.push_back(std::move(who));
    else
      watch(who);
  }
  for (auto now = clock::now(); !closing_.empty() && closing_.front().first <= now; closing_.pop_front())
    close(*closing_.front().second, stream_end::finished);
}

void stream_shard::close_all() {
  while (!streams_.empty()) {
    auto who = streams_.back();
    if (!who->waiting_)
      finish(*who, nullptr);
    close(*who, stream_end::finished);
  }
  count_deliveries();
}

void stream_shard::count_deliveries() {
  if (delivered_ != 0)
    counters_.deliveries.add(std::exchange(delivered_, 0));
}

} // namespace sluice::http
