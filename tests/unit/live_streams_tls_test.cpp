// All that holds for streams holds over TLS.
#define CAF_SUITE live_streams_tls
#define SLUICE_OVER_TLS
#include "live_streams_test.cpp" // NOLINT(bugprone-suspicious-include): the same tests
