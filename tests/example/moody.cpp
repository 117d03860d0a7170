#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>

#include "processors.hpp"

namespace shop {

caf::error moody(const sluice::record& in, sluice::context& out) {
  if (in.value.starts_with("throw"))
    throw std::runtime_error("thrown as told");
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

} // namespace shop
