// The program: configuration, signals, exit code. All else is sluice::server.
#include "sluice/program.hpp"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <mutex>
#include <string>
#include <thread>

#include <sys/resource.h>
#include <unistd.h>

#include "app/command_line.hpp"
#include "app/logging.hpp"
#include "app/options.hpp"
#include "sluice/config_check.hpp"
#include "sluice/log.hpp"

namespace sluice {

namespace {

// Exit codes: 0 well, 1 failed while running, 2 wrong command line or configuration.
constexpr int failed_running = 1;
constexpr int wrong_usage = 2;

// Every open stream is a descriptor: take all that the hard limit allows.
rlim_t raise_descriptor_limit() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

void print_welcome(const config& cfg, const server& running) {
  auto host = cfg.http.host == "0.0.0.0" || cfg.http.host == "::" ? std::string{"localhost"} : cfg.http.host;
  if (host.find(':') != std::string::npos)
    host = "[" + host + "]";
  auto url = (cfg.http.tls_certificate.empty() ? "http://" : "https://") + host + ":" + std::to_string(running.port());
  auto auth = mode_of(cfg) == auth_mode::none ? std::string{}
              : cfg.token.empty()             ? std::string{" -H \"Authorization: Bearer $TOKEN\""}
                                              : std::string{" -H \"Authorization: Bearer $SLUICE_TOKEN\""};
  std::cout << "sluice " SLUICE_VERSION " listens on " << url << "\n"
            << "Kafka bootstrap address: " << running.brokers()
            << (cfg.embedded_broker ? " (embedded broker, in memory: for demonstrations and development)" : "")
            << "\n\n"
            << "Try:\n"
            << (cfg.demo.enabled ? "  open " + url + " in a browser\n" : "") << "  curl -N" << auth << " " << url
            << "/events\n"
            << "  curl" << auth << " -H 'Content-Type: application/json' -d '{\"payload\":{\"times\":42}}' " << url
            << "/events\n"
            << std::endl;
}

// A drain that hangs must not keep the process: past the grace period it ends, whatever still blocks.
void end_after(std::chrono::milliseconds grace_period) {
  std::thread{[grace_period] {
    std::this_thread::sleep_for(grace_period);
    std::fputs("sluice: the grace period is over, ending at once\n", stderr);
    std::_Exit(failed_running);
  }}.detach();
}

void reload(server& running) {
  if (auto error = running.reload())
    log(log_level::error, "server",
        "not all keys, tokens and certificates were read again; where not, the former ones hold",
        {{"reason", text_of(error)}});
  else
    log(log_level::info, "server", "keys, tokens and certificates were read again");
}

/// Where a server of this configuration is reached from this machine.
std::string url_of(const config& cfg) {
  auto beyond = cfg.http.host == "0.0.0.0" || cfg.http.host == "::";
  auto tls = !cfg.http.tls_certificate.empty();
  auto host = beyond || (tls && is_loopback(cfg.http.host)) ? "localhost" : cfg.http.host;
  if (host.find(':') != std::string::npos)
    host = "[" + host + "]";
  return (tls ? "https://" : "http://") + host + ":" + std::to_string(cfg.http.port);
}

int dlq(const dlq_command& command, const config& cfg) {
  const auto url = command.remote.url.empty() ? url_of(cfg) : command.remote.url;
  if (!outbound::is_server_url(url)) {
    std::cerr << "sluice: --url: must be a URL such as http://localhost:3000\n";
    return wrong_usage;
  }
  auto call = [&](const std::string& method, const std::string& target, const std::string& body) {
    return outbound::call_api({.url = url,
                               .method = method,
                               .target = target,
                               .body = body,
                               .token = cfg.token,
                               .ca_file = command.remote.ca_file});
  };
  std::signal(SIGPIPE, SIG_IGN); // OpenSSL writes without MSG_NOSIGNAL
  return run_dlq(command, call, std::cout, std::cerr);
}

int serve(const loaded& settings, const std::function<void(server&)>& prepare) {
  const auto& cfg = settings.value;
  if (!cfg.log.file.empty() && !std::ofstream{cfg.log.file, std::ios::app}) {
    std::cerr << "sluice: log.file: \"" << cfg.log.file << "\" cannot be opened for writing (" << std::strerror(errno)
              << "); choose a file in a folder this user may write to" << std::endl;
    return wrong_usage;
  }
  mask_secrets(secrets_of(cfg));
  start_logging(cfg.log);
  auto descriptors = raise_descriptor_limit();

  // Blocked before any thread exists, so that only sigwait below sees them.
  sigset_t signals;
  sigemptyset(&signals);
  for (int one : {SIGTERM, SIGINT, SIGUSR1, SIGHUP})
    sigaddset(&signals, one);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);

  std::mutex cause_guard;
  std::string cause;
  server running{cfg};
  if (prepare)
    prepare(running);
  running.on_failure([&](std::string why) {
    {
      std::lock_guard guard(cause_guard);
      cause = std::move(why);
    }
    kill(getpid(), SIGUSR1);
  });
  if (auto error = running.start()) {
    std::cerr << "sluice: " << text_of(error) << std::endl;
    return wrong_usage;
  }
  log(log_level::info, "server", "started",
      {{"port", std::to_string(running.port())},
       {"brokers", running.brokers()},
       {"descriptors", std::to_string(descriptors)}});
  if (descriptors < cfg.http.max_connections + 100)
    log(log_level::warn, "server",
        "fewer descriptors than http.maxConnections needs; raise the hard limit (ulimit -Hn)",
        {{"descriptors", std::to_string(descriptors)}, {"maxConnections", std::to_string(cfg.http.max_connections)}});
  print_welcome(cfg, running);

  int signal = 0;
  while (sigwait(&signals, &signal) == 0 && signal == SIGHUP)
    reload(running);
  // A second SIGTERM or Ctrl-C ends the process at once; a SIGHUP that comes too late does not.
  sigdelset(&signals, SIGHUP);
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  bool by_failure = signal == SIGUSR1;
  if (by_failure) {
    std::lock_guard guard(cause_guard);
    std::cerr << "sluice: stopping, a role could not be kept running: " << cause << std::endl;
  } else {
    log(log_level::info, "server", "stopping", {{"signal", signal == SIGTERM ? "SIGTERM" : "SIGINT"}});
  }
  end_after(cfg.supervision.grace_period);
  bool clean = running.stop();
  log(log_level::info, "server", "stopped", {{"clean", clean ? "true" : "false"}});
  return by_failure || !clean ? failed_running : 0;
}

} // namespace

int run(int argc, char** argv, const std::function<void(server&)>& prepare) {
  auto line = parse_command_line(argc, argv);
  if (line.command.empty()) {
    (line.exit_code == 0 ? std::cout : std::cerr) << line.text;
    return line.exit_code;
  }
  if (line.command == "version") {
    std::cout << "sluice " SLUICE_VERSION "\n";
    return 0;
  }
  if (line.list_options) {
    std::cout << options_markdown();
    return 0;
  }
  auto result = load_config(line.flags, process_environment());
  if (!result) {
    for (const auto& error : result.errors)
      std::cerr << "sluice: " << error << "\n";
    return wrong_usage;
  }
  if (line.command == "config") {
    std::cout << render(result.settings);
    return 0;
  }
  if (line.command == "dlq")
    return dlq(line.dlq, result.settings.value);
  return serve(result.settings, prepare);
}

} // namespace sluice
