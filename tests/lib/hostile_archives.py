#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes image archives for `docker load` into a folder: one file for each kind of attack.

traversal.tar and wrong-layer.tar are sound archives: the first one's layer climbs out of its root, the second one's
layer is not the one that its configuration names."""

import hashlib
import io
import json
import os
import sys
import tarfile


def tar_of(entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind, value in entries:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(value)
                tar.addfile(info, io.BytesIO(value))
                continue
            info.linkname = value
            info.devmajor, info.devminor = 1, 5
            tar.addfile(info)
    return out.getvalue()


def image(layer, name, diff_id=None):
    diff_id = diff_id or hashlib.sha256(layer).hexdigest()
    config = {"architecture": "amd64", "os": "linux", "config": {},
              "rootfs": {"type": "layers", "diff_ids": ["sha256:" + diff_id]}}
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer/layer.tar"]}]
    return [("layer/layer.tar", tarfile.REGTYPE, layer), ("config.json", tarfile.REGTYPE, json.dumps(config).encode()),
            ("manifest.json", tarfile.REGTYPE, json.dumps(manifest).encode())]


def main(folder):
    text = b"escaped\n"
    good = image(tar_of([("file", tarfile.REGTYPE, text)]), "good:1")
    climbing = tar_of([
        ("../../../../../../../../tmp/slipway-escaped", tarfile.REGTYPE, text),
        ("/tmp/slipway-escaped", tarfile.REGTYPE, text),
        ("way", tarfile.SYMTYPE, "/"),
        ("way/tmp/slipway-escaped", tarfile.REGTYPE, text),
        ("up", tarfile.SYMTYPE, "../../../../../../../../tmp"),
        ("up/slipway-escaped", tarfile.REGTYPE, text),
        ("hard", tarfile.LNKTYPE, "../../../../etc/passwd")])
    archives = {
        "dot-dot": good + [("../slipway-escaped", tarfile.REGTYPE, text)],
        "absolute": good + [("/tmp/slipway-escaped", tarfile.REGTYPE, text)],
        "linked-manifest": good[:2] + [("manifest.json", tarfile.SYMTYPE, "/etc/passwd")],
        "linked-layer": [("layer/layer.tar", tarfile.SYMTYPE, "/etc/shadow")] + good[1:],
        "hard-link": [("layer/layer.tar", tarfile.LNKTYPE, "/etc/passwd")] + good[1:],
        "device": [("layer/layer.tar", tarfile.CHRTYPE, "")] + good[1:],
        "twice": good + good[2:],
        "no-manifest": good[:2],
        "manifest-climbs": good[:2] + [("manifest.json", tarfile.REGTYPE, json.dumps(
            [{"Config": "../../../../etc/passwd", "RepoTags": ["x:1"], "Layers": ["layer/layer.tar"]}]).encode())],
        "deep-json": good[:2] + [("manifest.json", tarfile.REGTYPE, b"[" * 100000)],
        "bad-name": image(tar_of([]), "../../etc/passwd:1"),
        "traversal": image(climbing, "traversal:1"),
        "wrong-layer": image(tar_of([("file", tarfile.REGTYPE, text)]), "wrong:1", "0" * 64),
    }
    for name, entries in archives.items():
        with open(os.path.join(folder, name + ".tar"), "wb") as file:
            file.write(tar_of(entries))
    with open(os.path.join(folder, "cut-off.tar"), "wb") as file:
        file.write(tar_of(good)[:1500])


if __name__ == "__main__":
    main(sys.argv[1])
