#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""usage: table.py BASE_NAME < lines of "NAME SECONDS": the table of measure.py, in milliseconds."""
import sys

from measure import table


def main():
    times = {}
    for line in sys.stdin:
        name, seconds = line.rsplit(None, 1)
        times.setdefault(name, []).append(float(seconds) * 1000)
    table(times, sys.argv[1])


if __name__ == "__main__":
    main()
