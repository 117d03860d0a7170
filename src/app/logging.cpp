#include "app/logging.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string_view>
#include <system_error>

#include <nlohmann/json.hpp>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>

#include "sluice/log.hpp"

namespace sluice {

namespace {

std::atomic<uint64_t> lost_lines{0};

/// Writes all of `text`; returns 0, or the errno of what stopped it, with `written` bytes out.
int write_all(int fd, std::string_view text, std::size_t& written) {
  written = 0;
  while (written < text.size()) {
    auto count = ::write(fd, text.data() + written, text.size() - written);
    if (count >= 0)
      written += static_cast<std::size_t>(count);
    else if (errno != EINTR)
      return errno;
  }
  return 0;
}

void say_on_stderr(std::string_view text) {
  std::size_t ignored = 0;
  write_all(STDERR_FILENO, text, ignored); // nowhere left to complain
}

/// One write a line, so that lines of several processes do not mix and nothing waits in a buffer at a crash.
class fd_sink final : public spdlog::sinks::base_sink<std::mutex> {
public:
  /// Owns `fd` unless it is standard error.
  fd_sink(int fd, std::string name) : fd_(fd), name_(std::move(name)) {}
  ~fd_sink() override {
    if (fd_ != STDERR_FILENO)
      ::close(fd_);
  }

private:
  void sink_it_(const spdlog::details::log_msg& msg) override {
    spdlog::memory_buf_t line;
    formatter_->format(msg, line);
    std::string_view text{line.data(), line.size()};
    std::string repaired;
    if (lost_in_outage_ > 0) { // only after an outage: end a half line, and say what is missing
      repaired = (torn_ ? "\n" : "") + notice(msg) + std::string{text};
      text = repaired;
    }
    std::size_t written = 0;
    if (auto error = write_all(fd_, text, written))
      lose(msg, std::string_view{line.data(), line.size()}, error, written > 0);
    else
      lost_in_outage_ = 0, torn_ = false;
  }

  void flush_() override {} // nothing is buffered

  /// The line for the log itself once it works again, in the log's own format.
  std::string notice(const spdlog::details::log_msg& cause) const {
    auto text = std::to_string(lost_in_outage_) + " log lines were lost here";
    auto payload = notice_in_json ? R"("level":"warn","actor":"logging","message":")" + text + '"' : text;
    spdlog::details::log_msg msg{cause.time, {}, "logging", spdlog::level::warn, payload};
    spdlog::memory_buf_t line;
    formatter_->format(msg, line);
    return {line.data(), line.size()};
  }

