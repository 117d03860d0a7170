#include "http/tls.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <string_view>
#include <utility>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pemerr.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "http/key_files.hpp"

namespace sluice::http {

namespace {

constexpr size_t largest_record = SSL3_RT_MAX_PLAIN_LENGTH;
/// A peer that makes OpenSSL answer, and does not read the answers, is cut off here.
constexpr size_t max_held = 65536;
constexpr std::string_view alpn = "\x08http/1.1";

/// Only what has forward secrecy and authenticates what it encrypts; TLS 1.3 has nothing else.
constexpr const char* ciphers_1_2 = "ECDHE+AESGCM:ECDHE+CHACHA20";

template <auto Free>
struct freed_by {
  template <class T>
  void operator()(T* what) const noexcept {
    Free(what);
  }
};
using bio_ptr = std::unique_ptr<BIO, freed_by<BIO_free>>;
using certificate_ptr = std::unique_ptr<X509, freed_by<X509_free>>;
using key_ptr = std::unique_ptr<EVP_PKEY, freed_by<EVP_PKEY_free>>;

/// OpenSSL would ask for it on the terminal.
int no_passphrase(char*, int, int, void*) {
  return -1;
}

/// OpenSSL's last word. Its texts are fixed ones and quote nothing of a file.
std::string reason() {
  const auto* text = ERR_reason_error_string(ERR_peek_last_error());
  return text != nullptr ? text : "no reason given";
}

int choose_protocol(SSL*, const unsigned char** chosen, unsigned char* size, const unsigned char* offered,
                    unsigned int offered_size, void*) {
  // A client that speaks none of ours, such as HTTP/2 only, learns it by the alert.
  unsigned char* out = nullptr;
  auto found = SSL_select_next_proto(&out, size, reinterpret_cast<const unsigned char*>(alpn.data()),
                                     static_cast<unsigned>(alpn.size()), offered, offered_size);
  *chosen = out;
  return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

caf::expected<std::shared_ptr<SSL_CTX>> make_context() {
  std::shared_ptr<SSL_CTX> made{SSL_CTX_new(TLS_server_method()), [](SSL_CTX* old) { SSL_CTX_free(old); }};
  if (!made || SSL_CTX_set_min_proto_version(made.get(), TLS1_2_VERSION) != 1 ||
      SSL_CTX_set_cipher_list(made.get(), ciphers_1_2) != 1)
    return make_failure(ec::invalid_config, "http.tlsCertificate: OpenSSL cannot serve TLS 1.2: " + reason());
  SSL_CTX_set_security_level(made.get(), 2); // no key below 112 bits, no SHA-1, whatever the system's default
  SSL_CTX_set_options(made.get(), SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_session_cache_mode(made.get(), SSL_SESS_CACHE_OFF); // tickets do without
  SSL_CTX_set_mode(made.get(), SSL_MODE_RELEASE_BUFFERS);         // some 34 KiB for each idle connection
  SSL_CTX_set_alpn_select_cb(made.get(), choose_protocol, nullptr);
  return made;
}

/// The certificate and those after it, into `to`.
caf::expected<certificate_ptr> use_certificates(SSL_CTX* to, const std::string& path) {
  const std::string option = "http.tlsCertificate";
  auto text = read_key_file(option, path);
  if (!text)
    return text.error();
  bio_ptr in{BIO_new_mem_buf(text->data(), static_cast<int>(text->size()))};
  certificate_ptr own{PEM_read_bio_X509(in.get(), nullptr, no_passphrase, nullptr)};
  if (!own)
    return wrong_option(option, "\"" + path + "\" does not begin with a certificate in PEM (" + reason() + ")");
  if (SSL_CTX_use_certificate(to, own.get()) != 1)
    return wrong_option(option, "\"" + path + "\" cannot be used: " + reason() +
                                    "; use one with an RSA key of 2,048 bits or more, or on P-256, signed by SHA-256");
  while (certificate_ptr next{PEM_read_bio_X509(in.get(), nullptr, no_passphrase, nullptr)}) {
    if (SSL_CTX_add0_chain_cert(to, next.get()) != 1)
      return wrong_option(option, "\"" + path + "\" holds a further certificate that cannot be used: " + reason());
    static_cast<void>(next.release());
  }
  if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE) // the end of the file
    return wrong_option(option, "\"" + path + "\" holds a further certificate that is broken (" + reason() + ")");
  return own;
}

caf::error use_key(SSL_CTX* to, X509* certificate, const std::string& path) {
  const std::string option = "http.tlsKey";
  auto text = read_key_file(option, path);
  if (!text)
    return text.error();
  bio_ptr in{BIO_new_mem_buf(text->data(), static_cast<int>(text->size()))};
  ERR_clear_error();
  key_ptr key{PEM_read_bio_PrivateKey(in.get(), nullptr, no_passphrase, nullptr)};
  auto has_passphrase = !key && text->find("ENCRYPTED") != std::string::npos;
  OPENSSL_cleanse(text->data(), text->size());
  if (has_passphrase)
    return wrong_option(option, "\"" + path +
                                    "\" is protected by a passphrase; write it without one, by "
                                    "`openssl pkey -in OLD -out NEW`, and let nobody else read it");
  if (!key)
    return wrong_option(option, "\"" + path + "\" is not a private key in PEM (" + reason() + ")");
  if (X509_check_private_key(certificate, key.get()) != 1)
    return wrong_option(option,
                        "\"" + path + "\" is not the key of http.tlsCertificate; give the two that belong together");
  if (SSL_CTX_use_PrivateKey(to, key.get()) != 1)
    return wrong_option(option, "\"" + path + "\" cannot be used: " + reason());
  return {};
}

int64_t end_of(const X509* certificate) {
  std::tm at{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &at) != 1)
    return 0;
  return timegm(&at);
}

} // namespace

// -- the session ------------------------------------------------------------------------------------------------------

/// What OpenSSL reads from and writes to. Writing never fails for want of room, so OpenSSL never has half a record to
/// be given again: what it took is what was sent, as for a socket.
struct tls_session::socket_bio {
  static tls_session& of(BIO* bio) { return *static_cast<tls_session*>(BIO_get_data(bio)); }

