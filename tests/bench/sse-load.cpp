// sse-load: load generator and latency meter for servers of server-sent events; one file, Linux, no dependencies.
//
// Opens many event streams, publishes by HTTP POST, prints deliveries/s, latency, gaps, and the server's memory and
// CPU. The parent process forks --workers subscriber processes (each has its own fd limit and epoll loop), publishes
// from itself over keep-alive HTTP/1.1, samples /proc, and prints one JSON object.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>
#include <zlib.h>

using u64 = uint64_t;
using i64 = int64_t;
using std::string;
using std::string_view;

static u64 now_ns(clockid_t c = CLOCK_MONOTONIC) {
  timespec t;
  clock_gettime(c, &t);
  return u64(t.tv_sec) * 1000000000ull + u64(t.tv_nsec);
}

// ---------------------------------------------------------------- histogram (64 buckets an octave)
struct Hist {
  u64 n, max, sum;
  u64 b[64 * 64];
  static unsigned idx(u64 v) {
    if (v < 64)
      return unsigned(v);
    unsigned e = 63 - unsigned(__builtin_clzll(v)); // 2^e <= v, e >= 6
    return (e - 5) * 64 + unsigned((v >> (e - 6)) & 63);
  }
  static u64 val(unsigned i) { // upper end of the bucket
    if (i < 64)
      return i;
    unsigned e = i / 64 + 5;
    return (1ull << e) + ((u64(i % 64) + 1) << (e - 6)) - 1;
  }
  void add(u64 v) {
    ++n;
    sum += v;
    if (v > max)
      max = v;
    ++b[idx(v)];
  }
  void merge(const Hist& o) {
    n += o.n;
    sum += o.sum;
    max = std::max(max, o.max);
    for (size_t i = 0; i < 4096; i++)
      b[i] += o.b[i];
  }
  double q(double p) const { // microseconds
    if (!n)
      return 0;
    u64 want = u64(std::ceil(p * double(n))), c = 0;
    for (unsigned i = 0; i < 4096; i++)
      if ((c += b[i]) >= want)
        return double(std::min(val(i), max)) / 1e3;
    return double(max) / 1e3;
  }
};

// ---------------------------------------------------------------- options
struct Url {
  string host, path;
  int port = 80;
  bool ws = false; // WebSocket: text frames instead of events
  sockaddr_in sa{};
};
struct Opt {
  Url url, pub;
  bool has_pub = false, ts_intended = false, realtime = false, get = false;
  int n = 1, workers = 1, srcs = 0, pub_conns = 1, window = 0, pad = 0, rcvbuf = 0, slow_rcvbuf = 0;
  double ramp = 5000, duration = 10, settle = 1, drain = 5, rate = 0, slow = 0, connect_timeout = 15, slow_read = 2;
  u64 pub_max = 0, seq0 = 1;
  string hdrs, pub_hdrs, body = "{\"seq\":{seq},\"ts\":{ts},\"pad\":\"{pad}\"}",
                         f_seq = "\"seq\":", f_ts = "\"ts\":", label;
  std::vector<int> pids;
  clockid_t clk() const { return realtime ? CLOCK_REALTIME : CLOCK_MONOTONIC; }
} O;

[[noreturn]] static void die(const string& m) {
  fprintf(stderr, "sse-load: %s\n", m.c_str());
  exit(2);
}

static Url parse_url(string_view s) {
  Url u;
  if (s.starts_with("http://"))
    s.remove_prefix(7);
  else if (s.starts_with("ws://")) {
    s.remove_prefix(5);
    u.ws = true;
  }
  size_t sl = s.find('/');
  string hp(s.substr(0, sl));
  u.path = sl == string_view::npos ? "/" : string(s.substr(sl));
  size_t c = hp.rfind(':');
  if (c != string::npos) {
    u.port = atoi(hp.c_str() + c + 1);
    hp.resize(c);
  }
  u.host = hp;
  u.sa.sin_family = AF_INET;
  u.sa.sin_port = htons(uint16_t(u.port));
  if (inet_pton(AF_INET, hp == "localhost" ? "127.0.0.1" : hp.c_str(), &u.sa.sin_addr) != 1)
    die("IPv4 address wanted in the URL: " + hp);
  return u;
}

// ---------------------------------------------------------------- shared between the processes
struct alignas(64) WStats {
  std::atomic<u64> delivered, connected, failed, live, ramp_done, slow_live, closed, slow_closed, last_ns;
  u64 bytes, slow_events, slow_gaps, slow_bytes, gaps, dups, reordered, noseq, ids, dup_ids, comments, bad_frames,
      retry, status_other;
  u64 c_refused, c_timeout, c_reset, c_other;
  char sample[160];
  Hist lat, connect;
};
struct Ctl {
  std::atomic<int> phase;
  std::atomic<u64> sent;
}; // 0 ramp, 1 measure, 2 slow clients read again, 3 quit
static Ctl* C;
static WStats* W;

// ---------------------------------------------------------------- one subscriber connection
struct Zip : z_stream {
  Zip() : z_stream{} {
    if (inflateInit2(this, 15 + 16) != Z_OK)
      die("no memory for zlib");
  }
  Zip(const Zip&) = delete;
  Zip& operator=(const Zip&) = delete;
  ~Zip() { inflateEnd(this); }
};

