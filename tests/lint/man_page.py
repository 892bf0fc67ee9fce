#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The man page names every command that slipway has, and no other."""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "packaging/man/slipway.1"


def commands_of_program():
    """"audit verify", "why", …; what wants a command below it is none itself."""
    source = (ROOT / "executor/cli/main.cpp").read_text()
    of = {"app": ""}
    for variable, parent, name in re.findall(
        r'(?:auto\*\s*(\w+)\s*=\s*)?(\w+)(?:\.|->)add_subcommand\(\s*"(\w+)"', source
    ):
        of[variable or name] = f"{of[parent]} {name}".strip()
    groups = re.findall(r"(\w+)(?:\.|->)require_subcommand", source)
    stages = {f"gitlab {stage}" for stage in ("config", "prepare", "run", "cleanup")}  # from a list there
    return {name for variable, name in of.items() if variable not in groups} | stages


def commands_of_page():
    text = PAGE.read_text().split(".SH COMMANDS")[1].split(".SH OPTIONS")[0]
    names = set()
    for line in re.findall(r"^\.TP\n\.B (.*)", text, re.M):
        for part in line.split(" | "):
            names.add(re.split(r" ?\\", part)[0].strip())
    return names


def main():
    program, page = commands_of_program(), commands_of_page()
    for name in sorted(program - page):
        print(f"{PAGE.relative_to(ROOT)}: no word on 'slipway {name}'")
    for name in sorted(page - program):
        print(f"{PAGE.relative_to(ROOT)}: there is no 'slipway {name}'")
    return 1 if program != page or len(program) < 10 else 0


if __name__ == "__main__":
    sys.exit(main())
