#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What minting and revoking a login costs in slipway-push, over what the issuer takes for it: one request to a registry with
and without a lease, and a bare client that makes and deletes a robot on one connection. The issuer is
tests/lib/harbor_server.py over TLS; the three take turns. Latency of a network is in both alike, and here in none.

usage: mint_revoke.py [SLIPWAY_PUSH]   default: build/bin/slipway-push; SLIPWAY_BENCH_ROUNDS (30)"""

import base64
import http.client
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time

import push_memory

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "parts"))
from measure import table  # noqa: E402


class Issuer:
    """How to reach it, for slipway and by hand."""

    def __init__(self, folder, port):
        self.folder, self.port, self.made = folder, port, 0
        self.trust = ssl.create_default_context(cafile=os.path.join(folder, "cert.pem"))
        self.headers = {"Authorization": "Basic " + base64.b64encode(b"robot$bench:only-for-the-bench").decode(),
                        "Content-Type": "application/json"}

    def order(self):
        self.made += 1
        return {"name": "slipway-00112233445566aa-b%d" % self.made, "job": "b%d" % self.made, "job_secrets": {},
                "issuer": {"name": "bench", "type": "harbor", "settings": {
                    "url": "https://127.0.0.1:%d" % self.port, "username": "robot$bench",
                    "password_file": os.path.join(self.folder, "password"),
                    "ca_file": os.path.join(self.folder, "cert.pem"), "timeout": "30"}}}

    def by_hand(self):
        began = time.perf_counter()
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.trust, timeout=30)
        connection.request("POST", "/api/v2.0/robots", headers=self.headers, body=json.dumps({
            "name": "by-hand", "level": "project", "duration": 1, "permissions": [{
                "kind": "project", "namespace": "bench", "access": [{"resource": "repository", "action": "pull"}]}]}))
        robot = json.load(connection.getresponse())
        connection.request("DELETE", "/api/v2.0/robots/%d" % robot["id"], headers=self.headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit("the issuer answered with %d" % answer.status)
        return time.perf_counter() - began


def files_in(folder):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder + "/key.pem",
                    "-out", folder + "/cert.pem"], check=True, stderr=subprocess.DEVNULL)
    for name, text in (("password", "only-for-the-bench"), ("users.json", "{}")):
        with open(os.path.join(folder, name), "w", opener=lambda path, flags: os.open(path, flags, 0o600),
                  encoding="ascii") as file:
            file.write(text)


def main():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
    built = os.path.join(os.environ.get("SLIPWAY_BIN", os.path.join(root, "build", "bin")), "slipway-push")
    program = os.path.realpath(sys.argv[1] if len(sys.argv) > 1 else built)
    port = push_memory.free_port()
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as folder, push_memory.registry_in(folder) as host:
        files_in(folder)
        harbor = [sys.executable, os.path.join(root, "tests", "lib", "harbor_server.py"), "--listen", "127.0.0.1:%d" % port,
                  "--cert", folder + "/cert.pem", "--key", folder + "/key.pem", "--users", folder + "/users.json",
                  "--state", folder, "--username", "robot$bench", "--password-file", folder + "/password",
                  "--projects", "bench"]
        with push_memory.server(port, harbor):
            issuer, access = Issuer(folder, port), push_memory.access_to(host)
            layout = os.path.join(folder, "layout")
            push_memory.ask(program, push_memory.push_request(access, layout, push_memory.write_image(layout, 1), "v1"))
            times = {"the issuer alone": [], "a request": [], "a request with mint and revoke": []}
            for number in range(int(os.environ.get("SLIPWAY_BENCH_ROUNDS", "30")) + 1):
                row = [issuer.by_hand()]
                for lease in (None, issuer.order()):
                    request = push_memory.pull_request({**access, "lease": lease}, layout, "v1", manifest_only=True)
                    row.append(push_memory.ask(program, request)[2])
                if number > 0:
                    for values, took in zip(times.values(), row):
                        values.append(took * 1000)
            with open(os.path.join(folder, "robots.json"), encoding="utf-8") as file:
                if json.load(file):
                    raise SystemExit("robots are left at the issuer")
    print("\nmint and revoke")
    table(times, "the issuer alone")
    alone, bare, minted = (statistics.median(values) for values in times.values())
    print("mint and revoke over the issuer's own: %.1f ms, ratio %.2f" % (minted - bare - alone, (minted - bare) / alone))


if __name__ == "__main__":
    main()
