// What goes out to people and systems: mail, signatures, addresses, answers.
#define CAF_SUITE delivery

#include <algorithm>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cstring>
#include <string>
#include <vector>

#include <caf/test/dsl.hpp>
#include <rapidcheck.h>

#include "delivery/address_guard.hpp"
#include "delivery/delivery.hpp"
#include "delivery/mime.hpp"
#include "delivery/signature.hpp"
#include "delivery/telegram.hpp"
#include "delivery/transfer.hpp"
#include "delivery/webhook.hpp"
#include "sluice/error.hpp"

using namespace sluice;
using namespace sluice::outbound;
using namespace std::chrono_literals;

namespace {

bool is_public_text(const std::string& text) {
  sockaddr_storage storage{};
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  if (inet_pton(AF_INET, text.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    std::memcpy(&storage, &v4, sizeof v4);
  } else {
    CAF_REQUIRE_EQUAL(inet_pton(AF_INET6, text.c_str(), &v6.sin6_addr), 1);
    v6.sin6_family = AF_INET6;
    std::memcpy(&storage, &v6, sizeof v6);
  }
  const auto& address = reinterpret_cast<const sockaddr&>(storage);
  CAF_CHECK_EQUAL(text_of_address(address), text);
  return is_public(address);
}

/// The text that quoted-printable stands for.
std::string decoded(const std::string& text) {
  std::string result;
  for (size_t i = 0; i < text.size(); ++i)
    if (text[i] != '=')
      result += text[i];
    else if (text.compare(i, 3, "=\r\n") == 0)
      i += 2;
    else {
      result += static_cast<char>(std::stoi(text.substr(i + 1, 2), nullptr, 16));
      i += 2;
    }
  return result;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  size_t begin = 0;
  for (auto end = text.find("\r\n"); end != std::string::npos; end = text.find("\r\n", begin)) {
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 2;
  }
  lines.push_back(text.substr(begin));
  return lines;
}

reply http(long status, std::string body = "", std::chrono::seconds retry_after = 0s) {
  reply result;
  result.status = status;
  result.body = std::move(body);
  result.retry_after = retry_after;
  return result;
}

const std::function<bool()> never = [] { return false; };

} // namespace

// -- addresses --------------------------------------------------------------------------------------------------------

CAF_TEST(addresses of the internet are public) {
  for (const char* text :
       {"1.1.1.1",        "8.8.8.8",         "9.255.255.255",   "11.0.0.0",        "100.63.255.255",
        "100.128.0.0",    "126.255.255.255", "128.0.0.0",       "169.253.255.255", "169.255.0.0",
        "172.15.255.255", "172.32.0.0",      "192.0.1.0",       "192.167.255.255", "192.169.0.0",
        "198.17.255.255", "198.20.0.0",      "223.255.255.255", "2606:4700::1111", "2001:4860:4860::8888",
        "3ffe::1",        "2003::1",         "::ffff:8.8.8.8",  "64:ff9b::808:808"})
    if (!is_public_text(text))
      CAF_ERROR(text);
}

CAF_TEST(all other addresses are not ) {
  for (const char* text : {"0.0.0.0",
                           "0.1.2.3",
                           "10.0.0.1",
                           "10.255.255.255",
                           "100.64.0.1",
                           "100.127.255.255",
                           "127.0.0.1",
                           "127.255.255.255",
                           "169.254.169.254",
                           "172.16.0.1",
                           "172.31.255.255",
                           "192.0.0.8",
                           "192.0.2.1",
                           "192.88.99.1",
                           "192.168.0.1",
                           "192.168.255.255",
                           "198.18.0.1",
                           "198.19.255.255",
                           "198.51.100.7",
                           "203.0.113.7",
                           "224.0.0.1",
                           "239.255.255.255",
                           "240.0.0.1",
                           "255.255.255.255",
                           "::",
                           "::1",
                           "::2",
                           "::ffff:127.0.0.1",
                           "::ffff:10.0.0.1",
                           "::ffff:169.254.169.254",
                           "64:ff9b::a00:1",
                           "64:ff9b:1::1",
                           "100::1",
                           "2001::1",
                           "2001:db8::1",
                           "2001:1ff::1",
                           "2002:7f00:1::1",
                           "3fff::1",
                           "4000::1",
                           "fc00::1",
                           "fd12:3456:789a::1",
                           "fe80::1",
                           "febf::1",
                           "fec0::1",
                           "ff02::1"})
    if (is_public_text(text))
      CAF_ERROR(text);
}

CAF_TEST(only IP has public addresses) {
  sockaddr address{};
  address.sa_family = AF_UNIX;
  CAF_CHECK(!is_public(address));
}

// -- mail -------------------------------------------------------------------------------------------------------------

CAF_TEST(addresses of mail are plain ones) {
  for (const char* good : {"ann@example.com", "a@b", "ann+x.y@mail.example.com", "a_b-c!@x-y.z", "1@2.3"})
    if (!is_mail_address(good))
      CAF_ERROR(good);
  for (const std::string& bad : {std::string{},
                                 std::string{"ann"},
                                 std::string{"@example.com"},
                                 std::string{"ann@"},
                                 std::string{"a@b@c"},
                                 std::string{"a b@example.com"},
                                 std::string{"ann@exa mple.com"},
                                 std::string{"ann@example.com\r\nRCPT TO:<b@c>"},
                                 std::string{"ann@example.com>"},
                                 std::string{"<ann@example.com"},
                                 std::string{".ann@example.com"},
                                 std::string{"ann.@example.com"},
                                 std::string{"a..b@example.com"},
                                 std::string{"ann@-example.com"},
                                 std::string{"ann@example..com"},
                                 std::string{"\"ann\"@example.com"},
                                 std::string{"änn@example.com"},
                                 std::string{"ann@example.com\0", 16},
                                 std::string(65, 'a') + "@example.com",
                                 "a@" + std::string(253, 'b')})
    if (is_mail_address(bad))
      CAF_ERROR(bad);
}

CAF_TEST(a sender may have a name) {
  auto bare = read_mailbox("ann@example.com");
  CAF_CHECK_EQUAL(bare.name, "");
  CAF_CHECK_EQUAL(bare.address, "ann@example.com");
  auto named = read_mailbox("\"Ann, of the Shop\" <ann@example.com>");
  CAF_CHECK_EQUAL(named.name, "Ann, of the Shop");
  CAF_CHECK_EQUAL(named.address, "ann@example.com");
}

CAF_TEST(plain headers stay as they are and others are encoded) {
  CAF_CHECK_EQUAL(encode_header("Your order 7"), "Your order 7");
  CAF_CHECK_EQUAL(encode_header("Grüße"), "=?UTF-8?B?R3LDvMOfZQ==?=");
  CAF_CHECK_EQUAL(encode_header("=?UTF-8?B?eA==?="), "=?UTF-8?B?PT9VVEYtOD9CP2VBPT0/PQ==?=");
}

CAF_TEST(a line end in a title stays in the title) {
  auto header = encode_header("Hi\r\nBcc: all@example.com\r\n\r\nbody");
  CAF_CHECK(header.starts_with("=?UTF-8?B?"));
  CAF_CHECK(header.find('\n') == std::string::npos);
  CAF_CHECK(header.find("Bcc") == std::string::npos);
  mail what{{"Shop\r\nX-A: b", "shop@example.com"}, "ann@example.com", "t\nBcc: x@y.z", "text", "", "id\r\nX: y", 0};
  for (const auto& line : lines_of(make_mail(what))) {
    CAF_CHECK(!line.starts_with("Bcc") && !line.starts_with("X-A") && !line.starts_with("X:"));
    CAF_CHECK(line.find('\n') == std::string::npos && line.find('\r') == std::string::npos);
  }
}

CAF_TEST(long titles are folded between characters) {
  std::string title;
  for (int i = 0; i < 100; ++i)
    title += "ä€😀";
  for (const auto& line : lines_of("Subject: " + encode_header(title)))
    CAF_CHECK_LESS_OR_EQUAL(line.size(), 76u);
  auto first = encode_header(title).substr(10);
  first = first.substr(0, first.find("?="));
  CAF_CHECK_EQUAL(first.size(), 52u); // 38 bytes: the 39th would be the middle of a character
  CAF_CHECK(first.ends_with("w6Q=")); // the last one is ä
}

CAF_TEST(mail is what was to be told) {
  mail what{
      {"Shöp", "shop@example.com"}, "ann@example.com", "Hällo", "line one\nline two", "<p>Hi</p>", "abc/1", 1795262400};
  auto text = make_mail(what);
  CAF_CHECK(
      text.starts_with("Date: Sat, 21 Nov 2026 12:00:00 +0000\r\nFrom: =?UTF-8?B?U2jDtnA=?=\r\n <shop@example.com>\r\n"
                       "To: ann@example.com\r\nSubject: =?UTF-8?B?SMOkbGxv?=\r\n"
                       "Message-ID: <abc/1@example.com>\r\n"));
  CAF_CHECK(text.find("\r\n\r\nline one\r\nline two\r\n--") != std::string::npos);
  CAF_CHECK(text.find("\r\n\r\n<p>Hi</p>\r\n--") != std::string::npos);
}

CAF_TEST(quoted printable text is what it was and short) {
  CAF_CHECK_EQUAL(quoted_printable("a=b"), "a=3Db");
  CAF_CHECK_EQUAL(quoted_printable("end \nnext\t"), "end=20\r\nnext=09");
  CAF_CHECK_EQUAL(quoted_printable("ü"), "=C3=BC");
  CAF_CHECK_EQUAL(quoted_printable("a\rb\r\nc"), "a=0Db\r\nc");
  auto holds = rc::check("any text", [](const std::string& text) {
    std::string expected;
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '\n' && (i == 0 || text[i - 1] != '\r'))
        expected += '\r';
      expected += text[i];
    }
    auto encoded = quoted_printable(text);
    RC_ASSERT(decoded(encoded) == expected);
    for (const auto& line : lines_of(encoded)) {
      RC_ASSERT(line.size() <= 76u);
      RC_ASSERT(line.empty() || (line.back() != ' ' && line.back() != '\t'));
      RC_ASSERT(std::all_of(line.begin(), line.end(), [](char c) { return c == '\t' || (c >= ' ' && c <= '~'); }));
    }
  });
  CAF_CHECK(holds);
}

