#include "http/client.hpp"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <utility>

#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "sluice/error.hpp"

namespace sluice::http {

namespace {

constexpr size_t max_answer_bytes = 268435456;
constexpr std::chrono::seconds connect_timeout{5};

caf::error trouble(const server_url& to, const std::string& text) {
  return make_failure(ec::invalid_config,
                      (to.tls ? "https://" : "http://") + to.host + ":" + std::to_string(to.port) + ": " + text);
}

std::string tls_reason() {
  const auto* reason = ERR_reason_error_string(ERR_peek_last_error());
  return reason == nullptr ? "the connection ended" : reason;
}

/// A socket, with TLS or without; every call has a time limit.
class connection {
public:
  connection() = default;
  ~connection() {
    ssl_.reset();
    if (fd_ >= 0)
      ::close(fd_);
  }
  connection(const connection&) = delete;
  connection& operator=(const connection&) = delete;

  caf::error open(const server_url& to, const client_request& what) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (auto error = ::getaddrinfo(to.host.c_str(), std::to_string(to.port).c_str(), &hints, &found); error != 0)
      return trouble(to, std::string{"no such host ("} + ::gai_strerror(error) + "); see --url");
    std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> all{found, ::freeaddrinfo};
    int cause = 0;
    for (const auto* one = found; one != nullptr && fd_ < 0; one = one->ai_next) {
      fd_ = ::socket(one->ai_family, one->ai_socktype | SOCK_CLOEXEC, one->ai_protocol);
      limit(connect_timeout); // on Linux it holds for connect too
      if (fd_ >= 0 && ::connect(fd_, one->ai_addr, one->ai_addrlen) != 0) {
        cause = errno;
        ::close(std::exchange(fd_, -1));
      }
    }
    if (fd_ < 0)
      return trouble(to, std::string{std::strerror(cause)} + "; is the server running there? See --url");
    limit(what.timeout);
    return to.tls ? open_tls(to, what) : caf::error{};
  }

  bool write(std::string_view bytes) {
    while (!bytes.empty()) {
      auto n = ssl_ ? SSL_write(ssl_.get(), bytes.data(), static_cast<int>(std::min<size_t>(bytes.size(), 1 << 20)))
                    : ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0)
        return false;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }

  /// Appends what comes; false at the end, or where nothing comes in time.
  bool read(std::string& into) {
    char buffer[65536];
    auto n = ssl_ ? SSL_read(ssl_.get(), buffer, sizeof buffer) : ::recv(fd_, buffer, sizeof buffer, 0);
    if (n <= 0)
      return false;
    into.append(buffer, static_cast<size_t>(n));
    return true;
  }

private:
  void limit(std::chrono::seconds time) const {
    timeval value{time.count(), 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &value, sizeof value);
    ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &value, sizeof value);
  }

  caf::error open_tls(const server_url& to, const client_request& what) {
    context_.reset(SSL_CTX_new(TLS_client_method()));
    SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER, nullptr);
    SSL_CTX_set_min_proto_version(context_.get(), TLS1_2_VERSION);
    if (what.ca_file.empty())
      SSL_CTX_set_default_verify_paths(context_.get());
    else if (SSL_CTX_load_verify_locations(context_.get(), what.ca_file.c_str(), nullptr) != 1)
      return trouble(to, "--cacert: \"" + what.ca_file + "\" holds no certificate in PEM");
    ssl_.reset(SSL_new(context_.get()));
    SSL_set_fd(ssl_.get(), fd_);
    SSL_set_tlsext_host_name(ssl_.get(), to.host.c_str());
    auto* names = SSL_get0_param(ssl_.get());
    if (X509_VERIFY_PARAM_set1_ip_asc(names, to.host.c_str()) != 1)
      X509_VERIFY_PARAM_set1_host(names, to.host.c_str(), 0);
    if (SSL_connect(ssl_.get()) != 1) {
      auto verified = SSL_get_verify_result(ssl_.get());
      return trouble(to, verified == X509_V_OK
                             ? "no TLS there (" + tls_reason() + "); see --url"
                             : std::string{"its certificate is not to be trusted ("} +
                                   X509_verify_cert_error_string(verified) + "); name its CA by --cacert");
    }
    return {};
  }

  int fd_ = -1;
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_{nullptr, SSL_CTX_free};
  std::unique_ptr<SSL, decltype(&SSL_free)> ssl_{nullptr, SSL_free};
};