  static int write(BIO* bio, const char* bytes, int size) {
    BIO_clear_retry_flags(bio);
    return of(bio).hold(bytes, static_cast<size_t>(size)) ? size : -1;
  }

  static int read(BIO* bio, char* into, int size) {
    BIO_clear_retry_flags(bio);
    auto& me = of(bio);
    ssize_t n = 0;
    do
      n = ::recv(me.fd_, into, static_cast<size_t>(size), MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
      BIO_set_retry_read(bio);
    else if (n <= 0)
      me.peer_gone_ = true;
    return static_cast<int>(n);
  }

  static long control(BIO*, int what, long, void*) { return what == BIO_CTRL_FLUSH ? 1 : 0; }

  static BIO_METHOD* method() {
    static const auto made = [] {
      std::unique_ptr<BIO_METHOD, freed_by<BIO_meth_free>> out{
          BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "sluice socket")};
      if (out) {
        BIO_meth_set_write(out.get(), write);
        BIO_meth_set_read(out.get(), read);
        BIO_meth_set_ctrl(out.get(), control);
      }
      return out;
    }();
    return made.get();
  }
};

void tls_session::freed::operator()(ssl_st* ssl) const noexcept {
  SSL_free(ssl);
}

tls_session::tls_session(ssl_st* ssl, int fd) : ssl_(ssl), fd_(fd) {
  auto* bio = BIO_new(socket_bio::method());
  if (bio == nullptr) {
    broken_ = true;
    return;
  }
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl, bio, bio);
  SSL_set_accept_state(ssl);
}

tls_session::~tls_session() = default;

bool tls_session::has_unread() const noexcept {
  return SSL_pending(ssl_.get()) > 0;
}

bool tls_session::is_established() const noexcept {
  return SSL_is_init_finished(ssl_.get()) == 1;
}

bool tls_session::hold(const char* bytes, size_t size) noexcept {
  if (held_.empty()) {
    auto n = ::send(fd_, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
      peer_gone_ = true;
      return false;
    }
    auto sent = static_cast<size_t>(std::max<ssize_t>(n, 0));
    bytes += sent;
    size -= sent;
  }
  if (held_.size() + size > max_held)
    return false;
  held_.append(bytes, size);
  return true;
}

