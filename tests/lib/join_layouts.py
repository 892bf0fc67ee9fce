#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Joins OCI image layouts of one image each to one of an index: join_layouts.py TARGET TAG ARCHITECTURE=LAYOUT...

What an image is for becomes what is said here.
"""

import hashlib
import json
import os
import shutil
import sys

INDEX = "application/vnd.oci.image.index.v1+json"


def main():
    target, tag, *parts = sys.argv[1:]
    blobs = os.path.join(target, "blobs", "sha256")
    os.makedirs(blobs)

    def get(folder, descriptor):
        with open(os.path.join(folder, "blobs", "sha256", descriptor["digest"][7:]), encoding="utf-8") as file:
            return json.load(file)

    def put(content, kind):
        data = json.dumps(content).encode()
        name = hashlib.sha256(data).hexdigest()
        with open(os.path.join(blobs, name), "wb") as file:
            file.write(data)
        return {"mediaType": kind, "digest": "sha256:" + name, "size": len(data)}

    children = []
    for part in parts:
        architecture, folder = part.split("=", 1)
        shutil.copytree(os.path.join(folder, "blobs"), os.path.join(target, "blobs"), dirs_exist_ok=True)
        with open(os.path.join(folder, "index.json"), encoding="utf-8") as file:
            root = json.load(file)["manifests"][0]
        manifest = get(folder, root)
        config = {**get(folder, manifest["config"]), "architecture": architecture}
        manifest["config"] = put(config, manifest["config"]["mediaType"])
        children.append({**put(manifest, root["mediaType"]), "platform": {"os": "linux", "architecture": architecture}})
    index = put({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}, INDEX)
    with open(os.path.join(target, "oci-layout"), "w", encoding="utf-8") as file:
        json.dump({"imageLayoutVersion": "1.0.0"}, file)
    with open(os.path.join(target, "index.json"), "w", encoding="utf-8") as file:
        json.dump({"schemaVersion": 2, "mediaType": INDEX,
                   "manifests": [{**index, "annotations": {"org.opencontainers.image.ref.name": tag}}]}, file)


if __name__ == "__main__":
    main()
