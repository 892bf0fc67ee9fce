#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes an OCI image layout with one gzip layer out of a root file system's tar."""

import argparse
import gzip
import hashlib
import json
import os
import platform
import shutil
import sys

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class Digesting:
    """A file that knows the digest and size of what was written to it."""

    def __init__(self, path):
        self.file = open(path, "wb")
        self.sha = hashlib.sha256()
        self.size = 0

    def write(self, data):
        self.sha.update(data)
        self.size += len(data)
        return self.file.write(data)

    def flush(self):
        self.file.flush()

    def close(self):
        self.file.close()


def put(blobs, data):
    digest = hashlib.sha256(data).hexdigest()
    with open(os.path.join(blobs, digest), "wb") as file:
        file.write(data)
    return {"digest": "sha256:" + digest, "size": len(data)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rootfs", required=True)
    parser.add_argument("--layout", required=True)
    parser.add_argument("--tag", required=True)
    parser.add_argument("--cmd", default="/bin/sh")
    options = parser.parse_args()

    blobs = os.path.join(options.layout, "blobs", "sha256")
    os.makedirs(blobs)
    diff = hashlib.sha256()
    part = os.path.join(blobs, "part")
    out = Digesting(part)
    with open(options.rootfs, "rb") as tar, gzip.GzipFile("", "wb", 6, out, mtime=0) as packed:
        while chunk := tar.read(1 << 20):
            diff.update(chunk)
            packed.write(chunk)
    out.close()
    shutil.move(part, os.path.join(blobs, out.sha.hexdigest()))
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
             "digest": "sha256:" + out.sha.hexdigest(), "size": out.size}
    config = {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()), "os": "linux",
        "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": [options.cmd]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + diff.hexdigest()]},
        "history": [{"created_by": "root file system"}]}
    manifest = {
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **put(blobs, json.dumps(config).encode())},
        "layers": [layer]}
    descriptor = {"mediaType": manifest["mediaType"], **put(blobs, json.dumps(manifest).encode()),
                  "annotations": {"org.opencontainers.image.ref.name": options.tag}}
    with open(os.path.join(options.layout, "oci-layout"), "w", encoding="ascii") as file:
        json.dump({"imageLayoutVersion": "1.0.0"}, file)
    with open(os.path.join(options.layout, "index.json"), "w", encoding="ascii") as file:
        json.dump({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
                   "manifests": [descriptor]}, file)
    print(descriptor["digest"], file=sys.stderr)


if __name__ == "__main__":
    main()