bool tls_session::flush() noexcept {
  size_t sent = 0;
  while (sent < held_.size()) {
    auto n = ::send(fd_, held_.data() + sent, held_.size() - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n >= 0) {
      sent += static_cast<size_t>(n);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      held_.erase(0, sent);
      return false;
    } else if (errno != EINTR) {
      broken_ = true;
      break;
    }
  }
  if (!held_.empty())
    std::string{}.swap(held_); // idle connections hold no buffer
  return true;
}

/// What OpenSSL's result means, in the words of recv.
ssize_t tls_session::outcome(int result) noexcept {
  auto why = SSL_get_error(ssl_.get(), result);
  ERR_clear_error();
  if (why == SSL_ERROR_ZERO_RETURN)
    return 0;
  if (why == SSL_ERROR_WANT_READ) {
    errno = EAGAIN;
    return -1;
  }
  broken_ = true;
  if (peer_gone_)
    return 0; // without a farewell, as many do; requests know their length
  errno = EPROTO;
  return -1;
}

ssize_t tls_session::read(void* into, size_t size) noexcept {
  if (!begun_) {
    char first = 0;
    auto n = ::recv(fd_, &first, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n <= 0)
      return n;
    begun_ = true;
    // A TLS record begins with a 22 here.
    plain_text_ = (first >= 'A' && first <= 'Z') || (first >= 'a' && first <= 'z');
    broken_ = broken_ || plain_text_;
  }
  if (broken_) {
    errno = EPROTO;
    return -1;
  }
  ERR_clear_error();
  size_t got = 0;
  auto result = SSL_read_ex(ssl_.get(), into, size, &got);
  return result == 1 ? static_cast<ssize_t>(got) : outcome(result);
}

ssize_t tls_session::write(const iovec* parts, size_t count) noexcept {
  if (broken_ || ended_ || !is_established()) {
    errno = EPIPE;
    return -1;
  }
  size_t taken = 0;
  for (const auto* part = parts; part != parts + count; ++part) {
    for (size_t done = 0; done < part->iov_len;) {
      if (taken > 0 && !held_.empty())
        return static_cast<ssize_t>(taken);
      ERR_clear_error();
      size_t n = 0;
      auto result = SSL_write_ex(ssl_.get(), static_cast<const char*>(part->iov_base) + done,
                                 std::min(part->iov_len - done, largest_record), &n);
      if (result != 1) {
        // Also when it would have to read first: only a peer that stops in the middle of a change of keys, between
        // two records, can bring that about.
        outcome(result);
        broken_ = true;
        errno = EPIPE;
        return -1;
      }
      done += n;
      taken += n;
    }
  }
  return static_cast<ssize_t>(taken);
}

bool tls_session::end() noexcept {
  if (!std::exchange(ended_, true) && !broken_ && is_established()) {
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
    ERR_clear_error();
  }
  return flush();
}

// -- the context ------------------------------------------------------------------------------------------------------

caf::expected<std::unique_ptr<tls_context>> tls_context::make(std::string certificate_file, std::string key_file) {
  std::unique_ptr<tls_context> made{new tls_context{std::move(certificate_file), std::move(key_file)}};
  if (auto error = made->reload())
    return error;
  return made;
}

caf::expected<tls_context::loaded> tls_context::load() const {
  ERR_clear_error();
  auto context = make_context();
  if (!context)
    return context.error();
  auto certificate = use_certificates(context->get(), certificate_file_);
  if (!certificate)
    return certificate.error();
  if (auto error = use_key(context->get(), certificate->get(), key_file_))
    return error;
  return loaded{std::move(*context), end_of(certificate->get())};
}

caf::error tls_context::reload() {
  auto fresh = load();
  ERR_clear_error();
  if (!fresh)
    return fresh.error();
  std::lock_guard guard{mutex_};
  current_ = std::move(*fresh);
  return {};
}

std::unique_ptr<tls_session> tls_context::open(int fd) const {
  std::shared_ptr<SSL_CTX> context;
  {
    std::lock_guard guard{mutex_};
    context = current_.context;
  }
  auto* ssl = SSL_new(context.get());
  if (ssl == nullptr) {
    ERR_clear_error();
    return nullptr;
  }
  return std::make_unique<tls_session>(ssl, fd);
}

int64_t tls_context::expires() const {
  std::lock_guard guard{mutex_};
  return current_.expires;
}

} // namespace sluice::http