struct Conn {
  int fd = -1;
  uint8_t st = 0; // 0 connecting, 1 header, 2 stream, 3 dead
  bool chunked = false, slow = false, has_data = false, has_seq = false, seen = false;
  uint8_t cst = 0; // chunk state: 0 size, 1 body, 2 CRLF after the body
  u64 left = 0, t0 = 0, seq = 0, next = 0, first = 0, win = 0, ts = 0;
  string part;  // partial header, then partial SSE line
  string cpart; // partial chunk-size line
  string last_id, cur_id;
  std::unique_ptr<Zip> zip; // null: a body without Content-Encoding: gzip
};

struct Worker {
  WStats& s;
  int w, ep = -1;
  std::vector<Conn> cs;
  u64 t_read = 0, got = 0;
  string req;
  explicit Worker(int wi) : s(W[wi]), w(wi) {}

  static bool num_after(string_view d, string_view key, u64& out) {
    const char* p = static_cast<const char*>(memmem(d.data(), d.size(), key.data(), key.size()));
    if (!p)
      return false;
    p += key.size();
    const char* e = d.data() + d.size();
    while (p < e && (*p == ' ' || *p == '"'))
      ++p;
    return std::from_chars(p, e, out).ec == std::errc();
  }
  void line(Conn& c, string_view l) {
    if (!l.empty() && l.back() == '\r')
      l.remove_suffix(1);
    if (l.empty()) {
      if (c.has_data)
        event(c);
      c.has_data = c.has_seq = false;
      c.ts = 0;
      c.cur_id.clear();
      return;
    }
    if (l[0] == ':') {
      ++s.comments;
      return;
    }
    if (l.starts_with("data")) {
      c.has_data = true;
      u64 v;
      if (num_after(l, O.f_seq, v))
        c.seq = v, c.has_seq = true;
      if (num_after(l, O.f_ts, v))
        c.ts = v;
    } else if (l.starts_with("id:")) {
      l.remove_prefix(3);
      if (!l.empty() && l[0] == ' ')
        l.remove_prefix(1);
      c.cur_id.assign(l);
      ++s.ids;
    } else if (l.starts_with("retry"))
      ++s.retry;
    else if (!l.starts_with("event")) {
      if (!s.bad_frames++)
        snprintf(s.sample, sizeof s.sample, "odd line: %.*s", int(std::min<size_t>(l.size(), 120)), l.data());
    }
  }
  void event(Conn& c) {
    bool late = c.slow;
    if (late)
      ++s.slow_events;
    else
      ++got;
    if (!c.cur_id.empty()) {
      if (c.cur_id == c.last_id)
        ++s.dup_ids;
      c.last_id.swap(c.cur_id);
    }
    if (c.has_seq) {
      u64& gaps = late ? s.slow_gaps : s.gaps;
      if (!c.seen || c.seq >= c.next) { // bit k of c.win: seq next-1-k has come
        u64 k = c.seen ? c.seq - c.next : 0;
        gaps += k;
        c.win = (c.seen && k < 63 ? c.win << (k + 1) : 0) | 1;
        c.next = c.seq + 1;
      } else if (u64 k = c.next - 1 - c.seq; k < 64 && !(c.win >> k & 1)) { // late, not twice: the gap was none
        c.win |= 1ull << k;
        ++s.reordered;
        if (c.seq >= c.first)
          --gaps;
      } else
        ++s.dups;
      if (!c.seen)
        c.first = c.seq;
      c.seen = true;
    } else
      ++s.noseq;
    if (c.ts && !late) {
      u64 t = O.realtime ? now_ns(CLOCK_REALTIME) : t_read;
      s.lat.add(t > c.ts ? t - c.ts : 0);
    }
  }
  bool body(Conn& c, string_view d) { // false: malformed
    if (!c.zip) {
      sse(c, d);
      return true;
    }
    static thread_local char buf[256 * 1024];
    c.zip->next_in = reinterpret_cast<unsigned char*>(const_cast<char*>(d.data()));
    c.zip->avail_in = unsigned(d.size());
    do {
      c.zip->next_out = reinterpret_cast<unsigned char*>(buf);
      c.zip->avail_out = sizeof buf;
      if (int r = inflate(c.zip.get(), Z_SYNC_FLUSH); r != Z_OK && r != Z_BUF_ERROR)
        return false;
      sse(c, {buf, sizeof buf - c.zip->avail_out});
    } while (!c.zip->avail_out);
    return true;
  }
  void sse(Conn& c, string_view d) {
    while (!d.empty()) {
      const void* p = memchr(d.data(), '\n', d.size());
      if (!p) {
        c.part.append(d);
        return;
      }
      size_t k = size_t(static_cast<const char*>(p) - d.data());
      if (c.part.empty())
        line(c, d.substr(0, k));
      else {
        c.part.append(d.substr(0, k));
        line(c, c.part);
        c.part.clear();
      }
      d.remove_prefix(k + 1);
    }
  }
  // A server's frames: no masks, no fragments. cpart: header, part: payload so far, left: payload to come.
  bool frames(Conn& c, string_view d) { // false: closed, or malformed
    while (!d.empty()) {
      if (!c.cst) {
        c.cpart += d[0];
        d.remove_prefix(1);
        auto at = [&c](size_t i) { return static_cast<unsigned char>(c.cpart[i]); };
        if (c.cpart.size() < 2)
          continue;
        size_t more = at(1) == 126 ? 2 : at(1) == 127 ? 8 : 0;
        if (c.cpart.size() < 2 + more)
          continue;
        c.left = more ? 0 : at(1);
        for (size_t i = 0; i < more; i++)
          c.left = c.left << 8 | at(2 + i);
        if (c.left > 16u << 20 || !(at(0) & 0x80))
          return false;
        c.cst = 1;
      }
      size_t k = size_t(std::min<u64>(c.left, d.size()));
      c.part.append(d.substr(0, k));
      d.remove_prefix(k);
      if (c.left -= k)
        return true;
      int op = c.cpart[0] & 15;
      if (op == 8)
        return false;
      if (op == 9) { // pong, with a mask that changes nothing
        string pong{char(0x8a), char(0x80 | c.part.size()), 0, 0, 0, 0};
        pong += c.part;
        if (send(c.fd, pong.data(), pong.size(), MSG_NOSIGNAL) < 0)
          return false;
      }
      string_view said = c.part; // what has another type is about the stream: connected, retry, cursor, gap
      if (op == 1 && (!said.starts_with("{\"type\":") || said.starts_with("{\"type\":\"event\""))) {
        line(c, "data: " + c.part);
        line(c, {});
      }
      c.part.clear();
      c.cpart.clear();
      c.cst = 0;
    }
    return true;
  }
  bool stream(Conn& c, string_view d) { // false: the body has ended or is malformed
    if (O.url.ws)
      return frames(c, d);
    if (!c.chunked)
      return body(c, d);
    while (!d.empty()) {
      if (c.cst == 1) {
        size_t k = size_t(std::min<u64>(c.left, d.size()));
        if (!body(c, d.substr(0, k)))
          return false;
        d.remove_prefix(k);
        if (!(c.left -= k))
          c.cst = 2;
        continue;
      }
      size_t k = d.find('\n');
      if (k == string_view::npos) {
        c.cpart.append(d);
        return true;
      }
      c.cpart.append(d.substr(0, k));
      d.remove_prefix(k + 1);
      if (c.cst == 2)
        c.cst = 0;
      else {
        u64 n = 0;
        auto r = std::from_chars(c.cpart.data(), c.cpart.data() + c.cpart.size(), n, 16);
        if (r.ec != std::errc() || !n)
          return false;
        c.left = n;
        c.cst = 1;
      }
      c.cpart.clear();
    }
    return true;
  }
  void drop(Conn& c, int err) {
    if (c.st == 2) {
      ++(c.slow ? s.slow_closed : s.closed);
      --(c.slow ? s.slow_live : s.live);
    } else if (c.st < 2) {
      ++s.failed;
      ++(err == ECONNREFUSED                 ? s.c_refused
         : err == ETIMEDOUT                  ? s.c_timeout
         : err == ECONNRESET || err == EPIPE ? s.c_reset
                                             : s.c_other);
    }
    c.st = 3;
    if (c.fd >= 0)
      close(c.fd);
    c.fd = -1;
  }
  void readable(Conn& c, u64 tag) {
    static thread_local char buf[256 * 1024];
    ssize_t r = recv(c.fd, buf, sizeof buf, 0);
    if (r < 0 && (errno == EAGAIN || errno == EINTR))
      return;
    if (r <= 0)
      return drop(c, r ? errno : ECONNRESET);
    t_read = now_ns();
    string_view d(buf, size_t(r));
    (c.slow ? s.slow_bytes : s.bytes) += d.size();
    if (c.st == 1) {
      c.part.append(d);
      size_t e = c.part.find("\r\n\r\n");
      if (e == string::npos) {
        if (c.part.size() > 65536)
          drop(c, EPROTO);
        return;
      }
      string all;
      all.swap(c.part);
      string h = all.substr(0, e + 2);
      for (auto& ch : h)
        ch = char(tolower(ch));
      if (O.url.ws ? h.compare(0, 12, "http/1.1 101")
                   : h.compare(0, 12, "http/1.1 200") && h.compare(0, 12, "http/1.0 200")) {
        if (!s.status_other++)
          snprintf(s.sample, sizeof s.sample, "%.100s", all.c_str());
        return drop(c, EPROTO);
      }
      c.chunked = h.find("transfer-encoding: chunked") != string::npos;
      if (h.find("content-encoding: gzip") != string::npos)
        c.zip = std::make_unique<Zip>();
      c.st = 2;
      s.connect.add(t_read - c.t0);
      ++s.connected;
      ++(c.slow ? s.slow_live : s.live);
      if (c.slow) { // stop reading; only hear of hang-ups
        epoll_event ev{.events = EPOLLRDHUP, .data = {.u64 = tag}};
        epoll_ctl(ep, EPOLL_CTL_MOD, c.fd, &ev);
      }
      if (e + 4 < all.size() && !stream(c, string_view(all).substr(e + 4)))
        drop(c, 0);
      return;
    }
    if (!stream(c, d))
      drop(c, 0);
  }
  void open(Conn& c, u64 tag, int global) {
    c.t0 = now_ns();
    c.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c.fd < 0)
      return drop(c, errno);
    int one = 1, rb = c.slow && O.slow_rcvbuf ? O.slow_rcvbuf : O.rcvbuf;
    setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (rb)
      setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &rb, sizeof rb);
    if (O.srcs > 0) { // 127.0.1.1, 127.0.1.2, ...: each source address has its own 28k ports
      setsockopt(c.fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
      sockaddr_in a{};
      a.sin_family = AF_INET;
      a.sin_addr.s_addr = htonl(0x7f000101u + unsigned(global % O.srcs));
      if (bind(c.fd, reinterpret_cast<sockaddr*>(&a), sizeof a))
        return drop(c, errno);
    }
    if (connect(c.fd, reinterpret_cast<const sockaddr*>(&O.url.sa), sizeof O.url.sa) && errno != EINPROGRESS)
      return drop(c, errno);
    epoll_event ev{.events = EPOLLOUT, .data = {.u64 = tag}};
    epoll_ctl(ep, EPOLL_CTL_ADD, c.fd, &ev);
  }
  void connected(Conn& c, u64 tag) {
    int e = 0;
    socklen_t l = sizeof e;
    getsockopt(c.fd, SOL_SOCKET, SO_ERROR, &e, &l);
    if (e)
      return drop(c, e);
    if (send(c.fd, req.data(), req.size(), MSG_NOSIGNAL) != ssize_t(req.size()))
      return drop(c, errno);
    c.st = 1;
    epoll_event ev{.events = EPOLLIN | EPOLLRDHUP, .data = {.u64 = tag}};
    epoll_ctl(ep, EPOLL_CTL_MOD, c.fd, &ev);
  }
  void run() {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int n = O.n / O.workers + (w < O.n % O.workers ? 1 : 0), opened = 0, phase_seen = 0;
    cs.resize(size_t(n));
    int slow_n = int(std::lround(O.slow * n));
    for (int i = 0; i < slow_n; i++)
      cs[size_t(i64(i) * n / slow_n)].slow = true;
    req = "GET " + O.url.path + " HTTP/1.1\r\nHost: " + O.url.host + ":" + std::to_string(O.url.port) +
          (O.url.ws ? "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                      "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
                    : "\r\nAccept: text/event-stream\r\nCache-Control: no-cache\r\n") +
          O.hdrs + "\r\n";
    ep = epoll_create1(EPOLL_CLOEXEC);
    std::vector<epoll_event> evs(1024);
    u64 start = now_ns(), t_end = 0;
    double per = O.ramp / O.workers;
    for (;;) {
      int ph = C->phase.load(std::memory_order_acquire);
      if (ph == 3)
        break;
      if (ph == 2 && phase_seen != 2) {
        for (size_t i = 0; i < cs.size(); i++)
          if (cs[i].slow && cs[i].st == 2) {
            epoll_event ev{.events = EPOLLIN | EPOLLRDHUP, .data = {.u64 = i}};
            epoll_ctl(ep, EPOLL_CTL_MOD, cs[i].fd, &ev);
          }
      }
      phase_seen = ph;
      if (opened < n) {
        int due = int(std::min<double>(n, per * double(now_ns() - start) / 1e9 + 1));
        for (; opened < due; opened++)
          open(cs[size_t(opened)], u64(opened), opened * O.workers + w);
        if (opened == n)
          t_end = now_ns();
      } else if (!s.ramp_done.load(std::memory_order_relaxed)) {
        u64 done = s.connected + s.failed;
        if (done >= u64(n))
          s.ramp_done = 1;
        else if (double(now_ns() - t_end) / 1e9 > O.connect_timeout) {
          for (auto& c : cs)
            if (c.st < 2)
              drop(c, ETIMEDOUT);
          s.ramp_done = 1;
        }
      }
      int k = epoll_wait(ep, evs.data(), int(evs.size()), opened < n ? 1 : 20);
      u64 before = got;
      for (int i = 0; i < k; i++) {
        u64 tag = evs[size_t(i)].data.u64;
        Conn& c = cs[size_t(tag)];
        uint32_t e = evs[size_t(i)].events;
        if (c.fd < 0)
          continue;
        if (c.st == 0)
          connected(c, tag);
        else if (c.st == 2 && c.slow && ph < 2) {
          if (e & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
            drop(c, ECONNRESET);
        } else
          readable(c, tag);
      }
      if (got != before) {
        s.last_ns.store(t_read, std::memory_order_relaxed);
        s.delivered.store(got, std::memory_order_release);
      }
    }
    for (auto& c : cs)
      if (c.fd >= 0) { // reset, so no TIME_WAIT piles up between runs
        linger l{1, 0};
        setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &l, sizeof l);
        close(c.fd);
      }
    _exit(0);
  }
};

