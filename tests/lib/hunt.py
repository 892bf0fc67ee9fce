#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Looks for secrets where they must not be (Python standard library; as root).

usage: hunt.py --needles FILE --users FIRST:COUNT,... [--not-in PROGRAM] [--since FILE] [FOLDER...]

FILE has one secret a line; each is also looked for in base64, as it stands in a header of Basic authorization. Read are
argv, environment and memory of every process whose uid lies in one of --users, but those that run PROGRAM; and every file
below the FOLDERs, gzip unpacked too; with --since those that were written after that file, in which no secret of later
can be missed. Prints where something was found, one place a line, then "searched N places (…)".
Exits 1 if anything was found, 2 if nothing was searched. A process or file that ends meanwhile is passed over."""

import argparse
import base64
import os
import re
import stat
import sys
import zlib

BLOCK = 4 << 20


def forms(secret):
    """The secret, and what of its base64 is the same wherever in the text it begins."""
    yield secret
    for shift in range(3):
        head = -(-shift * 4 // 3)
        tail = (len(secret) + shift) // 3 * 4
        yield base64.b64encode(bytes(shift) + secret)[head:tail]


class Hunt:
    def __init__(self, needles):
        self.needles = needles
        self.overlap = max(map(len, needles))
        self.found, self.counts, self.bytes = set(), {}, 0

    def look(self, place, kind, blocks):
        self.counts[kind] = self.counts.get(kind, 0) + 1
        tail = b""
        for block in blocks:
            self.bytes += len(block)
            text = tail + block
            if any(needle in text for needle in self.needles):
                self.found.add(f"{kind} {place}")
                return
            tail = block[-self.overlap:]

    def process(self, pid):
        name = os.readlink(f"/proc/{pid}/exe")
        for kind in ("cmdline", "environ"):
            with open(f"/proc/{pid}/{kind}", "rb") as file:
                self.look(f"{pid} {name}", kind, [file.read()])
        self.look(f"{pid} {name}", "mem", memory(pid))

    def file(self, path):
        with open(path, "rb", buffering=0) as file:
            self.look(path, "file", iter(lambda: file.read(BLOCK), b""))
            file.seek(0)
            if file.read(2) == b"\x1f\x8b":
                file.seek(0)
                self.look(path, "unpacked", unpacked(file))


def memory(pid):
    """All that the process may write to or has to itself; what it maps from a file is searched as a file."""
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
        maps = [line.split(maxsplit=5) for line in file]
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as mem:
        for fields in maps:
            anonymous = fields[4] == "0"
            if fields[1][0] != "r" or not (anonymous or fields[1][1] == "w") or fields[-1].startswith("[v"):
                continue
            at, end = (int(part, 16) for part in fields[0].split("-"))
            while at < end:
                try:
                    mem.seek(at)
                    block = mem.read(min(BLOCK, end - at))
                except (OSError, OverflowError):
                    break
                if not block:
                    break
                at += len(block)
                yield block


def unpacked(file):
    unpacker = zlib.decompressobj(wbits=31)
    try:
        while data := file.read(BLOCK // 64):
            yield unpacker.decompress(data)
    except zlib.error:
        return


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--needles", required=True)
    parser.add_argument("--users", required=True)
    parser.add_argument("--not-in", default="none")
    parser.add_argument("--since")
    parser.add_argument("folder", nargs="*")
    options = parser.parse_args()
    with open(options.needles, "rb") as file:
        secrets = [line for line in file.read().split(b"\n") if line]
    if min(map(len, secrets), default=0) < 12:
        parser.error("a secret under 12 bytes, or none: what was found would mean nothing")
    users = [tuple(map(int, part.split(":"))) for part in options.users.split(",")]
    since = os.stat(options.since).st_ctime_ns if options.since else 0
    hunt = Hunt({form for secret in secrets for form in forms(secret)})
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            # Of a program that may not be dumped, /proc's files are root's.
            with open(f"/proc/{pid}/status", encoding="utf-8") as file:
                uid = int(re.search(r"^Uid:\s+(\d+)", file.read(), re.M)[1])
            if not any(first <= uid < first + count for first, count in users):
                continue
            if os.path.basename(os.readlink(f"/proc/{pid}/exe")) == options.not_in:
                continue
            hunt.process(pid)
        except OSError:
            continue
    for folder in options.folder:
        for path, _, names in os.walk(folder):
            for name in names:
                try:
                    found = os.lstat(os.path.join(path, name))
                    if stat.S_ISREG(found.st_mode) and found.st_ctime_ns >= since:
                        hunt.file(os.path.join(path, name))
                except OSError:
                    continue
    print("\n".join(sorted(hunt.found)))
    places = ", ".join(f"{count} {kind}" for kind, count in sorted(hunt.counts.items()))
    print(f"searched {sum(hunt.counts.values())} places ({places}; {hunt.bytes >> 20} MiB)")
    sys.exit(2 if not hunt.counts else 1 if hunt.found else 0)


if __name__ == "__main__":
    main()
