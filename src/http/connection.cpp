// RESTinio: the only file that includes it, for it takes long to compile.
#include <algorithm>
#include <atomic>
#include <exception>
#include <optional>
#include <random>
#include <utility>
#include <variant>

#include <restinio/all.hpp>
#include <restinio/utils/base64.hpp>
#include <restinio/utils/sha1.hpp>

#include "http/cors.hpp"
#include "http/io_thread.hpp"
#include "http/url.hpp"
#include "http/wire.hpp"
#include "sluice/ascii.hpp"
#include "sluice/sse_format.hpp"

namespace sluice::http {

namespace {

using clock = std::chrono::steady_clock;

constexpr std::string_view our_subprotocol = "sluice.v1";

// One io_context is one thread, so nothing needs a strand or a lock.
using traits = restinio::traits_t<restinio::asio_timer_manager_t, restinio::null_logger_t,
                                  restinio::default_request_handler_t, restinio::noop_strand_t, guarded_socket>;
using connection = restinio::impl::connection_t<traits>;
using monitor = restinio::impl::connection_t<traits>::lifetime_monitor_t;

class restinio_connections;

/// A request that waits for its answer. Answered once, by the handler or by the time limit.
struct exchange {
  exchange(restinio_connections* owner, std::shared_ptr<mailbox> box) : owner(owner), box(std::move(box)) {}
  restinio_connections* const owner; ///< Valid on the I/O thread.
  const std::shared_ptr<mailbox> box;
  std::atomic<bool> answered{false};
  // On the I/O thread only:
  restinio::impl::connection_handle_t connection; ///< Null when answered.
  restinio::request_id_t request_id = 0;
  bool keep_alive = true;
  bool confirm_keep_alive = false;
  bool head_only = false;
  header_list more_headers; ///< For any answer.
  bool listed = false;      ///< Among those whose connection is held.
  clock::time_point deadline;
  std::list<std::shared_ptr<exchange>>::iterator place;
};

class restinio_connections final : public connection_maker {
public:
  explicit restinio_connections(io_thread& home);

  void start(std::shared_ptr<socket_guard> guard) override;
  void expire() override;
  void drop_all() override;

private:
  restinio::request_handling_status_t handle(const restinio::request_handle_t& from);
  void dispatch(const restinio::request_t& from, const std::shared_ptr<exchange>& what);
  void open_stream(const router::match& match, request asked, const std::shared_ptr<exchange>& what);
  response turn_away(stream_gate::refusal why, bool is_socket, header_list headers);
  void write(const std::shared_ptr<exchange>& what, std::string bytes, bool keep_alive);
  void unlist(exchange& what);
  std::string render_answer(const exchange& what, const response& with);
  void say_dropped(std::string_view header);
  /// Answers unless that has been done. Any thread.
  static void answer(const std::shared_ptr<exchange>& what, response with);

