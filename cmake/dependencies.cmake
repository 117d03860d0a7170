# All that sluice stands on. What an installed sluice needs of it is repeated in sluice-config.cmake.in.
find_package(Threads REQUIRED)
find_package(fmt REQUIRED) # before RESTinio, whose target refers to it
find_package(restinio REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(OpenSSL 3 REQUIRED COMPONENTS SSL Crypto)
find_package(ZLIB REQUIRED)
find_package(CURL 7.85 REQUIRED)
find_package(simdjson REQUIRED)
find_package(spdlog REQUIRED)
find_package(CLI11 REQUIRED)
find_package(toml11 REQUIRED)
find_package(prometheus-cpp CONFIG REQUIRED)
include(${CMAKE_CURRENT_LIST_DIR}/sluice-plain-libraries.cmake)
