#include <chrono>

#include "delivery/delivery.hpp"
#include "delivery/mime.hpp"
#include "delivery/transfer.hpp"
#include "sluice/circuit_breaker.hpp"
#include "sluice/error.hpp"

namespace sluice::outbound {

namespace {

class mailer : public notifier {
public:
  explicit mailer(const notification_config& cfg)
      : cfg_(cfg), url_((cfg.smtp_security == "tls" ? "smtps://" : "smtp://") + cfg.smtp_host + ":" +
                        std::to_string(cfg.smtp_port)),
        from_(read_mailbox(cfg.smtp_from)), sender_("<" + from_.address + ">") {}

  caf::error tell(const std::string& to, const notification& what, const std::function<bool()>& cancelled) override {
    if (!is_mail_address(to))
      return make_failure(ec::rejected, "\"" + to + "\" is no e-mail address such as name@example.com");
    const std::string who = "the mail server";
    if (auto wait = circuit_.admit(who, circuit_breaker::clock::now()); wait.count() > 0)
      return spared(who, wait);
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    const auto message = make_mail({from_, to, what.title, what.text, what.html, what.id,
                                    std::chrono::duration_cast<std::chrono::seconds>(now).count()});
    const curl_list receiver{curl_slist_append(nullptr, ("<" + to + ">").c_str())};
    transfer exchange{handles_, url_, cfg_.timeout, cancelled};
    exchange.set(CURLOPT_PROTOCOLS_STR, "smtp,smtps");
    // A connection that is kept is ended by a QUIT one day, whose answer would be waited for outside of any timeout.
    exchange.set(CURLOPT_FORBID_REUSE, 1L);
    if (cfg_.smtp_security == "starttls")
      exchange.set(CURLOPT_USE_SSL, static_cast<long>(CURLUSESSL_ALL));
    if (!cfg_.smtp_ca.empty())
      exchange.set(CURLOPT_CAINFO, cfg_.smtp_ca.c_str());
    if (!cfg_.smtp_user.empty()) {
      exchange.set(CURLOPT_USERNAME, cfg_.smtp_user.c_str());
      exchange.set(CURLOPT_PASSWORD, cfg_.smtp_password.c_str());
    }
    exchange.set(CURLOPT_MAIL_FROM, sender_.c_str());
    exchange.set(CURLOPT_MAIL_RCPT, receiver.get());
    exchange.upload(message);
    auto answer = exchange.run();
    // That it does not want this mail now says nothing about others.
    circuit_.report(who, answer.code == CURLE_OK || (answer.status >= 400 && answer.status != 421),
                    circuit_breaker::clock::now());
    if (answer.code == CURLE_OK)
      return {};
    // The server has refused it for good only where it has said so.
    if (answer.status >= 500 && answer.status < 600)
      return make_failure(ec::rejected, who + " answered " + answer.last_line);
    if (answer.status >= 400 && answer.status < 500)
      answer.trouble = "answered " + answer.last_line;
    return trouble_with(who, answer);
  }

private:
  const notification_config cfg_;
  const std::string url_;
  const mailbox from_;
  const std::string sender_;
  handle_pool handles_;
  circuit_breaker circuit_;
};

} // namespace

std::shared_ptr<notifier> make_mailer(const notification_config& cfg) {
  return std::make_shared<mailer>(cfg);
}

} // namespace sluice::outbound
