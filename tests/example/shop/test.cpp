#undef NDEBUG
#include <cassert>

#include <sluice/testing.hpp>

#include "processors.hpp"

int main() {
  sluice::testing::processor_harness price{sluice::make_processor(shop::price)};
  auto result = price.push({"orders", 0, 7, "ada", R"({"quantity":3,"unitPrice":250})"});
  assert(result && result.emitted.size() == 1);
  assert(result.emitted[0].topic == "orders.priced" && result.emitted[0].key == "ada");
  assert(result.emitted[0].value->find("750") != std::string::npos);
  assert(sluice::code_of(price.push({"orders", 0, 8, "ada", "three of them"}).error) == sluice::ec::malformed_record);

  sluice::testing::processor_harness welcome{sluice::make_processor(shop::make_welcome)};
  assert(welcome.push({"orders", 0, 7, "ada", "first"}).emitted.size() == 1);
  assert(welcome.push({"orders", 0, 8, "ada", "second"}).emitted.empty());
  assert(sluice::code_of(welcome.push({"orders", 0, 9, "", "no customer"}).error) == sluice::ec::rejected);
}
