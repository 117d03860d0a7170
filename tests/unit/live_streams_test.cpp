#ifndef CAF_SUITE // live_streams_tls_test.cpp runs all of this over TLS
#  define CAF_SUITE live_streams
#endif

#include <algorithm>
#include <atomic>
#include <future>
#include <map>
#include <optional>

#include "sluice/caf.hpp"

#include <caf/test/unit_test.hpp>

#include <zlib.h>

#include "http/gzip.hpp"

#include "certificate.hpp"
#include "loopback.hpp"

using namespace sluice;
using namespace sluice::testing;
using namespace std::chrono_literals;

namespace {

http_config served(http_config http = {}) {
#ifdef SLUICE_OVER_TLS
  static const test_folder folder;
  static const key_and_certificate own{"localhost"};
  http.tls_certificate = folder.write("certificate.pem", own.certificate);
  http.tls_key = folder.write("key.pem", own.key);
#endif
  return http;
}

struct fixture {
  explicit fixture(const sse_config& cfg = {}) : web(cfg, served()) {}

  /// A client with its stream, greeted.
  std::pair<std::unique_ptr<client>, event_stream_ptr> open(int receive_buffer = 0, const char* version = "HTTP/1.1") {
    auto who = std::make_unique<client>(web.port(), receive_buffer);
    who->get("/stream", "", version);
    return {std::move(who), web.next()};
  }
  std::pair<std::unique_ptr<client>, event_stream_ptr> open_socket(int receive_buffer = 0) {
    auto who = std::make_unique<client>(web.port(), receive_buffer);
    who->upgrade("/socket");
    return {std::move(who), web.next()};
  }
  void publish(live_block_ptr what) { web.live().publish(std::move(what)); }

  stream_server web;
};

sse_config with_queue(uint32_t bytes) {
  sse_config cfg;
  cfg.max_queue_bytes = bytes;
  return cfg;
}

/// The kernels of both sides hold about this much for a client that does not read.
constexpr int small_buffer = 4096;
constexpr size_t kernel_bytes = 400 * 1024;

/// What a body says, taken apart as a browser does.
struct reading {
  explicit reading(std::string_view body) {
    while (!body.empty()) {
      auto end = body.find("\n\n");
      if (end == std::string_view::npos)
        throw std::runtime_error("half an event");
      take(body.substr(0, end));
      body.remove_prefix(end + 2);
    }
  }
  void take(std::string_view event) {
    constexpr std::string_view gap = "event: gap\ndata: {\"reason\":\"slow\",\"dropped\":";
    if (event.starts_with(gap)) {
      lost += std::stoull(std::string{event.substr(gap.size())});
      ++gaps;
      data.emplace_back("gap");
    } else if (event.starts_with("data: ")) {
      data.emplace_back(event.substr(6));
    } else if (!event.starts_with(":") && !event.starts_with("id: ") && !event.starts_with("retry: ")) {
      throw std::runtime_error("not an event: " + std::string{event.substr(0, 200)});
    }
  }
  std::vector<std::string> data;
  uint64_t lost = 0;
  uint64_t gaps = 0;
};

std::string joined(const std::vector<std::string>& parts) {
  std::string out;
  for (const auto& part : parts)
    out += (out.empty() ? "" : " ") + part;
  return out;
}

std::string data_of(client& who) {
  return joined(reading{who.body()}.data);
}

std::string padded(const std::string& text, size_t size) {
  return text + " " + std::string(size, '.');
}

/// What a body says that was compressed; whole, with a trailer that is right, or an exception.
std::string unzipped(const std::string& body) {
  z_stream zlib{};
  if (::inflateInit2(&zlib, 15 + 16) != Z_OK) // gzip only
    throw std::bad_alloc{};
  std::string out;
  std::array<char, 65536> part{};
  zlib.next_in = reinterpret_cast<unsigned char*>(const_cast<char*>(body.data()));
  zlib.avail_in = static_cast<uInt>(body.size());
  int result = Z_OK;
  while (result == Z_OK) {
    zlib.next_out = reinterpret_cast<unsigned char*>(part.data());
    zlib.avail_out = part.size();
    result = ::inflate(&zlib, Z_NO_FLUSH);
    out.append(part.data(), part.size() - zlib.avail_out);
  }
  ::inflateEnd(&zlib);
  if (result != Z_STREAM_END || zlib.avail_in != 0)
    throw std::runtime_error("not gzip to its end: " + std::to_string(result));
  return out;
}

uint64_t number_in(const std::string& data) {
  return std::stoull(data);
}

} // namespace

CAF_TEST(a stream gets the events of its routes and no others) {
  fixture f;
  auto [a, to_a] = f.open();
  auto [b, to_b] = f.open();
  auto [both, to_both] = f.open();
  auto [none, to_none] = f.open();
  to_a->subscribe({{1}});
  to_b->subscribe({{2}});
  to_both->subscribe({{1, 2}});
  f.publish(block_builder{}.add(1, "one").add(2, "two").add(3, "three").add(1, "end").again(2, "end").take());
  to_none->send(make_frame("data: end\n\n"), 1);
  for (auto* each : {a.get(), b.get(), both.get(), none.get()})
    each->read_until("data: end\n\n");
  CAF_CHECK_EQUAL(data_of(*a), "one end");
  CAF_CHECK_EQUAL(data_of(*b), "two end");
  CAF_CHECK_EQUAL(data_of(*both), "one two end");
  CAF_CHECK_EQUAL(data_of(*none), "end");
}

