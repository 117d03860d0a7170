#define CAF_SUITE idempotency

#include "idempotency.hpp"

#include "fixture.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

struct store_fake : idempotency_store {
  caf::expected<std::vector<standing>> begin(const std::vector<claim>& claims) override {
    begun.push_back(claims.size());
    if (broken)
      return broken;
    std::vector<standing> all;
    for (const auto& one : claims) {
      standing found;
      found.answer = one.id;
      found.what = one.id == "busy"   ? standing::state::busy
                   : one.id == "done" ? standing::state::done
                                      : standing::state::granted;
      all.push_back(found);
    }
    return all;
  }
  caf::error settle(const std::vector<settlement>& all) override {
    settled.push_back(all.size());
    return broken;
  }
  caf::expected<std::size_t> sweep(std::size_t most) override {
    ++sweeps;
    if (broken)
      return broken;
    auto gone = std::min(most, old);
    old -= gone;
    return gone;
  }
  std::vector<size_t> begun, settled;
  caf::error broken;
  size_t old = 0;
  int sweeps = 0;
};

claims_ptr claims(const std::vector<std::string>& ids) {
  auto all = std::make_shared<std::vector<claim>>();
  for (const auto& id : ids)
    all->push_back({"scope", id, "owner", "", 1s});
  return all;
}

struct fixture : actor_fixture {
  fixture() { sut = keep(sys.spawn(idempotency, store, &counters)); }
  std::shared_ptr<store_fake> store = std::make_shared<store_fake>();
  idempotency_actor sut;
};

} // namespace

CAF_TEST_FIXTURE_SCOPE(idempotency_tests, fixture)

CAF_TEST(what many ask for goes into one transaction and each gets its own part) {
  consume_messages();
  auto first = self->request(sut, caf::infinite, claims({"a", "done"}));
  auto second = self->request(sut, caf::infinite, claims({"busy"}));
  consume_messages();
  CAF_CHECK_EQUAL(store->begun, (std::vector<size_t>{3}));
  first.receive(
      [](const standings_ptr& found) {
        CAF_REQUIRE_EQUAL(found->size(), 2u);
        CAF_CHECK(found->at(0).what == standing::state::granted);
        CAF_CHECK(found->at(1).what == standing::state::done);
        CAF_CHECK_EQUAL(found->at(1).answer, "done");
      },
      [](const caf::error&) { CAF_FAIL("no answer"); });
  second.receive(
      [](const standings_ptr& found) {
        CAF_REQUIRE_EQUAL(found->size(), 1u);
        CAF_CHECK(found->at(0).what == standing::state::busy);
      },
      [](const caf::error&) { CAF_FAIL("no answer"); });
  CAF_CHECK_EQUAL(counters.claims_granted.get(), 1u);
  CAF_CHECK_EQUAL(counters.claims_busy.get(), 1u);
  CAF_CHECK_EQUAL(counters.claims_done.get(), 1u);
  CAF_CHECK_EQUAL(counters.claims_queued.get(), 0u);
}

CAF_TEST(a transaction has a bound and the rest goes into the next) {
  consume_messages();
  std::vector<std::string> ids(6000, "a");
  for (int i = 0; i < 3; ++i)
    self->send(sut, claims(ids));
  consume_messages();
  CAF_CHECK_EQUAL(store->begun, (std::vector<size_t>{12000, 6000}));
}

CAF_TEST(a store that fails is an error for all who ask and tried again by the next) {
  consume_messages();
  store->broken = make_failure(ec::store_unavailable, "store.url: gone");
  auto first = self->request(sut, caf::infinite, claims({"a"}));
  auto second = self->request(sut, caf::infinite,
                              settlements_ptr{std::make_shared<std::vector<settlement>>(1, settlement{"s", "a", "o"})});
  consume_messages();
  auto fails = [](const caf::error& error) { CAF_CHECK(code_of(error) == ec::store_unavailable); };
  first.receive([](const standings_ptr&) { CAF_FAIL("it is broken"); }, fails);
  second.receive([](atom::done) { CAF_FAIL("it is broken"); }, fails);
  CAF_CHECK_EQUAL(counters.store_errors.get(), 2u);
  store->broken = {};
  auto third = self->request(sut, caf::infinite, claims({"a"}));
  consume_messages();
  third.receive([](const standings_ptr&) {}, [](const caf::error&) { CAF_FAIL("it works again"); });
}

CAF_TEST(what is over is forgotten a bit at a time) {
  store->old = 2500;
  consume_messages();
  CAF_CHECK_EQUAL(store->sweeps, 1);
  pass(3s);
  CAF_CHECK_EQUAL(store->old, 0u);
  auto soon = store->sweeps;
  pass(20s);
  CAF_CHECK_EQUAL(store->sweeps, soon); // nothing is left, the next look is far
  pass(90s);
  CAF_CHECK(store->sweeps > soon);
}

CAF_TEST(who waits is answered when the actor ends) {
  consume_messages();
  auto asked = self->request(sut, caf::infinite, claims({"a"}));
  sched.run_once(); // it has the claim, not yet the answer
  anon_send_exit(sut, caf::exit_reason::user_shutdown);
  consume_messages();
  asked.receive([](const standings_ptr&) {},
                [](const caf::error& error) { CAF_CHECK(code_of(error) == ec::shutting_down); });
}

CAF_TEST_FIXTURE_SCOPE_END()