template <class F>
static u64 total(F f) {
  u64 t = 0;
  for (int i = 0; i < O.workers; i++)
    t += f(W[i]);
  return t;
}
static u64 delivered() {
  return total([](WStats& w) { return w.delivered.load(std::memory_order_acquire); });
}
static u64 live() {
  return total([](WStats& w) { return w.live.load(std::memory_order_relaxed); });
}

// ---------------------------------------------------------------- publisher
struct PubStats {
  u64 sent = 0, ok = 0, errors = 0, reconnects = 0, stalls = 0;
  u64 t_first = 0, t_last = 0;
  Hist rtt{}, late{};
  string sample;
} P;

static void replace_all(string& s, string_view a, string_view b) {
  for (size_t p = 0; (p = s.find(a, p)) != string::npos; p += b.size())
    s.replace(p, a.size(), b);
}

struct Pub {
  struct PC {
    int fd = -1;
    bool busy = false;
    string in;
    u64 t = 0;
  };
  std::vector<PC> pc;
  int ep = epoll_create1(EPOLL_CLOEXEC), tfd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
  string tpl;
  void dial(size_t i) {
    PC& p = pc[i];
    if (p.fd >= 0) {
      close(p.fd);
      ++P.reconnects;
    }
    p = PC{};
    p.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;
    setsockopt(p.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(p.fd, reinterpret_cast<const sockaddr*>(&O.pub.sa), sizeof O.pub.sa))
      die(string("publisher cannot connect: ") + strerror(errno));
    fcntl(p.fd, F_SETFL, O_NONBLOCK);
    epoll_event ev{.events = EPOLLIN, .data = {.u64 = i}};
    epoll_ctl(ep, EPOLL_CTL_ADD, p.fd, &ev);
  }
  void post(PC& p, u64 seq, u64 intended) {
    string body = tpl;
    replace_all(body, "{seq}", std::to_string(seq));
    u64 t = now_ns();
    u64 ts = O.realtime ? now_ns(CLOCK_REALTIME) : t;
    if (O.ts_intended && intended && !O.realtime)
      ts = intended;
    replace_all(body, "{ts}", std::to_string(ts));
    string r = (O.get ? "GET " : "POST ") + O.pub.path + " HTTP/1.1\r\nHost: " + O.pub.host + "\r\n" + O.pub_hdrs;
    if (O.get)
      r += "\r\n";
    else
      r += "Content-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    p.busy = true;
    p.t = t;
    ++P.sent;
    if (intended)
      P.late.add(t > intended ? t - intended : 0);
    size_t off = 0;
    while (off < r.size()) {
      ssize_t k = send(p.fd, r.data() + off, r.size() - off, MSG_NOSIGNAL);
      if (k > 0)
        off += size_t(k);
      else if (errno != EAGAIN) {
        ++P.errors;
        break;
      }
    }
  }
  // one whole response in p.in? then drop it and free the connection
  void answer(size_t i) {
    PC& p = pc[i];
    char b[16384];
    ssize_t k = recv(p.fd, b, sizeof b, 0);
    if (k < 0 && errno == EAGAIN)
      return;
    if (k <= 0) {
      if (p.busy)
        ++P.errors;
      dial(i);
      return;
    }
    p.in.append(b, size_t(k));
    size_t e = p.in.find("\r\n\r\n");
    if (e == string::npos)
      return;
    string h = p.in.substr(0, e + 2);
    for (auto& ch : h)
      ch = char(tolower(ch));
    int code = h.size() > 12 ? atoi(h.c_str() + 9) : 0;
    size_t q;
    if ((q = h.find("content-length:")) != string::npos) {
      if (p.in.size() < e + 4 + strtoull(h.c_str() + q + 15, nullptr, 10))
        return;
    } else if (h.find("transfer-encoding: chunked") != string::npos) {
      if (p.in.size() < e + 9 || p.in.compare(p.in.size() - 5, 5, "0\r\n\r\n"))
        return;
    }
    bool ok = code >= 200 && code < 300;
    if (!ok && P.sample.empty())
      P.sample = p.in.substr(0, 120);
    ++(ok ? P.ok : P.errors);
    P.rtt.add(now_ns() - p.t);
    p.in.clear();
    p.busy = false;
    if (h.find("connection: close") != string::npos)
      dial(i);
  }
  void run() {
    tpl = O.body;
    replace_all(tpl, "{pad}", string(size_t(O.pad), 'x'));
    pc.resize(size_t(O.pub_conns));
    for (size_t i = 0; i < pc.size(); i++)
      dial(i);
    epoll_event tev{.events = EPOLLIN, .data = {.u64 = ~0ull}};
    epoll_ctl(ep, EPOLL_CTL_ADD, tfd, &tev);
    u64 t0 = now_ns(), end = t0 + u64(O.duration * 1e9), progress = 0, granted = 0, prog_t = t0;
    double gap = O.rate > 0 ? 1e9 / O.rate : 0;
    u64 base = delivered();
    P.t_first = t0;
    for (;;) {
      u64 t = now_ns();
      bool over = t >= end || (O.pub_max && P.sent >= O.pub_max);
      bool any_busy = false, blocked = false;
      for (auto& p : pc) {
        if (p.busy) {
          any_busy = true;
          continue;
        }
        if (over || (O.pub_max && P.sent >= O.pub_max))
          continue;
        u64 due = gap > 0 ? t0 + u64(double(P.sent) * gap) : 0;
        if (due > t) {
          blocked = true;
          break;
        }
        if (O.window > 0) { // closed loop on deliveries: at most `window` messages not yet with every reader
          u64 d = delivered() - base, l = live();
          if (d != progress)
            progress = d, prog_t = t;
          u64 done = l ? d / l : P.sent;
          if (P.sent >= std::max(done, granted) + u64(O.window)) {
            if (t - prog_t > 1000000000ull) {
              granted = P.sent;
              prog_t = t;
              ++P.stalls;
            } else {
              blocked = true;
              break;
            }
          }
        }
        post(p, O.seq0 + P.sent, due);
        any_busy = true;
      }
      if (over && (!any_busy || t > end + 3000000000ull))
        break;
      u64 ns = 100000000;
      if (blocked) {
        u64 due = gap > 0 ? t0 + u64(double(P.sent) * gap) : 0;
        ns = due > t ? std::max<u64>(due - t, 1000) : 200000;
      }
      itimerspec its{};
      its.it_value.tv_sec = time_t(ns / 1000000000);
      its.it_value.tv_nsec = long(ns % 1000000000);
      timerfd_settime(tfd, 0, &its, nullptr);
      epoll_event ev[64];
      int k = epoll_wait(ep, ev, 64, 200);
      for (int i = 0; i < k; i++) {
        if (ev[i].data.u64 == ~0ull) {
          u64 x;
          if (read(tfd, &x, 8) < 0) {
          }
        } else
          answer(size_t(ev[i].data.u64));
      }
    }
    P.t_last = now_ns();
  }
};

