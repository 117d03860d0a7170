"""Turns docs/openapi.yaml into a C++ header, so that the server serves what the docs say.

usage: embed_openapi.py openapi.yaml openapi.hpp
"""
import json
import pathlib
import sys

import yaml

source, target = map(pathlib.Path, sys.argv[1:])
text = json.dumps(yaml.safe_load(source.read_text()), separators=(",", ":"))
# A string literal may be 65,536 characters by the standard's minimum: several are joined.
parts = [text[i:i + 8000] for i in range(0, len(text), 8000)]
body = "\n".join(f'  R"openapi({part})openapi"' for part in parts)
target.parent.mkdir(parents=True, exist_ok=True)
target.write_text(f"#pragma once\n\nnamespace sluice {{\n\ninline constexpr const char* openapi_json =\n{body};\n\n}} // namespace sluice\n")
