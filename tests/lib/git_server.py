#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Bare repositories over git's "dumb" HTTP, with the batch API of Git LFS (Python standard library).

usage: git_server.py --listen ADDRESS:PORT --root DIR [--login USER:PASSWORD] [--cert FILE --key FILE] [--smart]

GET serves files below DIR; what is below DIR/private is for that login alone, and what has /slow/ in its path comes never.
With a certificate it speaks TLS. POST …/info/lfs/objects/batch tells where each object that is asked for lies: DIR/lfs/OID.
Source: git-lfs, docs/api/batch.md.
With --smart it speaks git's "smart" HTTP too, which shallow clones need. Source: git, gitprotocol-http(5)."""

import argparse
import base64
import functools
import gzip
import json
import os
import subprocess
import time
from http.server import SimpleHTTPRequestHandler

from local_server import LocalServer

MOST = 1 << 20  # bytes of a question
SLOW = 300  # seconds, longer than any test waits


class Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    login = ""
    smart = False

    def do_GET(self):
        wanted = "Basic " + base64.b64encode(self.login.encode()).decode()
        if self.path.startswith("/private/") and self.headers.get("Authorization") != wanted:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="private"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if "/slow/" in self.path:
            time.sleep(SLOW)
            self.send_error(503)
            return
        repository, _, service = self.path.partition("/info/refs?service=")
        if self.smart and service == "git-upload-pack":
            self.upload_pack(repository, "advertisement", ["--advertise-refs"], b"")
            return
        super().do_GET()

    def upload_pack(self, repository, kind, options, question):
        ran = subprocess.run(["git", "upload-pack", "--stateless-rpc", *options, self.translate_path(repository)],
                             input=question, stdout=subprocess.PIPE, timeout=60, check=False,
                             env={"PATH": "/usr/bin:/bin", "GIT_PROTOCOL": self.headers.get("Git-Protocol", "")})
        body = ran.stdout
        if kind == "advertisement" and "version=2" not in self.headers.get("Git-Protocol", ""):
            body = b"001e# service=git-upload-pack\n0000" + body
        self.send_response(200 if ran.returncode == 0 else 404)
        self.send_header("Content-Type", f"application/x-git-upload-pack-{kind}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        if self.smart and self.path.endswith("/git-upload-pack") and 0 < length <= MOST:
            question = self.rfile.read(length)
            if self.headers.get("Content-Encoding") == "gzip":
                question = gzip.decompress(question)
            self.upload_pack(self.path.removesuffix("/git-upload-pack"), "result", [], question)
            return
        if not self.path.endswith("/info/lfs/objects/batch") or not 0 < length <= MOST:
            self.send_error(404)
            return
        objects = []
        for wanted in json.loads(self.rfile.read(length))["objects"]:
            entry = {"oid": wanted["oid"], "size": wanted["size"]}
            if os.path.exists(os.path.join(self.directory, "lfs", os.path.basename(wanted["oid"]))):
                entry["actions"] = {"download": {"href": f"http://{self.headers['Host']}/lfs/{wanted['oid']}"}}
            else:
                entry["error"] = {"code": 404, "message": "there is no such object"}
            objects.append(entry)
        body = json.dumps({"transfer": "basic", "objects": objects}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.git-lfs+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", required=True)
    parser.add_argument("--root", required=True)
    parser.add_argument("--login", default="")
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--smart", action="store_true")
    options = parser.parse_args()
    Handler.smart = options.smart
    Handler.login = options.login
    host, _, port = options.listen.rpartition(":")
    server = LocalServer((host, int(port)), functools.partial(Handler, directory=options.root))
    if options.cert:
        server.speak_tls(options.cert, options.key)
    server.serve_forever()


main()