CAF_TEST(an event that comes by two routes reaches a stream once) {
  fixture f;
  auto [who, stream] = f.open();
  stream->subscribe({{0, 4, 7}});
  block_builder block;
  for (int i = 0; i < 100; ++i) {
    block.add(7, std::to_string(i)).again(0, std::to_string(i)).again(4, std::to_string(i));
    if (i % 10 == 9)
      f.publish(block.take()); // numbers go on from block to block, or begin anew
    if (i == 50) {
      f.publish(block.take());
      block = {};
    }
  }
  f.publish(block_builder{}.add(4, "end").take());
  who->read_until("data: end\n\n");
  std::string expected;
  for (int i = 0; i < 100; ++i)
    expected += std::to_string(i) + " ";
  CAF_CHECK_EQUAL(data_of(*who), expected + "end");
}

CAF_TEST(a client of HTTP 1.0 gets the same without chunks) {
  fixture f;
  auto [old, to_old] = f.open(0, "HTTP/1.0");
  auto [other, to_other] = f.open();
  to_old->subscribe({{0}});
  to_other->subscribe({{0}});
  f.publish(block_builder{}.add(0, "x").add(0, "end").take());
  CAF_CHECK_EQUAL(joined(reading{old->read_until("data: end\n\n")}.data), "x end");
  CAF_CHECK_EQUAL(joined(reading{other->read_until("data: end\n\n")}.data), "x end");
  CAF_CHECK(old->head().find("chunked") == std::string::npos);
}

CAF_TEST(a stream that subscribes anew has no hole and nothing twice) {
  fixture f{with_queue(64 * 1024 * 1024)};
  for (auto buffer : {0, small_buffer}) {
    auto [who, stream] = f.open(buffer);
    stream->subscribe({{0}});
    std::string expected;
    block_builder block;
    for (int i = 0; i < 1500; ++i) {
      auto text = std::to_string(i);
      // Of each round it gets the half that it is subscribed to at that moment.
      f.publish(block.add(0, padded("a" + text, 500)).add(1, padded("b" + text, 500)).take());
      expected += (i % 2 == 0 ? "a" : "b") + text + " ";
      stream->subscribe({{i % 2 == 0 ? 1u : 0u}});
    }
    f.publish(block.add(0, "end").take());
    who->read_until("data: end\n\n");
    std::string got;
    for (const auto& data : reading{who->body()}.data)
      got += data.substr(0, data.find(' ')) + " ";
    CAF_CHECK_EQUAL(got, expected + "end ");
  }
}

CAF_TEST(a stream that unsubscribes gets what waits and nothing more) {
  fixture f;
  auto [who, stream] = f.open();
  stream->subscribe({{0}});
  f.publish(block_builder{}.add(0, "before").take());
  stream->subscribe({});
  f.publish(block_builder{}.add(0, "after").take());
  stream->send(make_frame("data: end\n\n"), 1);
  who->read_until("data: end\n\n");
  CAF_CHECK_EQUAL(data_of(*who), "before end");
}

CAF_TEST(what is sent to one stream keeps its place among the events) {
  fixture f{with_queue(64 * 1024 * 1024)};
  for (auto buffer : {0, small_buffer}) {
    auto [who, stream] = f.open(buffer);
    std::string expected;
    block_builder block;
    stream->send(make_frame("data: hello\n\n"), 1);
    stream->subscribe({{0, 1}});
    for (int i = 0; i < 1000; ++i) {
      auto text = std::to_string(i);
      f.publish(block.add(static_cast<route_id>(i % 2), padded("e" + text, 800)).take());
      stream->send(make_frame("data: " + padded("s" + text, static_cast<size_t>(i % 100)) + "\n\n"), 1);
      expected += "e" + text + " s" + text + " ";
    }
    stream->finish(make_frame("data: bye\n\n"));
    who->read_all();
    std::string got;
    for (const auto& data : reading{who->body()}.data)
      got += data.substr(0, data.find(' ')) + " ";
    CAF_CHECK_EQUAL(got, "hello " + expected + "bye ");
    CAF_CHECK(who->ended);
  }
}

CAF_TEST(a slow client loses the oldest events whole and is told how many) {
  fixture f{with_queue(64 * 1024)};
  auto [who, stream] = f.open(small_buffer);
  auto quick = f.open();
  auto& fast = *quick.first;
  stream->subscribe({{0}, slow_policy::drop_oldest});
  quick.second->subscribe({{0}, slow_policy::disconnect});
  constexpr uint64_t total = 20000;
  block_builder block;
  // Some events are larger than the whole queue.
  auto feed = [&](uint64_t from, uint64_t to) {
    for (auto i = from; i < to; ++i) {
      const bool large = i % 1000 == 999;
      if (large) // nothing may wait before or behind it for the one that is not to be cut off
        fast.read_until("data: " + std::to_string(i - 1) + " ");
      f.publish(block.add(0, padded(std::to_string(i), large ? 100000 : 20 + i % 300)).take());
      if (i % 100 == 0)
        f.publish(block.move(0, std::to_string(i)).take());
      if (large || i % 50 == 0)
        fast.read_until("data: " + std::to_string(i) + " ");
    }
  };
  feed(0, total / 2);
  wait_until("events were dropped", [&, s = stream] { return s->usage().dropped > 1000; });
  for (int i = 0; i < 30; ++i) // it goes on in small steps
    who->read_some(3000);
  feed(total / 2, total);
  f.publish(block.add(0, "end").take());
  who->read_until("data: end\n\n");
  reading got{who->body()};
  auto events = got.data.size() - got.gaps;
  CAF_CHECK_EQUAL(events + got.lost, total + 1);
  CAF_CHECK(got.gaps > 0 && got.lost > 1000);
  // A gap is where numbers are missing and nowhere else, and what came is whole and in order.
  uint64_t next = 0;
  bool after_gap = false, in_order = true, whole = true;
  for (const auto& data : got.data) {
    if (data == "gap") {
      after_gap = true;
    } else if (data != "end") {
      auto number = number_in(data);
      in_order = in_order && (after_gap ? number > next : number == next);
      whole = whole && data == padded(std::to_string(number), number % 1000 == 999 ? 100000 : 20 + number % 300);
      next = number + 1;
      after_gap = false;
    }
  }
  CAF_CHECK(in_order);
  CAF_CHECK(whole);
  CAF_CHECK_EQUAL(stream->usage().dropped, got.lost);
  CAF_CHECK_EQUAL(f.web.counters.events_dropped.get(), got.lost);
  wait_until("all are counted", [&, s = stream] { return s->usage().events == events; });
  fast.read_until("data: end\n\n");
  CAF_CHECK_EQUAL(reading{fast.body()}.data.size(), total + 1);
}

