#define CAF_SUITE supervision

#include "root.hpp"
#include "terminator.hpp"

#include "fixture.hpp"

using namespace sluice;
using namespace sluice::testing;

namespace {

caf::behavior mortal(caf::event_based_actor* self) {
  self->set_default_handler(caf::skip);
  return {[self](atom::wake) { self->quit(make_failure(ec::fenced, "told to")); }};
}

struct fixture : actor_fixture {
  supervision_config cfg;
  size_t starts = 0;
  bool started = false;
  caf::actor child;
  std::string gave_up;
  root_actor sut;

  void start() {
    sut = keep(sys.spawn(
        root, cfg,
        std::vector<child_spec>{{"mortal",
                                 [this]() -> caf::expected<caf::actor> {
                                   ++starts;
                                   child = keep(sys.spawn(mortal));
                                   return child;
                                 }}},
        [this] { started = true; }, [this](std::string why) { gave_up = std::move(why); }, &counters));
    consume_messages();
  }
  void crash() {
    caf::anon_send(child, atom::wake_v);
    consume_messages();
  }
};

} // namespace

CAF_TEST_FIXTURE_SCOPE(supervision_tests, fixture)

CAF_TEST(a role that ends with an error is started again after its delay) {
  start();
  crash();
  CAF_CHECK_EQUAL(starts, 1u);
  pass(300ms);
  CAF_CHECK_EQUAL(starts, 2u);
  CAF_CHECK_EQUAL(counters.restarts.get(), 1u);
}

CAF_TEST(the root says when all roles are there) {
  start();
  CAF_CHECK(started);
  CAF_CHECK_EQUAL(starts, 1u);
}

CAF_TEST(each restart waits longer than the one before) {
  start();
  crash();
  pass(300ms);
  crash();
  pass(300ms);
  CAF_CHECK_EQUAL(starts, 2u);
  pass(300ms);
  CAF_CHECK_EQUAL(starts, 3u);
}

CAF_TEST(past the budget the root gives up and names role and cause) {
  cfg.max_restarts = 2;
  start();
  for (int i = 0; i < 3; ++i) {
    crash();
    pass(2s);
  }
  CAF_CHECK_EQUAL(starts, 3u);
  CAF_CHECK_EQUAL(gave_up, "mortal: fenced: told to");
}

CAF_TEST(crashes long ago do not count) {
  cfg.max_restarts = 1;
  start();
  for (int i = 0; i < 4; ++i) {
    crash();
    pass(2min);
  }
  CAF_CHECK_EQUAL(starts, 5u);
  CAF_CHECK(gave_up.empty());
}

CAF_TEST(a draining root restarts nothing) {
  start();
  self->send(sut, atom::drain_v);
  consume_messages();
  crash();
  pass(5s);
  CAF_CHECK_EQUAL(starts, 1u);
}

CAF_TEST(a stop takes its steps one after the other) {
  std::string trace;
  bool clean = false;
  auto first = keep(sys.spawn(mortal));
  std::vector<drain_step> steps{
      {"first",
       [&](terminator_actor::pointer stop, const std::function<void()>& done) {
         trace += "1";
         stop->request(first, 1min, atom::tick_v).then([] {}, [done](const caf::error&) { done(); });
       }},
      {"second", [&](terminator_actor::pointer, const std::function<void()>& done) {
         trace += "2";
         done();
       }}};
  keep(sys.spawn(terminator, steps, 10s, [&](bool value) { clean = value; }));
  consume_messages();
  CAF_CHECK_EQUAL(trace, "1"); // its answer is still awaited
  caf::anon_send(first, atom::wake_v);
  consume_messages();
  CAF_CHECK_EQUAL(trace, "12");
  CAF_CHECK(clean);
}

CAF_TEST(past the grace period the stop ends unfinished) {
  bool finished = false, clean = true;
  std::vector<drain_step> steps{{"hangs", [](terminator_actor::pointer, const std::function<void()>&) {}}};
  keep(sys.spawn(terminator, steps, 10s, [&](bool value) {
    finished = true;
    clean = value;
  }));
  pass(11s);
  CAF_CHECK(finished);
  CAF_CHECK(!clean);
}

CAF_TEST_FIXTURE_SCOPE_END()
