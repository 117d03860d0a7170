#include "delivery/webhook.hpp"

#include <algorithm>
#include <chrono>
#include <memory>

#include "delivery/delivery.hpp"
#include "delivery/signature.hpp"
#include "delivery/transfer.hpp"
#include "sluice/ascii.hpp"
#include "sluice/circuit_breaker.hpp"
#include "sluice/error.hpp"

namespace sluice::outbound {

namespace {

constexpr size_t max_url = 2048;
constexpr size_t max_id = 200;

struct url_deleter {
  void operator()(CURLU* url) const noexcept { curl_url_cleanup(url); }
};

/// A part of the URL; nothing where it has none.
std::optional<std::string> part_of(CURLU* url, CURLUPart part) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, CURLU_DEFAULT_PORT) != CURLUE_OK)
    return std::nullopt;
  std::string result = text;
  curl_free(text);
  return result;
}

/// The id as a header can carry it.
std::string header_text(std::string id) {
  id.resize(std::min(id.size(), max_id));
  for (auto& c : id)
    if (c <= ' ' || c > '~')
      c = '_';
  return id;
}

class webhook : public notifier {
public:
  explicit webhook(const notification_config& cfg)
      : key_(webhook_key(cfg.webhook_secret).value_or("")), inner_hosts_(cfg.inner_hosts), timeout_(cfg.timeout) {
    for (auto& host : inner_hosts_)
      host = lower(host);
  }

  caf::error tell(const std::string& to, const notification& what, const std::function<bool()>& cancelled) override {
    const auto target = read_web_url(to);
    if (!target)
      return make_failure(ec::rejected,
                          "a webhook's target is a URL of http or https, without a password in it, of at most " +
                              std::to_string(max_url) + " bytes");
    return circuit_.call("the webhook at " + target->host_with_port,
                         [&] { return post(*target, to, what, cancelled); });
  }

private:
  caf::error post(const web_target& target, const std::string& to, const notification& what,
                  const std::function<bool()>& cancelled) {
    transfer exchange{handles_, to, timeout_, cancelled};
    exchange.set(CURLOPT_PROXY, ""); // what a proxy connects to nobody here can see
    if (!is_listed(target, inner_hosts_))
      exchange.only_public();
    const auto id = header_text(what.id);
    const auto now =
        std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch());
    exchange.post("application/json", what.json);
    exchange.add_header("webhook-id: " + id);
    exchange.add_header("webhook-timestamp: " + std::to_string(now.count()));
    if (!key_.empty())
      exchange.add_header("webhook-signature: " + sign_webhook(key_, id, now.count(), what.json));
    auto answer = exchange.run();
    const auto who = "the webhook at " + target.host_with_port;
    if (answer.status >= 200 && answer.status < 300)
      return {}; // it has it, whatever becomes of the rest of its answer
    if (answer.code != CURLE_OK && exchange.refused())
      return make_failure(ec::rejected,
                          who + ": " + answer.trouble + "; if it is to be reached, list it in notification.innerHosts");
    return answer.code == CURLE_OK ? judge_status(who, answer) : trouble_with(who, answer);
  }

  const std::string key_;
  std::vector<std::string> inner_hosts_;
  const milliseconds timeout_;
  handle_pool handles_;
  circuit_breaker circuit_;
};

} // namespace

std::optional<web_target> read_web_url(const std::string& text) {
  std::unique_ptr<CURLU, url_deleter> url{curl_url()};
  if (text.size() > max_url || !url || curl_url_set(url.get(), CURLUPART_URL, text.c_str(), 0) != CURLUE_OK)
    return std::nullopt;
  auto scheme = part_of(url.get(), CURLUPART_SCHEME);
  auto host = part_of(url.get(), CURLUPART_HOST);
  auto port = part_of(url.get(), CURLUPART_PORT);
  if ((scheme != "http" && scheme != "https") || !host || !port || part_of(url.get(), CURLUPART_USER) ||
      part_of(url.get(), CURLUPART_PASSWORD))
    return std::nullopt;
  auto name = lower(*host);
  return web_target{name, name + ":" + *port};
}

bool is_listed(const web_target& target, const std::vector<std::string>& hosts) {
  return std::any_of(hosts.begin(), hosts.end(), [&target](const std::string& host) {
    return host == target.host || host == target.host_with_port;
  });
}

std::shared_ptr<notifier> make_webhook(const notification_config& cfg) {
  return std::make_shared<webhook>(cfg);
}

} // namespace sluice::outbound
