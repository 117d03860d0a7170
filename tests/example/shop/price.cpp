#include <nlohmann/json.hpp>

#include "processors.hpp"

namespace shop {

caf::error price(const sluice::record& in, sluice::context& out) {
  auto order = nlohmann::json::parse(in.value, nullptr, false);
  if (!order.is_object() || !order["quantity"].is_number() || !order["unitPrice"].is_number())
    return sluice::make_failure(sluice::ec::malformed_record, "an order has a quantity and a unitPrice");
  order["total"] = order["quantity"].get<double>() * order["unitPrice"].get<double>();
  out.emit({.topic = "orders.priced", .key = in.key, .value = order.dump()});
  return {};
}

} // namespace shop