  io_thread& home_;
  const server_parts& parts_;
  const cors_policy cors_;
  std::shared_ptr<restinio::impl::connection_settings_t<traits>> settings_;
  std::unique_ptr<restinio::impl::connection_factory_t<traits>> factory_;
  std::list<std::shared_ptr<exchange>> waiting_; ///< In the order of their deadlines.
  std::minstd_rand random_{std::random_device{}()};
};

/// How often RESTinio looks at its time limits: often enough to keep them, seldom enough to idle at no cost.
milliseconds check_period(const http_config& cfg) {
  auto shortest = std::min(cfg.header_timeout, cfg.write_timeout);
  return std::clamp<milliseconds>(shortest / 4, milliseconds{50}, milliseconds{2500});
}

restinio_connections::restinio_connections(io_thread& home)
    : home_(home), parts_(home.parts), cors_(home.parts.http.cors_origins) {
  const auto& cfg = parts_.http;
  restinio::server_settings_t<traits> chosen;
  chosen
      .request_handler([this](const restinio::request_handle_t& from) { return handle(from); })
      // One request at a time a connection. A stream's connection leaves RESTinio, so nothing has to be read meanwhile.
      .max_pipelined_requests(1)
      .buffer_size(4096)
      .read_next_http_message_timelimit(cfg.header_timeout)
      .write_http_response_timelimit(cfg.write_timeout)
      // RESTinio would hang up; our own limit comes first and answers.
      .handle_request_timeout(cfg.request_timeout * 2 + std::chrono::seconds{10})
      // The guard refuses large heads as a whole; here only the single parts are bounded.
      .incoming_http_msg_limits(restinio::incoming_http_msg_limits_t{}
                                    .max_url_size(cfg.max_header_bytes)
                                    .max_field_name_size(cfg.max_header_bytes)
                                    .max_field_value_size(cfg.max_header_bytes)
                                    .max_field_count(1000)
                                    .max_body_size(std::max(cfg.max_body_bytes, parts_.routes.largest_body())));
  chosen.ensure_valid_connection_state_listener();
  auto timers = std::make_shared<restinio::asio_timer_manager_t>(home.io, check_period(cfg));
  auto socket_options = chosen.socket_options_setter();
  settings_ = std::make_shared<restinio::impl::connection_settings_t<traits>>(
      std::move(chosen), restinio::impl::create_parser_settings<traits::http_methods_mapper_t>(), std::move(timers));
  factory_ = std::make_unique<restinio::impl::connection_factory_t<traits>>(settings_, std::move(socket_options));
}

void restinio_connections::start(std::shared_ptr<socket_guard> guard) {
  asio::error_code ec;
  auto remote = guard->socket.remote_endpoint(ec);
  if (ec)
    return; // gone already
  if (parts_.tls) {
    guard->tls = parts_.tls->open(guard->socket.native_handle());
    if (!guard->tls)
      return; // memory is short
  }
  guard->begin_service();
  factory_->create_new_connection(guarded_socket{std::move(guard)}, remote, monitor{nullptr})->init();
}

/// What was asked, or what is wrong with it.
std::variant<request, response> read_request(const restinio::request_t& from, std::string_view raw_path,
                                             std::string_view raw_query) {
  auto path = percent_decode(raw_path);
  auto query = parse_query(raw_query);
  if (!path || !query)
    return problem(400,
                   "The URL has a percent sign without two hex digits after it, or %00. Encode a percent sign as %25.",
                   path ? "query" : "path");
  request out;
  out.method = from.header().method().c_str();
  out.path = std::move(*path);
  out.query = std::move(*query);
  out.body = from.body();
  out.remote = from.remote_endpoint().address().to_string();
  from.header().for_each_field([&out](const auto& field) {
    auto [at, is_new] = out.headers.try_emplace(lower(field.name()), field.value());
    if (!is_new)
      at->second.append(at->first == "cookie" ? "; " : ", ").append(field.value());
  });
  return out;
}

restinio::request_handling_status_t restinio_connections::handle(const restinio::request_handle_t& from) {
  parts_.counters.http_requests.add();
  if (home_.guards.current != nullptr)
    home_.guards.current->request_complete();
  auto what = std::make_shared<exchange>(this, home_.box);
  what->connection = std::move(restinio::impl::access_req_connection(*from));
  what->request_id = from->request_id();
  what->keep_alive = from->header().should_keep_alive();
  what->confirm_keep_alive = from->header().has_field("Connection");
  what->deadline = clock::now() + parts_.http.request_timeout;
  what->place = waiting_.insert(waiting_.end(), what);
  what->listed = true;
  try {
    dispatch(*from, what);
  } catch (const std::exception& failure) {
    // Without the query, which may hold a ticket.
    auto path = std::string{split_target(from->header().request_target()).path};
    parts_.say("The handler of " + path + " threw: " + failure.what());
    answer(what, problem(500, "The server failed to handle this request. Try again; its log says more."));
  }
  return restinio::request_accepted();
}

void restinio_connections::dispatch(const restinio::request_t& from, const std::shared_ptr<exchange>& what) {
  auto [path, query] = split_target(from.header().request_target());
  if (auto size = from.body().size(); size > parts_.http.max_body_bytes)
    if (auto limit = parts_.body_limit(from.header().method().c_str(), from.header().request_target()); size > limit) {
      answer(what,
             problem(413, "The body has more than " + std::to_string(limit) + " bytes. Send it in smaller parts."));
      return;
    }
  auto read = read_request(from, path, query);
  if (auto* wrong = std::get_if<response>(&read)) {
    answer(what, *wrong);
    return;
  }
  auto& asked = std::get<request>(read);
  what->head_only = asked.method == "HEAD";
  auto match = parts_.routes.find(asked.method, path);
  what->more_headers = cors_.headers_for(asked, match.allow);
  if (match.found != nullptr) {
    asked.params = std::move(match.params);
    if (match.found->stream)
      open_stream(match, std::move(asked), what);
    else
      match.found->answer(std::move(asked), [what](response with) { answer(what, std::move(with)); });
  } else if (asked.method == "OPTIONS" && path == "*") {
    answer(what, {204, {}, {}, {{"Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"}}});
  } else if (match.allow.empty()) {
    answer(what, problem(404, "There is nothing at " + asked.path + ". Check the path; /openapi.json lists all."));
  } else if (asked.method == "OPTIONS") {
    answer(what, {204, {}, {}, {{"Allow", match.allow}}});
  } else {
    answer(what, problem(405, asked.path + " does not take " + asked.method + ". Use one of: " + match.allow + ".", {},
                         {{"Allow", match.allow}}));
  }
}

/// Whether a header's list of tokens has this one; case does not matter.
bool has_token(std::string_view list, std::string_view token) {
  while (!list.empty()) {
    auto comma = list.find(',');
    auto one = list.substr(0, comma);
    list.remove_prefix(comma == std::string_view::npos ? list.size() : comma + 1);
    if (same_but_for_case(trimmed(one), token))
      return true;
  }
  return false;
}

/// 16 bytes in base64.
bool is_socket_key(std::string_view key) {
  auto is_base64 = [](char c) { return is_letter_or_digit(c) || c == '+' || c == '/'; };
  return key.size() == 24 && key.ends_with("==") && std::all_of(key.begin(), key.end() - 2, is_base64);
}

/// What keeps a request from becoming a WebSocket.
std::optional<response> refuse_socket(const request& asked, const socket_guard* from) {
  if (asked.method != "GET" || from == nullptr || from->speaks_http_1_0() ||
      !has_token(asked.header("upgrade"), "websocket") || !has_token(asked.header("connection"), "upgrade") ||
      asked.header("sec-websocket-version") != "13")
    return problem(426, "Only WebSockets of version 13 are served here. Ask for one with a WebSocket client.", {},
                   {{"Upgrade", "websocket"}, {"Sec-WebSocket-Version", "13"}});
  if (!is_socket_key(asked.header("sec-websocket-key")))
    return problem(400, "Send 16 random bytes in base64 as Sec-WebSocket-Key.", "Sec-WebSocket-Key");
  if (from->said_more())
    return problem(400, "Wait for the answer to the handshake before the first frame.");
  return std::nullopt;
}

/// What proves that the key was understood (RFC 6455, 4.2.2).
std::string accept_of(std::string_view key) {
  auto digest = restinio::utils::sha1::make_digest(std::string{key} + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
  return restinio::utils::base64::encode(restinio::utils::sha1::to_string(digest));
}

void restinio_connections::open_stream(const router::match& match, request asked,
                                       const std::shared_ptr<exchange>& what) {
  auto is_socket = match.found->protocol == stream_protocol::websocket;
  if (is_socket) {
    // RESTinio expects no more requests on a connection that asked for an upgrade.
    what->keep_alive = false;
    if (auto wrong = refuse_socket(asked, home_.guards.current)) {
      answer(what, std::move(*wrong));
      return;
    }
  }
  stream_verdict verdict;
  if (match.found->check)
    verdict = match.found->check(asked);
  if (verdict.instead) {
    answer(what, std::move(*verdict.instead));
    return;
  }
  verdict.headers.insert(verdict.headers.end(), what->more_headers.begin(), what->more_headers.end());
  auto gzip = !is_socket && parts_.sse.compression && accepts_gzip(asked.header("accept-encoding"));
  auto head = [&](bool chunked) {
    auto dropped = [this](std::string_view name) { say_dropped(name); };
    auto headers = verdict.headers;
    if (!is_socket) {
      if (parts_.sse.compression)
        headers.emplace_back("Vary", "Accept-Encoding");
      if (gzip)
        headers.emplace_back("Content-Encoding", "gzip");
      return render_stream_head(home_.date(), chunked, headers, dropped);
    }
    auto subprotocol =
        has_token(asked.header("sec-websocket-protocol"), our_subprotocol) ? our_subprotocol : std::string_view{};
    return render_socket_head(home_.date(), accept_of(asked.header("sec-websocket-key")), subprotocol, headers,
                              dropped);
  };
  if (what->head_only) {
    what->answered = true;
    home_.box->post([this, what, bytes = head(true)] { write(what, bytes, false); });
    return;
  }
  auto [pass, why_not] = parts_.gate->admit(asked.remote, asked.who.user);
  if (!pass) {
    answer(what, turn_away(why_not, is_socket, std::move(verdict.headers)));
    return;
  }
  what->answered = true;
  unlist(*what);
  auto handle = std::exchange(what->connection, nullptr);
  auto guard = dynamic_cast<connection&>(*handle).move_upgrade_internals().m_socket.take();
  auto chunked = !is_socket && !guard->speaks_http_1_0();
  stream_opening how{{match.found->protocol, chunked, gzip}, head(chunked), std::move(pass), std::move(guard->tls)};
  home_.streams.open(std::move(guard->socket), std::move(guard->slot), std::move(how),
                     [&](event_stream_ptr opened) { match.found->stream(std::move(asked), std::move(opened)); });
}

/// The answer to a client for whose stream there is no room.
response restinio_connections::turn_away(stream_gate::refusal why, bool is_socket, header_list headers) {
  auto& counters = parts_.counters;
  auto& refused = why == stream_gate::refusal::streams   ? counters.streams_refused_full
                  : why == stream_gate::refusal::user    ? counters.streams_refused_user
                  : why == stream_gate::refusal::address ? counters.streams_refused_address
                                                         : counters.streams_refused_rate;
  refused.add();
  auto later = std::uniform_int_distribution<uint64_t>{10000, 30000}(random_);
  if (is_socket) {
    headers.emplace_back("Retry-After", std::to_string(later / 1000));
    return problem(503, "There are too many streams. Come back later.", {}, std::move(headers));
  }
  // An EventSource never comes back after a status of refusal; so the stream is one that ends at once.
  headers.emplace_back("Cache-Control", "no-store");
  return {200, "text/event-stream", encode_retry(later), std::move(headers)};
}

// Never at once, even on the I/O thread: RESTinio begins to read the next request when a handler has answered before it
// returns, and again when the answer has been written, and mixes up pipelined requests in between.
void restinio_connections::answer(const std::shared_ptr<exchange>& what, response with) {
  if (what->answered.exchange(true))
    return;
  what->box->post([what, with = std::move(with)] {
    what->owner->write(what, what->owner->render_answer(*what, with), what->keep_alive);
  });
}

std::string restinio_connections::render_answer(const exchange& what, const response& with) {
  if (with.status >= 400)
    parts_.counters.http_errors.add();
  return render(with,
                {.keep_alive = what.keep_alive,
                 .confirm_keep_alive = what.confirm_keep_alive,
                 .head_only = what.head_only,
                 .date = home_.date(),
                 .more = what.more_headers},
                [this](std::string_view name) { say_dropped(name); });
}

void restinio_connections::say_dropped(std::string_view header) {
  parts_.say("Dropped a response header: " + std::string{header});
}

void restinio_connections::write(const std::shared_ptr<exchange>& what, std::string bytes, bool keep_alive) {
  unlist(*what);
  auto to = std::exchange(what->connection, nullptr);
  if (!to)
    return; // let go of meanwhile
  restinio::writable_items_container_t items;
  items.emplace_back(std::move(bytes));
  to->write_response_parts(what->request_id,
                           {restinio::response_parts_attr_t::final_parts,
                            keep_alive ? restinio::response_connection_attr_t::connection_keepalive
                                       : restinio::response_connection_attr_t::connection_close},
                           restinio::write_group_t{std::move(items)});
}

void restinio_connections::unlist(exchange& what) {
  if (std::exchange(what.listed, false))
    waiting_.erase(what.place);
}

void restinio_connections::expire() {
  auto now = clock::now();
  for (const auto& late : waiting_) {
    if (late->deadline > now)
      break;
    answer(late, problem(504, "There was no answer within " + std::to_string(parts_.http.request_timeout.count()) +
                                  " ms. What was asked for may still be done; look before you try again."));
  }
}

void restinio_connections::drop_all() {
  while (!waiting_.empty()) {
    auto dropped = waiting_.front();
    unlist(*dropped);
    dropped->answered = true;
    dropped->connection = nullptr;
  }
}

} // namespace

std::unique_ptr<connection_maker> make_connection_maker(io_thread& home) {
  return std::make_unique<restinio_connections>(home);
}

} // namespace sluice::http