// ---------------------------------------------------------------- /proc
struct Proc {
  double cpu = 0;
  u64 rss = 0, pss = 0, nproc = 0, threads = 0;
};
static std::vector<int> tree(const std::vector<int>& roots) {
  std::multimap<int, int> kids;
  if (DIR* d = opendir("/proc")) {
    while (dirent* e = readdir(d)) {
      int pid = atoi(e->d_name);
      if (pid <= 0)
        continue;
      std::ifstream f("/proc/" + string(e->d_name) + "/stat");
      string s((std::istreambuf_iterator<char>(f)), {});
      size_t r = s.rfind(')');
      if (r == string::npos)
        continue;
      kids.emplace(atoi(s.c_str() + r + 4), pid);
    }
    closedir(d);
  }
  std::set<int> seen;
  std::vector<int> todo = roots, out;
  while (!todo.empty()) {
    int p = todo.back();
    todo.pop_back();
    if (!seen.insert(p).second)
      continue;
    out.push_back(p);
    for (auto [a, b] = kids.equal_range(p); a != b; ++a)
      todo.push_back(a->second);
  }
  return out;
}
static Proc sample() {
  Proc t;
  for (int pid : tree(O.pids)) {
    string base = "/proc/" + std::to_string(pid);
    std::ifstream f(base + "/stat");
    string s((std::istreambuf_iterator<char>(f)), {});
    size_t r = s.rfind(')');
    if (r == string::npos)
      continue;
    std::istringstream is(s.substr(r + 2));
    std::vector<string> v;
    for (string x; is >> x;)
      v.push_back(x);
    if (v.size() < 22)
      continue;
    t.cpu += double(strtoull(v[11].c_str(), nullptr, 10) + strtoull(v[12].c_str(), nullptr, 10)) /
             double(sysconf(_SC_CLK_TCK));
    t.threads += strtoull(v[17].c_str(), nullptr, 10);
    t.rss += strtoull(v[21].c_str(), nullptr, 10) * u64(sysconf(_SC_PAGESIZE));
    ++t.nproc;
    std::ifstream m(base + "/smaps_rollup");
    for (string l; std::getline(m, l);)
      if (l.starts_with("Pss:")) {
        t.pss += strtoull(l.c_str() + 4, nullptr, 10) * 1024;
        break;
      }
  }
  return t;
}
static u64 tcp_mem() { // kernel memory of all TCP sockets, both ends on loopback
  std::ifstream f("/proc/net/sockstat");
  for (string l; std::getline(f, l);)
    if (l.starts_with("TCP:")) {
      size_t p = l.find("mem ");
      return strtoull(l.c_str() + p + 4, nullptr, 10) * u64(sysconf(_SC_PAGESIZE));
    }
  return 0;
}
static u64 slab() {
  std::ifstream f("/proc/meminfo");
  for (string l; std::getline(f, l);)
    if (l.starts_with("Slab:"))
      return strtoull(l.c_str() + 5, nullptr, 10) * 1024;
  return 0;
}
static double busy_all() {
  std::ifstream f("/proc/stat");
  string n;
  u64 v[8];
  f >> n;
  for (auto& x : v)
    f >> x;
  return double(v[0] + v[1] + v[2] + v[5] + v[6] + v[7]) / double(sysconf(_SC_CLK_TCK)); // steal counted as busy
}
static double cpu_of(const std::vector<int>& ps) {
  auto k = O.pids;
  O.pids = ps;
  double c = sample().cpu;
  O.pids = k;
  return c;
}