CAF_TEST(a client that takes nothing is told of all its losses at once) {
  fixture f{with_queue(16 * 1024)};
  auto [who, stream] = f.open(small_buffer);
  stream->subscribe({{0}, slow_policy::drop_oldest});
  block_builder block;
  // How much the kernel takes for the client is its own affair.
  size_t published = 0;
  wait_until("thousands were dropped", [&, s = stream] {
    for (int i = 0; i < 1000; ++i)
      f.publish(block.add(0, padded(std::to_string(published++), 200)).take());
    return s->usage().dropped > 5000;
  });
  f.publish(block.add(0, "end").take());
  who->read_until("data: end\n\n");
  reading got{who->body()};
  CAF_CHECK_EQUAL(got.data.size() - got.gaps + got.lost, published + 1);
  // The test reads only when all are published, so hardly more than one jump is to be seen.
  CAF_CHECK(got.gaps <= 10);
}

CAF_TEST(a slow client that wants the latest gets the last event of each key) {
  fixture f{with_queue(64 * 1024)};
  auto [who, stream] = f.open(small_buffer);
  stream->subscribe({{0, 1}, slow_policy::latest});
  constexpr uint64_t total = 20000;
  constexpr uint64_t keys = 20;
  block_builder block;
  for (uint64_t i = 0; i < total; ++i)
    f.publish(block.add(i % 2, padded(std::to_string(i), 200), i % keys).move(0, std::to_string(i)).take());
  wait_until("events were left out", [&, s = stream, &c = *who] {
    c.read_some(3000);
    return s->usage().dropped > 1000;
  });
  f.publish(block.add(0, "end", 99).take());
  who->read_until("data: end\n\n");
  reading got{who->body()};
  CAF_CHECK_EQUAL(got.gaps, 0u);
  std::map<uint64_t, uint64_t> last;
  uint64_t before = 0;
  bool in_order = true;
  for (const auto& data : got.data) {
    if (data == "end")
      continue;
    auto number = number_in(data);
    in_order = in_order && (number > before || number == 0);
    before = last[number % keys] = number;
  }
  CAF_CHECK(in_order);
  for (uint64_t key = 0; key < keys; ++key)
    CAF_CHECK_EQUAL(last[key], total - keys + key);
  CAF_CHECK_EQUAL(stream->usage().dropped, total + 1 - got.data.size());
  // The cursor is that of the last event, too.
  CAF_CHECK(who->body().rfind("id: " + std::to_string(total - 1) + "\n") != std::string::npos);
}

CAF_TEST(a slow client with more keys than its queue holds is told of the gap) {
  fixture f{with_queue(64 * 1024)};
  auto [who, stream] = f.open(small_buffer);
  stream->subscribe({{0}, slow_policy::latest});
  block_builder block;
  for (uint64_t i = 0; i < 10000; ++i)
    f.publish(block.add(0, padded(std::to_string(i), 200), i).take());
  wait_until("events were left out", [&, s = stream, &c = *who] {
    c.read_some(3000);
    return s->usage().dropped > 0;
  });
  f.publish(block.add(0, "end", 0).take());
  who->read_until("data: end\n\n");
  reading got{who->body()};
  CAF_CHECK(got.gaps > 0);
  CAF_CHECK_EQUAL(got.data.size() - got.gaps + got.lost, 10001u);
}

CAF_TEST(a slow client that is to be disconnected is) {
  fixture f{with_queue(64 * 1024)};
  auto [who, stream] = f.open(small_buffer);
  auto [fast, to_fast] = f.open();
  stream->subscribe({{0}});
  to_fast->subscribe({{0}});
  std::promise<stream_end> ended;
  stream->on_closed([&](stream_end why) { ended.set_value(why); });
  block_builder block;
  for (size_t i = 0; i < (kernel_bytes + 64 * 1024) / 1000; ++i) {
    f.publish(block.add(0, padded(std::to_string(i), 1000)).take());
    fast->read_until("data: " + std::to_string(i) + " ");
  }
  auto end = ended.get_future();
  wait_until("the client is disconnected", [&] {
    f.publish(block.add(0, padded("more", 1000)).take());
    return end.wait_for(0s) == std::future_status::ready;
  });
  CAF_CHECK(end.get() == stream_end::too_slow);
  CAF_CHECK_EQUAL(f.web.counters.clients_slow.get(), 1u);
  f.publish(block.add(0, "end").take());
  fast->read_until("data: end\n\n");
}

