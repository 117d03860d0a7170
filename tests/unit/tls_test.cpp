#define CAF_SUITE tls

#include "http/tls.hpp"

#include <caf/test/unit_test.hpp>

#include "certificate.hpp"
#include "loopback.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

struct fixture {
  test_folder folder;
  key_and_certificate own{"localhost"};

  std::string complaint(const std::string& certificate, const std::string& key) {
    auto made = http::tls_context::make(folder.write("c.pem", certificate), folder.write("k.pem", key));
    return made ? "none" : text_of(made.error());
  }
  http_config served() {
    http_config out;
    out.port = 0;
    out.tls_certificate = folder.write("certificate.pem", own.certificate);
    out.tls_key = folder.write("key.pem", own.key);
    return out;
  }
};

bool holds(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

/// Whose certificate the server at `port` shows.
std::string name_at(uint16_t port) {
  return client{port}.peer_name();
}

} // namespace

CAF_TEST_FIXTURE_SCOPE(tls_tests, fixture)

CAF_TEST(what is wrong with certificate and key is said by option without showing either) {
  key_and_certificate other{"other"}, locked{"locked", "a-passphrase"};
  CAF_CHECK_EQUAL(complaint(own.certificate, own.key), "none");
  CAF_CHECK_EQUAL(complaint(own.certificate + other.certificate, own.key), "none"); // a chain
  auto text = complaint("", own.key);
  CAF_CHECK(holds(text, "http.tlsCertificate: ") && holds(text, "does not begin with a certificate in PEM"));
  text = complaint(own.key, own.key);
  CAF_CHECK(holds(text, "http.tlsCertificate: ") && holds(text, "does not begin with a certificate in PEM"));
  auto broken = other.certificate;
  broken.erase(broken.size() / 2, 40);
  CAF_CHECK(holds(complaint(own.certificate + broken, own.key), "holds a further certificate that is broken"));
  text = complaint(own.certificate, own.certificate);
  CAF_CHECK(holds(text, "http.tlsKey: ") && holds(text, "is not a private key in PEM"));
  CAF_CHECK(holds(complaint(own.certificate, other.key), "is not the key of http.tlsCertificate"));
  text = complaint(own.certificate, locked.key);
  CAF_CHECK(holds(text, "is protected by a passphrase"));
  CAF_CHECK(!holds(text, locked.key.substr(60, 40)));
  auto absent = http::tls_context::make(folder.file("absent.pem"), folder.file("k.pem"));
  CAF_REQUIRE(!absent);
  CAF_CHECK(holds(text_of(absent.error()), "absent.pem\" cannot be read"));
}

CAF_TEST(a server does not start with a certificate it cannot use) {
  auto http = served();
  folder.write("key.pem", "nonsense");
  stats counters;
  std::string why;
  try {
    http::server web{http, {}, {}, counters};
  } catch (const std::runtime_error& e) {
    why = e.what();
  }
  CAF_CHECK(holds(why, "http.tlsKey: "));
}

CAF_TEST(a reload is for new connections and a broken file changes nothing) {
  stats counters;
  http::router routes;
  routes.add("GET", "/", [](const http::request&, const http::responder& answer) {
    answer({200, "text/plain", "hi", {}});
  });
  http::server web{served(), {}, std::move(routes), counters};
  tls_ports::add(web.port());
  client before{web.port()};
  auto expires = counters.tls_expires.get();
  CAF_CHECK_EQUAL(name_at(web.port()), "localhost");
  key_and_certificate next{"next", "", 60};
  folder.write("certificate.pem", next.certificate);
  auto error = web.reload(); // with the former key
  CAF_CHECK(holds(text_of(error), "is not the key of"));
  CAF_CHECK_EQUAL(name_at(web.port()), "localhost");
  CAF_CHECK_EQUAL(counters.tls_expires.get(), expires);
  folder.write("key.pem", next.key);
  error = web.reload();
  CAF_CHECK(!error);
  CAF_CHECK_EQUAL(name_at(web.port()), "next");
  CAF_CHECK(counters.tls_expires.get() > expires);
  before.get("/");
  before.read_until("hi");
  CAF_CHECK_EQUAL(counters.tls_failed.get(), 0u);
  tls_ports::remove(web.port());
}

CAF_TEST(plain HTTP on a port with TLS is told so) {
  stream_server web{{}, served()};
  tls_ports::remove(web.port());
  client who{web.port()};
  who.get("/stream");
  who.read_all();
  CAF_CHECK(who.head().starts_with("HTTP/1.1 400 "));
  CAF_CHECK(holds(who.body(), "HTTPS only"));
  client nobody{web.port()}; // no TLS and no HTTP
  nobody.say(std::string(100, '\x01'));
  nobody.read_all();
  CAF_CHECK(!holds(nobody.raw, "HTTP"));
  CAF_CHECK_EQUAL(web.counters.tls_failed.get(), 2u);
}

CAF_TEST(every end of a stream is told) {
  stream_server web{{}, served()};
  client one{web.port()}, two{web.port()}, idle{web.port()};
  one.get("/stream");
  auto first = web.next();
  two.get("/stream");
  auto second = web.next();
  idle.get("/nothing");
  idle.read_until("}");
  first->send(make_frame("data: " + std::string(3000000, 'x') + "\n\n"), 1); // more than the kernel takes
  first->finish(make_frame(":bye\n\n"));
  one.read_all();
  CAF_CHECK(one.body().ends_with("\n\n:bye\n\n"));
  CAF_CHECK(one.ended && one.ended_well());
  two.read_until(":");
  web.stop();
  two.read_all();
  CAF_CHECK(two.body() == ":\n\n");
  CAF_CHECK(two.ended && two.ended_well());
  idle.read_all();
  CAF_CHECK(idle.ended_well());
}

CAF_TEST(a large body comes in whole and goes out whole) {
  stats counters;
  http::router routes;
  routes.add("POST", "/", [](const http::request& asked, const http::responder& answer) {
    answer({200, "text/plain", asked.body + asked.body + asked.body, {}});
  });
  auto http = served();
  http.max_body_bytes = 5000000;
  http::server web{http, {}, std::move(routes), counters};
  tls_ports::add(web.port());
  client who{web.port()};
  std::string body;
  for (int i = 0; body.size() < 4000000; ++i)
    body += std::to_string(i) + ",";
  for (int round = 0; round < 2; ++round) { // on one connection
    who.say("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
    who.raw.clear();
    while (!holds(who.raw.substr(0, 1000), "\r\n\r\n") || who.raw.size() < who.head().size() + 4 + 3 * body.size())
      CAF_REQUIRE(who.read_some());
    CAF_CHECK(who.raw.substr(who.head().size() + 4) == body + body + body);
  }
  tls_ports::remove(web.port());
}

CAF_TEST_FIXTURE_SCOPE_END()
