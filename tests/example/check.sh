#!/usr/bin/env bash
# Builds this folder as a user's own project, against an installed sluice, and runs its test.
#   check.sh BUILD_FOLDER_OF_SLUICE
# What it makes is under BUILD_FOLDER_OF_SLUICE/example; the program is example/build/shop.
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
from=$(readlink -f "$1")
to=$from/example

rm -rf "$to/prefix"
cmake --install "$from" --prefix "$to/prefix" --component library >/dev/null
launcher=()
command -v ccache >/dev/null && launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
cmake -S "$here" -B "$to/build" -DCMAKE_BUILD_TYPE=Release "-DCMAKE_PREFIX_PATH=$to/prefix" "${launcher[@]}"
cmake --build "$to/build" --parallel 2
ctest --test-dir "$to/build" --output-on-failure
