#include "delivery/transfer.hpp"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "delivery/address_guard.hpp"
#include "sluice/error.hpp"

namespace sluice::outbound {

namespace {

constexpr size_t max_line = 500;
/// Who asks for more is asked again after it.
constexpr std::chrono::hours longest_wait{24};

} // namespace

curl_handle handle_pool::take() {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  {
    std::lock_guard guard{mutex_};
    if (!idle_.empty()) {
      auto handle = std::move(idle_.back());
      idle_.pop_back();
      return handle;
    }
  }
  curl_handle handle{started == CURLE_OK ? curl_easy_init() : nullptr};
  if (!handle)
    throw std::bad_alloc{};
  return handle;
}

void handle_pool::give_back(curl_handle handle) {
  curl_easy_reset(handle.get()); // all but its connections
  std::lock_guard guard{mutex_};
  idle_.push_back(std::move(handle));
}

transfer::transfer(handle_pool& pool, const std::string& url, std::chrono::milliseconds timeout,
                   const std::function<bool()>& cancelled)
    : pool_(pool), handle_(pool.take()), cancelled_(cancelled), trouble_(CURL_ERROR_SIZE, '\0') {
  set(CURLOPT_URL, url.c_str());
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_TIMEOUT_MS, static_cast<long>(timeout.count()));
  set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(timeout.count()));
  set(CURLOPT_MAXAGE_CONN, 30L); // an idle one that is older may be half dead
  set(CURLOPT_ERRORBUFFER, trouble_.data());
  set(CURLOPT_WRITEFUNCTION, &transfer::take_body);
  set(CURLOPT_WRITEDATA, static_cast<void*>(this));
  set(CURLOPT_HEADERFUNCTION, &transfer::take_line);
  set(CURLOPT_HEADERDATA, static_cast<void*>(this));
  set(CURLOPT_NOPROGRESS, 0L);
  set(CURLOPT_XFERINFOFUNCTION, &transfer::look);
  set(CURLOPT_XFERINFODATA, static_cast<void*>(this));
}

transfer::~transfer() {
  pool_.give_back(std::move(handle_));
}

void transfer::add_header(const std::string& line) {
  auto* all = curl_slist_append(headers_.get(), line.c_str());
  if (all == nullptr)
    throw std::bad_alloc{};
  static_cast<void>(headers_.release()); // it is part of `all`
  headers_.reset(all);
}

void transfer::post(std::string_view type, const std::string& body) {
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_POST, 1L);
  set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  set(CURLOPT_POSTFIELDS, body.data());
  set(CURLOPT_USERAGENT, "sluice");
  add_header("Content-Type: " + std::string{type});
  add_header("Expect:"); // do not ask before a body is sent
}

void transfer::upload(const std::string& body) {
  upload_ = body;
  set(CURLOPT_UPLOAD, 1L);
  set(CURLOPT_READFUNCTION, &transfer::give_body);
  set(CURLOPT_READDATA, static_cast<void*>(this));
  set(CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(body.size()));
}

void transfer::only_public() {
  set(CURLOPT_OPENSOCKETFUNCTION, &transfer::open_socket);
  set(CURLOPT_OPENSOCKETDATA, static_cast<void*>(this));
}

reply transfer::run() {
  if (headers_)
    set(CURLOPT_HTTPHEADER, headers_.get());
  reply_.code = curl_easy_perform(handle_.get());
  curl_easy_getinfo(handle_.get(), CURLINFO_RESPONSE_CODE, &reply_.status);
  curl_off_t seconds = 0;
  curl_easy_getinfo(handle_.get(), CURLINFO_RETRY_AFTER, &seconds);
  reply_.retry_after =
      std::chrono::seconds{std::clamp<curl_off_t>(seconds, 0, std::chrono::seconds{longest_wait}.count())};
  if (reply_.code == CURLE_WRITE_ERROR && reply_.body.size() >= max_body)
    reply_.code = CURLE_OK; // the rest is of no interest
  if (reply_.code != CURLE_OK)
    reply_.trouble = trouble_.front() != '\0' ? trouble_.data() : curl_easy_strerror(reply_.code);
  if (refused())
    reply_.trouble = refused_ + " is not a public address";
  return std::move(reply_);
}

size_t transfer::take_body(char* data, size_t size, size_t count, void* me) {
  auto& body = static_cast<transfer*>(me)->reply_.body;
  const auto taken = std::min(size * count, max_body - body.size());
  body.append(data, taken);
  return taken;
}

size_t transfer::take_line(char* data, size_t size, size_t count, void* me) {
  std::string_view line{data, size * count};
  line = line.substr(0, line.find_last_not_of("\r\n") + 1);
  if (!line.starts_with("221")) // the farewell hides what came before
    static_cast<transfer*>(me)->reply_.last_line = line.substr(0, max_line);
  return size * count;
}

size_t transfer::give_body(char* data, size_t size, size_t count, void* me) {
  auto& rest = static_cast<transfer*>(me)->upload_;
  const auto taken = rest.copy(data, size * count);
  rest.remove_prefix(taken);
  return taken;
}

int transfer::look(void* me, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<transfer*>(me)->cancelled_() ? 1 : 0;
}

curl_socket_t transfer::open_socket(void* me, curlsocktype, curl_sockaddr* address) {
  // The address that is about to be connected to, whatever the name led to a moment ago.
  if (!is_public(address->addr)) {
    static_cast<transfer*>(me)->refused_ = text_of_address(address->addr);
    return CURL_SOCKET_BAD;
  }
  return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

caf::error trouble_with(std::string_view who, const reply& what) {
  return make_failure(ec::target_unavailable, std::string{who} + ": " + what.trouble);
}

caf::error judge_status(std::string_view who, const reply& what, std::string detail) {
  if (what.status >= 200 && what.status < 300)
    return {};
  auto text = std::string{who} + " answered " + std::to_string(what.status);
  if (what.status >= 300 && what.status < 400)
    detail = "redirects are not followed";
  if (!detail.empty())
    text += ": " + detail;
  const auto is_passing = what.status == 408 || what.status == 425 || what.status == 429 || what.status >= 500;
  if (is_passing && what.retry_after.count() > 0)
    return try_later(std::move(text), what.retry_after);
  return make_failure(is_passing ? ec::target_unavailable : ec::rejected, std::move(text));
}

} // namespace sluice::outbound
