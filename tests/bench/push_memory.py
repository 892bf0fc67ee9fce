#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Peak memory and speed of slipway-push for one large layer, pushed to and pulled from a local docker-registry
(plain http, anonymous), beside the same push of a small layer.

usage: push_memory.py [SLIPWAY_PUSH [MEGABYTES]]   default: build/bin/slipway-push, 2048"""

import contextlib
import hashlib
import json
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import time

OCI = "application/vnd.oci.image."


def receive(sock, count):
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            raise SystemExit("slipway-push ended without an answer")
        data += piece
    return data


def ask(program, request):
    """One request; gives the answer, the peak memory in MiB, the seconds."""
    ours, theirs = socket.socketpair()
    began = time.monotonic()
    child = subprocess.Popen([program], env={}, pass_fds=(3,), stdin=subprocess.DEVNULL,
                             preexec_fn=lambda: os.dup2(theirs.fileno(), 3, inheritable=True))
    theirs.close()
    body = json.dumps(request).encode()
    ours.sendall(struct.pack(">I", len(body)) + body)
    while True:
        answer = json.loads(receive(ours, struct.unpack(">I", receive(ours, 4))[0]))
        if "ok" in answer:  # not a line of progress, not a note of a lease
            break
    _, _, usage = os.wait4(child.pid, 0)
    child.returncode = 0
    if not answer["ok"]:
        raise SystemExit(answer["what"])
    return answer, usage.ru_maxrss / 1024, time.monotonic() - began


def write_image(layout, megabytes):
    """A layer of random pages with holes between them; gives the manifest's digest."""
    blobs = os.path.join(layout, "blobs", "sha256")
    os.makedirs(blobs, exist_ok=True)
    with open(os.path.join(layout, "oci-layout"), "w", encoding="ascii") as file:
        json.dump({"imageLayoutVersion": "1.0.0"}, file)
    with open(os.path.join(layout, "index.json"), "w", encoding="ascii") as file:
        json.dump({"schemaVersion": 2, "manifests": []}, file)

    def put(data):
        digest = hashlib.sha256(data).hexdigest()
        with open(os.path.join(blobs, digest), "wb") as file:
            file.write(data)
        return {"digest": "sha256:" + digest, "size": len(data)}

    part = os.path.join(layout, "part")
    sha = hashlib.sha256()
    with open(part, "wb") as file:
        for number in range(megabytes):
            piece = random.Random(number).randbytes(4096)
            file.seek(number << 20)
            file.write(piece)
            sha.update(piece + bytes((1 << 20) - 4096))
        file.truncate(megabytes << 20)
    os.rename(part, os.path.join(blobs, sha.hexdigest()))
    digest = "sha256:" + sha.hexdigest()
    config = put(json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {
        "type": "layers", "diff_ids": [digest]}}).encode())
    manifest = {"schemaVersion": 2, "mediaType": OCI + "manifest.v1+json",
                "config": {"mediaType": OCI + "config.v1+json", **config},
                "layers": [{"mediaType": OCI + "layer.v1.tar", "digest": digest, "size": megabytes << 20}]}
    return put(json.dumps(manifest).encode())["digest"]


def access_to(host):
    """To a registry without TLS and logins."""
    return {"host": host, "ca_file": "", "plain_http": True, "realm_hosts": [], "username": "", "password": "",
            "password_file": "", "max_token_seconds": 900, "basic_auth": False, "lease": None}


def blobs_of(layout, digest):
    path = os.path.join(layout, "blobs", "sha256", digest.removeprefix("sha256:"))
    with open(path, "rb") as file:
        manifest = json.load(file)
    blobs = [{"digest": blob["digest"], "size": blob["size"], "media_type": "", "is_manifest": False, "is_image": False}
             for blob in [manifest["config"], *manifest["layers"]]]
    return blobs + [{"digest": digest, "size": os.path.getsize(path), "media_type": manifest["mediaType"],
                     "is_manifest": True, "is_image": False}]


def push_request(access, layout, digest, tag):
    return {"op": "push", "registry": access, "repository": "bench/app", "tags": [tag], "layout_dir": layout,
            "root_digest": digest, "blobs": blobs_of(layout, digest), "pass_digest": digest, "pass_repository": access["host"] + "/bench/app",
            "pass_expires_at": "2100-01-01T00:00:00Z", "mount_from": [],
            "signing": None, "guards_signatures": False, "deadline_seconds": 900}


def pull_request(access, layout, tag, manifest_only=False):
    return {"op": "pull", "registry": access, "repository": "bench/app", "target": tag, "layout_dir": layout,
            "platform": "", "manifest_only": manifest_only, "max_bytes": 0, "deadline_seconds": 900}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def server(port, argv):
    """Runs while it answers at the port."""
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        yield
    finally:
        child.terminate()
        child.wait()


@contextlib.contextmanager
def registry_in(folder):
    """The host:port of a docker-registry that keeps its images there."""
    port = free_port()
    config = os.path.join(folder, "registry.yml")
    with open(config, "w", encoding="ascii") as file:
        file.write("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s/store}}\n"
                   "http: {addr: '127.0.0.1:%d', secret: s}\n" % (folder, port))
    with server(port, ["/usr/bin/docker-registry", "serve", config]):
        yield "127.0.0.1:%d" % port


def main():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    built = os.path.join(os.environ.get("SLIPWAY_BIN", os.path.join(root, "build", "bin")), "slipway-push")
    program = os.path.realpath(sys.argv[1] if len(sys.argv) > 1 else built)
    megabytes = int(sys.argv[2]) if len(sys.argv) > 2 else 2048
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder, registry_in(folder) as host:
        access = access_to(host)
        print("%-22s %10s %10s %10s" % ("", "MiB", "peak MiB", "seconds"))
        for size in (1, megabytes):
            layout = os.path.join(folder, "layout-%d" % size)
            pushed = write_image(layout, size)
            _, peak, seconds = ask(program, push_request(access, layout, pushed, "v%d" % size))
            print("%-22s %10d %10.1f %10.2f" % ("push", size, peak, seconds))
            into = os.path.join(folder, "pulled-%d" % size)
            write_image(into, 0)
            _, peak, seconds = ask(program, pull_request(access, into, "v%d" % size))
            print("%-22s %10d %10.1f %10.2f" % ("pull", size, peak, seconds), flush=True)


if __name__ == "__main__":
    main()