CAF_TEST(two thousand streams may each have a lane of their own) {
  fixture f;
  constexpr route_id count = 2000;
  std::vector<std::pair<std::unique_ptr<client>, event_stream_ptr>> all;
  for (route_id i = 0; i < count; ++i) {
    all.push_back(f.open());
    all.back().second->subscribe({{i, count}});
  }
  block_builder block;
  for (int round = 0; round < 3; ++round) {
    for (route_id i = 0; i < count; ++i)
      block.add(i, std::to_string(i) + "." + std::to_string(round));
    f.publish(block.take());
  }
  // Half of them leave; the others' lanes are found all the same.
  for (route_id i = 0; i < count; i += 2)
    all[i].first->read_until("." + std::to_string(2) + "\n\n");
  for (route_id i = 0; i < count; i += 2)
    all[i].first->leave();
  wait_until("they have left", [&] { return f.web.counters.clients.get() == count / 2; });
  f.publish(block.add(count, "end").take());
  bool as_expected = true;
  for (route_id i = 1; i < count; i += 2) {
    all[i].first->read_until("data: end\n\n");
    auto me = std::to_string(i);
    as_expected = as_expected && data_of(*all[i].first) == me + ".0 " + me + ".1 " + me + ".2 end";
  }
  CAF_CHECK(as_expected);
}

CAF_TEST(streams come and go and change while events pass) {
  fixture f;
  std::atomic<bool> done{false};
  auto witness = f.open();
  std::thread publisher{[&] {
    block_builder block;
    for (uint32_t i = 0; !done; ++i) {
      f.publish(block.add(i % 5, padded(std::to_string(i), 100)).again(5, padded(std::to_string(i), 100)).take());
      if (i % 10 != 0)
        continue;
      std::promise<void> keeps_up;
      witness.second->when_sent([&] { keeps_up.set_value(); });
      keeps_up.get_future().wait();
    }
  }};
  bool in_order = true;
  for (int round = 0; round < 10; ++round) {
    std::vector<std::pair<std::unique_ptr<client>, event_stream_ptr>> all;
    for (route_id i = 0; i < 60; ++i) {
      all.push_back(f.open());
      all.back().second->subscribe({{i % 5, 5}, static_cast<slow_policy>(i % 3)});
    }
    for (route_id i = 0; i < 60; ++i) {
      all[i].first->read_until("data: ");
      if (i % 4 == 0)
        all[i].first->leave();
      else
        all[i].second->subscribe({{5}, slow_policy::drop_oldest});
    }
    for (route_id i = 0; i < 60; ++i) {
      if (i % 4 == 0)
        continue;
      all[i].second->finish(nullptr);
      all[i].first->read_all();
      uint64_t before = 0;
      for (const auto& data : reading{all[i].first->body()}.data) {
        if (data == "gap")
          continue;
        in_order = in_order && (before == 0 || number_in(data) > before);
        before = number_in(data);
      }
    }
  }
  done = true;
  publisher.join();
  CAF_CHECK(in_order);
}

CAF_TEST(usage tells what a stream was given) {
  fixture f{with_queue(64 * 1024 * 1024)};
  auto [who, stream] = f.open();
  stream->send(make_frame("data: hello\n\n"), 1);
  stream->subscribe({{0}});
  f.publish(block_builder{}.add(0, "a").move(0, "1").add(0, "b").take());
  f.publish(block_builder{}.add(0, "end").take());
  who->read_until("data: end\n\n");
  wait_until("all is counted", [&, s = stream] { return s->usage().events == 4; });
  auto usage = stream->usage();
  CAF_CHECK_EQUAL(usage.bytes, who->raw.size());
  CAF_CHECK_EQUAL(usage.queued_bytes, 0u);
  CAF_CHECK_EQUAL(usage.dropped, 0u);

  auto [slow, to_slow] = f.open(small_buffer);
  to_slow->subscribe({{1}});
  to_slow->send(make_frame(":" + std::string(3000000, '.') + "\n\n"), 0);
  f.publish(block_builder{}.add(1, std::string(1000000, '.')).take());
  f.publish(block_builder{}.add(1, std::string(1000000, '.')).take());
  wait_until("much waits", [&, s = to_slow] { return s->usage().queued_bytes > 3000000; });
  CAF_CHECK_EQUAL(to_slow->usage().events, 0u);
}

CAF_TEST(when all is sent the stream says so) {
  fixture f;
  auto [who, stream] = f.open(small_buffer);
  std::promise<void> first, second;
  stream->send(make_frame(":" + std::string(3000000, '.') + "\n\n"), 0);
  stream->when_sent([&] { first.set_value(); });
  stream->send(make_frame("data: end\n\n"), 1);
  stream->when_sent([&] { second.set_value(); });
  auto is_sent = first.get_future();
  wait_until("something waits", [&, s = stream] { return s->usage().queued_bytes > 0; });
  CAF_CHECK(is_sent.wait_for(0s) == std::future_status::timeout);
  who->read_until("data: end\n\n");
  CAF_CHECK(is_sent.wait_for(patience) == std::future_status::ready);
  CAF_CHECK(second.get_future().wait_for(patience) == std::future_status::ready);

  std::promise<void> at_once, at_end, after_end;
  stream->when_sent([&] { at_once.set_value(); });
  CAF_CHECK(at_once.get_future().wait_for(patience) == std::future_status::ready);
  stream->send(make_frame(":" + std::string(3000000, '.') + "\n\n"), 0);
  stream->when_sent([&] { at_end.set_value(); });
  who->leave();
  CAF_CHECK(at_end.get_future().wait_for(patience) == std::future_status::ready);
  stream->when_sent([&] { after_end.set_value(); });
  CAF_CHECK(after_end.get_future().wait_for(patience) == std::future_status::ready);
  f.web.stop();
  std::promise<void> after_all;
  stream->when_sent([&] { after_all.set_value(); });
  CAF_CHECK(after_all.get_future().wait_for(0s) == std::future_status::ready);
}

