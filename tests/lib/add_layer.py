#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes an OCI image layout out of another one (one image, gzip layers) by one more layer and other settings."""

import argparse
import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", help="layout to begin with; none: an empty image")
    parser.add_argument("--layout", required=True)
    parser.add_argument("--tag", required=True)
    parser.add_argument("--folder", help="what is in it becomes the layer, owned by root, or by 1000 as it is there")
    parser.add_argument("--config", default="{}", help="JSON: settings that are added to the image's")
    options = parser.parse_args()

    blobs = os.path.join(options.layout, "blobs", "sha256")
    if options.base:
        shutil.copytree(options.base, options.layout)
    else:
        os.makedirs(blobs)
        with open(os.path.join(options.layout, "oci-layout"), "w", encoding="ascii") as file:
            json.dump({"imageLayoutVersion": "1.0.0"}, file)

    def get(descriptor):
        with open(os.path.join(blobs, descriptor["digest"].split(":")[1]), "rb") as file:
            return json.load(file)

    def put(data):
        digest = hashlib.sha256(data).hexdigest()
        with open(os.path.join(blobs, digest), "wb") as file:
            file.write(data)
        return {"digest": "sha256:" + digest, "size": len(data)}

    if options.base:
        with open(os.path.join(options.layout, "index.json"), encoding="ascii") as file:
            manifest = get(json.load(file)["manifests"][0])
        config = get(manifest["config"])
    else:
        manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "config": {"mediaType": "application/vnd.oci.image.config.v1+json"}, "layers": []}
        config = {"architecture": "amd64", "os": "linux", "config": {},
                  "rootfs": {"type": "layers", "diff_ids": []}, "history": []}
    if options.folder:
        raw = io.BytesIO()

        def plain(entry):
            entry.uid = entry.gid = 1000 if entry.uid == 1000 else 0
            entry.uname = entry.gname = ""
            entry.mtime = 0
            return entry

        with tarfile.open(fileobj=raw, mode="w") as tar:
            for name in sorted(os.listdir(options.folder)):
                tar.add(os.path.join(options.folder, name), arcname=name, filter=plain)
        layer = put(gzip.compress(raw.getvalue(), 1, mtime=0))
        manifest["layers"].append({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", **layer})
        config["rootfs"]["diff_ids"].append("sha256:" + hashlib.sha256(raw.getvalue()).hexdigest())
        config["history"].append({"created_by": "one more layer"})
        # Podman finds nothing in its cache for a history without times.
        for entry in config["history"]:
            entry.setdefault("created", "2026-01-01T00:00:00Z")
    config["config"].update(json.loads(options.config))
    manifest["config"].update(put(json.dumps(config).encode()))
    descriptor = {"mediaType": manifest["mediaType"], **put(json.dumps(manifest).encode()),
                  "annotations": {"org.opencontainers.image.ref.name": options.tag}}
    with open(os.path.join(options.layout, "index.json"), "w", encoding="ascii") as file:
        json.dump({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
                   "manifests": [descriptor]}, file)


if __name__ == "__main__":
    main()
