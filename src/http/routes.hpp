/// The HTTP API, one function an area. Routes check and translate; what happens is up to the `api` that the composition
/// root gives them.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "sluice/interfaces.hpp"

#include "auth.hpp"
#include "server.hpp"

namespace sluice::http {

/// What the routes need of the rest of sluice. All functions are called on I/O threads, must not block, and may answer
/// from any thread.
struct api {
  /// Writes records; answers when all have an outcome, or with the error that kept them from being taken.
  std::function<void(std::vector<outgoing_record>, std::function<void(caf::expected<std::vector<delivery>>)>)> publish;
  /// Claims a thing that is not to be done twice.
  std::function<void(sluice::claim, std::function<void(caf::expected<standing>)>)> claim;
  /// Says what became of it; answers once that is on disk.
  std::function<void(settlement, std::function<void(caf::error)>)> settle;
  milliseconds idempotency_ttl{86400000}; ///< How long an `Idempotency-Key` is remembered ...
  milliseconds claim_lease{60000};        ///< ... and how long it is taken where its request comes to no end.
  /// Takes over a client's stream.
  std::function<void(live_request)> open_session;
  /// Whether this client was ended for good and shall stay away.
  std::function<bool(const std::string& client)> is_revoked;
  /// Adds channels to a client's (true) or takes them away; answers with those it has then.
  std::function<void(std::string client, channel_names, bool add, std::function<void(caf::expected<channel_names>)>)>
      change_channels;
  /// Ends a client's stream for good.
  std::function<void(std::string client, std::string reason, std::function<void(caf::error)>)> end_client;
  /// All clients of this node.
  std::function<void(std::function<void(caf::expected<live_clients>)>)> clients;
  /// What there is of all dead-letter topics.
  std::function<void(std::function<void(caf::expected<dlq_overview_ptr>)>)> dlq_topics;
  /// Dead letters of one topic.
  std::function<void(dlq_query, std::function<void(caf::expected<dlq_page_ptr>)>)> find_letters;
  /// Sends dead letters back.
  std::function<void(redrive_order, std::function<void(caf::expected<redrive_report_ptr>)>)> redrive;
  /// Entries of the audit trail. Null where this node has none; so with the next two.
  std::function<void(audit_query, std::function<void(caf::expected<audit_page_ptr>)>)> find_audit;
  /// A piece of the trail's chain, behind the entry with this number.
  std::function<void(int64_t after, std::function<void(caf::expected<audit_check_ptr>)>)> verify_audit;
  /// Reports.
  std::function<void(report_query, std::function<void(caf::expected<report_page_ptr>)>)> find_reports;
  bool makes_reports = false; ///< Here; else another node may.
  /// Asks for documents; null where they are not enabled.
  std::function<void(document_request_ptr, std::function<void(caf::expected<document_reply_ptr>)>)> documents;
  uint32_t max_document_bytes = 52428800;
  std::string embeddings; ///< What makes the vectors.
  /// The body of GET /kafka/status.
  std::function<void(std::function<void(nlohmann::json)>)> status;
  bool open_status = false; ///< Who asks for a loopback host without credentials is told a part.
  /// "" while the server is ready, else why it is not.
  std::function<void(std::function<void(std::string)>)> readiness;
  /// Prometheus text.
  std::function<std::string()> metrics;
  std::string events_topic; ///< Where POST /events goes.
  std::string broadcast_topic;
  std::string node;
  uint32_t max_channels = 100;           ///< Of one client.
  std::string openapi;                   ///< JSON.
  std::string demo_page;                 ///< HTML, in demo mode; else empty.
  std::shared_ptr<authenticator> access; ///< Asked on all routes but health. Never null once requests come.
};

void add_auth_routes(router& routes, const api& with);
void add_event_routes(router& routes, const api& with);
void add_kafka_routes(router& routes, const api& with);
void add_live_routes(router& routes, const api& with);
void add_socket_routes(router& routes, const api& with);
void add_notification_routes(router& routes, const api& with);
void add_dlq_routes(router& routes, const api& with);
void add_audit_routes(router& routes, const api& with);
void add_report_routes(router& routes, const api& with);
void add_document_routes(router& routes, const api& with);
void add_health_routes(router& routes, const api& with);

/// The routes of all areas.
router make_routes(const api& with);

/// Looks at the credentials and sets `req.who`; or the answer (401, 403) for those that do not hold, or lack `role`.
std::optional<response> admit(const api& with, request& req, const std::string& role = {});
/// `next` behind `admit`.
handler authorized(const api& with, handler next, std::string role = {});

/// `next` behind `admit`, for routes that publish: with the header `Idempotency-Key`, which each user has for itself, a
/// request that was answered before gets that answer again (`Idempotent-Replayed: true`) and is not carried out;
/// another request by the same key is refused with 422, one that is still under way with 409. Answers of 2xx are
/// remembered, for `idempotency_ttl`; all others free the key.
handler publishing(const api& with, handler next);

/// A JSON answer.
response ok(int status, const nlohmann::json& body);
/// Publishes and answers: `all_well` when every record was acknowledged; 202 and `queued` when some are in the outbox;
/// 207 with each one's outcome when some were not; the error itself when there was only one or none got through.
void publish_and_answer(const api& with, std::vector<outgoing_record> records, std::vector<std::string> event_ids,
                        int all_well, bool many, responder respond);

/// An error of the rest of sluice as its HTTP answer, e.g. `queue_full` as 503 with Retry-After.
response failure(ec code, const std::string& reason);

/// The JSON documents of a body, or the answer that says what is wrong with it (415, 400).
struct json_body {
  std::vector<std::string> documents; ///< JSON texts: one, an array's elements, or NDJSON's lines.
  bool many = false;                  ///< The body was an array or NDJSON.
  std::optional<response> wrong;      ///< The answer, where the body cannot be used.
};
/// Reads a body that is one JSON object, an array of objects or (by content type) NDJSON.
/// Bounds: 10,000 documents, 64 levels of nesting.
json_body read_documents(const request& req);
/// The deepest body that is taken, in levels.
constexpr int max_depth = 64;
/// Reads a body that is one JSON document of any kind. `wrong` is set on failure.
nlohmann::json read_json(const request& req, std::optional<response>& wrong);

/// The id of event number `index` of this request: random, or, with an `Idempotency-Key`, the same whenever the request
/// is repeated (a version 8 UUID).
std::string make_event_id(const request& req, size_t index = 0);
/// A header for each record made from `req`: its event id, and the request's `traceparent` where it is a valid one.
std::vector<record_header> tracing_headers(const request& req, const std::string& event_id);

} // namespace sluice::http
