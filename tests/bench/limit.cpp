// The machine's limit, to compare servers with: the barest server of server-sent events that epoll allows.
//   limit PORT [coalesce]      GET /sse subscribes, POST /pub broadcasts its body
// One send() a client and message; with "coalesce" one for all messages that came in the same turn of the loop.
// Not a product: it parses next to nothing and trusts its clients.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr size_t max_waiting = 1 << 20; // bytes for one client; beyond it the client is closed

struct client {
  std::string in, out;
  ssize_t place = -1; // in `subscribers`
};

class server {
public:
  server(uint16_t port, bool coalesce) : coalesce_(coalesce) {
    int one = 1;
    setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    sockaddr_in here{};
    here.sin_family = AF_INET;
    here.sin_port = htons(port);
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener_, reinterpret_cast<sockaddr*>(&here), sizeof here) != 0 || listen(listener_, 4096) != 0) {
      perror("limit");
      std::exit(1);
    }
    watch(EPOLL_CTL_ADD, listener_, EPOLLIN);
  }

  [[noreturn]] void run() {
    std::vector<epoll_event> events(512);
    for (;;) {
      int n = epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), -1);
      for (int i = 0; i < n; ++i) {
        const auto& event = events[static_cast<size_t>(i)];
        if (event.data.fd == listener_)
          accept_all();
        else
          serve(event.data.fd, event.events);
      }
      if (!waiting_.empty()) {
        fan_out(waiting_);
        waiting_.clear();
      }
    }
  }

private:
  client& at(int fd) { return *clients_[static_cast<size_t>(fd)]; }

  void watch(int how, int fd, uint32_t what) {
    epoll_event event{};
    event.events = what;
    event.data.fd = fd;
    epoll_ctl(epoll_, how, fd, &event);
  }

  void accept_all() {
    for (int fd; (fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK)) >= 0;) {
      int one = 1;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
      if (clients_.size() <= static_cast<size_t>(fd))
        clients_.resize(static_cast<size_t>(fd) + 1024);
      clients_[static_cast<size_t>(fd)] = std::make_unique<client>();
      watch(EPOLL_CTL_ADD, fd, EPOLLIN);
    }
  }

  void drop(int fd) {
    if (auto place = at(fd).place; place >= 0) {
      int last = subscribers_.back();
      subscribers_[static_cast<size_t>(place)] = last;
      at(last).place = place;
      subscribers_.pop_back();
    }
    clients_[static_cast<size_t>(fd)].reset();
    close(fd);
  }

  void fan_out(const std::string& block) {
    for (size_t i = 0; i < subscribers_.size();) {
      int fd = subscribers_[i];
      auto& to = at(fd);
      if (!to.out.empty()) {
        to.out += block;
        if (to.out.size() > max_waiting) {
          drop(fd); // another one has its place now
          continue;
        }
      } else {
        auto sent = send(fd, block.data(), block.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) {
          drop(fd);
          continue;
        }
        if (sent != static_cast<ssize_t>(block.size())) {
          to.out.assign(block, sent < 0 ? 0 : static_cast<size_t>(sent));
          watch(EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLOUT);
        }
      }
      ++i;
    }
  }

  void serve(int fd, uint32_t events) {
    if (!clients_[static_cast<size_t>(fd)])
      return;
    auto& from = at(fd);
    if ((events & EPOLLOUT) != 0) {
      auto sent = send(fd, from.out.data(), from.out.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent > 0)
        from.out.erase(0, static_cast<size_t>(sent));
      if (from.out.empty()) {
        from.out.shrink_to_fit();
        watch(EPOLL_CTL_MOD, fd, EPOLLIN);
      }
    }
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0)
      return;
    char buffer[16384];
    auto got = recv(fd, buffer, sizeof buffer, 0);
    if (got < 0 && errno == EAGAIN)
      return;
    if (got <= 0) {
      drop(fd);
      return;
    }
    from.in.append(buffer, static_cast<size_t>(got));
    auto end = from.in.find("\r\n\r\n");
    if (end == std::string::npos)
      return;
    if (from.in[0] == 'G')
      subscribe(fd);
    else
      publish(fd, end + 4);
  }

  void subscribe(int fd) {
    answer(fd, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\n\r\n");
    auto& fresh = at(fd);
    fresh.in.clear();
    fresh.in.shrink_to_fit();
    fresh.place = static_cast<ssize_t>(subscribers_.size());
    subscribers_.push_back(fd);
  }

  void publish(int fd, size_t head) {
    constexpr std::string_view length = "Content-Length: ";
    auto& in = at(fd).in;
    auto size = std::strtoul(in.c_str() + in.find(length) + length.size(), nullptr, 10);
    if (in.size() < head + size)
      return;
    auto event = "id: " + std::to_string(++last_id_) + "\ndata: " + in.substr(head, size) + "\n\n";
    in.clear();
    answer(fd, "HTTP/1.1 204 No Content\r\n\r\n");
    if (coalesce_)
      waiting_ += event;
    else
      fan_out(event);
  }

  static void answer(int fd, std::string_view text) {
    if (send(fd, text.data(), text.size(), MSG_NOSIGNAL) < 0)
      perror("limit: send"); // the next recv() drops it
  }

  bool coalesce_;
  int epoll_ = epoll_create1(0);
  int listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  std::vector<std::unique_ptr<client>> clients_; // by file descriptor
  std::vector<int> subscribers_;
  std::string waiting_;
  uint64_t last_id_ = 0;
};

} // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    fputs("usage: limit PORT [coalesce]\n", stderr);
    return 2;
  }
  server(static_cast<uint16_t>(std::atoi(argv[1])), argc > 2 && std::strcmp(argv[2], "coalesce") == 0).run();
}
