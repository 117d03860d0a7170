#pragma once

#include <sluice/processor.hpp>

namespace shop {

/// A function: `{"quantity":3,"unitPrice":250}` from `orders` goes to `orders.priced` with its total.
caf::error price(const sluice::record& in, sluice::context& out);

/// An actor: a customer's first order, as far as this actor has seen, brings a record to `customers.welcomed`.
sluice::processor_actor make_welcome(caf::actor_system& system);

} // namespace shop