std::string lower(std::string_view text) {
  std::string out{text};
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

/// The value of a header in a head in lower case; "" where there is none.
std::string_view header_of(std::string_view head, std::string_view name) {
  auto at = head.find("\r\n" + std::string{name} + ":");
  if (at == std::string_view::npos)
    return {};
  auto value = head.substr(at + name.size() + 3);
  value = value.substr(0, value.find("\r\n"));
  value.remove_prefix(std::min(value.find_first_not_of(" \t"), value.size()));
  return value;
}

std::optional<std::string> join_chunks(std::string_view body) {
  std::string out;
  for (;;) {
    size_t size = 0;
    auto line = body.find("\r\n");
    if (line == std::string_view::npos)
      return std::nullopt;
    auto [at, error] = std::from_chars(body.data(), body.data() + line, size, 16);
    if (error != std::errc{} || (at != body.data() + line && *at != ';'))
      return std::nullopt;
    body.remove_prefix(line + 2);
    if (size == 0)
      return out;
    if (body.size() < 2 || size > body.size() - 2)
      return std::nullopt;
    out += body.substr(0, size);
    body.remove_prefix(size + 2);
  }
}

} // namespace

std::optional<server_url> parse_url(std::string_view text) {
  server_url url;
  url.tls = text.starts_with("https://");
  if (!url.tls && !text.starts_with("http://"))
    return std::nullopt;
  url.port = url.tls ? 443 : 80;
  text.remove_prefix(url.tls ? 8 : 7);
  if (text.find_first_of("?#@ \t\r\n") != std::string_view::npos)
    return std::nullopt;
  auto host = text.substr(0, text.find('/'));
  url.prefix = text.substr(host.size());
  while (url.prefix.ends_with('/'))
    url.prefix.pop_back();
  auto bracket = host.find(']');
  auto colon = host.find(':', bracket == std::string_view::npos ? 0 : bracket);
  if (colon != std::string_view::npos) {
    auto port = host.substr(colon + 1);
    auto [at, error] = std::from_chars(port.data(), port.data() + port.size(), url.port);
    if (error != std::errc{} || at != port.data() + port.size() || url.port == 0)
      return std::nullopt;
    host = host.substr(0, colon);
  }
  if (host.starts_with('[') && host.ends_with(']'))
    host = host.substr(1, host.size() - 2);
  url.host = host;
  return url.host.empty() ? std::nullopt : std::optional{url};
}

std::optional<client_answer> parse_answer(std::string_view wire) {
  auto end = wire.find("\r\n\r\n");
  client_answer answer;
  if (end == std::string_view::npos || !wire.starts_with("HTTP/1.") || wire.size() < 12 ||
      std::from_chars(wire.data() + 9, wire.data() + 12, answer.status).ec != std::errc{})
    return std::nullopt;
  auto head = lower(wire.substr(0, end + 2));
  auto body = wire.substr(end + 4);
  if (header_of(head, "transfer-encoding") == "chunked") {
    auto joined = join_chunks(body);
    if (!joined)
      return std::nullopt;
    answer.body = std::move(*joined);
    return answer;
  }
  if (auto length = header_of(head, "content-length"); !length.empty()) {
    size_t size = 0;
    if (std::from_chars(length.data(), length.data() + length.size(), size).ec != std::errc{} || body.size() < size)
      return std::nullopt;
    body = body.substr(0, size);
  }
  answer.body = body;
  return answer;
}

caf::expected<client_answer> send_request(const server_url& to, const client_request& what) {
  if (what.token.find_first_of("\r\n") != std::string::npos)
    return trouble(to, "the token has a line end; see SLUICE_TOKEN");
  connection peer;
  if (auto error = peer.open(to, what))
    return error;
  auto host = to.host.find(':') == std::string::npos ? to.host : "[" + to.host + "]";
  auto text = what.method + " " + to.prefix + what.target + " HTTP/1.1\r\nHost: " + host + ":" +
              std::to_string(to.port) + "\r\nUser-Agent: sluice\r\nAccept: application/json\r\nConnection: close\r\n";
  if (!what.token.empty())
    text += "Authorization: Bearer " + what.token + "\r\n";
  if (!what.body.empty() || what.method == "POST")
    text += "Content-Type: application/json\r\nContent-Length: " + std::to_string(what.body.size()) + "\r\n";
  // A server that refuses a body may answer before it has read it all: what it says counts.
  static_cast<void>(peer.write(text + "\r\n" + what.body));
  std::string wire;
  while (wire.size() < max_answer_bytes && peer.read(wire))
    continue;
  auto answer = parse_answer(wire);
  if (!answer)
    return trouble(to, wire.empty()
                           ? "no answer in time; is this the port of sluice's HTTP API, and is it http or https?"
                           : "what answers there is no HTTP server, or its answer is not whole");
  return std::move(*answer);
}

} // namespace sluice::http
