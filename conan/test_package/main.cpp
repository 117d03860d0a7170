// Runs a processor on one record, and links the server.
#include <iostream>

#include <sluice/server.hpp>
#include <sluice/testing.hpp>

int main() {
  sluice::testing::processor_harness greet{sluice::make_processor([](const sluice::record& in, sluice::context& out) {
    out.emit({.topic = "greetings", .key = in.key, .value = "hello " + in.value});
  })};
  auto result = greet.push({"names", 0, 0, "key", "world"});
  if (!result || result.emitted.size() != 1) {
    std::cerr << sluice::describe(result.error) << "\n";
    return 1;
  }
  std::cout << *result.emitted[0].value << "\n";

  sluice::config cfg;
  cfg.aggregations.front().name = ""; // refused before anything is opened
  sluice::server server{cfg};
  auto refused = server.start();
  std::cout << sluice::describe(refused) << "\n";
  return result.emitted[0].value == "hello world" && sluice::code_of(refused) == sluice::ec::invalid_config ? 0 : 1;
}
