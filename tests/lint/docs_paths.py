#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every path of the project that README.md, the other root pages or docs/ name exists.

A path is a word in backticks, in a code block or in a link that begins with a folder of the project. Globs must
match something; a word in capitals (NAME) stands for something else and is skipped.
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOP = ("executor", "stages", "config", "docs", "tests", "packaging", ".ci")
WORD = re.compile(r"(?<![\w./~<-])((?:" + "|".join(map(re.escape, TOP)) + r")/[\w.*/{},+-]*[\w*/}])")
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")


def exists(path):
    # A braced list names several.
    braces = re.search(r"\{([^}]*)\}", path)
    if braces:
        return all(exists(path[: braces.start()] + one + path[braces.end() :]) for one in braces[1].split(","))
    if "*" in path:
        return any(ROOT.glob(path))
    return (ROOT / path).exists()


def main():
    wrong = []
    pages = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
    seen = 0
    for page in pages:
        name = page.relative_to(ROOT).as_posix()
        for number, line in enumerate(page.read_text().splitlines(), 1):
            for path in WORD.findall(line):
                seen += 1
                if re.search(r"(^|/)[A-Z]+(\.|/|$)", path.replace("README", "").replace("CHANGELOG", "")):
                    continue
                if not exists(path):
                    wrong.append(f"{name}:{number}: there is no {path}")
            for target in LINK.findall(line):
                seen += 1
                if not (page.parent / target).exists():
                    wrong.append(f"{name}:{number}: the link {target} leads nowhere")
    if not seen:
        wrong.append("no path was found in any page: is this the root of the project?")
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
