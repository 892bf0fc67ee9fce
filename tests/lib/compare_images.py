#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tells how two images of OCI layouts differ: names, kinds, modes, owners, xattrs and contents of files, and the
fields of the config that a container's behaviour depends on. Times, history and the split into layers may differ.

  compare_images.py LAYOUT DIGEST LAYOUT DIGEST     prints one difference a line; exit code 1 where there is one
  compare_images.py --check CASE.json LAYOUT DIGEST the image against what a case of tests/corpus expects
"""
import hashlib
import io
import json
import sys
import tarfile
import zlib
from pathlib import Path

FIELDS = ["User", "Env", "Entrypoint", "Cmd", "WorkingDir", "Labels", "OnBuild", "Shell", "ExposedPorts", "Volumes",
          "Healthcheck", "StopSignal"]
KINDS = {tarfile.REGTYPE: "file", tarfile.AREGTYPE: "file", tarfile.DIRTYPE: "folder", tarfile.SYMTYPE: "link",
         tarfile.CHRTYPE: "device", tarfile.BLKTYPE: "device", tarfile.FIFOTYPE: "fifo"}
# Where a base lacks them, Buildah leaves what it mounted over in a RUN: docs/backends.md, "What differs from BuildKit".
STUBS = {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run", "/run/.containerenv"}
WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"


class Image:
    """A layout's image, its layers applied one after the other."""

    def __init__(self, layout, digest):
        self.blobs = Path(layout) / "blobs" / "sha256"
        manifest = self.read(digest)
        while "manifests" in manifest:
            manifest = self.read(manifest["manifests"][0]["digest"])
        self.config = self.read(manifest["config"]["digest"])
        self.tree = {}
        for layer in manifest["layers"]:
            self.apply(self.bytes_of(layer["digest"]))

    def bytes_of(self, digest):
        return (self.blobs / digest.split(":")[1]).read_bytes()

    def read(self, digest):
        return json.loads(self.bytes_of(digest))

    def remove(self, path, with_itself):
        for name in [n for n in self.tree if n.startswith(path + "/") or (with_itself and n == path)]:
            del self.tree[name]

    def apply(self, data):
        if data[:2] == b"\x1f\x8b":
            data = zlib.decompress(data, 31)
        archive = tarfile.open(fileobj=io.BytesIO(data))
        added = set()
        for member in archive:
            path = "/" + member.name.strip("/").removeprefix("./").strip("/")
            if path in ("/", "/."):
                continue
            folder, _, name = path.rpartition("/")
            if name == OPAQUE:
                for below in [n for n in self.tree if n.startswith(folder + "/") and n not in added]:
                    del self.tree[below]
                continue
            if name.startswith(WHITEOUT):
                self.remove(folder + "/" + name[len(WHITEOUT):], True)
                continue
            added.add(path)
            if member.islnk():
                target = "/" + member.linkname.strip("/").removeprefix("./")
                self.tree[path] = dict(self.tree[target])
                continue
            kind = KINDS.get(member.type, "other")
            if kind != "folder":
                self.remove(path, True)
            entry = {"kind": kind, "mode": oct(member.mode & 0o7777), "owner": f"{member.uid}:{member.gid}"}
            if kind == "link":
                entry["target"] = member.linkname
                del entry["mode"]
            elif kind == "file":
                content = archive.extractfile(member).read()
                entry["size"] = len(content)
                entry["sha256"] = hashlib.sha256(content).hexdigest()
                entry["start"] = content[:200].decode("utf-8", "replace")
            elif kind == "device":
                entry["device"] = f"{member.devmajor}:{member.devminor}"
            for key, value in member.pax_headers.items():
                # user.overlay.*: the kernel's notes on an overlay in a user namespace, which Buildah 1.28 copies along.
                if key.startswith("SCHILY.xattr.") and not key.startswith("SCHILY.xattr.user.overlay."):
                    entry["xattr " + key[len("SCHILY.xattr."):]] = value
            self.tree[path] = entry

    def fields(self):
        config = self.config.get("config") or {}
        fields = {name: config.get(name) or None for name in FIELDS}
        # A default that one tool writes down and another leaves out.
        if fields["WorkingDir"] == "/":
            fields["WorkingDir"] = None
        if fields["Env"]:
            fields["Env"] = sorted(fields["Env"])
        fields["os"], fields["architecture"] = self.config.get("os"), self.config.get("architecture")
        return fields


def differences(one, other):
    for path in sorted(one.tree.keys() | other.tree.keys()):
        left, right = one.tree.get(path), other.tree.get(path)
        if left is None or right is None:
            if path in STUBS and not (left or right).get("size"):
                continue
            yield f"{path}: only in the {'second' if left is None else 'first'} image"
            continue
        for fact in sorted(left.keys() | right.keys()):
            if fact != "start" and left.get(fact) != right.get(fact):
                yield f"{path}: {fact} is {left.get(fact)!r} and {right.get(fact)!r}"
    left, right = one.fields(), other.fields()
    for name in left:
        if left[name] != right[name]:
            yield f"config {name}: {left[name]!r} and {right[name]!r}"


def unmet(case, image):
    """What a case says of its image: has = {path: content, or {fact: value}}, has_not = [path], config = {field: value}."""
    for path, wanted in case.get("has", {}).items():
        found = image.tree.get(path)
        if found is None:
            yield f"{path}: is not there"
            continue
        facts = {"start": wanted} if isinstance(wanted, str) else wanted
        for fact, value in facts.items():
            if found.get(fact) != value:
                yield f"{path}: {fact} is {found.get(fact)!r}, expected {value!r}"
    for path in case.get("has_not", []):
        if path in image.tree:
            yield f"{path}: is there"
    fields = image.fields()
    for name, value in case.get("config", {}).items():
        if fields.get(name) != value:
            yield f"config {name}: {fields.get(name)!r}, expected {value!r}"


def main():
    words = sys.argv[1:]
    if len(words) == 4 and words[0] == "--check":
        found = list(unmet(json.loads(Path(words[1]).read_text()), Image(words[2], words[3])))
    elif len(words) == 4:
        found = list(differences(Image(*words[:2]), Image(*words[2:])))
    else:
        sys.exit(__doc__)
    print("\n".join(found))
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
