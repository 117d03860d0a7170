#include "delivery/api_client.hpp"

#include <vector>

#include "delivery/transfer.hpp"
#include "delivery/webhook.hpp"
#include "sluice/error.hpp"

namespace sluice::outbound {

namespace {

constexpr size_t max_answer_bytes = 268435456;
constexpr long connect_seconds = 5;
constexpr long silent_seconds = 60;

size_t take(char* data, size_t size, size_t count, void* into) {
  auto& body = *static_cast<std::string*>(into);
  if (body.size() + size * count > max_answer_bytes)
    return 0;
  body.append(data, size * count);
  return size * count;
}

std::string advice(CURLcode code, const api_request& what, const std::string& trouble) {
  switch (code) {
  case CURLE_COULDNT_RESOLVE_HOST:
    return "no such host; see --url";
  case CURLE_COULDNT_CONNECT:
    return "refused (" + trouble + "); is the server running there? See --url";
  case CURLE_PEER_FAILED_VERIFICATION:
    return "its certificate is not to be trusted (" + trouble + "); name its CA by --cacert";
  case CURLE_SSL_CACERT_BADFILE:
    return "--cacert: \"" + what.ca_file + "\" holds no certificate in PEM";
  case CURLE_SSL_CONNECT_ERROR:
    return "no TLS there (" + trouble + "); see --url";
  case CURLE_OPERATION_TIMEDOUT:
    return "no answer in time; is this the port of sluice's HTTP API, and is it http or https?";
  case CURLE_WRITE_ERROR:
    return "the answer has more than 256 MiB; ask for less";
  default:
    return trouble + "; is this the port of sluice's HTTP API, and is it http or https?";
  }
}

} // namespace

bool is_server_url(const std::string& text) {
  return read_web_url(text) && text.find_first_of("?# ") == std::string::npos;
}

caf::expected<api_answer> call_api(const api_request& what) {
  auto fail = [&](const std::string& text) { return make_failure(ec::invalid_config, what.url + ": " + text); };
  if (what.token.find_first_of("\r\n") != std::string::npos)
    return fail("the token has a line end; see SLUICE_TOKEN");
  handle_pool pool;
  auto handle = pool.take();
  auto set = [&](CURLoption option, auto value) { curl_easy_setopt(handle.get(), option, value); };
  auto url = what.url.substr(0, what.url.find_last_not_of('/') + 1) + what.target;
  std::vector<char> trouble(CURL_ERROR_SIZE, '\0');
  api_answer answer;
  curl_list headers{curl_slist_append(nullptr, "Accept: application/json")};
  // The list's head stays what it is.
  for (const auto& line : {std::string{"Content-Type: application/json"}, std::string{"Expect:"}})
    curl_slist_append(headers.get(), line.c_str());
  if (!what.token.empty())
    curl_slist_append(headers.get(), ("Authorization: Bearer " + what.token).c_str());
  set(CURLOPT_URL, url.c_str());
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_PROXY, "");
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_CONNECTTIMEOUT, connect_seconds);
  set(CURLOPT_LOW_SPEED_LIMIT, 1L);
  set(CURLOPT_LOW_SPEED_TIME, silent_seconds);
  set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  set(CURLOPT_ERRORBUFFER, trouble.data());
  set(CURLOPT_USERAGENT, "sluice");
  set(CURLOPT_HTTPHEADER, headers.get());
  set(CURLOPT_WRITEFUNCTION, &take);
  set(CURLOPT_WRITEDATA, static_cast<void*>(&answer.body));
  if (!what.ca_file.empty())
    set(CURLOPT_CAINFO, what.ca_file.c_str());
  if (what.method == "POST") {
    set(CURLOPT_POST, 1L);
    set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(what.body.size()));
    set(CURLOPT_POSTFIELDS, what.body.data());
  } else {
    set(CURLOPT_CUSTOMREQUEST, what.method.c_str());
  }
  if (auto code = curl_easy_perform(handle.get()); code != CURLE_OK)
    return fail(advice(code, what, trouble.front() != '\0' ? trouble.data() : curl_easy_strerror(code)));
  long status = 0;
  curl_easy_getinfo(handle.get(), CURLINFO_RESPONSE_CODE, &status);
  answer.status = static_cast<int>(status);
  return answer;
}

} // namespace sluice::outbound