CAF_TEST(a quiet stream gets a comment each heartbeat) {
  sse_config cfg;
  cfg.heartbeat = 200ms;
  fixture f{cfg};
  auto [subscribed, to_subscribed] = f.open();
  auto [other, to_other] = f.open();
  to_subscribed->subscribe({{0}});
  for (auto* each : {subscribed.get(), other.get()})
    each->read_until(":\n\n:\n\n:\n\n");
}

CAF_TEST(a client for whose stream there is no room is told to come back much later) {
  sse_config cfg;
  cfg.max_streams = 1;
  fixture f{cfg};
  auto [who, stream] = f.open();
  for (int i = 0; i < 2; ++i) {
    client refused{f.web.port()};
    refused.get("/stream");
    refused.read_until("\n\n");
    CAF_CHECK(refused.head().starts_with("HTTP/1.1 200 OK\r\n"));
    CAF_CHECK(refused.head().find("Content-Type: text/event-stream\r\n") != std::string::npos);
    auto body = refused.body();
    CAF_REQUIRE(body.starts_with("retry: "));
    auto later = std::stoul(body.substr(7));
    CAF_CHECK(later >= 10000 && later <= 30000);
  }
  CAF_CHECK_EQUAL(f.web.counters.streams_refused_full.get(), 2u);
  who->leave();
  wait_until("the client has left", [&] { return f.web.counters.clients.get() == 0; });
  auto [next, to_next] = f.open();
  to_next->send(make_frame("data: hello\n\n"), 1);
  next->read_until("data: hello\n\n");
}

CAF_TEST(a check adds headers to the head of the stream or answers instead) {
  http_config http;
  http.port = 0;
  stats counters;
  http::router routes;
  routes.add_stream(
      "/stream", [](const http::request&, const event_stream_ptr& opened) { opened->finish(make_frame(":bye\n\n")); },
      [](const http::request& asked) {
        http::stream_verdict out;
        if (asked.query.contains("no"))
          out.instead = http::problem(403, "No.");
        else
          out.headers = {{"X-A", "1"}, {"X-B", "bro\nken"}};
        return out;
      });
  http::server web{http, {}, std::move(routes), counters};
  client yes{web.port()}, no{web.port()};
  yes.get("/stream");
  yes.read_all();
  CAF_CHECK(yes.head().find("\r\nX-A: 1") != std::string::npos);
  CAF_CHECK(yes.head().find("X-B") == std::string::npos);
  CAF_CHECK(yes.body() == ":bye\n\n");
  CAF_CHECK(yes.ended);
  no.get("/stream?no");
  no.read_until("}");
  CAF_CHECK(no.head().starts_with("HTTP/1.1 403 "));
}

CAF_TEST(what is left for the end of a turn is done after the handler and before the next turn) {
  http_config http;
  http.port = 0;
  stats counters;
  http::router routes;
  std::string seen; // by the one I/O thread
  routes.add("GET", "/turn", [&seen](const http::request&, const http::responder& respond) {
    http::at_turn_end([&seen, respond] {
      seen += "end.";
      respond({200, "text/plain", seen, {}});
    });
    seen += "handler ";
  });
  http::server web{http, {}, std::move(routes), counters};
  client who{web.port()};
  who.get("/turn");
  who.read_until("handler end.");
  who.get("/turn");
  who.read_until("handler end.handler end.");
  CAF_CHECK(who.head().starts_with("HTTP/1.1 200 "));
}

CAF_TEST(a handshake makes a connection a WebSocket) {
  fixture f;
  client who{f.web.port()};
  who.upgrade("/socket", "Sec-WebSocket-Protocol: other, sluice.v1\r\n");
  who.read_head();
  CAF_CHECK(who.head().starts_with("HTTP/1.1 101 Switching Protocols\r\n"));
  // The key and its answer are those of RFC 6455.
  CAF_CHECK(who.head().find("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") != std::string::npos);
  CAF_CHECK(who.head().find("Sec-WebSocket-Protocol: sluice.v1") != std::string::npos);
  auto stream = f.web.next();
  CAF_CHECK(stream->protocol() == stream_protocol::websocket);
  client plain{f.web.port()};
  plain.upgrade("/socket", "Sec-WebSocket-Protocol: other\r\n");
  plain.read_head();
  CAF_CHECK(plain.head().find("Sec-WebSocket-Protocol") == std::string::npos);
}

