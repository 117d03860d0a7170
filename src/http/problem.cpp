#include <nlohmann/json.hpp>

#include "http/server.hpp"
#include "http/wire.hpp"

namespace sluice::http {

response problem(int status, std::string_view detail, std::string_view field, header_list headers) {
  nlohmann::ordered_json body{{"type", "about:blank"},
                              {"title", std::string{reason_phrase(status)}},
                              {"status", status},
                              {"detail", std::string{detail}},
                              {"ok", false}};
  if (!field.empty())
    body["field"] = std::string{field};
  response out;
  out.status = status;
  out.content_type = "application/problem+json";
  // Details quote what clients sent, which need not be UTF-8.
  out.body = body.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  out.headers = std::move(headers);
  return out;
}

} // namespace sluice::http
