# caf::core and rdkafka::rdkafka, from wherever they come: Conan brings CMake packages, Debian ships none.
# Part of the build and of the installed package.
find_package(CAF QUIET CONFIG)
if(TARGET caf::core)
  # found before
elseif(TARGET CAF::core)
  add_library(caf::core ALIAS CAF::core)
else()
  find_library(CAF_core_LIB caf_core REQUIRED)
  find_path(CAF_INCLUDE_DIR caf/actor_system.hpp REQUIRED)
  add_library(caf::core SHARED IMPORTED)
  set_target_properties(caf::core PROPERTIES IMPORTED_LOCATION ${CAF_core_LIB}
    INTERFACE_INCLUDE_DIRECTORIES ${CAF_INCLUDE_DIR} INTERFACE_LINK_LIBRARIES Threads::Threads)
endif()

find_package(RdKafka QUIET CONFIG)
if(TARGET rdkafka::rdkafka)
  # found before
elseif(TARGET RdKafka::rdkafka)
  add_library(rdkafka::rdkafka ALIAS RdKafka::rdkafka)
else()
  find_package(PkgConfig REQUIRED)
  pkg_check_modules(rdkafka REQUIRED IMPORTED_TARGET rdkafka>=2.0)
  add_library(rdkafka::rdkafka ALIAS PkgConfig::rdkafka)
endif()
