#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds a run of docker-py's tests (pytest -v -n N on stdin) against the table of those that cannot pass.

A row of the table is | `FILE::CLASS::TEST` | why |, where a name may be a pattern. Wrong is a test that fails and is in no
row, one that passes and is in one, and a row that is about no test. Where the reason begins with "not run", its outcome
depends on the machine: with --not-run this prints the arguments that leave those out."""

import fnmatch
import re
import sys

LEAST = 250  # tests in all: a suite that was not collected proves nothing


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        rows = re.findall(r"^\| `([\w.*]+::[\w.:*]+)` \| (\S.*) \|$", file.read(), re.M)
    if sys.argv[2:] == ["--not-run"]:
        print(" ".join(f"--deselect tests/integration/{row}" for row, why in rows if why.startswith("not run")))
        return
    rows = [(row, why) for row, why in rows if not why.startswith("not run")]
    outcomes = {}
    for outcome, name in re.findall(r" (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS) tests/integration/(\S+\.py::\S+)",
                                    sys.stdin.read()):
        # The tear-down of a test that passed may fail yet.
        if outcomes.get(name) not in ("FAILED", "ERROR"):
            outcomes[name] = outcome
    wrong = [] if len(outcomes) >= LEAST else [f"only {len(outcomes)} tests were run"]
    used = set()
    for name, outcome in outcomes.items():
        matching = [row for row, _ in rows if fnmatch.fnmatchcase(name, row)]
        used.update(matching)
        if outcome in ("FAILED", "ERROR") and not matching:
            wrong.append(f"{name} {outcome}, and the table does not say why")
        if outcome in ("PASSED", "XPASS") and matching:
            wrong.append(f"{name} passes, though the table says that it cannot: {matching[0]}")
    wrong += [f"the table has {row}, and there is no such test" for row, _ in rows if row not in used]
    counts = {what: list(outcomes.values()).count(what) for what in sorted(set(outcomes.values()))}
    print("docker-py:", ", ".join(f"{count} {what}" for what, count in counts.items()))
    print("\n".join(wrong))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
