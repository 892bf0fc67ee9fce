#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""As root: runs a command and prints the resident memory that programs had meanwhile: of each process at its peak, as the kernel keeps
it, and of all of slipway's together at the sample (every 50 ms) where that was most.

usage: resident.py COMMAND...      what the command says goes to stderr"""
import os
import subprocess
import sys
import time

OWN = ("slipway", "slipway-gate", "slipway-push", "slipway-init")
SCANNER = "the scanner"


def name_of(pid, name):
    """slipway hands the scanner over as a sealed file in memory: the kernel calls such a process by a number."""
    if name in OWN:
        return name
    try:
        return SCANNER if os.readlink("/proc/%s/exe" % pid).startswith("/memfd:scanner") else ""
    except OSError:
        return ""


def processes():
    """(pid, name, VmRSS, VmHWM) in bytes of those that are looked at."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open("/proc/%s/status" % entry, encoding="utf-8", errors="replace") as file:
                facts = dict(line.rstrip("\n").split(":\t", 1) for line in file)
        except (OSError, ValueError):
            continue
        name = name_of(entry, facts.get("Name", ""))
        if name and "VmHWM" in facts:
            yield int(entry), name, int(facts["VmRSS"].split()[0]) << 10, int(facts["VmHWM"].split()[0]) << 10


def main():
    before = {pid for pid, *_ in processes()}
    peaks, most = {}, 0
    with subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=sys.stderr) as child:
        while child.poll() is None:
            together = 0
            for pid, name, now, peak in processes():
                if pid in before:
                    continue
                peaks[name] = max(peaks.get(name, 0), peak)
                together += now if name in OWN else 0
            most = max(most, together)
            time.sleep(0.05)
    if child.returncode != 0:
        raise SystemExit("%s ended with %d" % (sys.argv[1:], child.returncode))
    for name in (*OWN, SCANNER):
        if name in peaks:
            print("%-44s %9.1f MB peak" % (name, peaks[name] / 1e6))
    print("%-44s %9.1f MB at once" % ("all of slipway's", most / 1e6))


if __name__ == "__main__":
    main()
