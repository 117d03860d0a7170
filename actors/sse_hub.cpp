#include "sse_hub.hpp"

#include <algorithm>
#include <utility>

#include "sluice/json_text.hpp"
#include "sluice/live_format.hpp"

#include "crash.hpp"

namespace sluice {

namespace {

constexpr std::chrono::milliseconds snapshot_timeout{500};
constexpr std::chrono::milliseconds drain_step{50};
/// A cursor from another node may be a moment ahead of what this one has read.
constexpr std::chrono::seconds catch_up_timeout{2};
/// Memory may move on while Kafka is read; a client that has not caught up after so many turns is too slow for it.
constexpr uint32_t max_replays_of_one = 10;
constexpr size_t max_queued_replays = 10000;
/// Replays from memory are sent at once, up to this much; longer ones go the way that waits for the client.
constexpr size_t max_recent_bytes = 1048576;

// +-20 %, so that clients that were dropped together do not come back together.
uint64_t jittered(std::chrono::milliseconds delay, std::minstd_rand& random) {
  return static_cast<uint64_t>(delay.count()) * (80 + random() % 41) / 100;
}

frame make_frame(std::string text) {
  return std::make_shared<const std::string>(std::move(text));
}

int64_t unix_ms() {
  auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

uint64_t key_hash(std::string_view channel, std::string_view key) {
  return std::hash<std::string_view>{}(channel)*31 + std::hash<std::string_view>{}(key);
}

} // namespace

// -- what comes -------------------------------------------------------------------------------------------------------

void sse_hub_state::show(const batch_ptr& batch) {
  auto live_from = history->live_from(batch->topic(), batch->partition());
  history->add(batch);
  auto block = std::make_shared<live_block>();
  auto homes = groups_by_topic.find(batch->topic());
  auto hash = topic_hash(batch->topic());
  auto records = batch->records();
  for (size_t i = 0; i < records.size(); ++i) {
    if (homes == groups_by_topic.end())
      break;
    for (auto* home : homes->second) {
      home->place.next[hash][static_cast<size_t>(batch->partition())] = records[i].offset + 1;
      home->cursor_text.clear();
    }
    if (records[i].offset >= live_from)
      place(*block, *batch, i);
  }
  if (!block->events.empty())
    live->publish(std::move(block));
  moved_on();
}

void sse_hub_state::place(live_block& block, const record_batch& batch, size_t index) {
  bool skipped = false;
  for (const auto& one : finder->find(batch, index, skipped)) {
    auto found = channels.find(one.channel);
    if (found == channels.end())
      continue;
    counters->frames.add();
    auto key = key_hash(one.channel, batch.records()[index].key);
    for (const auto& [home, way] : found->second) {
      live_block::event event;
      event.route = way.id;
      event.number = static_cast<uint32_t>(index);
      event.key = key;
      event.sse_begin = static_cast<uint32_t>(block.sse.size());
      append_live_event(block.sse, stream_protocol::sse, one.channel, one.event, cursor_of(*home), one.data);
      event.sse_size = static_cast<uint32_t>(block.sse.size()) - event.sse_begin;
      if (websockets > 0) {
        event.ws_begin = static_cast<uint32_t>(block.ws.size());
        append_live_event(block.ws, stream_protocol::websocket, one.channel, one.event, cursor_of(*home), one.data);
        event.ws_size = static_cast<uint32_t>(block.ws.size()) - event.ws_begin;
      }
      block.events.push_back(event);
    }
  }
  if (skipped)
    counters->events_skipped.add();
}

partition_list sse_hub_state::assign(const partition_list& partitions) {
  partition_list starts;
  for (const auto& where : partitions) {
    // A little history, so that clients that come back right after a restart need not be served from Kafka one by one.
    auto from = std::max<int64_t>(where.offset - int64_t{cfg.sse.replay_warmup}, 0);
    history->begin(where, from);
    starts.push_back({where.topic, where.partition, where.offset < 0 ? where.offset : from});
  }
  regroup();
  moved_on();
  return starts;
}

void sse_hub_state::revoke(const partition_list& partitions) {
  for (const auto& where : partitions)
    history->forget(where);
  regroup();
}

/// The hub has come further: those who wait for that may be admitted.
void sse_hub_state::moved_on() {
  if (!history->is_warm())
    return;
  counters->live_feed.set(1);
  if (std::exchange(waiting, 0) == 0)
    return;
  for (auto& [id, who] : clients)
    if (who.at == phase::waiting)
      admit(who);
}

// -- clients ----------------------------------------------------------------------------------------------------------

caf::result<atom::done> sse_hub_state::join(live_request_ptr request) {
  if (draining)
    return make_failure(ec::shutting_down, "the server is stopping");
  if (auto* earlier = find(request->client)) {
    if (earlier->request->user != request->user)
      return make_failure(ec::kafka_refused, "another user has the client id \"" + request->client + "\"");
    end_stream(*earlier->request->stream, farewell::replaced); // half-open, or taken over
  }
  auto session = self->current_sender(); // a promise takes it away
  member fresh;
  fresh.promise = self->make_response_promise<atom::done>();
  fresh.session = caf::actor_cast<caf::actor_addr>(session);
  fresh.channels = request->channels;
  fresh.connected_ms = unix_ms();
  fresh.request = std::move(request);
  self->monitor(session);
  auto id = fresh.request->stream->id();
  by_session[fresh.session] = id;
  by_client[fresh.request->client] = id;
  if (fresh.request->stream->protocol() == stream_protocol::websocket)
    ++websockets;
  auto promise = fresh.promise;
  auto& who = clients.insert_or_assign(id, std::move(fresh)).first->second;
  if (!who.request->snapshot) {
    greet(who);
    return promise;
  }
  awaiting.push_back(id);
  if (awaited == 0) // else the question is on its way, and its answer is fresh enough
    ask_for_snapshots();
  return promise;
}

void sse_hub_state::ask_for_snapshots() {
  awaited = cfg.aggregators.size() + 1;
  auto answered = [this] {
    if (--awaited > 0)
      return;
    for (auto id : std::exchange(awaiting, {}))
      if (auto it = clients.find(id); it != clients.end() && it->second.at == phase::greeting)
        greet(it->second);
  };
  for (const auto& aggregator : cfg.aggregators) {
    auto whom = aggregator->get();
    if (!whom) {
      answered();
      continue;
    }
    self->request(whom, snapshot_timeout, atom::state_v)
        .then(
            [this, answered](const aggregation_view& view) {
              snapshots[view.name] = view.json;
              answered();
            },
            // An aggregator that starts anew has nothing to show; the next summary shows that it is back.
            [answered](const caf::error&) { answered(); });
  }
  answered();
}

void sse_hub_state::greet(member& who) {
  const auto& request = *who.request;
  auto protocol = request.stream->protocol();
  if (!request.cursor.empty())
    who.cursor = parse_cursor_text(request.cursor);
  settle(who);
  std::string text;
  append_retry(text, protocol, jittered(cfg.sse.retry, random));
  bool begins_now = request.cursor.empty() && (request.from.empty() || request.from == "now");
  if (begins_now && history->is_warm())
    who.cursor = who.home->place;
  // Who is cut off before its first event comes back to where it was.
  std::string id = who.cursor ? encode_cursor_text(*who.cursor) : std::string{};
  who.told = id;
  if (request.snapshot) {
    std::string data = "{\"type\":\"snapshot\",\"aggregations\":{";
    const char* comma = "";
    for (const auto& [which, json] : snapshots) {
      data += comma;
      append_string(data, which);
      data += ":" + json;
      comma = ",";
    }
    append_notice(text, protocol, "snapshot", id, data + "}}");
  } else {
    std::string data = "{\"clientId\":";
    append_string(data, request.client);
    data += ",\"channels\":[";
    const char* comma = "";
    for (const auto& one : who.channels) {
      data += comma;
      append_string(data, one);
      comma = ",";
    }
    append_notice(text, protocol, "connected", id, data + "]}");
  }
  request.stream->send(make_frame(std::move(text)), 1);
  who.promise.deliver(atom::done_v);
  admit(who);
}

void sse_hub_state::admit(member& who) {
  if (!history->is_warm()) {
    who.at = phase::waiting;
    ++waiting;
    return;
  }
  const auto& request = *who.request;
  if (!who.cursor) {
    if (!request.cursor.empty())
      go_live_after_gap(who, "unknown");
    else if (request.from.empty() || request.from == "now")
      go_live(who, {}, 0);
    else
      replay(who);
    return;
  }
  switch (history->judge(*who.cursor, who.home->topics)) {
  case live_history::standing::foreign:
    go_live_after_gap(who, "unknown");
    break;
  case live_history::standing::older:
    replay(who);
    break;
  case live_history::standing::ahead:
    ++waiting;
    if (!std::exchange(who.timed, true)) {
      self->delayed_send(self, catch_up_timeout, atom::resume_v, request.stream->id(), std::string{"late"});
    }
    who.at = phase::waiting;
    break;
  case live_history::standing::recent: {
    auto whole = history->completed(*who.cursor, who.home->topics);
    replay_writer writer{request.stream->protocol(), who.channels, whole, unix_ms()};
    std::string text;
    for (const auto& [batch, index] : history->missed(whole, who.home->topics)) {
      writer.add(text, *finder, *batch, index);
      if (text.size() > max_recent_bytes)
        break;
    }
    if (auto expired = writer.take_expired(); expired > 0) {
      std::string gap;
      writer.put_gap(gap, "expired", expired);
      counters->gaps.add();
      text.insert(0, gap);
    }
    auto events = writer.take_events();
    counters->replayed.add(events);
    if (text.size() > max_recent_bytes) {
      who.cursor = writer.cursor();
      who.at = phase::replaying;
      request.stream->send(make_frame(std::move(text)), events);
      // Goes on from here when the client has taken that.
      request.stream->when_sent([hub = sse_hub_actor{self}, id = request.stream->id(), at = writer.cursor_text()] {
        caf::anon_send(hub, atom::resume_v, id, at);
      });
      ++replays;
      break;
    }
    go_live(who, std::move(text), events);
    break;
  }
  }
}

void sse_hub_state::go_live(member& who, std::string text, uint32_t events) {
  who.at = phase::live;
  who.cursor.reset();
  if (cursor_of(*who.home) != std::exchange(who.told, {}))
    append_cursor(text, who.request->stream->protocol(), cursor_of(*who.home));
  if (!text.empty())
    who.request->stream->send(make_frame(std::move(text)), events);
  who.request->stream->subscribe(subscription_of(who));
}

void sse_hub_state::go_live_after_gap(member& who, const char* reason) {
  replay_writer writer{who.request->stream->protocol(), {}, who.home->place, 0};
  std::string text;
  writer.put_gap(text, reason, -1);
  counters->gaps.add();
  go_live(who, std::move(text), 1);
}

void sse_hub_state::replay(member& who) {
  if (++who.replays > max_replays_of_one || replay_queue.size() >= max_queued_replays) {
    send_away(*who.request->stream, farewell::try_later, jittered(10 * cfg.sse.retry, random));
    return;
  }
  who.at = phase::queued;
  replay_queue.push_back(who.request->stream->id());
  next_replays();
}

void sse_hub_state::next_replays() {
  while (replays < cfg.sse.max_replays && !replay_queue.empty()) {
    auto found = clients.find(replay_queue.front());
    replay_queue.pop_front();
    if (found == clients.end() || found->second.at != phase::queued)
      continue;
    auto& who = found->second;
    // Others' replays may have gone on long enough for the memory to cover it, but it does not grow backwards.
    who.at = phase::replaying;
    ++replays;
    counters->replays.add();
    std::optional<live_cursor> from;
    if (who.cursor)
      from = history->completed(*who.cursor, who.home->topics);
    auto request = std::make_shared<live_request>(*who.request);
    request->channels = who.channels;
    auto spawn = [&](auto... arguments) {
      return cfg.detached_replays ? self->spawn<caf::detached>(live_replay, std::move(arguments)...)
                                  : self->spawn(live_replay, std::move(arguments)...);
    };
    auto reader = spawn(live_request_ptr{std::move(request)}, std::move(from), who.home->topics, cfg.rules,
                        cfg.make_replay_source, who.session, sse_hub_actor{self}, counters);
    self->monitor(reader);
    who.reader = caf::actor_cast<caf::actor_addr>(reader);
    by_replay[who.reader] = who.request->stream->id();
  }
}

void sse_hub_state::resume(uint64_t stream, const std::string& cursor) {
  auto found = clients.find(stream);
  if (cursor == "late") {
    if (found != clients.end() && found->second.at == phase::waiting && history->is_warm())
      go_live_after_gap(found->second, "future");
    return;
  }
  if (found != clients.end() && found->second.at == phase::replaying) {
    --replays;
    auto& who = found->second;
    who.reader = nullptr;
    who.cursor = parse_cursor_text(cursor);
    who.at = phase::queued;
    if (who.cursor) {
      admit(who);
    } else { // Kafka is away: it may have come back by then
      send_away(*who.request->stream, farewell::try_later, jittered(cfg.sse.retry, random));
    }
  }
  next_replays();
}

caf::result<channel_names> sse_hub_state::change(const std::string& client, const channel_names& names, bool add) {
  auto* who = find(client);
  if (who == nullptr)
    return make_failure(ec::unknown_client,
                        "no client \"" + client + "\" is connected here; see GET /kafka/sse/clients");
  auto wanted = who->channels;
  for (const auto& one : names)
    std::erase(wanted, one);
  if (add)
    wanted.insert(wanted.end(), names.begin(), names.end());
  if (wanted.size() > cfg.sse.max_channels)
    return make_failure(ec::queue_full, "a client may have " + std::to_string(cfg.sse.max_channels) +
                                            " channels (sse.maxChannels); unsubscribe from some first");
  who->channels = std::move(wanted);
  if (who->home != nullptr) {
    unsettle(*who);
    settle(*who);
  }
  if (who->at == phase::live)
    who->request->stream->subscribe(subscription_of(*who));
  return who->channels;
}

caf::result<atom::done> sse_hub_state::end_client(const std::string& client, const std::string& reason) {
  auto* who = find(client);
  if (who == nullptr)
    return make_failure(ec::unknown_client,
                        "no client \"" + client + "\" is connected here; see GET /kafka/sse/clients");
  std::string data = "{\"reason\":";
  append_string(data, reason);
  std::string text;
  append_notice(text, who->request->stream->protocol(), "closed", {}, data + "}");
  end_stream(*who->request->stream, farewell::finished, std::move(text));
  return atom::done_v;
}

live_clients sse_hub_state::list() const {
  auto all = std::make_shared<std::vector<live_client>>();
  for (const auto& [id, who] : clients)
    all->push_back({who.request->client, who.request->user, who.request->remote, who.channels, who.connected_ms,
                    who.request->stream->protocol(), who.request->stream->usage()});
  return all;
}

void sse_hub_state::gone(const caf::actor_addr& session) {
  if (auto replayed = by_replay.find(session); replayed != by_replay.end()) {
    auto stream = replayed->second;
    by_replay.erase(replayed);
    auto found = clients.find(stream);
    if (found != clients.end() && found->second.at == phase::replaying && found->second.reader == session)
      resume(stream, ""); // it crashed: it would have said where it was
    return;
  }
  auto known = by_session.find(session);
  if (known == by_session.end())
    return;
  auto found = clients.find(known->second);
  by_session.erase(known);
  if (found == clients.end())
    return;
  auto& who = found->second;
  if (who.at == phase::replaying)
    --replays;
  if (who.request->stream->protocol() == stream_protocol::websocket)
    --websockets;
  if (auto mine = by_client.find(who.request->client); mine != by_client.end() && mine->second == found->first)
    by_client.erase(mine);
  unsettle(who);
  clients.erase(found);
  next_replays();
}

void sse_hub_state::drain_some() {
  size_t ended = 0;
  for (auto at = clients.begin(); at != clients.end() && ended < drain_slice; ++ended) {
    auto& who = at->second;
    send_away(*who.request->stream, farewell::going_away, jittered(cfg.sse.retry, random));
    by_session.erase(who.session);
    unsettle(who);
    at = clients.erase(at);
  }
  if (!clients.empty()) {
    self->delayed_send(self, drain_step, atom::tick_v);
    return;
  }
  for (auto& promise : drains)
    promise.deliver(atom::done_v);
  drains.clear();
}

sse_hub_state::member* sse_hub_state::find(const std::string& client) {
  auto known = by_client.find(client);
  if (known == by_client.end())
    return nullptr;
  auto found = clients.find(known->second);
  return found == clients.end() ? nullptr : &found->second;
}

// -- groups and routes ------------------------------------------------------------------------------------------------

std::vector<std::string> sse_hub_state::topics_of(const channel_names& names) const {
  std::vector<std::string> result;
  for (const auto& topic : history->topics())
    if (std::any_of(names.begin(), names.end(), [&](const auto& one) { return finder->feeds(topic, one); }))
      result.push_back(topic);
  return result;
}

void sse_hub_state::settle(member& who) {
  auto topics = topics_of(who.channels);
  auto& home = groups[topics];
  if (!home) {
    home = std::make_unique<group>();
    home->topics = topics;
    home->place = history->place_in(topics);
    home->quiet = new_route();
    for (const auto& topic : topics)
      groups_by_topic[topic].push_back(home.get());
  }
  ++home->clients;
  who.home = home.get();
  who.settled = who.channels;
  who.routes = {home->quiet};
  for (const auto& one : who.channels) {
    auto [way, is_new] = channels[one].try_emplace(home.get());
    if (is_new)
      way->second.id = new_route();
    ++way->second.clients;
    who.routes.push_back(way->second.id);
  }
  std::sort(who.routes.begin(), who.routes.end());
  who.routes.erase(std::unique(who.routes.begin(), who.routes.end()), who.routes.end());
}

void sse_hub_state::unsettle(member& who) {
  if (who.home == nullptr)
    return;
  auto* home = std::exchange(who.home, nullptr);
  for (const auto& one : std::exchange(who.settled, {})) {
    auto at = channels.find(one);
    auto way = at->second.find(home);
    if (--way->second.clients > 0)
      continue;
    free_routes.push_back(way->second.id);
    at->second.erase(way);
    if (at->second.empty())
      channels.erase(at);
  }
  who.routes.clear();
  if (--home->clients > 0)
    return;
  free_routes.push_back(home->quiet);
  for (const auto& topic : home->topics)
    std::erase(groups_by_topic[topic], home);
  groups.erase(std::vector<std::string>{home->topics});
}

/// The place in this topic is another one than its records tell.
void sse_hub_state::replace(const std::string& topic) {
  auto homes = groups_by_topic.find(topic);
  if (homes == groups_by_topic.end())
    return;
  for (auto* home : homes->second) {
    home->place = history->place_in(home->topics);
    home->cursor_text.clear();
  }
}

/// Topics or partitions have come or gone.
void sse_hub_state::regroup() {
  for (const auto& topic : history->topics())
    replace(topic);
  for (auto& [id, who] : clients) {
    if (who.home == nullptr || topics_of(who.channels) == who.home->topics)
      continue;
    unsettle(who);
    settle(who);
    if (who.at == phase::live)
      who.request->stream->subscribe(subscription_of(who));
  }
}

route_id sse_hub_state::new_route() {
  if (free_routes.empty())
    return next_route++;
  auto id = free_routes.back();
  free_routes.pop_back();
  return id;
}

const std::string& sse_hub_state::cursor_of(group& home) {
  if (home.cursor_text.empty())
    home.cursor_text = encode_cursor_text(home.place);
  return home.cursor_text;
}

void sse_hub_state::move_quiet_clients() {
  auto block = std::make_shared<live_block>();
  for (auto& [topics, home] : groups) {
    const auto& cursor = cursor_of(*home);
    if (cursor == home->told)
      continue;
    home->told = cursor;
    live_block::event event;
    event.route = home->quiet;
    event.number = static_cast<uint32_t>(block->events.size());
    event.fires = false;
    event.sse_begin = static_cast<uint32_t>(block->sse.size());
    append_cursor(block->sse, stream_protocol::sse, cursor);
    event.sse_size = static_cast<uint32_t>(block->sse.size()) - event.sse_begin;
    event.ws_begin = static_cast<uint32_t>(block->ws.size());
    append_cursor(block->ws, stream_protocol::websocket, cursor);
    event.ws_size = static_cast<uint32_t>(block->ws.size()) - event.ws_begin;
    block->events.push_back(event);
  }
  if (!block->events.empty())
    live->publish(std::move(block));
}

stream_subscription sse_hub_state::subscription_of(const member& who) const {
  stream_subscription result;
  result.routes = who.routes;
  // The strictest of its channels' policies; they are in order of strictness.
  result.policy = who.channels.empty() ? slow_policy::disconnect : slow_policy::latest;
  for (const auto& one : who.channels)
    result.policy = std::min(result.policy, finder->policy_of(one));
  return result;
}

// -- wiring -----------------------------------------------------------------------------------------------------------

sse_hub_actor::behavior_type sse_hub(sse_hub_state::self_pointer self, sse_hub_config cfg, fan_out* live,
                                     stats* counters) {
  auto& st = self->state;
  st.cfg = std::move(cfg);
  st.live = live;
  st.counters = counters;
  st.finder.emplace(st.cfg.rules);
  st.history.emplace(st.cfg.sse.replay_bytes);
  for (const auto& topic : st.cfg.rules.topics)
    if (topic.find('*') == std::string::npos)
      st.history->foresee(topic);
  log_crashes(self, st.name);
  self->set_down_handler([self](const caf::down_msg& down) { self->state.gone(down.source); });
  self->delayed_send(self, st.cfg.sse.checkpoint, atom::commit_v);
  return {
      [self](const batch_ptr& batch) {
        self->state.show(batch);
        auto consumer = caf::actor_cast<kafka_consumer_actor>(self->current_sender());
        self->send(consumer, atom::credit_v, static_cast<uint32_t>(batch->records().size()));
      },
      [self](atom::assigned, const partition_list& partitions) -> caf::result<partition_list> {
        return self->state.assign(partitions);
      },
      [self](atom::revoked, const partition_list& partitions, bool) -> caf::result<atom::done> {
        self->state.revoke(partitions);
        return atom::done_v;
      },
      [self](atom::reached, const topic_partition& where) {
        auto& st = self->state;
        st.history->reached(where);
        st.replace(where.topic);
        st.moved_on();
      },
      [self](atom::join, const live_request_ptr& request) { return self->state.join(request); },
      [self](atom::subscribe, const std::string& client, const channel_names& names, bool add) {
        return self->state.change(client, names, add);
      },
      [self](atom::leave, const std::string& client, const std::string& reason) {
        return self->state.end_client(client, reason);
      },
      [self](atom::clients) { return self->state.list(); },
      [self](atom::drain, uint32_t milliseconds) -> caf::result<atom::done> {
        auto& st = self->state;
        auto promise = self->make_response_promise<atom::done>();
        st.drains.push_back(promise);
        st.draining = true;
        auto steps = std::max<size_t>(milliseconds / static_cast<uint32_t>(drain_step.count()), 1);
        st.drain_slice = st.clients.size() / steps + 1;
        st.drain_some();
        return promise;
      },
      [self](atom::resume, uint64_t stream, const std::string& cursor) { self->state.resume(stream, cursor); },
      [self](atom::tick) { self->state.drain_some(); },
      [self](atom::commit) {
        auto& st = self->state;
        st.move_quiet_clients();
        self->delayed_send(self, st.cfg.sse.checkpoint, atom::commit_v);
      },
  };
}

} // namespace sluice
