#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Do slipway's shim and docker-compose 1.29 read the same builds in the same Compose files?

  compose_oracle.py SHIM FOLDER

SHIM is slipway-shim under the name docker-compose, FOLDER an empty one to work in. Prints what differs; 0 where nothing does.
"""
import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

WEB = """
version: "3.9"
x-args: &args {FLOAT: 1.10, INT: 42, OCT: "010", LONG: 12345678901234567890, NEG: -5}
services:
  web:
    image: ${REG}/web:${TAG:-1}
    build:
      context: ./src
      dockerfile: docker/D
      args:
        <<: *args
        D: ${GONE-def}
        E: ${EMPTY:-def}
        F: ${EMPTY-def}
        G: $$HOME and $${X}
        H: ${REF}
        Q: "${QUOTED}"
        S: ${SINGLE}
        C: ${COMMENT}
        N: "${GONE:-a:b/c?d=e}"
        V: ${SHELL_WINS}
        MULTI: |
          two
          lines
        FOLD: >-
          one
          line
      labels: [l=1, "m=a=b", bare]
      target: final
      cache_from: [x, y]
    environment: [A=1]
    command: ["a", "b"]
  list:
    build: {context: ., args: [A=1, "B=x y", FROM_ENV, "Q='q'"]}
  ext:
    extends: {service: there, file: common/c.yml}
    build: {args: {MORE: 1}}
  same: {extends: {service: list}, build: {args: [A=2]}, image: same}
  plain: {image: "redis:7"}
"""
COMMON = """
version: "3.9"
services:
  root: {build: {context: ./r, args: {R: "1", S: "1"}}}
  there: {extends: root, image: "there:$REG", build: {args: {S: "2"}}}
"""
OVER = """
version: "3.9"
services:
  web: {image: "over:1", command: ["c"], build: {args: {INT: 43, NEW: n}, labels: {l: "2"}}}
  list: {build: {target: t}}
  new: {build: ./new}
"""
DOTENV = """REG=r.io/grp
QUOTED="a  b"
export SINGLE='$x #y'
REF=${REG}/x
COMMENT=text # not this
SHELL_WINS=file
"""
FILES = {"docker-compose.yml": WEB, "common/c.yml": COMMON, "over.yml": OVER, ".env": DOTENV,
         "docker-compose.override.yml": 'version: "3.9"\nservices: {web: {build: {args: {OVERRIDE: "yes"}}}}\n',
         "other.env": "REG=other\nREF=o\nQUOTED=q\nSINGLE=s\nCOMMENT=c\n"}
FOLDERS = ["src", "new", "common/r", "deep/er"]
ENV = {"FROM_ENV": "e", "EMPTY": "", "SHELL_WINS": "shell", "PATH": os.environ["PATH"], "HOME": "/nonexistent"}

# (name, folder to call it in, words, more environment)
CASES = [
    ("default files", ".", [], {}),
    ("a folder above", "deep/er", ["--env-file", "FOLDER/.env"], {}),
    ("two files", ".", ["-f", "docker-compose.yml", "-f", "over.yml"], {}),
    ("from elsewhere", "deep", ["--env-file", "FOLDER/.env", "-f", "../docker-compose.yml", "-f", "../over.yml"], {}),
    ("COMPOSE_FILE", ".", [], {"COMPOSE_FILE": "docker-compose.yml:over.yml"}),
    ("--env-file", ".", ["--env-file", "other.env"], {}),
    ("a variable", ".", [], {"TAG": "from-env", "COMMENT": "shell"}),
]


def builds(services):
    """What concerns images, of each service; everything else is left alone."""
    of = {}
    for name, service in services.items():
        build = service.get("build")
        of[name] = {"image": service.get("image"), "build": build and {
            "context": build["context"], "dockerfile": build.get("dockerfile"), "target": build.get("target"),
            "args": {key: str(value) for key, value in (build.get("args") or {}).items()},
            "labels": {key: "" if value is None else str(value) for key, value in (build.get("labels") or {}).items()},
            "cache_from": build.get("cache_from")}}
    return of


def unescaped(value):
    if isinstance(value, str):
        return value.replace("$$", "$")
    if isinstance(value, list):
        return [unescaped(one) for one in value]
    if isinstance(value, dict):
        return {key: unescaped(one) for key, one in value.items()}
    return value


def main():
    shim, folder = sys.argv[1], Path(sys.argv[2])
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    bad = 0
    for name, where, words, more in CASES:
        words = [word.replace("FOLDER", str(folder.resolve())) for word in words]
        read = []
        for argv in (["/usr/bin/docker-compose", *words, "config"], [shim, *words, "config", "--format", "json"],
                     [shim, *words, "config"]):
            run = subprocess.run(argv, cwd=folder / where, env={**ENV, **more}, capture_output=True, text=True, check=False)
            if run.returncode != 0:
                print(f"{name}: {argv[0]} ended with {run.returncode}: {run.stderr}")
                return 1
            parsed = json.loads(run.stdout) if "json" in argv else yaml.safe_load(run.stdout)
            read.append(builds(unescaped(parsed["services"])))
        for who, ours in (("json", read[1]), ("yaml", read[2])):
            for service in read[0].keys() | ours.keys():
                if read[0].get(service) != ours.get(service):
                    bad += 1
                    print(f"{name}, {service} ({who}):\n  docker-compose: {read[0].get(service)}\n  slipway: {ours.get(service)}")
    print(f"{len(CASES)} calls, {bad} differences")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