CAF_TEST(what is no handshake is told so) {
  fixture f;
  auto answer = [&](const std::string& headers, const char* version = "HTTP/1.1") {
    client who{f.web.port()};
    who.get("/socket", headers, version);
    who.read_all();
    return who.head() + "\r\n";
  };
  const std::string upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
  const std::string key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
  for (const auto& headers : {std::string{}, upgrade + key, upgrade + key + "Sec-WebSocket-Version: 8\r\n",
                              "Upgrade: h2c\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" + key,
                              "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" + key}) {
    auto head = answer(headers);
    CAF_CHECK(head.starts_with("HTTP/1.1 426 Upgrade Required\r\n"));
    CAF_CHECK(head.find("\r\nSec-WebSocket-Version: 13\r\n") != std::string::npos);
  }
  CAF_CHECK(answer(upgrade + key + "Sec-WebSocket-Version: 13\r\n", "HTTP/1.0").starts_with("HTTP/1.1 426 "));
  for (const std::string bad : {"", "Sec-WebSocket-Key: short\r\n", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ!!\r\n"})
    CAF_CHECK(answer(upgrade + bad + "Sec-WebSocket-Version: 13\r\n").starts_with("HTTP/1.1 400 "));
  client hasty{f.web.port()};
  hasty.say("GET /socket HTTP/1.1\r\nHost: x\r\n" + upgrade + key + "Sec-WebSocket-Version: 13\r\n\r\n" +
            ws_frame(0x81, "early"));
  hasty.read_all();
  CAF_CHECK(hasty.head().starts_with("HTTP/1.1 400 "));
  CAF_CHECK_EQUAL(f.web.counters.clients_total.get(), 0u);
}

CAF_TEST(a WebSocket gets events as messages and says messages) {
  fixture f;
  auto [who, stream] = f.open_socket();
  auto [browser, to_browser] = f.open();
  who->read_head();
  who->say(ws_frame(0x81, "before anyone listens"));
  who->say(ws_frame(0x01, "in ") + ws_frame(0x89, "now") + ws_frame(0x80, "parts"));
  CAF_CHECK_EQUAL(who->shown_frame(), "pong now");
  std::mutex mutex;
  std::vector<std::string> said;
  stream->on_message([&](std::string text) {
    std::lock_guard guard{mutex};
    said.push_back(std::move(text));
  });
  who->say(ws_frame(0x81, std::string(65536, 'x')));
  wait_until("all was heard", [&] {
    std::lock_guard guard{mutex};
    return said.size() == 3;
  });
  CAF_CHECK_EQUAL(said[0], "before anyone listens");
  CAF_CHECK_EQUAL(said[1], "in parts");
  CAF_CHECK(said[2] == std::string(65536, 'x'));
  stream->send(make_frame(encode_ws_text("hello")), 1);
  stream->subscribe({{0}});
  to_browser->subscribe({{0}});
  f.publish(block_builder{}.add(0, "one").add(1, "other").add(0, padded("two", 70000)).take());
  CAF_CHECK_EQUAL(who->shown_frame(), "text hello");
  CAF_CHECK_EQUAL(who->shown_frame(), "text data: one");
  CAF_CHECK(who->shown_frame() == "text data: " + padded("two", 70000));
  browser->read_until("data: one\n\ndata: two ");
}

CAF_TEST(a closing handshake begun by the server ends with the client) {
  fixture f;
  auto [who, stream] = f.open_socket();
  std::promise<stream_end> ended;
  stream->on_closed([&](stream_end why) { ended.set_value(why); });
  stream->subscribe({{0}});
  f.publish(block_builder{}.add(0, "last").take());
  stream->finish(make_frame(encode_ws_text("bye") + encode_ws_close(4001, "enough")));
  CAF_CHECK_EQUAL(who->shown_frame(), "text data: last");
  CAF_CHECK_EQUAL(who->shown_frame(), "text bye");
  CAF_CHECK_EQUAL(who->shown_frame(), "close 4001 enough");
  auto end = ended.get_future();
  CAF_CHECK(end.wait_for(0s) == std::future_status::timeout);
  who->say(ws_frame(0x89, "ignored") + ws_close_frame(4001));
  CAF_CHECK_EQUAL(who->shown_frame(), "end");
  CAF_CHECK(end.wait_for(patience) == std::future_status::ready);
  CAF_CHECK(end.get() == stream_end::finished);

  auto [other, to_other] = f.open_socket();
  to_other->finish(nullptr);
  CAF_CHECK_EQUAL(other->shown_frame(), "close 1001");
}

CAF_TEST(a closing handshake begun by the client is answered) {
  fixture f;
  auto [who, stream] = f.open_socket();
  std::promise<stream_end> ended;
  stream->on_closed([&](stream_end why) { ended.set_value(why); });
  who->read_head();
  who->say(ws_close_frame(1000, "bye"));
  CAF_CHECK_EQUAL(who->shown_frame(), "close 1000");
  CAF_CHECK_EQUAL(who->shown_frame(), "end");
  auto end = ended.get_future();
  CAF_CHECK(end.wait_for(patience) == std::future_status::ready);
  CAF_CHECK(end.get() == stream_end::client_left);
}

CAF_TEST(a client that does not close is hung up on) {
  sse_config sse;
  http_config http;
  http.write_timeout = 300ms;
  stream_server web{sse, served(http)};
  client who{web.port()};
  who.upgrade("/socket");
  web.next()->finish(make_frame(encode_ws_close(1000)));
  CAF_CHECK_EQUAL(who.shown_frame(), "close 1000");
  CAF_CHECK_EQUAL(who.shown_frame(), "end");
}

CAF_TEST(a client that breaks the protocol of WebSockets is told why) {
  fixture f;
  auto answer = [&](const std::string& frames) {
    auto [who, stream] = f.open_socket();
    who->read_head();
    who->say(frames);
    auto out = who->shown_frame();
    CAF_CHECK_EQUAL(who->shown_frame(), "end");
    return out;
  };
  CAF_CHECK_EQUAL(answer("\x81\x02hi"), "close 1002");
  CAF_CHECK_EQUAL(answer(ws_frame(0x82, "x")), "close 1003");
  CAF_CHECK_EQUAL(answer(ws_frame(0x81, "\xff")), "close 1007");
  CAF_CHECK_EQUAL(answer(ws_frame(0x81, std::string(65537, 'x'))), "close 1009");
}

CAF_TEST(a silent WebSocket is pinged and one that is gone is closed) {
  sse_config cfg;
  cfg.heartbeat = 300ms;
  fixture f{cfg};
  auto [who, stream] = f.open_socket();
  auto [lively, to_lively] = f.open_socket();
  std::promise<stream_end> ended;
  stream->on_closed([&](stream_end why) { ended.set_value(why); });
  CAF_CHECK_EQUAL(who->shown_frame(), "ping ");
  auto end = ended.get_future();
  while (end.wait_for(0s) == std::future_status::timeout) {
    CAF_REQUIRE_EQUAL(lively->shown_frame(), "ping ");
    lively->say(ws_frame(0x8a, ""));
  }
  CAF_CHECK(end.get() == stream_end::client_left);
  CAF_CHECK_EQUAL(lively->shown_frame(), "ping ");
}

CAF_TEST(a slow WebSocket loses whole messages and its pings are answered in between) {
  fixture f{with_queue(64 * 1024)};
  auto [who, stream] = f.open_socket(small_buffer);
  stream->subscribe({{0}, slow_policy::drop_oldest});
  constexpr uint64_t total = 10000;
  block_builder block;
  for (uint64_t i = 0; i < total; ++i) {
    f.publish(block.add(0, padded(std::to_string(i), i % 500)).take());
    if (i % 1000 == 0)
      who->say(ws_frame(0x89, std::to_string(i)));
  }
  wait_until("messages were dropped", [&, s = stream] { return s->usage().dropped > 1000; });
  f.publish(block.add(0, "end").take());
  uint64_t got = 0, lost = 0, pongs = 0;
  for (bool ended = false; !ended || pongs == 0; ++got) {
    auto message = who->shown_frame();
    ended = ended || message == "text data: end";
    CAF_REQUIRE(message != "end");
    constexpr std::string_view gap = R"(text {"type":"gap","data":{"reason":"slow","dropped":)";
    if (message.starts_with("pong ")) {
      ++pongs;
      --got;
    } else if (message.starts_with(gap)) {
      lost += std::stoull(message.substr(gap.size()));
      --got;
    } else if (message != "text data: end") {
      auto number = number_in(message.substr(11));
      CAF_REQUIRE(message == "text data: " + padded(std::to_string(number), number % 500));
    }
  }
  CAF_CHECK_EQUAL(got + lost, total + 1);
  CAF_CHECK_EQUAL(stream->usage().dropped, lost);
  CAF_CHECK(pongs > 0);
}

CAF_TEST(a client that floods is heard in full but not at once) {
  fixture f;
  auto [who, stream] = f.open_socket();
  std::atomic<int> heard{0};
  stream->on_message([&](const std::string&) { ++heard; });
  who->read_head();
  std::string many;
  for (int i = 0; i < 1000; ++i)
    many += ws_frame(0x81, std::to_string(i));
  who->say(many);
  wait_until("all was heard", [&] { return heard == 1000; });
  CAF_CHECK_EQUAL(heard.load(), 1000);
}

#ifndef SLUICE_OVER_TLS // where a client cannot talk and read at a time
CAF_TEST(a client that talks and does not read is not heard beyond its queue) {
  fixture f{with_queue(64 * 1024)};
  auto [who, stream] = f.open_socket(small_buffer);
  auto [other, other_stream] = f.open_socket();
  constexpr int total = 300;
  std::atomic<int> heard{0}, ticks{0};
  stream->on_message([&, s = stream](const std::string& text) {
    ++heard;
    s->send(make_frame(encode_ws_text(text + std::string(64 * 1024, '.'))), 0);
  });
  other_stream->on_message([&](const std::string&) { ++ticks; });
  std::thread talker{[&, to = who.get()] {
    for (int i = 0; i < total; ++i)
      to->say(ws_frame(0x81, padded(std::to_string(i), 1000)));
  }};
  wait_until("its answers wait", [&] { return heard > 4; });
  // As many messages as are heard in 20 ticks, in which all of the first client's could be.
  std::string many;
  for (int i = 0; i < 20 * 64; ++i)
    many += ws_frame(0x81, "x");
  other->say(many);
  wait_until("ticks have passed", [&] { return ticks == 20 * 64; });
  CAF_CHECK(heard < 100);
  for (int i = 0; i < total; ++i)
    CAF_REQUIRE(who->shown_frame().starts_with("text " + std::to_string(i) + " ."));
  talker.join();
  CAF_CHECK_EQUAL(heard.load(), total);
}
#endif

CAF_TEST(a WebSocket for which there is no room is refused) {
  sse_config cfg;
  cfg.max_streams = 1;
  fixture f{cfg};
  auto first = f.open_socket();
  client refused{f.web.port()};
  refused.upgrade("/socket");
  refused.read_all();
  CAF_CHECK(refused.head().starts_with("HTTP/1.1 503 "));
  CAF_CHECK(refused.head().find("\r\nRetry-After: ") != std::string::npos);
}

namespace {

struct gzip_fixture : fixture {
  gzip_fixture() : fixture(config()) {}
  static sse_config config() {
    auto cfg = with_queue(64 * 1024);
    cfg.compression = true;
    return cfg;
  }
  std::pair<std::unique_ptr<client>, event_stream_ptr> open_gzip(int receive_buffer = 0,
                                                                 const char* version = "HTTP/1.1") {
    auto who = std::make_unique<client>(web.port(), receive_buffer);
    who->get("/stream", "Accept-Encoding: deflate, gzip;q=0.5\r\n", version);
    return {std::move(who), web.next()};
  }
  /// Passes once everything published before has reached the streams.
  void pass(const event_stream_ptr& any) {
    std::promise<void> done;
    any->when_sent([&] { done.set_value(); });
    done.get_future().wait();
  }
};

/// Bytes that do not compress well.
std::string noise(size_t size, uint32_t seed) {
  std::string out;
  for (; out.size() < size; seed = seed * 1664525 + 1013904223)
    out.push_back(static_cast<char>('a' + (seed >> 24) % 26));
  return out;
}

} // namespace

CAF_TEST(clients that accept it get gzip and may join at any time) {
  gzip_fixture f;
  auto [early, to_early] = f.open_gzip();
  auto [old, to_old] = f.open_gzip(0, "HTTP/1.0");
  auto [plain, to_plain] = f.open();
  to_early->send(make_frame("data: hello\n\n"), 1);
  std::vector<event_stream_ptr> streams{to_early, to_old, to_plain};
  for (const auto& each : streams)
    each->subscribe({{0}});
  std::unique_ptr<client> late;
  std::string all, half;
  block_builder block;
  for (int i = 0; i < 200; ++i) {
    auto text = padded(std::to_string(i), 300);
    f.publish(block.add(0, text).take());
    all += text + " ";
    if (i >= 100)
      half += text + " ";
    if (i == 50)
      to_early->send(make_frame("data: between\n\n"), 1);
    if (i == 50)
      all += "between ";
    if (i == 99) {
      auto opened = f.open_gzip();
      late = std::move(opened.first);
      streams.push_back(opened.second);
      streams.back()->subscribe({{0}});
    }
    f.pass(to_plain);
  }
  for (const auto& each : streams)
    each->finish(make_frame("data: bye\n\n"));
  for (auto* each : {early.get(), old.get(), plain.get(), late.get()})
    each->read_all();
  CAF_CHECK(early->head().find("\r\nContent-Encoding: gzip") != std::string::npos);
  CAF_CHECK(plain->head().find("Content-Encoding") == std::string::npos);
  for (auto* each : {early.get(), plain.get()})
    CAF_CHECK(each->head().find("\r\nVary: Accept-Encoding") != std::string::npos);
  CAF_CHECK_EQUAL(joined(reading{unzipped(early->body())}.data), "hello " + all + "bye");
  auto without = all;
  without.erase(without.find("between "), 8);
  CAF_CHECK_EQUAL(joined(reading{unzipped(old->body())}.data), without + "bye");
  CAF_CHECK_EQUAL(joined(reading{plain->body()}.data), without + "bye");
  CAF_CHECK_EQUAL(joined(reading{unzipped(late->body())}.data), half + "bye");
  CAF_CHECK(early->body().size() < plain->body().size() / 2);
}

CAF_TEST(gzip is right to its end whatever a slow client lost) {
  for (auto policy : {slow_policy::drop_oldest, slow_policy::latest}) {
    gzip_fixture f;
    auto [who, stream] = f.open_gzip(small_buffer);
    auto [brisk, to_brisk] = f.open_gzip();
    stream->subscribe({{0}, policy});
    to_brisk->subscribe({{1}, policy});
    block_builder block;
    constexpr uint64_t total = 6000;
    for (uint64_t i = 0; i < total; ++i) {
      f.publish(block.add(0, std::to_string(i) + " " + noise(500, static_cast<uint32_t>(i)), i % 7).take());
      if (i % 1000 == 500)
        stream->send(make_frame(":aside\n\n"), 0);
      if (i % 1000 == 700)
        stream->subscribe({{0, static_cast<route_id>(2 + i)}, policy});
      if (i % 100 == 0)
        f.pass(to_brisk);
    }
    wait_until("events were left out", [&, s = stream, &c = *who] {
      c.read_some(3000);
      return s->usage().dropped > 500;
    });
    f.publish(block.add(0, "end", 99).take());
    stream->finish(make_frame("data: bye\n\n"));
    who->read_all();
    reading got{unzipped(who->body())};
    CAF_CHECK_EQUAL(got.data.back(), "bye");
    if (policy == slow_policy::drop_oldest) {
      CAF_CHECK_EQUAL(got.data.size() - got.gaps + got.lost, total + 2);
      CAF_CHECK(got.gaps > 0);
    }
    CAF_CHECK(who->ended);
  }
}

CAF_TEST(gzip is only for those who accept it) {
  for (auto yes : {"gzip", "GZip", "deflate, gzip", "br;q=1.0, gzip;q=0.1", "gzip ; q=0.001", "x-gzip"})
    CAF_CHECK(http::accepts_gzip(yes));
  for (auto no : {"", "br", "identity", "gzip;q=0", "gzip; q=0.000", "gzipped", "*"})
    CAF_CHECK(!http::accepts_gzip(no));
}

CAF_TEST(packed blocks stand alone whatever their size) {
  http::gzip_packer packer;
  for (size_t size : std::initializer_list<size_t>{1, 10, 1000, 100000, 5000000}) {
    http::gzip_sum sum, other;
    auto first = noise(size, 1), second = noise(size, 2);
    packer.pack(noise(2 * size, 3)); // which the others need not know
    std::string all{http::gzip_header()};
    all += packer.pack(first);
    all += packer.pack(second);
    sum.add(first);
    auto from = other;
    other.add(noise(99, 4));
    from = other;
    other.add(second);
    sum.add_between(from, other);
    CAF_CHECK(unzipped(all + http::gzip_trailer(sum)) == first + second);
  }
}
