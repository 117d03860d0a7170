# All that sluice stands on. Debian ships no CMake package for CAF; Conan brings one.
find_package(Threads REQUIRED)
find_package(fmt REQUIRED) # before RESTinio, whose target refers to it
find_package(restinio REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(simdjson REQUIRED)
find_package(spdlog REQUIRED)
find_package(CLI11 REQUIRED)
find_package(toml11 REQUIRED)
find_package(prometheus-cpp CONFIG REQUIRED)

find_package(CAF QUIET CONFIG)
if(TARGET CAF::core)
  add_library(caf::core ALIAS CAF::core)
elseif(NOT TARGET caf::core)
  find_library(CAF_core_LIB caf_core REQUIRED)
  find_path(CAF_INCLUDE_DIR caf/actor_system.hpp REQUIRED)
  add_library(caf::core SHARED IMPORTED)
  set_target_properties(caf::core PROPERTIES IMPORTED_LOCATION ${CAF_core_LIB}
    INTERFACE_INCLUDE_DIRECTORIES ${CAF_INCLUDE_DIR} INTERFACE_LINK_LIBRARIES Threads::Threads)
endif()

find_package(PkgConfig REQUIRED)
pkg_check_modules(rdkafka REQUIRED IMPORTED_TARGET rdkafka>=2.0)
add_library(rdkafka::rdkafka ALIAS PkgConfig::rdkafka)
