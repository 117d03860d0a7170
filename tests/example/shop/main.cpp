#include <sluice/program.hpp>

#include "processors.hpp"

int main(int argc, char** argv) {
  return sluice::run(argc, argv, [](sluice::server& server) {
    server.add_processor({.name = "price", .topics = {"orders"}, .outputs = {"orders.priced"}},
                         sluice::make_processor(shop::price));
    server.add_processor({.name = "welcome", .topics = {"orders"}, .outputs = {"customers.welcomed"}},
                         sluice::make_processor(shop::make_welcome));
  });
}
