#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A registry with bad days: stands in front of a real one over TLS and does what a file says (Python standard library).

usage: fault_proxy.py --listen ADDRESS:PORT --upstream ADDRESS:PORT --cert PEM --key PEM --ca PEM --faults FILE --log FILE

FILE is JSON and read anew for every request; {} is a good day. Each fault may have "left" (how often; default always) and
"method" and "path" (regular expressions; default all):
  {"status": 503, "headers": {}}    answers so              {"cut": true}           reads a part of the body and hangs up
  {"delay": 2}                      waits, then goes on      {"digest": "sha256:…"}  lies in Docker-Content-Digest
  {"edit": true}                    changes the last byte of the answer's body
  {"hold": true}                    waits until the file says something else, then goes on
Each request is a line in --log: method, path, what was done, when it came (seconds)."""

import argparse
import http.client
import json
import re
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler

from local_server import LocalServer

HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}
BLOCK = 65536


class Proxy(LocalServer):
    def __init__(self, options):
        self.options, self.lock, self.used = options, threading.Lock(), {}
        self.trust = ssl.create_default_context(cafile=options.ca)
        address, _, port = options.listen.rpartition(":")
        super().__init__((address, int(port)), Handler)
        self.speak_tls(options.cert, options.key)

    def fault(self, method, path):
        with self.lock:
            with open(self.options.faults, encoding="utf-8") as file:
                text = file.read()
            fault = json.loads(text)
            fits = fault and re.search(fault.get("method", ""), method) and re.search(fault.get("path", ""), path)
            if fits and "left" in fault:
                self.used[text] = self.used.get(text, 0) + 1
                fits = self.used[text] <= fault["left"]
            fault = fault if fits else {}
            with open(self.options.log, "a", encoding="utf-8") as file:
                file.write(f"{method} {path} {json.dumps(fault)} {time.time():.6f}\n")
            return fault

    def hold(self, fault):
        while fault.get("hold"):
            time.sleep(0.02)
            with open(self.options.faults, encoding="utf-8") as file:
                if json.load(file) != fault:
                    return


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    server: Proxy

    def log_message(self, *_):
        pass

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                left = size
                while left:
                    data = self.rfile.read(min(left, BLOCK))
                    if not data:
                        raise ConnectionError("the client hung up")
                    left -= len(data)
                    yield data
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("Content-Length", 0))
        while left:
            data = self.rfile.read(min(left, BLOCK))
            if not data:
                raise ConnectionError("the client hung up")
            left -= len(data)
            yield data

    def handle_any(self):
        fault = self.server.fault(self.command, self.path)
        time.sleep(fault.get("delay", 0))
        self.server.hold(fault)
        if fault.get("cut"):
            next(self.body(), None)
            self.close_connection = True
            return
        if "status" in fault:
            for _ in self.body():
                pass
            self.send_response(fault["status"])
            for name, value in fault.get("headers", {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        upstream = http.client.HTTPSConnection(self.server.options.upstream, context=self.server.trust, timeout=60)
        # Joined: a registry that misses one of several Accept lines says that there is no such manifest.
        headers = {name: ", ".join(self.headers.get_all(name)) for name in self.headers.keys() if name.lower() not in HOP}
        headers["Host"] = self.headers.get("Host", "")
        has_body = "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        if "Content-Length" in self.headers:
            headers["Content-Length"] = self.headers["Content-Length"]
        elif has_body:
            headers["Transfer-Encoding"] = "chunked"
        upstream.request(self.command, self.path, body=self.body() if has_body else None, headers=headers,
                         encode_chunked="Content-Length" not in self.headers and has_body)
        answer = upstream.getresponse()
        data = b"" if self.command == "HEAD" else answer.read()
        if fault.get("edit") and data:
            data = data[:-1] + bytes([data[-1] ^ 1])
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() == "docker-content-digest" and "digest" in fault:
                value = fault["digest"]
            if name.lower() not in HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", answer.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        upstream.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = handle_any


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("listen", "upstream", "cert", "key", "ca", "faults", "log"):
        parser.add_argument("--" + name, required=True)
    Proxy(parser.parse_args()).serve_forever()


if __name__ == "__main__":
    main()
