#!/usr/bin/env bash
# Builds users' own projects against an installed sluice: `shop` with its test and `services`, which
# docs/writing-a-processor.md shows file by file; and `moody`, which the end-to-end tests of processors run.
#   check.sh BUILD_FOLDER_OF_SLUICE
# What it makes is under BUILD_FOLDER_OF_SLUICE/example.
set -euo pipefail
here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
from=$(readlink -f "$1")
to=$from/example

for file in "$here"/shop/* "$here"/services/*; do
  python3 - "$here/../../docs/writing-a-processor.md" "$file" <<'PYTHON'
import pathlib, sys
guide, file = map(pathlib.Path, sys.argv[1:])
if f"\n{file.read_text()}```\n" not in guide.read_text():
    sys.exit(f"{guide.name} does not show {file} as it is")
PYTHON
done

rm -rf "$to/prefix"
cmake --install "$from" --prefix "$to/prefix" --component library >/dev/null
launcher=()
command -v ccache >/dev/null && launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
for project in shop services moody; do
  cmake -S "$here/$project" -B "$to/$project" -G Ninja -DCMAKE_BUILD_TYPE=Release "-DCMAKE_PREFIX_PATH=$to/prefix" "${launcher[@]}"
  cmake --build "$to/$project" --parallel 2
done
ctest --test-dir "$to/shop" --output-on-failure
