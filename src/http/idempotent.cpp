// Requests that may be sent twice and are carried out once.
#include <algorithm>
#include <memory>
#include <utility>

#include <nlohmann/json.hpp>

#include "sluice/envelope.hpp"
#include "sluice/log.hpp"

#include "crypto.hpp"
#include "routes.hpp"

namespace sluice::http {

namespace {

using nlohmann::json;

constexpr const char* header_name = "idempotency-key";
constexpr size_t max_key_bytes = 255;

/// What tells two requests apart: length first, so that no two lists of parts look alike.
std::string digest_of(std::initializer_list<std::string_view> parts) {
  std::string all;
  for (auto part : parts)
    all.append(std::to_string(part.size())).append(":").append(part);
  return base64url(sha256(all));
}

std::string to_text(const response& answer) {
  return json{{"status", answer.status}, {"type", answer.content_type}, {"body", answer.body}}.dump(
      -1, ' ', false, json::error_handler_t::replace);
}

response replayed(const std::string& text) {
  auto kept = json::parse(text, nullptr, false);
  if (!kept.is_object())
    return problem(500, "the answer that was remembered cannot be read; use another Idempotency-Key");
  return {kept.value("status", 500), kept.value("type", ""), kept.value("body", ""), {{"Idempotent-Replayed", "true"}}};
}

/// What all requests of a route need; too much to be copied for each.
struct idempotent_route {
  api with;
  handler next;
};
using route_ptr = std::shared_ptr<const idempotent_route>;

/// The end of a request that was carried out: settles, then answers.
void conclude(const route_ptr& route, settlement what, response answer, const responder& respond) {
  what.done = answer.status >= 200 && answer.status < 300 && answer.status != 207; // of which a part has failed
  if (what.done)
    what.answer = to_text(answer);
  what.ttl = route->with.idempotency_ttl;
  route->with.settle(std::move(what), [answer = std::move(answer), respond](const caf::error& error) {
    // It has happened, whether that is remembered or not. Repeated, it would carry the same event ids.
    if (error)
      log(log_level::warn, "http", "an Idempotency-Key could not be settled", {{"cause", describe(error)}});
    respond(answer);
  });
}

void carry_out(const route_ptr& route, request req, const responder& respond) {
  std::string key{req.header(header_name)};
  if (key.empty() || key.size() > max_key_bytes ||
      std::any_of(key.begin(), key.end(), [](char c) { return c < '!' || c > '~'; })) {
    respond(
        problem(400, "Idempotency-Key must have 1 to 255 visible ASCII characters; a UUID is best", "Idempotency-Key"));
    return;
  }
  auto fingerprint = digest_of({req.method, req.path, req.header("content-type"), req.body});
  // The owner is this request alone.
  claim wish{"http:" + req.who.user, key, make_uuid(), fingerprint, route->with.claim_lease};
  req.event_seed = digest_of({wish.scope, key, fingerprint});
  settlement end{wish.scope, wish.id, wish.owner};
  auto answered = [route, req = std::move(req), respond, fingerprint,
                   end = std::move(end)](const caf::expected<standing>& found) {
    if (!found)
      respond(failure(code_of(found.error()), text_of(found.error())));
    else if (found->what != standing::state::granted && found->fingerprint != fingerprint)
      respond(problem(422, "this Idempotency-Key came with another request before; use a new key for a new request",
                      "Idempotency-Key"));
    else if (found->what == standing::state::busy)
      respond(problem(409, "the request with this Idempotency-Key is still under way; try again", "Idempotency-Key",
                      {{"Retry-After", "1"}}));
    else if (found->what == standing::state::done)
      respond(replayed(found->answer));
    else
      route->next(req, [route, end, respond](response answer) { conclude(route, end, std::move(answer), respond); });
  };
  route->with.claim(std::move(wish), std::move(answered));
}

} // namespace

handler publishing(const api& with, handler next) {
  auto route = std::make_shared<const idempotent_route>(idempotent_route{with, std::move(next)});
  return authorized(with, [route](request req, responder respond) {
    if (req.headers.contains(header_name))
      carry_out(route, std::move(req), respond);
    else
      route->next(std::move(req), std::move(respond));
  });
}

} // namespace sluice::http
