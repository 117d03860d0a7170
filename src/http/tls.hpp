/// TLS on sockets that do not block: OpenSSL behind calls that read like recv and sendmsg.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include <caf/expected.hpp>

#include "sluice/error.hpp"

struct ssl_ctx_st;
struct ssl_st;

namespace sluice::http {

/// One TLS connection, the server's side, on a socket that somebody else owns and closes. The handshake happens by the
/// way, in the first calls of `read`. One thread.
class tls_session {
public:
  /// Takes `ssl`. `fd` must stay open for as long as anything but the destructor is called.
  tls_session(ssl_st* ssl, int fd);
  ~tls_session();
  tls_session(const tls_session&) = delete;
  tls_session& operator=(const tls_session&) = delete;

  /// As `recv` without blocking. EAGAIN: wait until the socket is readable, or writable where `flush` says so. EPROTO:
  /// the peer broke the protocol, or no protocol version or cipher suits both; it was told, and all is over.
  ssize_t read(void* into, size_t size) noexcept;
  /// As `sendmsg`: what it returns is on its way. The kernel may not have taken it all; the rest, a record at most, is
  /// held here and goes out by `flush`. While something is held only the first record is taken. Never EAGAIN.
  ssize_t write(const iovec* parts, size_t count) noexcept;
  /// Sends what is held. False: some of it is still here, wait until the socket is writable. A socket that is broken
  /// holds nothing; the next `read` or `write` tells.
  bool flush() noexcept;
  /// Tells the peer, once, that nothing more will come, so that it can tell an end from a cut. Returns what `flush`
  /// does.
  bool end() noexcept;
  /// Bytes have been decrypted already: no wait on the socket would tell of them.
  bool has_unread() const noexcept;
  bool is_established() const noexcept;
  /// The first byte was a letter: this is no TLS, but most likely HTTP. Nothing was read or said.
  bool hears_plain_text() const noexcept { return plain_text_; }

private:
  struct socket_bio;
  struct freed {
    void operator()(ssl_st* ssl) const noexcept;
  };

  ssize_t outcome(int result) noexcept;
  bool hold(const char* bytes, size_t size) noexcept;

  std::unique_ptr<ssl_st, freed> ssl_;
  const int fd_;
  std::string held_;   ///< Encrypted; the kernel had no room for it.
  bool begun_ = false; ///< The first byte was looked at.
  bool plain_text_ = false;
  bool peer_gone_ = false; ///< Its bytes have ended.
  bool broken_ = false;    ///< No further call of OpenSSL.
  bool ended_ = false;
};

/// The certificate and all settings. Any thread.
class tls_context {
public:
  /// Reads both files (PEM). An error (`invalid_config`) names the option and what to do.
  static caf::expected<std::unique_ptr<tls_context>> make(std::string certificate_file, std::string key_file);
  /// Reads both files again, for connections that come from now on. On an error all stays as it was.
  caf::error reload();
  /// A session on that socket; null where memory is short.
  std::unique_ptr<tls_session> open(int fd) const;
  /// When the certificate ends, in seconds since 1970.
  int64_t expires() const;

private:
  struct loaded {
    std::shared_ptr<ssl_ctx_st> context;
    int64_t expires = 0;
  };

  tls_context(std::string certificate_file, std::string key_file)
      : certificate_file_(std::move(certificate_file)), key_file_(std::move(key_file)) {}
  caf::expected<loaded> load() const;

  const std::string certificate_file_;
  const std::string key_file_;
  mutable std::mutex mutex_; ///< Guards `current_`.
  loaded current_;
};

} // namespace sluice::http
