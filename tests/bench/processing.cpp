// The whole server with one processor, which does nothing: what reading, supervising and committing cost together.
#include "sluice/program.hpp"

int main(int argc, char** argv) {
  return sluice::run(argc, argv, [](sluice::server& server) {
    server.add_processor({.name = "nothing", .topics = {"events-topic"}},
                         sluice::make_processor([](const sluice::record&, sluice::context&) {}));
  });
}
