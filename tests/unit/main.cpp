// The entry point of CAF's test engine. One program for all suites; ctest runs each suite by itself.
#include "sluice/caf.hpp" // before it: 0.18 has it forget an include of its own

#include <caf/test/unit_test_impl.hpp>
