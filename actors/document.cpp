#include "document.hpp"

#include <chrono>
#include <optional>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "sluice/envelope.hpp"
#include "sluice/log.hpp"
#include "sluice/utf8.hpp"

namespace sluice {

namespace {

using nlohmann::json;
using clock = std::chrono::steady_clock;
using state = document_state;

/// Longer than this one attempt does not embed: it comes back for the rest, so that its timeout means that it hangs.
constexpr std::chrono::seconds slice{20};
constexpr std::chrono::minutes attempt_time{5};

class document_processor {
public:
  document_processor(document_place where, document_tools tools) : where_(std::move(where)), tools_(std::move(tools)) {}

  caf::error process(const record& in, context& out) {
    auto what = event_of(in);
    if (!what)
      return what.error();
    const auto data = json::parse(what->data, nullptr, false);
    if (!data.is_object() || !data.contains("documentId") || !data["documentId"].is_string())
      return make_failure(ec::malformed_record, "documentId is missing, or no text");
    const auto id = data["documentId"].get<std::string>();
    auto found = tools_.store->find(id);
    if (!found)
      return found.error();
    if (!*found)
      return is_elsewhere(data);
    auto& doc = **found;
    auto error = in.topic == documents_parsed ? embed(doc, out) : parse(doc, out);
    if (error && !out.cancelled())
      note(doc, error);
    if (!error)
      report(in.topic == documents_parsed ? documents_out : documents_parsed, doc, *what, out);
    return error;
  }

private:
  /// What is not here was deleted, unless it is at a node that shares no store with this one.
  caf::error is_elsewhere(const json& data) const {
    const auto home = data.contains("node") && data["node"].is_string() ? data["node"].get<std::string>() : where_.node;
    if (where_.shares_store || home == where_.node)
      return {};
    return make_failure(ec::rejected, "the document is kept by node " + home +
                                          "; nodes that share documents need one PostgreSQL as store.url");
  }

  caf::error parse(document& doc, const context& out) {
    if (doc.state != state::uploaded && doc.state != state::failed)
      return {};
    auto bytes = tools_.store->bytes_of(doc.id);
    if (!bytes)
      return bytes.error();
    auto text = tools_.parse(doc.content_type, *bytes, [&out] { return out.cancelled(); });
    if (!text)
      return text.error();
    bytes->clear();
    doc.is_cut = text->is_cut || text->text.size() > max_document_text;
    text->text.resize(whole_characters(text->text, max_document_text));
    const auto chunks = make_chunks(doc.id, text->text, tools_.sha256);
    doc.chunks = static_cast<uint32_t>(chunks.size());
    return tools_.store->set_chunks(doc.id, chunks, doc.is_cut);
  }

  caf::error embed(document& doc, const context& out) {
    if (doc.state == state::embedded)
      return {};
    if (doc.state == state::uploaded || doc.chunks == 0)
      return make_failure(ec::rejected, "the document has not been read yet; " + documents_in + " comes first");
    const auto& model = tools_.embeddings->model();
    const auto began = clock::now();
    for (;;) {
      auto chunks = tools_.store->unembedded(doc.id, model, tools_.embeddings->batch());
      if (!chunks)
        return chunks.error();
      if (chunks->empty())
        break;
      if (out.cancelled())
        return make_failure(ec::attempt_timeout, "it was told to stop");
      if (clock::now() - began > slice)
        return try_later("it has many chunks; the rest follows", milliseconds{1});
      std::vector<std::string> texts;
      for (const auto& one : *chunks)
        texts.push_back(one.text);
      auto vectors = tools_.embeddings->embed(texts, [&out] { return out.cancelled(); });
      if (!vectors)
        return vectors.error();
      for (std::size_t i = 0; i < chunks->size(); ++i)
        (*chunks)[i].vector = std::move((*vectors)[i]);
      if (auto error = tools_.store->set_vectors(model, *chunks))
        return error;
    }
    doc.model = model;
    return tools_.store->set_embedded(doc.id, model);
  }

  /// Lets who asks for the document see what is wrong.
  void note(const document& doc, const caf::error& error) {
    if (auto trouble = tools_.store->note(doc.id, text_of(error), !is_retryable(code_of(error))))
      log(log_level::warn, "document", "a document's trouble could not be noted", {{"cause", describe(trouble)}});
  }

  static void report(const std::string& topic, const document& doc, const event& cause, context& out) {
    json data{{"documentId", doc.id}, {"name", doc.name},     {"contentType", doc.content_type}, {"size", doc.size},
              {"owner", doc.owner},   {"chunks", doc.chunks}, {"truncated", doc.is_cut}};
    if (topic == documents_out)
      data["model"] = doc.model;
    event_metadata metadata;
    metadata.event_id = out.event_id() + "/" + topic; // the same whenever it is said again
    metadata.timestamp_ms = out.input().timestamp_ms;
    metadata.correlation_id = cause.metadata.correlation_id;
    metadata.tenant_id = cause.metadata.tenant_id;
    out.emit(to_record(topic, create_event(topic, data.dump(-1, ' ', false, json::error_handler_t::replace), metadata),
                       doc.id));
  }

  const document_place where_;
  const document_tools tools_;
};

} // namespace

processor_config document_settings(const config& cfg) {
  processor_config settings;
  settings.name = "document";
  settings.topics = {documents_in, documents_parsed};
  settings.outputs = {documents_parsed, documents_out};
  settings.group = "paka-document-processor";
  settings.concurrency = 2;                                        // each may hold a document and its text
  settings.timeout = attempt_time + cfg.documents.pdf_timeout * 3; // the reader's own comes first
  settings.max_attempts = 8;
  settings.retry_initial = milliseconds{1000};
  settings.retry_max = milliseconds{60000};
  settings.retry_budget = std::chrono::hours{6};
  settings.remember = cfg.idempotency.ttl;
  return settings;
}

processor_function document_function(document_place where, document_tools tools) {
  // Shared by all workers: nothing in it changes, and its tools are for any thread.
  auto shared = std::make_shared<document_processor>(std::move(where), std::move(tools));
  return [shared](const record& in, context& out) { return shared->process(in, out); };
}

} // namespace sluice
