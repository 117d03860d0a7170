// PDF by pdftotext. What is in a PDF is a program for a large machine with a long history of holes; so it runs where it
// can do no harm: in a process that has nothing but its input, its output, and little memory and time.
#include "parsing/parsing.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sluice/error.hpp"

namespace sluice::parsing {

namespace {

using clock = std::chrono::steady_clock;

constexpr rlim_t max_memory = rlim_t{512} * 1024 * 1024;
constexpr rlim_t max_files = 32;
constexpr int look_around_ms = 200;
constexpr int look_for_end_ms = 20;
constexpr int cannot_run = 127;

/// A file descriptor's owner.
class descriptor {
public:
  explicit descriptor(int number = -1) : number_(number) {}
  descriptor(descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  descriptor& operator=(descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~descriptor() { close(); }
  void close() {
    if (number_ >= 0)
      ::close(std::exchange(number_, -1));
  }
  int get() const { return number_; }

private:
  int number_;
};

caf::error trouble(const char* what) {
  return make_failure(ec::target_unavailable,
                      std::string{"no PDF can be read at the moment: "} + what + ": " + std::strerror(errno));
}

caf::error rejected(const std::string& text) {
  return make_failure(ec::rejected, text);
}

void limit(int what, rlim_t value) {
  const rlimit both{value, value};
  ::setrlimit(static_cast<__rlimit_resource>(what), &both);
}

/// In the child, between fork and exec, where nothing but system calls is allowed.
[[noreturn]] void become(const char* program, int in, int out, rlim_t cpu_seconds, int descriptors) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  ::dup2(in, 0);
  ::dup2(out, 1);
  if (const int null = ::open("/dev/null", O_WRONLY); null >= 0)
    ::dup2(null, 2);
  // No socket, no store, no log. Kernels before 5.9 and some sandboxes do not know the call.
  if (::close_range(3, ~0U, 0) != 0)
    for (int other = 3; other < descriptors; ++other)
      ::close(other);
  limit(RLIMIT_AS, max_memory);
  limit(RLIMIT_CPU, cpu_seconds);
  limit(RLIMIT_FSIZE, 0);
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_NOFILE, max_files);
  char name[] = "pdftotext", quiet[] = "-q", encoding[] = "-enc", utf8[] = "UTF-8", pages[] = "-nopgbrk",
       std_in[] = "-", std_out[] = "-";
  char* arguments[] = {name, quiet, encoding, utf8, pages, std_in, std_out, nullptr};
  char locale[] = "LC_ALL=C.UTF-8";
  char* environment[] = {locale, nullptr};
  ::execve(program, arguments, environment);
  ::_exit(cannot_run);
}

caf::expected<descriptor> as_file(std::string_view bytes) {
  descriptor file{::memfd_create("document", MFD_CLOEXEC)};
  if (file.get() < 0)
    return trouble("memory");
  for (size_t done = 0; done < bytes.size();) {
    const auto n = ::write(file.get(), bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno != EINTR)
      return trouble("memory");
    done += static_cast<size_t>(std::max<ssize_t>(n, 0));
  }
  ::lseek(file.get(), 0, SEEK_SET);
  return file;
}

/// How many descriptors there may be in this process. The lowest free number is given out first: beyond a million,
/// which some containers allow, there are none.
int most_descriptors() {
  rlimit now{};
  ::getrlimit(RLIMIT_NOFILE, &now);
  return static_cast<int>(std::min<rlim_t>(now.rlim_cur, rlim_t{1} << 20));
}

/// A process, which ends with this.
class child_process {
public:
  explicit child_process(pid_t id) : id_(id) {}
  child_process(const child_process&) = delete;
  child_process& operator=(const child_process&) = delete;
  ~child_process() {
    if (has_ended(WNOHANG))
      return;
    ::kill(id_, SIGKILL);
    has_ended(0);
  }
  /// Waits for it, unless `options` say WNOHANG.
  bool has_ended(int options) {
    pid_t got = id_;
    while (!ended_ && (got = ::waitpid(id_, &status_, options)) < 0 && errno == EINTR)
      continue;
    ended_ = ended_ || got != 0;
    return ended_;
  }
  /// Once it has ended.
  int status() const { return status_; }

private:
  const pid_t id_;
  int status_ = 0;
  bool ended_ = false;
};

caf::error judge(int status, std::string_view pdf) {
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
    return {};
  if (WIFEXITED(status) && WEXITSTATUS(status) == cannot_run)
    return make_failure(ec::target_unavailable, "pdftotext cannot be run; install poppler-utils");
  if (WIFSIGNALED(status) && (WTERMSIG(status) == SIGXCPU || WTERMSIG(status) == SIGKILL))
    return rejected("the PDF takes more than documents.pdfTimeout of CPU time to read");
  if (pdf.find("/Encrypt") != std::string_view::npos)
    return rejected("the PDF is encrypted; upload it without its password");
  if (WIFSIGNALED(status))
    return rejected("the PDF is damaged, or takes more memory than any text should");
  return rejected("the PDF is damaged; nothing in it can be read");
}

} // namespace

caf::expected<std::string> pdf_text(const std::string& program, std::string_view pdf,
                                    std::chrono::milliseconds cpu_time, const std::function<bool()>& cancelled) {
  if (program.empty())
    return make_failure(ec::target_unavailable, "there is no pdftotext to read a PDF with; install poppler-utils");
  auto in = as_file(pdf);
  if (!in)
    return in.error();
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0)
    return trouble("pipe");
  descriptor from{ends[0]}, to{ends[1]};
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(cpu_time);
  const auto descriptors = most_descriptors();
  const auto id = ::fork();
  if (id == 0)
    become(program.c_str(), in->get(), to.get(), static_cast<rlim_t>(seconds.count()), descriptors);
  if (id < 0)
    return trouble("fork");
  child_process reader{id};
  to.close();
  in->close();
  std::string text;
  // A busy machine needs longer for the same CPU time.
  const auto deadline = clock::now() + seconds * 3 + std::chrono::seconds{5};
  const auto is_over = [&] { return cancelled() || clock::now() > deadline; };
  std::array<char, 65536> buffer;
  bool is_late = false, is_full = false;
  while (!is_late && !is_full) {
    pollfd wait{from.get(), POLLIN, 0};
    ::poll(&wait, 1, look_around_ms);
    if ((wait.revents & (POLLIN | POLLHUP)) != 0) {
      const auto n = ::read(from.get(), buffer.data(), buffer.size());
      if (n == 0)
        break;
      if (n > 0)
        text.append(buffer.data(), static_cast<size_t>(n));
    }
    is_full = text.size() > max_document_text;
    is_late = is_over();
  }
  from.close();
  // Having said all, it need not end.
  while (!is_late && !is_full && !reader.has_ended(WNOHANG)) {
    ::poll(nullptr, 0, look_for_end_ms);
    is_late = is_over();
  }
  if (is_late)
    return make_failure(ec::attempt_timeout, "the PDF was not read in time");
  if (is_full)
    return text;
  if (auto error = judge(reader.status(), pdf))
    return error;
  return text;
}

std::string find_program(std::string_view name) {
  const char* path = std::getenv("PATH");
  std::string_view rest = path == nullptr ? "/usr/bin:/bin" : path;
  while (!rest.empty()) {
    const auto colon = std::min(rest.find(':'), rest.size());
    auto file = std::filesystem::path{rest.substr(0, colon)} / name;
    rest.remove_prefix(std::min(colon + 1, rest.size()));
    if (file.is_absolute() && ::access(file.c_str(), X_OK) == 0)
      return file;
  }
  return {};
}

} // namespace sluice::parsing
