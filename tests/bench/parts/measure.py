#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times commands in turn, so that what else the machine does touches all of them alike, and prints a table.

usage: measure.py ROUNDS BASE_NAME NAME=COMMAND...       a COMMAND is split at spaces; the first round is not counted

Columns: minimum, median, maximum in milliseconds; medians of what each round took more than the base's in the same
round, and of that ratio: two of one round meet the same machine."""
import statistics
import subprocess
import sys
import time


def once(argv):
    began = time.perf_counter()
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    took = (time.perf_counter() - began) * 1000
    if done.returncode != 0:
        raise SystemExit("%s ended with %d: %s" % (argv, done.returncode, done.stdout.decode(errors="replace")[-2000:]))
    return took


def table(times, base):
    print("%-44s %9s %9s %9s %10s %7s" % ("milliseconds", "min", "median", "max", "over " + base[:5], "ratio"))
    for name, values in times.items():
        pairs = list(zip(values, times[base], strict=True))
        print("%-44s %9.1f %9.1f %9.1f %10.1f %7.2f" % (
            name, min(values), statistics.median(values), max(values), statistics.median(a - b for a, b in pairs),
            statistics.median(a / b for a, b in pairs)), flush=True)


def main():
    rounds, base = int(sys.argv[1]), sys.argv[2]
    # Split here: a shell in between would be part of what is measured.
    commands = {name: text.split(" ") for name, text in (entry.split("=", 1) for entry in sys.argv[3:])}
    times = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, argv in commands.items():
            took = once(argv)
            if number > 0:
                times[name].append(took)
    table(times, base)


if __name__ == "__main__":
    main()