  void lose(const spdlog::details::log_msg& msg, std::string_view line, int error, bool torn) {
    auto is_first = lost_in_outage_++ == 0;
    lost_lines.fetch_add(1, std::memory_order_relaxed);
    torn_ = torn_ || torn;
    if (fd_ == STDERR_FILENO)
      return;
    if (is_first)
      say_on_stderr("sluice: log file " + name_ + " cannot be written: " + std::generic_category().message(error) +
                    "; until it can be again, lines are lost and counted, errors appear here\n");
    if (msg.level >= spdlog::level::err)
      say_on_stderr(line);
  }

public:
  bool notice_in_json = false; ///< Set before the first line.

private:
  int fd_;
  std::string name_;
  uint64_t lost_in_outage_ = 0;
  bool torn_ = false; ///< The last write stopped within a line.
};

/// "INFO ", "WARN ", … of equal width, which spdlog's own flags do not have.
class level_flag final : public spdlog::custom_flag_formatter {
public:
  void format(const spdlog::details::log_msg& msg, const std::tm&, spdlog::memory_buf_t& dest) override {
    static constexpr std::array<std::string_view, 7> names{"TRACE", "DEBUG", "INFO ", "WARN ", "ERROR", "ERROR", ""};
    auto name = names.at(static_cast<std::size_t>(msg.level));
    dest.append(name.data(), name.data() + name.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<level_flag>(); }
};

std::unique_ptr<spdlog::formatter> make_formatter(bool json) {
  if (json)
    return std::make_unique<spdlog::pattern_formatter>(R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ",%v})",
                                                       spdlog::pattern_time_type::utc, "\n");
  auto formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::local, "\n");
  formatter->add_flag<level_flag>('*').set_pattern("%Y-%m-%d %H:%M:%S.%e %* [%n] %v");
  return formatter;
}

/// Text a terminal shows as one line: a message may hold a client's bytes, which must not forge lines or move the
/// cursor.
void append_visible(std::string& out, std::string_view text) {
  static constexpr std::string_view hex = "0123456789abcdef";
  for (char c : text) {
    auto byte = static_cast<unsigned char>(c);
    if (c == '\n')
      out += "\\n";
    else if (byte < 0x20 || byte == 0x7f)
      out += std::string{"\\x"} + hex[byte >> 4U] + hex[byte & 15U];
    else
      out += c;
  }
}

std::string human_payload(const std::string& text, std::span<const log_field> fields) {
  std::string out;
  append_visible(out, text);
  for (const auto& [key, value] : fields) {
    out += ' ';
    append_visible(out, key);
    out += '=';
    if (!value.empty() && value.find_first_of(" \"=\t\n") == std::string::npos) {
      append_visible(out, value);
      continue;
    }
    std::string escaped;
    for (char c : value)
      escaped += c == '"' ? "\\\"" : std::string(1, c);
    out += '"';
    append_visible(out, escaped);
    out += '"';
  }
  return out;
}

/// The members after "time", without the outer braces.
std::string json_payload(log_level level, std::string_view actor, const std::string& text,
                         std::span<const log_field> fields) {
  nlohmann::ordered_json line;
  line["level"] = to_string(level);
  line["actor"] = actor;
  for (const auto& [key, value] : fields)
    if (key == "eventId")
      line["eventId"] = value;
  line["message"] = text;
  for (const auto& [key, value] : fields) {
    auto is_taken = key == "time" || key == "level" || key == "actor" || key == "message";
    line[is_taken ? std::string{key} + "_" : std::string{key}] = value;
  }
  auto out = line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return out.substr(1, out.size() - 2);
}

/// What the sink function works with. Never destroyed: actors may log until the very end.
struct log_state {
  std::shared_mutex mutex; ///< Guards the rest; held shared while a line is written.
  std::shared_ptr<fd_sink> sink;
  bool json = false;
  std::vector<std::string> secrets; ///< The longest first.
};

log_state& state() {
  static auto* instance = new log_state;
  return *instance;
}

std::string masked(std::string text, const std::vector<std::string>& secrets) {
  static constexpr std::string_view mask = "***";
  for (const auto& secret : secrets)
    for (auto at = text.find(secret); at != std::string::npos; at = text.find(secret, at + mask.size()))
      text.replace(at, secret.size(), mask);
  return text;
}

spdlog::level::level_enum to_spdlog(log_level level) {
  return static_cast<spdlog::level::level_enum>(level == log_level::off ? log_level::error : level);
}
static_assert(static_cast<int>(log_level::error) == spdlog::level::err);

void write_line(log_level level, std::string_view actor, std::string_view text,
                std::span<const log_field> fields) noexcept {
  try {
    auto& st = state();
    std::shared_lock guard{st.mutex};
    auto clean_text = masked(std::string{text}, st.secrets);
    std::vector<log_field> clean_fields;
    clean_fields.reserve(fields.size());
    for (const auto& [key, value] : fields)
      clean_fields.emplace_back(key, masked(value, st.secrets));
    auto name = actor.empty() ? std::string_view{"sluice"} : actor;
    auto payload =
        st.json ? json_payload(level, name, clean_text, clean_fields) : human_payload(clean_text, clean_fields);
    st.sink->log(spdlog::details::log_msg{spdlog::string_view_t{name.data(), name.size()}, to_spdlog(level), payload});
  } catch (...) { // out of memory, most likely: a line is not worth the process
    lost_lines.fetch_add(1, std::memory_order_relaxed);
  }
}

std::shared_ptr<fd_sink> open_sink(const std::string& file) {
  if (file.empty())
    return std::make_shared<fd_sink>(STDERR_FILENO, "standard error");
  // O_NONBLOCK: a named pipe without a reader must not stop the process.
  auto fd = ::open(file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0640);
  if (fd >= 0)
    return std::make_shared<fd_sink>(fd, file);
  say_on_stderr("sluice: log file " + file + " cannot be opened: " + std::generic_category().message(errno) +
                "; logging to standard error instead\n");
  return open_sink("");
}

} // namespace

void start_logging(const log_config& config) {
  auto threshold = log_level::info;
  from_string(config.level, threshold); // checked with the rest of the configuration
  auto sink = open_sink(config.file);
  auto json = config.format == "json";
  sink->notice_in_json = json;
  sink->set_formatter(make_formatter(json));
  {
    std::unique_lock guard{state().mutex};
    state().sink = std::move(sink);
    state().json = json;
  }
  set_log_sink(threshold, write_line);
}

void mask_secrets(std::vector<std::string> secrets) {
  std::erase_if(secrets, [](const std::string& secret) { return secret.empty(); });
  // A secret that is part of another must not leave the rest of it readable.
  std::sort(secrets.begin(), secrets.end(),
            [](const std::string& a, const std::string& b) { return a.size() > b.size(); });
  std::unique_lock guard{state().mutex};
  state().secrets = std::move(secrets);
}

uint64_t lost_log_lines() {
  return lost_lines.load(std::memory_order_relaxed);
}

} // namespace sluice
