#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Words that have no place in this project: paths of a build machine, package hosts, names of assistants.

Package managers know their hosts (an operator may have set another), so nothing here names one. The words are kept
as hashes: this file obeys its own rule.
"""
import hashlib
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# sha256, first 16 digits, of the word in lower case.
WORDS = {
    "c857d09db23e6822",
    "c70eca6b0f88f44d",
    "60965168ce762e94",
    "7d3194f79e645c42",
    "3ea125d0bff386e6",
    "5d72436256ada538",
    "487b91042c7cf27a",
    "94a168d2da574b00",
}
HOSTS = {
    "00a7dc5a0cc38858",
    "9da5f32d96412512",
    "a4aa2ac280bb8d1a",
    "c899567ee9068517",
    "0dc11026ac75c015",
    "e680c440a2e92079",
    "789e46d79514e280",
    "3d01f3609be82d98",
    "eb7e11c7f9ecbcf4",
    "71741fe2460a6150",
}
MACHINE_PATH = re.compile(r"(?<![\w./$}{-])/" + "wo" + r"rk/[\w.]+")


def listed(word, where):
    return hashlib.sha256(word.lower().encode()).hexdigest()[:16] in where


def main():
    out = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True).stdout
    wrong = []
    files = [name for name in out.decode().split("\0") if name]
    for name in files:
        if name.endswith("go.sum") or "/testdata/" in name or "/corpus/" in name:
            continue
        try:
            text = (ROOT / name).read_text()
        except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
            continue
        for number, line in enumerate(text.splitlines(), 1):
            found = [word for word in re.findall(r"[A-Za-z]+", line) if listed(word, WORDS)]
            found += [host for host in re.findall(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+", line) if listed(host, HOSTS)]
            found += MACHINE_PATH.findall(line)
            wrong += [f"{name}:{number}: '{word}'" for word in found]
    if not files:
        wrong.append("git lists no file")
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
