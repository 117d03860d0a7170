/// SOCI without its Boost parts, which only add types we do not pass: Debian builds SOCI with Boost, but whoever uses
/// it need not have it.
#pragma once

#include <soci/soci-config.h>
#undef SOCI_HAVE_BOOST
#undef SOCI_HAVE_BOOST_DATE_TIME
#include <soci/soci.h>
