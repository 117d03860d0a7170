// The entry point of CAF's test engine. One program for all suites; ctest runs each suite by itself.
#include <caf/test/unit_test_impl.hpp>
