// Bad processors, for sluice's own tests: each does as the record's value says.
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>

#include <caf/typed_event_based_actor.hpp>

#include <sluice/program.hpp>

namespace {

caf::error moody(const sluice::record& in, sluice::context& out) {
  if (in.value.starts_with("throw"))
    throw std::runtime_error("thrown as told");
  if (in.value.starts_with("odd throw"))
    throw 42; // NOLINT: that is the point
  if (in.value.starts_with("long throw"))
    throw std::runtime_error(std::string(2000000, 'x'));
  if (in.value.starts_with("foreign"))
    return caf::make_error(caf::sec::bad_function_call);
  if (in.value.starts_with("no topic"))
    out.emit({.topic = "", .key = in.key, .value = in.value});
  for (int i = 0; in.value.starts_with("too many") && i <= 1000; ++i)
    out.emit({.topic = in.topic + ".done", .key = in.key, .value = in.value});
  if (in.value.starts_with("too large"))
    out.emit({.topic = in.topic + ".done", .key = in.key, .value = std::string(2000000, 'x')});
  if (in.value.starts_with("poison"))
    return sluice::make_failure(sluice::ec::rejected, "poison");
  if (in.value.starts_with("once") && out.attempt() == 1)
    return sluice::make_failure(sluice::ec::processor_failed, "the first attempt fails as told");
  while (in.value.starts_with("hang") && !out.cancelled())
    std::this_thread::sleep_for(std::chrono::milliseconds{5});
  if (in.value.starts_with("sleep"))
    std::this_thread::sleep_for(std::chrono::seconds{3});
  if (in.value.starts_with("nowhere"))
    out.emit({.topic = "no such topic", .key = in.key, .value = in.value});
  else if (!in.value.starts_with("quiet"))
    out.emit({.topic = in.topic + ".done", .key = in.key, .value = in.value + " " + std::to_string(out.attempt())});
  return {};
}

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
    server.add_processor({.name = "moody", .topics = {"moody"}}, sluice::make_processor(moody));
    server.add_processor({.name = "fragile", .topics = {"fragile"}},
                         sluice::make_processor([](caf::actor_system& system) { return system.spawn(fragile); }));
  });
}
