#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The accounts of a RabbitMQ, for tests (Python standard library): as much of its management API as Vault's engine
`rabbitmq` calls to make and to delete one. It is not RabbitMQ.

PUT and DELETE /api/users/NAME with Basic auth of --account USER:PASSWORD. An account that lives is a user of the token
server (tests/lib/token_server.py reads the same --users file) who may push below --repositories (a glob)."""

import argparse
import base64
import json
import os
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler

from local_server import LocalServer

PREFIX = "/api/users/"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20

    def log_message(self, *_):
        pass

    def answer(self, code):
        self.send_response(code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def serve(self):
        options = self.server.options
        body = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), 65536))
        wanted = "Basic " + base64.b64encode(options.account.encode()).decode()
        if self.headers.get("Authorization") != wanted:
            return self.answer(401)
        if not self.path.startswith(PREFIX):
            return self.answer(404)
        name = urllib.parse.unquote(self.path[len(PREFIX):])
        with self.server.lock:
            with open(options.users, encoding="utf-8") as file:
                users = json.load(file)
            if self.command == "PUT":
                users[name] = {"password": json.loads(body)["password"],
                               "repos": {options.repositories: ["pull", "push"]}}
            elif users.pop(name, None) is None:
                return self.answer(404)
            with open(options.users + ".new", "w", encoding="utf-8") as file:
                json.dump(users, file)
            os.replace(options.users + ".new", options.users)
        return self.answer(201 if self.command == "PUT" else 204)

    do_PUT = do_DELETE = serve


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("listen", "account", "users", "repositories"):
        parser.add_argument("--" + name, required=True)
    options = parser.parse_args()
    address, _, port = options.listen.rpartition(":")
    server = LocalServer((address, int(port)), Handler)
    server.options, server.lock = options, threading.Lock()
    server.serve_forever()


if __name__ == "__main__":
    main()
