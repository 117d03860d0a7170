/// A route, asked without a server.
#pragma once

#include <caf/test/unit_test.hpp>

#include "http/routes.hpp"

/// Gives `req` to the route of its method and path; status 0 where that does not answer at once.
inline sluice::http::response call_route(const sluice::http::api& with, sluice::http::request req) {
  auto routes = sluice::http::make_routes(with);
  auto match = routes.find(req.method, req.path);
  CAF_REQUIRE(match.found != nullptr);
  req.params = match.params;
  sluice::http::response result;
  result.status = 0;
  match.found->answer(std::move(req), [&result](sluice::http::response got) { result = std::move(got); });
  return result;
}
