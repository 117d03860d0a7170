# CAF, librdkafka, SOCI and hiredis, from wherever they come: Conan brings CMake packages, Debian ships none.
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

# SOCI with its backends for SQLite and PostgreSQL: linked, not loaded at run time.
find_package(SOCI QUIET CONFIG)
if(TARGET soci::sqlite3)
  # found before
elseif(TARGET SOCI::soci_sqlite3)
  add_library(soci::sqlite3 ALIAS SOCI::soci_sqlite3)
  add_library(soci::postgresql ALIAS SOCI::soci_postgresql)
elseif(TARGET SOCI::soci_sqlite3_static)
  add_library(soci::sqlite3 ALIAS SOCI::soci_sqlite3_static)
  add_library(soci::postgresql ALIAS SOCI::soci_postgresql_static)
else()
  find_path(SOCI_INCLUDE_DIR soci/soci.h REQUIRED)
  find_path(LIBPQ_INCLUDE_DIR libpq-fe.h PATH_SUFFIXES postgresql REQUIRED)
  find_library(SOCI_core_LIB soci_core REQUIRED)
  foreach(backend sqlite3 postgresql)
    find_library(SOCI_${backend}_LIB soci_${backend} REQUIRED)
    add_library(soci::${backend} SHARED IMPORTED)
    set_target_properties(soci::${backend} PROPERTIES IMPORTED_LOCATION ${SOCI_${backend}_LIB}
      INTERFACE_INCLUDE_DIRECTORIES "${SOCI_INCLUDE_DIR};${LIBPQ_INCLUDE_DIR}" INTERFACE_LINK_LIBRARIES ${SOCI_core_LIB})
  endforeach()
endif()

find_package(hiredis QUIET CONFIG)
if(TARGET hiredis::hiredis)
  # found before
elseif(TARGET hiredis::hiredis_static)
  add_library(hiredis::hiredis ALIAS hiredis::hiredis_static)
else()
  find_package(PkgConfig REQUIRED)
  pkg_check_modules(hiredis REQUIRED IMPORTED_TARGET hiredis)
  add_library(hiredis::hiredis ALIAS PkgConfig::hiredis)
endif()
