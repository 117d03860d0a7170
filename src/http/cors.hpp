/// Which pages from elsewhere may read the answers (`http.corsOrigins`). Pure functions of the request.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "http/server.hpp"

namespace sluice::http {

class cors_policy {
public:
  explicit cors_policy(const std::vector<std::string>& origins);

  /// Whether pages of `origin` may use a user's cookies here; "*" never says that.
  bool trusts(std::string_view origin) const;
  /// What goes with every answer to `req`, errors included. `methods`: those of the path ("GET, HEAD, OPTIONS"), for
  /// preflight requests; "" where there is nothing.
  header_list headers_for(const request& req, const std::string& methods) const;

private:
  std::vector<std::string> origins_; ///< Without "*".
  bool any_ = false;
};

/// Whether `req` comes from a page of this very server: its Origin is that of the Host header. `over_tls`: of this
/// server's own, so that the page was encrypted too.
bool is_same_origin(const request& req, bool over_tls);

} // namespace sluice::http
