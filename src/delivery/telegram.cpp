#include "delivery/telegram.hpp"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "delivery/delivery.hpp"
#include "sluice/ascii.hpp"
#include "sluice/circuit_breaker.hpp"
#include "sluice/error.hpp"

namespace sluice::outbound {

namespace {

using nlohmann::json;

constexpr size_t max_chat = 100;
constexpr uint64_t longest_wait_s = 86400;

class telegram : public notifier {
public:
  explicit telegram(const notification_config& cfg)
      : url_(cfg.telegram_url.substr(0, cfg.telegram_url.find_last_not_of('/') + 1) + "/bot" + cfg.telegram_token +
             "/sendMessage"),
        timeout_(cfg.timeout) {}

  caf::error tell(const std::string& to, const notification& what, const std::function<bool()>& cancelled) override {
    if (!is_chat(to))
      return make_failure(ec::rejected, "\"" + to + "\" is no Telegram chat; it is a number or \"@name\"");
    auto text = what.title.empty() ? what.text : what.text.empty() ? what.title : what.title + "\n\n" + what.text;
    auto body = json{{"chat_id", to}, {"text", std::move(text)}}.dump();
    return circuit_.call("Telegram", [&] {
      transfer exchange{handles_, url_, timeout_, cancelled};
      exchange.post("application/json", body);
      auto answer = exchange.run();
      return answer.code == CURLE_OK ? judge_telegram(answer) : trouble_with("Telegram", answer);
    });
  }

private:
  const std::string url_; ///< With the token in it: in no log and no error.
  const milliseconds timeout_;
  handle_pool handles_;
  circuit_breaker circuit_;
};

} // namespace

bool is_chat(std::string_view text) {
  auto is_name = [](char c) { return is_letter_or_digit(c) || c == '_'; };
  if (text.size() > max_chat)
    return false;
  const auto is_number = !text.starts_with('@');
  if (text.starts_with('@') || text.starts_with('-'))
    text.remove_prefix(1);
  return !text.empty() &&
         (is_number ? std::all_of(text.begin(), text.end(), is_digit) : std::all_of(text.begin(), text.end(), is_name));
}

caf::error judge_telegram(const reply& what) {
  auto body = json::parse(what.body, nullptr, false);
  auto member = [&body](const char* name) { return body.is_object() && body.contains(name) ? body[name] : json(); };
  if (auto ok = member("ok"); what.status == 200) {
    if (ok.is_boolean() && ok.get<bool>())
      return {};
    return make_failure(ec::target_unavailable, "Telegram answered 200, but not as its Bot API does");
  }
  reply judged;
  judged.status = what.status;
  judged.retry_after = what.retry_after;
  if (auto more = member("parameters");
      more.is_object() && more.contains("retry_after") && more["retry_after"].is_number_unsigned())
    judged.retry_after =
        std::chrono::seconds{static_cast<int64_t>(std::min(more["retry_after"].get<uint64_t>(), longest_wait_s))};
  auto description = member("description");
  return judge_status("Telegram", judged, description.is_string() ? description.get<std::string>() : std::string{});
}

std::shared_ptr<notifier> make_telegram(const notification_config& cfg) {
  return std::make_shared<telegram>(cfg);
}

} // namespace sluice::outbound
