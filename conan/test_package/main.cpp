// Runs a processor on one record, and links the server.
#include <iostream>

#include <sluice/server.hpp>
#include <sluice/testing.hpp>

int main() {
  sluice::testing::processor_harness greet{
      sluice::make_processor([](const sluice::record& x) { return "hello " + x.value; })};
  auto result = greet.push({"names", 0, 0, "key", "world"});
  if (!result) {
    std::cerr << sluice::describe(result.error()) << "\n";
    return 1;
  }
  std::cout << *result << "\n";

  sluice::config cfg;
  cfg.aggregations.front().name = ""; // refused before anything is opened
  sluice::server server{cfg};
  auto refused = server.start();
  std::cout << sluice::describe(refused) << "\n";
  return *result == "hello world" && sluice::code_of(refused) == sluice::ec::invalid_config ? 0 : 1;
}
