/// The program `sluice` as a function, for programs that add processors of their own.
#pragma once

#include <functional>

#include "sluice/server.hpp"

namespace sluice {

/// All that `sluice` does with this command line: `serve` with its file, environment and flags, logs, signals and the
/// ordered stop; `config`; `dlq`; `version`. `prepare` is called before the server starts: the place for
/// `add_processor`.
///
///     int main(int argc, char** argv) {
///       return sluice::run(argc, argv, [](sluice::server& server) {
///         server.add_processor({.name = "price", .topics = {"orders"}}, sluice::make_processor(price));
///       });
///     }
///
/// Returns the exit code: 0 well, 1 failed while running, 2 wrong command line or configuration. Once a process, from
/// `main` and before there are other threads, which would get its signals.
int run(int argc, char** argv, const std::function<void(server&)>& prepare = {});

} // namespace sluice
