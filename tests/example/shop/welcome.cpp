#include <set>
#include <string>

#include <caf/typed_event_based_actor.hpp>

#include "processors.hpp"

namespace shop {

namespace {

sluice::processor_actor::behavior_type welcome(sluice::processor_actor::pointer) {
  return {
      [known = std::set<std::string>{}](const sluice::context_ptr& job) mutable -> caf::result<sluice::atom::done> {
        const auto& customer = job->input().key;
        if (customer.empty())
          return sluice::make_failure(sluice::ec::rejected, "an order's key is its customer");
        if (known.insert(customer).second)
          job->emit({.topic = "customers.welcomed", .key = customer, .value = "welcome, " + customer});
        return sluice::atom::done_v;
      },
  };
}

} // namespace

sluice::processor_actor make_welcome(caf::actor_system& system) {
  return system.spawn(welcome);
}

} // namespace shop
