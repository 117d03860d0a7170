#!/usr/bin/env bash
# Packages sluice with a real Conan 2 (from PyPI) and Debian's own libraries: `conan build` in this folder, then
# `conan create`, which builds the exported sources and has conan/test_package link and run them. No Conan remote is asked.
# Everything it makes is under build/conan*. Without PyPI it says SKIPPED; with CI=true that is a failure.
#   JOBS=n    compile with n jobs (default: as many as cores)
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."

jobs=${JOBS:-$(nproc)}
venv=$PWD/build/conan-venv
export CONAN_HOME=$PWD/build/conan-home
step_limit=1200 # seconds; the longest step, compiling everything on one core, takes a third of it

if ! "$venv/bin/conan" --version 2>/dev/null | grep -q 'version 2\.'; then
  rm -rf "$venv"
  if ! { python3 -m venv "$venv" && timeout 120 "$venv/bin/pip" install --quiet 'conan>=2.4,<3'; } >&2; then
    rm -rf "$venv"
    echo "SKIPPED: Conan could not be installed from PyPI (no network, or no python3-venv)"
    [ "${CI:-}" = true ] && exit 1
    exit 77
  fi
fi

# `conan create` compiles its own copy of the sources. ccache, where there is one, sees that they are the same: the
# paths in both build folders are alike once they are relative.
if command -v ccache >/dev/null; then
  export CMAKE_CXX_COMPILER_LAUNCHER=ccache CCACHE_DIR=$PWD/build/conan-ccache CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1 \
    CCACHE_MAXSIZE=500M
fi

# Optimising is for users; here it would only take time.
options=(--profile:all conan/profiles/debian12 --no-remote --settings:all build_type=Debug
  --conf:all "tools.build:jobs=$jobs" --conf:all "tools.cmake.cmake_layout:test_folder=$PWD/build/conan-test"
  --conf:all 'tools.build:cxxflags=["-g0"]')
step() {
  local begin=$SECONDS
  printf '\n== conan %s\n' "$*"
  timeout --kill-after=10 "$step_limit" "$venv/bin/conan" "$@" </dev/null
  printf '== conan %s: %d s\n' "$1" $((SECONDS - begin))
}
step build conan "${options[@]}"
# A package of exactly these sources that is there already is only tested.
step create conan "${options[@]}" --options:all 'sluice/*:program=False' --build=missing
# Else each change of the sources would leave its build behind.
"$venv/bin/conan" remove --confirm 'sluice/*#!latest' >/dev/null 2>&1
"$venv/bin/conan" cache clean '*' >/dev/null 2>&1
echo "conan build and conan create passed in $SECONDS s"