static string json_str(const string& s) {
  string o = "\"";
  for (char c : s) {
    if (c == '"' || c == '\\')
      o += '\\', o += c;
    else if (static_cast<unsigned char>(c) < 32)
      o += ' ';
    else
      o += c;
  }
  return o + "\"";
}

static const char* HELP =
    "sse-load --url http://127.0.0.1:PORT/PATH [options]     (one JSON object on stdout)\n"
    "   ws://… instead of http://…: WebSocket; each text message is an event, unless it has a `type` that is not\n"
    " subscribers: -n N  --workers K (processes)  --ramp PER_S  --srcs M (source addresses 127.0.1.1..M; default "
    "N/20000+1, 0 none)\n"
    "   -H 'Name: value' (with Accept-Encoding: gzip bodies are read as such)  --last-event-id ID  --rcvbuf B  "
    "--connect-timeout S\n"
    "   --slow FRACTION (stop reading after the response head)  --slow-rcvbuf B  --slow-read S (they read again at the "
    "end, this long)\n"
    " publisher:   --pub-url URL  --body TEMPLATE ({seq} {ts} {pad})  --body-file F  --pad N  --pub-header 'Name: "
    "value'\n"
    "   --get (GET requests without a body instead of POST)\n"
    "   --rate R (open loop; 0 = each connection as fast as it is answered)  --window M (closed loop on deliveries: at "
    "most M undelivered)\n"
    "   --pub-conns C  --max M (messages)  --seq0 S  --ts-intended (stamp the scheduled time, not the sending time)\n"
    " timing:      --duration S  --settle S (before the first message)  --drain S (at most, after the last)\n"
    " fields:      --seq-field NAME  --ts-field NAME  --clock monotonic|realtime\n"
    " server:      --pid P[,P...] (with all their descendants: RSS, PSS, CPU)   --label TEXT\n";

