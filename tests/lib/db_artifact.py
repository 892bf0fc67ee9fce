#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes two OCI image layouts of a db.tar.gz: OUT/artifact as trivy-db is published, and OUT/signature as cosign signs it.

Prints the artifact's digest. KEY is a private key of ECDSA P-256 in PEM.
"""
import base64
import hashlib
import json
import os
import subprocess
import sys

CONFIG = "application/vnd.aquasec.trivy.config.v1+json"
LAYER = "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def put(layout, data, **descriptor):
    digest = hashlib.sha256(data).hexdigest()
    with open(os.path.join(layout, "blobs", "sha256", digest), "wb") as file:
        file.write(data)
    return {**descriptor, "digest": "sha256:" + digest, "size": len(data)}


def make_layout(layout, config, config_type, layers):
    """LAYERS: (bytes, descriptor members); the manifest's digest."""
    os.makedirs(os.path.join(layout, "blobs", "sha256"))
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST,
                "config": put(layout, json.dumps(config).encode(), mediaType=config_type),
                "layers": [put(layout, data, **descriptor) for data, descriptor in layers]}
    root = put(layout, json.dumps(manifest).encode(), mediaType=MANIFEST)
    index = {"schemaVersion": 2, "manifests": [{**root, "annotations": {"org.opencontainers.image.ref.name": "1"}}]}
    for name, document in (("oci-layout", {"imageLayoutVersion": "1.0.0"}), ("index.json", index)):
        with open(os.path.join(layout, name), "w", encoding="ascii") as file:
            json.dump(document, file)
    return root["digest"]


def main():
    archive, key, out = sys.argv[1:]
    with open(archive, "rb") as file:
        data = file.read()
    digest = make_layout(os.path.join(out, "artifact"), {}, CONFIG,
                         [(data, {"mediaType": LAYER, "annotations": {"org.opencontainers.image.title": "db.tar.gz"}})])
    payload = json.dumps({"critical": {"identity": {"docker-reference": ""}, "image": {"docker-manifest-digest": digest},
                                       "type": "cosign container image signature"}, "optional": None}).encode()
    signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", key], input=payload, check=True, capture_output=True)
    make_layout(os.path.join(out, "signature"), {"architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}},
                "application/vnd.oci.image.config.v1+json",
                [(payload, {"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "annotations": {
                    "dev.cosignproject.cosign/signature": base64.b64encode(signature.stdout).decode()}})])
    print(digest)


if __name__ == "__main__":
    main()
