"""Puts files into a C++ header as texts, so that the server serves what the sources say.

usage: embed.py TARGET.hpp FILE...

x.yaml becomes `x_json`, its content as JSON; x.html becomes `x_html`.
"""
import json
import pathlib
import sys

import yaml

target, *sources = map(pathlib.Path, sys.argv[1:])
lines = ["#pragma once", "", "#include <string>", "", "namespace sluice {", ""]
for source in sources:
    name, text = f"{source.stem}_{source.suffix[1:]}", source.read_text()
    if source.suffix == ".yaml":
        name, text = f"{source.stem}_json", json.dumps(yaml.safe_load(text), separators=(",", ":"))
    # A string literal, several in a row included, may be 65,536 characters by the standard's minimum.
    parts = [text[i:i + 8000] for i in range(0, len(text), 8000)]
    lines += [f"inline const std::string {name} = std::string{{}}", *(f'  .append(R"embedded({part})embedded")' for part in parts), "  ;", ""]
target.parent.mkdir(parents=True, exist_ok=True)
target.write_text("\n".join([*lines, "} // namespace sluice", ""]))
