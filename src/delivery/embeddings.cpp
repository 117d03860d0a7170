#include <cmath>
#include <memory>
#include <utility>

#include <nlohmann/json.hpp>

#include "delivery/delivery.hpp"
#include "delivery/transfer.hpp"
#include "delivery/webhook.hpp"
#include "sluice/circuit_breaker.hpp"
#include "sluice/error.hpp"
#include "sluice/utf8.hpp"

namespace sluice::outbound {

namespace {

using nlohmann::json;
using vectors = std::vector<std::vector<float>>;

constexpr size_t texts_a_request = 32;
constexpr size_t max_dimensions = 8192;
constexpr size_t max_answer_bytes = 16777216;
constexpr size_t max_detail = 300;

caf::error unusable(const std::string& who, const std::string& what) {
  return make_failure(ec::target_unavailable, who + " gave an answer that cannot be used: " + what +
                                                  "; is documents.embeddingsUrl in OpenAI's shape?");
}

caf::expected<vectors> read_vectors(const std::string& who, const reply& answer, size_t wanted) {
  auto body = json::parse(answer.body, nullptr, false);
  if (!body.is_object() || !body.contains("data") || !body["data"].is_array() || body["data"].size() != wanted)
    return unusable(who, "\"data\" is not a list of " + std::to_string(wanted));
  vectors all(wanted);
  size_t next = 0;
  for (const auto& one : body["data"]) {
    const auto at = one.is_object() && one.contains("index") && one["index"].is_number_unsigned()
                        ? one["index"].get<size_t>()
                        : next;
    ++next;
    if (!one.is_object() || !one.contains("embedding") || !one["embedding"].is_array() || at >= wanted ||
        !all[at].empty() || one["embedding"].empty() || one["embedding"].size() > max_dimensions)
      return unusable(who, "\"data/" + std::to_string(next - 1) + "\" is no embedding");
    for (const auto& number : one["embedding"]) {
      if (!number.is_number() || !std::isfinite(number.get<float>()))
        return unusable(who, "an embedding holds something that is no number");
      all[at].push_back(number.get<float>());
    }
    if (all[at].size() != body["data"][0]["embedding"].size())
      return unusable(who, "its embeddings are not all of one length");
  }
  return all;
}

class embeddings : public embedder {
public:
  explicit embeddings(const documents_config& cfg)
      : url_(cfg.embeddings_url), key_(cfg.embeddings_key), model_(cfg.embeddings_model),
        timeout_(cfg.embeddings_timeout) {
    auto target = read_web_url(url_);
    who_ = "the embeddings at " + (target ? target->host_with_port : std::string{"documents.embeddingsUrl"});
  }

  const std::string& model() const override { return model_; }
  size_t batch() const override { return texts_a_request; }
  bool is_local() const override { return false; }

  caf::expected<vectors> embed(const std::vector<std::string>& texts, const std::function<bool()>& cancelled) override {
    vectors all;
    auto error = circuit_.call(who_, [&]() -> caf::error {
      auto made = ask(texts, cancelled);
      if (!made)
        return made.error();
      all = std::move(*made);
      return {};
    });
    if (error)
      return error;
    return all;
  }

private:
  caf::expected<vectors> ask(const std::vector<std::string>& texts, const std::function<bool()>& cancelled) {
    const auto body = json{{"model", model_}, {"input", texts}, {"encoding_format", "float"}}.dump();
    transfer exchange{handles_, url_, timeout_, cancelled};
    exchange.keep(max_answer_bytes);
    exchange.post("application/json", body);
    if (!key_.empty())
      exchange.add_header("Authorization: Bearer " + key_);
    auto answer = exchange.run();
    if (answer.code != CURLE_OK)
      return trouble_with(who_, answer);
    // What is wrong with key or address is wrong with no document.
    if (answer.status == 401 || answer.status == 403 || answer.status == 404)
      return make_failure(ec::target_unavailable,
                          who_ + " answered " + std::to_string(answer.status) +
                              "; see documents.embeddingsUrl, embeddingsKey and embeddingsModel");
    if (auto error = judge_status(who_, answer, detail_of(answer)))
      return error;
    return read_vectors(who_, answer, texts.size());
  }

  /// What the service says is wrong, without the key, which some repeat.
  std::string detail_of(const reply& answer) const {
    auto body = json::parse(answer.body, nullptr, false);
    if (!body.is_object() || !body.contains("error") || !body["error"].is_object() ||
        !body["error"].contains("message") || !body["error"]["message"].is_string())
      return {};
    auto text = body["error"]["message"].get<std::string>();
    if (!key_.empty() && text.find(key_) != std::string::npos)
      return {};
    text.resize(whole_characters(text, max_detail));
    return text;
  }

  const std::string url_, key_, model_;
  const milliseconds timeout_;
  std::string who_;
  handle_pool handles_;
  circuit_breaker circuit_;
};

} // namespace

std::shared_ptr<embedder> make_embeddings(const documents_config& cfg) {
  return std::make_shared<embeddings>(cfg);
}

} // namespace sluice::outbound
