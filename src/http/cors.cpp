#include "http/cors.hpp"

#include <algorithm>

#include "sluice/ascii.hpp"

namespace sluice::http {

cors_policy::cors_policy(const std::vector<std::string>& origins) : origins_(origins) {
  any_ = std::erase(origins_, "*") > 0;
}

bool cors_policy::trusts(std::string_view origin) const {
  return std::find(origins_.begin(), origins_.end(), origin) != origins_.end();
}

header_list cors_policy::headers_for(const request& req, const std::string& methods) const {
  header_list out;
  if (!origins_.empty()) // also without an Origin: caches must not give that answer to pages
    out.emplace_back("Vary", "Origin");
  auto origin = req.header("origin");
  auto is_trusted = trusts(origin);
  if (origin.empty() || (!is_trusted && !any_))
    return out;
  out.emplace_back("Access-Control-Allow-Origin", is_trusted ? std::string{origin} : "*");
  if (is_trusted)
    out.emplace_back("Access-Control-Allow-Credentials", "true");
  if (req.method == "OPTIONS" && !req.header("access-control-request-method").empty()) {
    out.emplace_back("Access-Control-Allow-Methods", methods);
    out.emplace_back("Access-Control-Allow-Headers",
                     "Authorization, Content-Type, Last-Event-ID, Idempotency-Key, traceparent");
    out.emplace_back("Access-Control-Max-Age", "600");
  } else {
    out.emplace_back("Access-Control-Expose-Headers", "Allow, Idempotent-Replayed, Retry-After, WWW-Authenticate");
  }
  return out;
}

bool is_same_origin(const request& req, bool over_tls) {
  auto origin = req.header("origin");
  auto scheme = origin.find("://"); // http or https: behind a proxy only the browser knows
  auto host = req.header("host");
  // A page that came unencrypted may have been written by anyone on its way.
  if (over_tls && !origin.starts_with("https://"))
    return false;
  return scheme != std::string_view::npos && !host.empty() && same_but_for_case(host, origin.substr(scheme + 3));
}

} // namespace sluice::http