// -- webhooks ---------------------------------------------------------------------------------------------------------

CAF_TEST(signatures are those of Standard Webhooks) {
  auto key = webhook_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
  CAF_REQUIRE(key);
  CAF_CHECK_EQUAL(sign_webhook(*key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, R"({"test": 2432232314})"),
                  "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

CAF_TEST(secrets are Base64 behind their prefix and texts without) {
  CAF_CHECK_EQUAL(webhook_key("whsec_aGVsbG8=").value_or("?"), "hello");
  CAF_CHECK_EQUAL(webhook_key("whsec_aGVsbA==").value_or("?"), "hell");
  CAF_CHECK_EQUAL(webhook_key("hello").value_or("?"), "hello");
  CAF_CHECK(!webhook_key("whsec_"));
  CAF_CHECK(!webhook_key("whsec_a"));
  CAF_CHECK(!webhook_key("whsec_a*cd"));
}

CAF_TEST(only URLs of http without passwords are webhooks) {
  auto target = read_web_url("https://Example.com/hook?x=1");
  CAF_REQUIRE(target);
  CAF_CHECK_EQUAL(target->host, "example.com");
  CAF_CHECK_EQUAL(target->host_with_port, "example.com:443");
  auto inner = read_web_url("http://[::1]:81/");
  CAF_REQUIRE(inner);
  CAF_CHECK_EQUAL(inner->host_with_port, "[::1]:81");
  for (const std::string& bad :
       {std::string{"ftp://example.com"}, std::string{"file:///etc/passwd"}, std::string{"example.com"},
        std::string{"https://"}, std::string{"https://ann:secret@example.com/"},
        std::string{"https://ann@example.com/"}, std::string{"http://a b/"}, std::string{"gopher://example.com"},
        std::string{"http://x\r\n/"}, "http://x/" + std::string(2048, 'a')})
    if (read_web_url(bad))
      CAF_ERROR(bad);
}

CAF_TEST(listed hosts are listed by name or with their port) {
  auto target = *read_web_url("http://hooks.inner:8080/x");
  CAF_CHECK(is_listed(target, {"hooks.inner"}));
  CAF_CHECK(is_listed(target, {"other", "hooks.inner:8080"}));
  CAF_CHECK(!is_listed(target, {"hooks.inner:80"}));
  CAF_CHECK(!is_listed(target, {"inner"}));
  CAF_CHECK(!is_listed(target, {}));
}

CAF_TEST(inner addresses are refused before anything is sent) {
  notification_config cfg;
  cfg.timeout = 5s;
  auto hook = make_webhook(cfg);
  for (const char* url :
       {"http://127.0.0.1:1/", "http://[::1]:1/", "http://localhost:1/", "http://0x7f000001:1/", "http://2130706433:1/",
        "http://127.1:1/", "http://[::ffff:127.0.0.1]:1/", "http://0.0.0.0:1/"}) {
    auto error = hook->tell(url, {"id", "", "text", "", "{}"}, never);
    CAF_CHECK_EQUAL(code_of(error), ec::rejected);
    CAF_CHECK(text_of(error).find("is not a public address") != std::string::npos);
  }
  cfg.inner_hosts = {"LOCALHOST"};
  auto error = make_webhook(cfg)->tell("http://localhost:1/", {"id", "", "text", "", "{}"}, never);
  CAF_CHECK_EQUAL(code_of(error), ec::target_unavailable); // nobody listens there, but it was tried
}

CAF_TEST(an HTTP status says whether to come back) {
  CAF_CHECK(!judge_status("x", http(200)));
  CAF_CHECK(!judge_status("x", http(204)));
  for (long status : {301L, 302L, 307L, 400L, 401L, 403L, 404L, 410L, 422L})
    CAF_CHECK_EQUAL(code_of(judge_status("x", http(status))), ec::rejected);
  for (long status : {408L, 425L, 429L, 500L, 502L, 503L, 504L})
    CAF_CHECK_EQUAL(code_of(judge_status("x", http(status))), ec::target_unavailable);
  auto later = judge_status("x", http(503, "", 7s));
  CAF_CHECK_EQUAL(code_of(later), ec::rate_limited);
  CAF_CHECK(retry_after_of(later) == 7s);
  CAF_CHECK_EQUAL(code_of(judge_status("x", http(404, "", 7s))), ec::rejected);
}

// -- Telegram ---------------------------------------------------------------------------------------------------------

CAF_TEST(chats are numbers or names) {
  for (const char* good : {"1", "-100123456789", "@news", "@News_7"})
    CAF_CHECK(is_chat(good));
  for (const char* bad : {"", "-", "@", "news", "1.5", "1 2", "@a-b", "--1", "@-1"})
    if (is_chat(bad))
      CAF_ERROR(bad);
}

CAF_TEST(answers of Telegram say what became of a message) {
  CAF_CHECK(!judge_telegram(http(200, R"({"ok":true,"result":{"message_id":7}})")));
  CAF_CHECK_EQUAL(code_of(judge_telegram(http(200, "<html>"))), ec::target_unavailable);
  CAF_CHECK_EQUAL(code_of(judge_telegram(http(200, R"({"ok":"true"})"))), ec::target_unavailable);
  auto late = judge_telegram(http(
      429,
      R"({"ok":false,"error_code":429,"description":"Too Many Requests: retry after 35","parameters":{"retry_after":35}})"));
  CAF_CHECK_EQUAL(code_of(late), ec::rate_limited);
  CAF_CHECK(retry_after_of(late) == 35s);
  CAF_CHECK_EQUAL(text_of(late), "Telegram answered 429: Too Many Requests: retry after 35");
  CAF_CHECK(retry_after_of(judge_telegram(http(429, R"({"parameters":{"retry_after":18446744073709551615}})"))) == 24h);
  CAF_CHECK_EQUAL(code_of(judge_telegram(http(429, "{}"))), ec::target_unavailable);
  auto bad = judge_telegram(http(400, R"({"ok":false,"description":"Bad Request: chat not found"})"));
  CAF_CHECK_EQUAL(code_of(bad), ec::rejected);
  CAF_CHECK_EQUAL(text_of(bad), "Telegram answered 400: Bad Request: chat not found");
  CAF_CHECK_EQUAL(code_of(judge_telegram(http(403, "[]"))), ec::rejected);
  CAF_CHECK_EQUAL(code_of(judge_telegram(http(502, "<html>"))), ec::target_unavailable);
}

CAF_TEST(no trouble shows the bot s token) {
  notification_config cfg;
  cfg.telegram_token = "123:hunter2";
  cfg.telegram_url = "http://127.0.0.1:1";
  cfg.timeout = 5s;
  auto error = make_telegram(cfg)->tell("7", {"id", "", "text", "", "{}"}, never);
  CAF_CHECK_EQUAL(code_of(error), ec::target_unavailable);
  CAF_CHECK(text_of(error).find("hunter2") == std::string::npos);
}
