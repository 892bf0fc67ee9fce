#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tells how two images of OCI layouts differ: names, kinds, modes, owners, xattrs, contents and hard links of files, and the
fields of the config that a container's behaviour depends on. Times, history and the split into layers may differ.

  compare_images.py LAYOUT DIGEST LAYOUT DIGEST     prints one difference a line; exit code 1 where there is one
  compare_images.py --check CASE.json LAYOUT DIGEST the image against what a case of tests/corpus expects; of an index each
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
        if "manifests" in manifest:
            sys.exit(f"{digest} is an index")
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
            if path == "/.":
                path = "/"
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
                # The same entry: what makes copies of them is told apart, see hard_links.
                self.remove(path, True)
                self.tree[path] = self.tree["/" + member.linkname.strip("/").removeprefix("./")]
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

    def hard_links(self):
        """The names of each file that has more than one, by each of its names."""
        names = {}
        for path in sorted(self.tree):
            names.setdefault(id(self.tree[path]), []).append(path)
        return {path: ", ".join(group) for group in names.values() if len(group) > 1 for path in group}

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


def images(layout, digest):
    document = json.loads((Path(layout) / "blobs" / "sha256" / digest.split(":")[1]).read_bytes())
    found = [image for entry in document.get("manifests", []) for image in images(layout, entry["digest"])]
    return found or [Image(layout, digest)]


def differences(one, other):
    left_links, right_links = one.hard_links(), other.hard_links()
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
        if left_links.get(path) != right_links.get(path):
            yield f"{path}: its names are {left_links.get(path)!r} and {right_links.get(path)!r}"
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
        found = {**found, "names": image.hard_links().get(path)}
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
        case, found = json.loads(Path(words[1]).read_text()), []
        made = images(words[2], words[3])
        platforms = [image.config.get("os", "") + "/" + image.config.get("architecture", "") for image in made]
        if platforms != case.get("platforms", platforms[:1]):
            found.append(f"is for {', '.join(platforms)}")
        for image in made:
            found.extend(unmet(case, image))
    elif len(words) == 4:
        found = list(differences(Image(*words[:2]), Image(*words[2:])))
    else:
        sys.exit(__doc__)
    print("\n".join(found))
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
