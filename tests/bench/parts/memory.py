#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Starts a command, waits until it prints "all-done", and prints its resident memory now and at its peak."""
import signal
import subprocess
import sys


def main():
    with subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as child:
        said = b""
        for line in child.stdout:
            said += line
            if b"all-done" in line:
                break
        else:
            raise SystemExit("it ended before it was done: " + said.decode(errors="replace")[-2000:])
        with open("/proc/%d/status" % child.pid, encoding="ascii") as status:
            facts = dict(line.split(":", 1) for line in status)
        child.send_signal(signal.SIGTERM)
        child.stdout.read()
    print("%-44s %9s %9s" % ("memory of a run that built, saved and pushed", "MB now", "MB peak"))
    print("%-44s %9.1f %9.1f" % ("slipway run", *(int(facts[name].split()[0]) * 1024 / 1e6
                                                for name in ("VmRSS", "VmHWM"))))


if __name__ == "__main__":
    main()
