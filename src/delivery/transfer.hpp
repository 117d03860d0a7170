/// libcurl as the deliveries use it: one exchange with an outside system, with bounds on time and size.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include <curl/curl.h>

#include <caf/error.hpp>

namespace sluice::outbound {

struct curl_deleter {
  void operator()(CURL* handle) const noexcept { curl_easy_cleanup(handle); }
  void operator()(curl_slist* list) const noexcept { curl_slist_free_all(list); }
};
using curl_handle = std::unique_ptr<CURL, curl_deleter>;
using curl_list = std::unique_ptr<curl_slist, curl_deleter>;

/// Handles between exchanges, with the connections they keep: as many as there were exchanges at a time. Any thread.
class handle_pool {
public:
  curl_handle take();
  void give_back(curl_handle handle);

private:
  std::mutex mutex_;
  std::vector<curl_handle> idle_;
};

/// What came of an exchange.
struct reply {
  CURLcode code = CURLE_OK; ///< Whether it came to its end.
  long status = 0;          ///< The last one, of HTTP or SMTP; 0 = there was none.
  std::string body;         ///< Its beginning.
  std::string last_line;    ///< SMTP: what the server said last, before its farewell.
  std::chrono::seconds retry_after{0};
  std::string trouble; ///< In words, where `code` says so.
};

/// One exchange; use it once. What it is given must outlive `run`.
class transfer {
public:
  /// Bytes of an answer that are kept; beyond them it is cut.
  static constexpr size_t max_body = 65536;

  transfer(handle_pool& pool, const std::string& url, std::chrono::milliseconds timeout,
           const std::function<bool()>& cancelled);
  ~transfer();
  transfer(const transfer&) = delete;
  transfer& operator=(const transfer&) = delete;

  template <class Value>
  void set(CURLoption option, Value value) {
    curl_easy_setopt(handle_.get(), option, value);
  }
  /// A request header, e.g. "Accept: text/plain".
  void add_header(const std::string& line);
  /// A POST of `body`.
  void post(std::string_view type, const std::string& body);
  /// An upload of `body`, as SMTP wants its mail.
  void upload(const std::string& body);
  /// Connects to public addresses only. What was refused is in the reply's trouble, and `refused` says
  /// so.
  void only_public();
  reply run();
  bool refused() const noexcept { return !refused_.empty(); }

private:
  static size_t take_body(char* data, size_t size, size_t count, void* me);
  static size_t take_line(char* data, size_t size, size_t count, void* me);
  static size_t give_body(char* data, size_t size, size_t count, void* me);
  static int look(void* me, curl_off_t, curl_off_t, curl_off_t, curl_off_t);
  static curl_socket_t open_socket(void* me, curlsocktype purpose, curl_sockaddr* address);

  handle_pool& pool_;
  curl_handle handle_;
  curl_list headers_;
  const std::function<bool()>& cancelled_;
  std::string_view upload_;
  std::string refused_; ///< The address that may not be connected to.
  std::vector<char> trouble_;
  reply reply_;
};

/// `ec::target_unavailable` with what went wrong on the way to `who`.
caf::error trouble_with(std::string_view who, const reply& what);

/// What an HTTP status means for a notification: done, not now (408, 425, 429, 5xx), or never. `detail` is for people.
caf::error judge_status(std::string_view who, const reply& what, std::string detail = {});

} // namespace sluice::outbound
