#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds the rule of docs/architecture.md: includes and link edges point strictly down.

A folder may include folders of a lower level only; folders on one level do not know each other. Some
folders may name even less than that (ONLY), and some third-party libraries have one home (FENCES).
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

LEVELS = [
    ["executor/base", "executor/log"],
    ["executor/process", "executor/http", "executor/oci", "executor/dockerfile", "executor/engine_api",
     "executor/egress", "executor/grpc", "executor/confine", "executor/pkcs11"],
    ["config", "executor/sandbox", "executor/state", "executor/audit", "executor/identity",
     "executor/signing",
     "executor/backends/build_backend.hpp"],
    ["executor/policy", "executor/router", "executor/backends/buildkit", "executor/backends/buildah",
     "executor/backends/dockerd", "executor/backends/kaniko", "executor/gate",
     "executor/leaks", "executor/broker"],
    ["executor/credentials", "executor/report", "executor/vulndb", "executor/gate_worker"],
    ["executor/registry", "executor/credentials/providers"],
    ["stages/job", "stages/image"],
    ["executor/gitlab", "executor/shim", "executor/init", "executor/push_worker"],
    ["executor/cli"],
]
LEVEL = {folder: level for level, folders in enumerate(LEVELS) for folder in folders}

# The trust line: what runs inside a sandbox, and who else may come near a credential.
ONLY = {
    "executor/shim": {"executor/base", "executor/process", "executor/engine_api"},
    "executor/init": {"executor/base", "executor/process", "executor/engine_api"},
}
USERS = {
    "executor/http": {"executor/credentials", "executor/credentials/providers", "executor/registry",
                      "executor/push_worker"},
    "executor/credentials": {"executor/credentials/providers", "executor/registry", "executor/push_worker"},
    "executor/credentials/providers": {"executor/push_worker"},
    "executor/registry": {"executor/push_worker"},
    "executor/pkcs11": set(),
    "executor/log": {"executor/gitlab", "executor/cli"},
}

# (pattern of an include or a call, where it may stand, why)
FENCES = [
    (r"#\s*include\s*<spdlog/", r"^executor/log/log\.cpp$", "spdlog is behind executor/log"),
    (r"#\s*include\s*<curl/", r"^executor/http/[^/]+\.cpp$", "libcurl is behind executor/http"),
    (r"#\s*include\s*<cjose/", r"^executor/identity/[^/]+\.cpp$", "libcjose is behind executor/identity"),
    (r"#\s*include\s*<hs/", r"^executor/leaks/matcher\.cpp$", "the matcher is behind executor/leaks"),
    (r"#\s*include\s*<seccomp", r"^executor/confine/confine\.cpp$", "who confines itself does so in one place"),
    (r"#\s*include\s*<sqlite3\.h>", r"^executor/gate_worker/rpm_sqlite\.cpp$",
     "databases of images are read in slipway-gate alone"),
    (r"\bLeakSearch\b|\bverify_tree\(", r"^executor/(leaks|oci|gate_worker)/",
     "images are unpacked in slipway-gate alone"),
    (r"\barchive_read_\w+\(", r"^executor/(leaks|gate_worker|vulndb)/",
     "archives of jobs are unpacked in slipway-gate alone"),
    (r"#\s*include\s*<p11-kit/", r"^executor/pkcs11/token_key\.cpp$", "vendors' modules are loaded in slipway-pkcs11 alone"),
    (r"#\s*include\s*<nghttp2/", r"^executor/grpc/[^/]+\.cpp$", "HTTP/2 is behind executor/grpc"),
    (r"#\s*include\s*<toml\+\+/", r"^config/[^/]+\.cpp$", "TOML is read in config/ alone"),
    (r"#\s*include\s*<yaml-cpp/", r"^executor/shim/yaml\.cpp$", "YAML is read in executor/shim/yaml.cpp alone"),
    (r"#\s*include\s*<CLI/", r"^executor/cli/[^/]+\.cpp$", "the command line is read in executor/cli"),
    (r"#\s*include\s*<nlohmann/", r"\.cpp$", "no header may pull in the JSON library"),
    (r"\b(secure_)?getenv\s*\(", r"^executor/(gitlab|shim|init|push_worker|cli)/", "the environment is read at the edge"),
    (r"\bsystem\s*\(|\bpopen\s*\(", r"^$", "no shell: executor/process starts programs"),
    (r"\bfork\s*\(|\bposix_spawnp?\s*\(|\bexecv[ep]*\s*\(", r"^executor/(process|init)/|^executor/shim/main\.cpp$",
     "executor/process starts programs; the shim becomes the image's own one"),
]


def folder_of(path):
    """The folder of LEVELS that PATH (relative, with slashes) belongs to, or None."""
    for prefix in (path, *(str(parent) for parent in Path(path).parents)):
        if prefix in LEVEL:
            return prefix
    return None


def without_comments(line):
    return line.split("//", 1)[0]


def why_not(user, used):
    if user == used:
        return None
    if used in USERS and user not in USERS[used]:
        return f"only {', '.join(sorted(USERS[used]))} may use {used}"
    if user in ONLY and used not in ONLY[user]:
        return f"{user} runs inside a sandbox and knows only {', '.join(sorted(ONLY[user]))}"
    if LEVEL[used] >= LEVEL[user]:
        return f"{user} (level {LEVEL[user]}) may not use {used} (level {LEVEL[used]})"
    return None


def check_sources(wrong):
    files = sorted(file for top in ("executor", "stages", "config") for file in (ROOT / top).rglob("*.[ch]pp"))
    for file in files:
        path = file.relative_to(ROOT).as_posix()
        user = folder_of(path)
        if user is None:
            wrong.append(f"{path}: its folder has no level; add it to docs/architecture.md and here")
            continue
        for number, line in enumerate(file.read_text().splitlines(), 1):
            code = without_comments(line)
            included = re.match(r'\s*#\s*include\s*["<]((?:executor|stages|config|tests)/[^">]+)[">]', code)
            if included:
                used = folder_of(included[1])
                reason = why_not(user, used) if used else f"{included[1]} is no folder of the product"
                if reason:
                    wrong.append(f"{path}:{number}: {reason}")
            elif re.match(r'\s*#\s*include\s*"', code):
                wrong.append(f"{path}:{number}: write includes from the root")
            # In a string literal a call is no call.
            code = re.sub(r'"(?:[^"\\]|\\.)*"', '""', code)
            for pattern, home, reason in FENCES:
                if re.search(pattern, code) and not re.search(home, path):
                    wrong.append(f"{path}:{number}: {reason}")
    return len(files)


def check_link_edges(wrong):
    names = {folder.replace("/", "_"): folder for folder in LEVEL}
    text = (ROOT / "CMakeLists.txt").read_text()
    edges = re.findall(r"^slipway_library\(([^)\s]+)\s*([^)]*)\)", text, re.M)
    for folder, targets in edges:
        if folder not in LEVEL:
            wrong.append(f"CMakeLists.txt: {folder} has no level")
            continue
        for target in targets.split():
            reason = why_not(folder, names[target]) if target in names else None
            if reason:
                wrong.append(f"CMakeLists.txt: link edge: {reason}")
    return len(edges)


def main():
    wrong = []
    if not check_sources(wrong) or not check_link_edges(wrong):
        wrong.append("nothing was checked: is this the root of the project?")
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
