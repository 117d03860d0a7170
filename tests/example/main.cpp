#include <stdexcept>

#include <caf/typed_event_based_actor.hpp>

#include <sluice/program.hpp>

#include "processors.hpp"

namespace {

/// Crashes at the word "crash", as an actor does that throws.
sluice::processor_actor::behavior_type fragile(sluice::processor_actor::pointer) {
  return {[](const sluice::context_ptr& job) {
    if (job->input().value.starts_with("crash"))
      throw std::runtime_error("crashed as told");
    job->emit({.topic = job->input().topic + ".done", .key = job->input().key, .value = job->input().value});
    return sluice::atom::done_v;
  }};
}

} // namespace

int main(int argc, char** argv) {
  return sluice::run(argc, argv, [](sluice::server& server) {
    server.add_processor({.name = "price", .topics = {"orders"}, .outputs = {"orders.priced"}},
                         sluice::make_processor(shop::price));
    server.add_processor({.name = "welcome", .topics = {"orders"}, .outputs = {"customers.welcomed"}},
                         sluice::make_processor(shop::make_welcome));
    // Not of a shop: for sluice's own tests.
    server.add_processor({.name = "moody", .topics = {"moody"}}, sluice::make_processor(shop::moody));
    server.add_processor({.name = "fragile", .topics = {"fragile"}},
                         sluice::make_processor([](caf::actor_system& system) { return system.spawn(fragile); }));
  });
}
