#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every test that docs/bypass-tests.md names is in the file that it names, and there are at least LEAST whose control is the attack
itself where that one defence is missing.

A row is `| attack | file | test | control |`; the file is a short name of the page's second table. A test may be `TEST/Row`
of a table, and a control may be the name of another test of the same file.
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LEAST = 80
UNDEFENDED = {"off", "alone", "a common reader takes it"}
WORDS = UNDEFENDED | {"without"}


def has(text, name):
    test, _, row = name.partition("/")
    return re.search(rf"^TEST(_F|_P)?\(\w+, {re.escape(test)}\)", text, re.M) and (not row or f'"{row}"' in text)


def main():
    page = (ROOT / "docs" / "bypass-tests.md").read_text()
    files = {short: (ROOT / path).read_text() for short, path in re.findall(r"^\| (\w+) \| `(tests/[^`]+)` \|$", page, re.M)}
    wrong, seen, undefended = [], set(), 0
    for attack, short, test, control in re.findall(r"^\| ([^|]+) \| (\w+) \| `([^`]+)` \| ([^|]+) \|$", page, re.M):
        text = files.get(short, "")
        if not has(text, test):
            wrong.append(f"docs/bypass-tests.md: {attack}: there is no test {test} in {short}")
        if (short, test) in seen:
            wrong.append(f"docs/bypass-tests.md: {attack}: {test} counts once")
        seen.add((short, test))
        undefended += control in UNDEFENDED
        if control not in WORDS and not has(text, control.strip("`")):
            wrong.append(f"docs/bypass-tests.md: {attack}: there is no control {control} in {short}")
    if undefended < LEAST:
        wrong.append(f"docs/bypass-tests.md: {undefended} of {len(seen)} controls are the attack without that defence, fewer than {LEAST}")
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
