#define CAF_SUITE logging

#include "app/logging.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include <caf/test/unit_test.hpp>
#include <nlohmann/json.hpp>

#include "sluice/log.hpp"

using namespace sluice;

namespace {

std::string read_text(const std::string& path) {
  std::ifstream in{path};
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> result;
  std::istringstream in{text};
  for (std::string line; std::getline(in, line);)
    result.push_back(line);
  return result;
}

/// The text with every digit as 9: what a time looks like.
std::string shape(std::string text) {
  for (auto& c : text)
    if (c >= '0' && c <= '9')
      c = '9';
  return text;
}

/// A log file of its own; afterwards the log is off again.
struct fixture {
  fixture() {
    std::string pattern = (std::filesystem::temp_directory_path() / "sluice-log-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr)
      throw std::runtime_error("no temporary directory");
    directory = pattern;
    file = directory + "/log";
  }
  ~fixture() {
    set_log_sink(log_level::off, nullptr);
    mask_secrets({});
    std::filesystem::remove_all(directory);
  }

  void start(const std::string& format, const std::string& level = "info") const {
    start_logging({level, format, file});
  }

  /// What `what` writes to standard error.
  template <class Function>
  std::string stderr_of(Function what) const {
    auto path = directory + "/stderr";
    auto saved = ::dup(STDERR_FILENO);
    auto fd = ::open(path.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_APPEND, 0600);
    ::dup2(fd, STDERR_FILENO);
    what();
    ::dup2(saved, STDERR_FILENO);
    ::close(fd);
    ::close(saved);
    return read_text(path);
  }

  std::string directory;
  std::string file;
};

} // namespace

CAF_TEST_FIXTURE_SCOPE(logging_tests, fixture)

CAF_TEST(a line for people has time and level and actor and fields) {
  start("human");
  log(log_level::info, "kafka_consumer", "partitions assigned", {{"topic", "a b"}, {"count", "3"}, {"none", ""}});
  CAF_CHECK_EQUAL(shape(read_text(file)), "9999-99-99 99:99:99.999 INFO  [kafka_consumer] partitions assigned "
                                          "topic=\"a b\" count=9 none=\"\"\n");
}

CAF_TEST(a line for machines is one JSON object with the time in UTC) {
  start("json");
  log(log_level::warn, "sse_hub", "a \"quoted\"\nline \xff", {{"client", "7\t"}, {"eventId", "e-1"}, {"level", "x"}});
  auto lines = lines_of(read_text(file));
  CAF_REQUIRE_EQUAL(lines.size(), 1u);
  auto line = nlohmann::json::parse(lines[0]);
  CAF_CHECK_EQUAL(shape(line["time"].get<std::string>()), "9999-99-99T99:99:99.999Z");
  CAF_CHECK_EQUAL(line["level"].get<std::string>(), "warn");
  CAF_CHECK_EQUAL(line["actor"].get<std::string>(), "sse_hub");
  CAF_CHECK_EQUAL(line["message"].get<std::string>(), "a \"quoted\"\nline \xef\xbf\xbd");
  CAF_CHECK_EQUAL(line["eventId"].get<std::string>(), "e-1");
  CAF_CHECK_EQUAL(line["client"].get<std::string>(), "7\t");
  CAF_CHECK_EQUAL(line["level_"].get<std::string>(), "x");
}

CAF_TEST(lines below the level are dropped and cost no call) {
  start("human", "warn");
  CAF_CHECK(!log_enabled(log_level::info));
  CAF_CHECK(log_enabled(log_level::error));
  log(log_level::info, "a", "hidden");
  log(log_level::warn, "a", "shown");
  CAF_CHECK_EQUAL(lines_of(read_text(file)).size(), 1u);
  start("human", "off");
  CAF_CHECK(!log_enabled(log_level::error));
  CAF_CHECK(!log_enabled(log_level::off));
}

CAF_TEST(a message cannot forge a line) {
  start("human");
  log(log_level::info, "a", "one\n2026-01-01 two\x1b[2J", {{"k", "x\r\ny"}});
  CAF_CHECK_EQUAL(lines_of(read_text(file)).size(), 1u);
  CAF_CHECK(read_text(file).find('\x1b') == std::string::npos);
  CAF_CHECK(read_text(file).find('\r') == std::string::npos);
}

CAF_TEST(secrets are masked in messages and fields) {
  mask_secrets({"abc", "abcdef", "q\"t", ""});
  for (auto* format : {"human", "json"}) {
    start(format);
    log(log_level::info, "a", "Bearer abcdef and abc", {{"password", "xabcx"}, {"other", "q\"t"}});
  }
  auto text = read_text(file);
  CAF_MESSAGE(text);
  for (auto* part : {"abc", "def", "q\"t", "q\\\"t"})
    CAF_CHECK(text.find(part) == std::string::npos);
  CAF_CHECK(text.find("Bearer *** and ***") != std::string::npos);
}

CAF_TEST(a full disk is said once and costs lines but nothing else) {
  auto before = lost_log_lines();
  auto said = stderr_of([] {
    start_logging({"info", "human", "/dev/full"});
    for (int i = 0; i < 100; ++i)
      log(log_level::info, "a", "lost");
    log(log_level::error, "a", "an error is still seen");
  });
  CAF_MESSAGE(said);
  CAF_CHECK_EQUAL(lost_log_lines() - before, 101u);
  auto lines = lines_of(said);
  CAF_REQUIRE_EQUAL(lines.size(), 2u);
  CAF_CHECK(lines[0].find("log file /dev/full cannot be written: No space left on device") != std::string::npos);
  CAF_CHECK(lines[1].ends_with("ERROR [a] an error is still seen"));
}

CAF_TEST(a log that works again says how many lines are missing) {
  // A named pipe that nobody empties stands for a disk that fills up and is cleaned.
  for (std::string format : {"human", "json"}) {
    file = directory + "/pipe-" + format;
    CAF_REQUIRE_EQUAL(::mkfifo(file.c_str(), 0600), 0);
    auto reader = ::open(file.c_str(), O_RDONLY | O_NONBLOCK);
    CAF_REQUIRE(reader >= 0);
    auto before = lost_log_lines();
    std::string received;
    std::vector<char> buffer(1 << 20);
    auto drain = [&] {
      for (ssize_t count; (count = ::read(reader, buffer.data(), buffer.size())) > 0;)
        received.append(buffer.data(), static_cast<std::size_t>(count));
    };
    stderr_of([&] {
      start(format);
      for (int i = 0; i < 400; ++i)
        log(log_level::info, "a", std::string(1000, 'x'));
    });
    auto lost = lost_log_lines() - before;
    CAF_CHECK(lost > 0u);
    drain();
    log(log_level::info, "a", "back again");
    drain();
    ::close(reader);
    auto lines = lines_of(received);
    CAF_REQUIRE(lines.size() > 2);
    CAF_CHECK(lines[lines.size() - 1].find("back again") != std::string::npos);
    CAF_CHECK(lines[lines.size() - 2].find(std::to_string(lost) + " log lines were lost here") != std::string::npos);
    if (format == "json")
      CAF_CHECK(nlohmann::json::accept(lines[lines.size() - 2]));
  }
}

CAF_TEST(a file that cannot be opened leaves the log on standard error) {
  auto said = stderr_of([this] {
    start_logging({"info", "human", directory + "/no/such/log"});
    log(log_level::info, "a", "still here");
  });
  auto lines = lines_of(said);
  CAF_REQUIRE_EQUAL(lines.size(), 2u);
  CAF_CHECK(lines[0].find("cannot be opened: No such file or directory") != std::string::npos);
  CAF_CHECK(lines[1].ends_with("still here"));
}

CAF_TEST(lines of many threads do not mix) {
  start("json");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([] {
      for (int i = 0; i < 250; ++i)
        log(log_level::info, "a", std::string(300, 'x'));
    });
  start("json"); // a restart in between loses nothing
  for (auto& thread : threads)
    thread.join();
  auto lines = lines_of(read_text(file));
  CAF_CHECK_EQUAL(lines.size(), 1000u);
  for (const auto& line : lines)
    CAF_REQUIRE(nlohmann::json::accept(line));
}

CAF_TEST_FIXTURE_SCOPE_END()