int main(int argc, char** argv) {
  for (int i = 1; i < argc; i++) {
    string a = argv[i];
    auto v = [&]() -> string {
      if (++i >= argc)
        die(a + " wants a value");
      return argv[i];
    };
    auto d = [&] { return atof(v().c_str()); };
    if (a == "--url")
      O.url = parse_url(v());
    else if (a == "-n")
      O.n = int(d());
    else if (a == "--workers")
      O.workers = std::max(1, int(d()));
    else if (a == "--ramp")
      O.ramp = d();
    else if (a == "--srcs") {
      O.srcs = int(d());
      if (!O.srcs)
        O.srcs = -1;
    } else if (a == "-H")
      O.hdrs += v() + "\r\n";
    else if (a == "--last-event-id")
      O.hdrs += "Last-Event-ID: " + v() + "\r\n";
    else if (a == "--rcvbuf")
      O.rcvbuf = int(d());
    else if (a == "--connect-timeout")
      O.connect_timeout = d();
    else if (a == "--slow")
      O.slow = d();
    else if (a == "--slow-rcvbuf")
      O.slow_rcvbuf = int(d());
    else if (a == "--slow-read")
      O.slow_read = d();
    else if (a == "--pub-url")
      O.pub = parse_url(v()), O.has_pub = true;
    else if (a == "--get")
      O.get = true;
    else if (a == "--body")
      O.body = v();
    else if (a == "--body-file") {
      std::ifstream f(v());
      O.body.assign((std::istreambuf_iterator<char>(f)), {});
      if (!O.body.empty() && O.body.back() == '\n')
        O.body.pop_back();
    } else if (a == "--pad")
      O.pad = int(d());
    else if (a == "--pub-header")
      O.pub_hdrs += v() + "\r\n";
    else if (a == "--rate")
      O.rate = d();
    else if (a == "--window")
      O.window = int(d());
    else if (a == "--pub-conns")
      O.pub_conns = std::max(1, int(d()));
    else if (a == "--max")
      O.pub_max = u64(d());
    else if (a == "--seq0")
      O.seq0 = u64(d());
    else if (a == "--ts-intended")
      O.ts_intended = true;
    else if (a == "--duration")
      O.duration = d();
    else if (a == "--settle")
      O.settle = d();
    else if (a == "--drain")
      O.drain = d();
    else if (a == "--seq-field")
      O.f_seq = "\"" + v() + "\":";
    else if (a == "--ts-field")
      O.f_ts = "\"" + v() + "\":";
    else if (a == "--clock")
      O.realtime = v() == "realtime";
    else if (a == "--pid") {
      std::stringstream ss(v());
      for (string x; std::getline(ss, x, ',');)
        O.pids.push_back(atoi(x.c_str()));
    } else if (a == "--label")
      O.label = v();
    else if (a == "--help" || a == "-h") {
      fputs(HELP, stdout);
      return 0;
    } else
      die("unknown option " + a + " (--help)");
  }
  if (O.url.path.empty() && O.n > 0 && !O.has_pub)
    die("--url wanted (--help)");
  if (O.url.path.empty())
    O.n = 0;
  if (O.srcs == 0)
    O.srcs = O.n / 20000 + 1;
  if (O.srcs < 0 || (ntohl(O.url.sa.sin_addr.s_addr) >> 24) != 127)
    O.srcs = 0;
  signal(SIGPIPE, SIG_IGN);
  rlimit rl;
  getrlimit(RLIMIT_NOFILE, &rl);
  rl.rlim_cur = rl.rlim_max;
  setrlimit(RLIMIT_NOFILE, &rl);
  if (u64(O.n / O.workers) + 50 > rl.rlim_max)
    die("more connections a worker than the fd limit " + std::to_string(rl.rlim_max) + ": raise --workers");

  size_t sz = sizeof(Ctl) + 64 + sizeof(WStats) * size_t(O.workers);
  char* m = static_cast<char*>(mmap(nullptr, sz, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  if (m == MAP_FAILED)
    die("mmap");
  C = reinterpret_cast<Ctl*>(m);
  W = reinterpret_cast<WStats*>(m + 64);
  Proc p0 = sample();
  u64 tcp0 = tcp_mem(), slab0 = slab(), t_start = now_ns();
  std::vector<int> kids;
  for (int i = 0; i < O.workers; i++) {
    int p = fork();
    if (p < 0)
      die("fork");
    if (!p)
      Worker(i).run();
    kids.push_back(p);
  }
  while (total([](WStats& w) { return w.ramp_done.load(); }) < u64(O.workers))
    usleep(2000);
  double ramp_s = double(now_ns() - t_start) / 1e9;
  usleep(useconds_t(O.settle * 1e6));

  auto mine = [&] {
    rusage r;
    getrusage(RUSAGE_SELF, &r);
    return double(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + double(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6 +
           cpu_of(kids);
  };
  Proc p1 = sample();
  u64 tcp1 = tcp_mem(), slab1 = slab(), d0 = delivered(), live0 = live(), t1 = now_ns();
  double mine0 = mine(), busy0 = busy_all();
  C->phase = 1;
  if (O.has_pub)
    Pub().run();
  else
    usleep(useconds_t(O.duration * 1e6));
  u64 d_pub = delivered() - d0;
  Proc pe = sample();
  double drained = 0;
  if (O.has_pub) { // until all is delivered, or nothing has come for a second, or --drain is over
    u64 last = delivered(), lt = now_ns(), ds = lt;
    while (delivered() - d0 < P.sent * live()) {
      usleep(5000);
      u64 d = delivered(), t = now_ns();
      if (d != last)
        last = d, lt = t;
      if (t - lt > 1000000000ull || double(t - ds) / 1e9 > O.drain)
        break;
    }
    drained = double(now_ns() - ds) / 1e9;
  }
  Proc p2 = sample();
  double mine1 = mine(), busy1 = busy_all(), wall = double(now_ns() - t1) / 1e9;
  u64 d1 = delivered() - d0, live1 = live(), t_last = 0;
  for (int i = 0; i < O.workers; i++)
    t_last = std::max(t_last, W[i].last_ns.load());
  u64 slow_closed = total([](WStats& w) { return w.slow_closed.load(); });
  if (O.slow > 0) {
    C->phase = 2;
    usleep(useconds_t(O.slow_read * 1e6));
  }
  C->phase = 3;
  for (int p : kids)
    waitpid(p, nullptr, 0);

  Hist lat{}, con{};
  string smp;
  for (int i = 0; i < O.workers; i++) {
    lat.merge(W[i].lat);
    con.merge(W[i].connect);
    if (W[i].sample[0])
      smp = W[i].sample;
  }
  auto T = [&](auto mem) { return (unsigned long long)total([&](WStats& w) { return u64(w.*mem); }); };
  u64 conn = T(&WStats::connected);
  double span = d1 && t_last > t1 ? double(t_last - t1) / 1e9 : wall, scpu = p2.cpu - p1.cpu;
  using L = unsigned long long;
  u64 expected = P.sent * live0;
  printf("{\"label\":%s,\"clients\":%d,\"connected\":%llu,\"failed\":%llu,\"refused\":%llu,\"timeout\":%llu,\"reset\":%"
         "llu,\"bad_status\":%llu,\"ramp_s\":%.2f,\"connect_p50_us\":%.0f,\"connect_p99_us\":%.0f,\n",
         json_str(O.label).c_str(), O.n, L(conn), T(&WStats::failed), T(&WStats::c_refused), T(&WStats::c_timeout),
         T(&WStats::c_reset), T(&WStats::status_other), ramp_s, con.q(.5), con.q(.99));
  printf(" \"live_start\":%llu,\"live_end\":%llu,\"closed\":%llu,\"events_before\":%llu,\"events\":%llu,\"events_"
         "expected\":%llu,\"deliveries_per_s\":%.0f,\"span_s\":%.3f,\"events_at_pub_end\":%llu,\"drain_s\":%.2f,"
         "\"bytes\":%llu,\n",
         L(live0), L(live1), T(&WStats::closed), L(d0), L(d1), L(expected), double(d1) / span, span, L(d_pub), drained,
         T(&WStats::bytes));
  printf(" \"lat_us\":{\"n\":%llu,\"p50\":%.0f,\"p90\":%.0f,\"p99\":%.0f,\"p99.9\":%.0f,\"max\":%.0f,\"mean\":%.0f},\n",
         L(lat.n), lat.q(.5), lat.q(.9), lat.q(.99), lat.q(.999), double(lat.max) / 1e3,
         lat.n ? double(lat.sum) / double(lat.n) / 1e3 : 0.0);
  printf(" \"gaps\":%llu,\"duplicates\":%llu,\"reordered\":%llu,\"no_seq\":%llu,\"ids\":%llu,\"dup_ids\":%llu,"
         "\"comments\":%llu,\"odd_lines\":%llu,\"sample\":%s,\n",
         T(&WStats::gaps), T(&WStats::dups), T(&WStats::reordered), T(&WStats::noseq), T(&WStats::ids),
         T(&WStats::dup_ids), T(&WStats::comments), T(&WStats::bad_frames), json_str(smp).c_str());
  if (O.slow > 0)
    printf(
        " \"slow\":{\"closed_by_server\":%llu,\"closed_at_end\":%llu,\"events\":%llu,\"gaps\":%llu,\"bytes\":%llu},\n",
        L(slow_closed), T(&WStats::slow_closed), T(&WStats::slow_events), T(&WStats::slow_gaps),
        T(&WStats::slow_bytes));
  double ps = double(P.t_last - P.t_first) / 1e9;
  printf(" \"pub\":{\"sent\":%llu,\"ok\":%llu,\"errors\":%llu,\"per_s\":%.1f,\"rtt_p50_us\":%.0f,\"rtt_p99_us\":%.0f,"
         "\"late_p99_us\":%.0f,\"window_stalls\":%llu,\"reconnects\":%llu,\"sample\":%s},\n",
         L(P.sent), L(P.ok), L(P.errors), ps > 0 ? double(P.ok) / ps : 0.0, P.rtt.q(.5), P.rtt.q(.99), P.late.q(.99),
         L(P.stalls), L(P.reconnects), json_str(P.sample).c_str());
  printf(" \"server\":{\"procs\":%llu,\"threads\":%llu,\"rss_before_kb\":%llu,\"rss_idle_kb\":%llu,\"rss_end_kb\":%llu,"
         "\"pss_before_kb\":%llu,\"pss_idle_kb\":%llu,\"pss_end_kb\":%llu,\"pss_per_conn_b\":%.0f,\"rss_per_conn_b\":%."
         "0f,\"cpu_s\":%.2f,\"cpu_pct\":%.0f,\"cpu_s_per_million\":%.3f},\n",
         L(p2.nproc), L(p2.threads), L(p0.rss >> 10), L(p1.rss >> 10), L(std::max(pe.rss, p2.rss) >> 10),
         L(p0.pss >> 10), L(p1.pss >> 10), L(std::max(pe.pss, p2.pss) >> 10),
         conn ? (double(p1.pss) - double(p0.pss)) / double(conn) : 0.0,
         conn ? (double(p1.rss) - double(p0.rss)) / double(conn) : 0.0, scpu, 100 * scpu / wall,
         d1 ? scpu / (double(d1) / 1e6) : 0.0);
  double mc = mine1 - mine0;
  printf(" \"tool_cpu_s\":%.2f,\"other_cpu_s\":%.2f,\"wall_s\":%.2f,\"kernel\":{\"tcp_mem_before_kb\":%llu,\"tcp_mem_"
         "idle_kb\":%llu,\"slab_before_kb\":%llu,\"slab_idle_kb\":%llu}}\n",
         mc, busy1 - busy0 - mc - scpu, wall, L(tcp0 >> 10), L(tcp1 >> 10), L(slab0 >> 10), L(slab1 >> 10));
  return 0;
}
