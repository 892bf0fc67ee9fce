#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes build contexts as tars into a folder, one file for each kind of attack: each with a Dockerfile of the base that
is named, which copies the context and prints it.

usage: hostile_contexts.py FOLDER BASE; one of them asks for the file "of-the-host" beside FOLDER"""

import os
import sys

from hostile_archives import tar_of
from tarfile import BLKTYPE, CHRTYPE, DIRTYPE, FIFOTYPE, LNKTYPE, REGTYPE, SYMTYPE


def main(folder, base):
    dockerfile = f"FROM {base}\nCOPY . /all\nRUN find /all -exec ls -ldn {{}} + ; cat /all/taken || true\n"
    good = [("Dockerfile", REGTYPE, dockerfile.encode())]
    text = b"escaped\n"
    deep = "/".join(["d" * 100] * 30)
    contexts = {
        "device": good + [("null", CHRTYPE, ""), ("disk", BLKTYPE, "")],
        "fifo": good + [("pipe", FIFOTYPE, ""), ("after", REGTYPE, b"after the pipe\n")],
        "absolute": good + [("/tmp/slipway-escaped", REGTYPE, text), ("/builds/slipway-escaped", REGTYPE, text)],
        "dot-dot": good + [("../slipway-escaped", REGTYPE, text), ("a/../../slipway-escaped", REGTYPE, text)],
        "hard-link": good + [("taken", LNKTYPE, "/etc/passwd")],
        "hard-link-up": good + [("taken", LNKTYPE, "../../../../../etc/passwd")],
        "through-link": good + [("way", SYMTYPE, "/tmp"), ("way/slipway-escaped", REGTYPE, text)],
        "linked-dockerfile": [("Dockerfile", SYMTYPE, os.path.join(os.path.abspath(folder), "..", "of-the-host"))],
        "long-name": good + [("n" * 255, REGTYPE, b"long\n"), (deep, DIRTYPE, ""), (deep + "/file", REGTYPE, b"deep\n")],
        "too-long-name": good + [("n" * 300, REGTYPE, b"too long\n")],
        "odd-names": good + [("new\nline", REGTYPE, b"odd\n"), ("-rf", REGTYPE, b"odd\n"), ("\x1b[2J", REGTYPE, b"odd\n")],
    }
    for name, entries in contexts.items():
        with open(os.path.join(folder, name + ".tar"), "wb") as file:
            file.write(tar_of(entries))


if __name__ == "__main__":
    main(*sys.argv[1:])
