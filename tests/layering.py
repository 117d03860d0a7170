#!/usr/bin/env python3
"""Checks the dependency rule: sluice/ <- {actors/, kafka/, http/, store/, delivery/, parsing/, console/} <- app/.

The rooms in the middle never include one another, headers of src/sluice include only the standard library, CAF and each other,
and every outside library lives in the rooms named here and nowhere else. Prints each include that breaks the rule.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROOMS = {"actors": "actors", "src/kafka": "kafka", "src/http": "http", "src/store": "store",
         "src/delivery": "delivery", "src/parsing": "parsing", "src/console": "console", "src/app": "app", "src/sluice": "sluice"}
MIDDLE = {"actors", "kafka", "http", "store", "delivery", "parsing", "console"}
EVERYWHERE = MIDDLE | {"app"}
# The first part of an include in <> -> the rooms that may have it. Not listed and not of the system: nobody may.
LIBRARIES = {
    "caf": EVERYWHERE | {"sluice"},
    "nlohmann": EVERYWHERE | {"sluice"},
    "simdjson.h": {"actors"},
    "librdkafka": {"kafka"},
    "restinio": {"http"}, "asio": {"http"}, "http_parser.h": {"http"}, "zlib.h": {"http"}, "openssl": {"http", "delivery", "store"},
    "soci": {"store"}, "hiredis": {"store"}, "sqlite3.h": {"store"}, "libpq-fe.h": {"store"},
    "curl": {"delivery"},
    "spdlog": {"app"}, "prometheus": {"app"}, "CLI": {"app"}, "toml.hpp": {"app"}, "fmt": {"app"},
}
# Headers the build makes, and their rooms.
GENERATED = {"embedded.hpp": "app"}
SYSTEM = re.compile(r"[a-z_0-9]+|(sys|netinet|arpa|linux)/\w+\.h|(unistd|fcntl|poll|signal|pthread|netdb|errno|time)\.h")
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:<([^>]+)>|"([^"]+)")')


def room_of(path):
    parts = path.relative_to(ROOT).parts
    return ROOMS.get(parts[0]) or ROOMS.get("/".join(parts[:2]))


def included_room(file, name):
    """The room a quoted include leads to; None where there is no such file."""
    if name in GENERATED:
        return GENERATED[name]
    for base in (file.parent, ROOT / "src", ROOT / "actors"):
        target = (base / name).resolve()
        if target.is_file():
            return room_of(target)
    return None


def complaint(file, room, library, quoted):
    """What is wrong with one include; None where nothing is."""
    if library:
        if SYSTEM.fullmatch(library):
            return None
        first = library.split("/")[0]
        if first not in LIBRARIES:
            return "is not in the table of tests/layering.py: say there which room it lives in"
        if room == "sluice" and file.suffix == ".hpp" and first != "caf":
            return "is not for a public header: who links sluice need not have it"
        return None if room in LIBRARIES[first] else f"lives in {', '.join(sorted(LIBRARIES[first]))}, not in {room}"
    target = included_room(file, quoted)
    if target is None:
        return "does not exist"
    if target in (room, "sluice") or room == "app":
        return None
    return f"{room} may include only sluice/ and itself, not {target}"


def main():
    files = [file for folder in ("src", "actors") for file in sorted((ROOT / folder).rglob("*"))
             if file.suffix in (".hpp", ".cpp", ".h", ".ipp")]
    if not files:
        print("no sources found")
        return 1
    wrong = 0
    for file in files:
        where = file.relative_to(ROOT)
        room = room_of(file)
        if room is None:
            print(f"{where}: not in a room; there are {', '.join(ROOMS)}")
            wrong += 1
            continue
        for number, line in enumerate(file.read_text().splitlines(), 1):
            found = INCLUDE.match(line)
            problem = found and complaint(file, room, *found.groups())
            if problem:
                print(f"{where}:{number}: {line.strip()}: {problem}")
                wrong += 1
    print(f"{len(files)} files, {wrong} wrong includes")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
