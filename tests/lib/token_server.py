#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A token server for the Docker distribution registry, for tests (Python standard library and the openssl program).

GET /token?service=S&scope=repository:NAME:ACTIONS with Basic auth, or the OAuth2 POST form with grant_type=password.
Answers what the user may do out of what was asked. Anonymous requests get tokens with no access, as registries do.
Users are read anew for every request: {"user": {"password": "...", "repos": {"glob": ["pull", "push"]}}}; the user "" is
the anonymous one. The lifetime of a user's tokens may be set by "lifetime" (seconds), the end of the user by "expires_at"
(seconds since 1970). A list instead of one object is one user with several passwords."""

import argparse
import base64
import fnmatch
import hmac
import json
import subprocess
import threading
import time
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler

from local_server import LocalServer


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    def __init__(self, options):
        self.options = options
        self.lock = threading.Lock()
        with open(options.signer_cert, encoding="ascii") as file:
            pem = file.read()
        body = pem.split("-----BEGIN CERTIFICATE-----")[1].split("-----END CERTIFICATE-----")[0]
        self.x5c = ["".join(body.split())]

    def sign(self, claims) -> str:
        header = {"typ": "JWT", "alg": "RS256", "x5c": self.x5c}
        text = b64url(json.dumps(header).encode()) + "." + b64url(json.dumps(claims).encode())
        done = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", self.options.signer_key],
            input=text.encode(), capture_output=True, check=True, timeout=10)
        return text + "." + b64url(done.stdout)

    def users(self):
        with open(self.options.users, encoding="utf-8") as file:
            return json.load(file)

    def log(self, row):
        with self.lock, open(self.options.log, "a", encoding="utf-8") as file:
            file.write(json.dumps({"time": time.time(), **row}) + "\n")


def account_of(users, name, password):
    """What `users` say of this login; None where it is none."""
    if name == "":
        return users.get("", {})
    accounts = users.get(name, [])
    for account in accounts if isinstance(accounts, list) else [accounts]:
        if hmac.compare_digest(account.get("password", "").encode(), password.encode()):
            return account if account.get("expires_at", time.time() + 1) > time.time() else None
    return None


def granted(user, scopes):
    """The part of the asked scopes that the user's globs allow."""
    access = []
    for scope in scopes:
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        if kind != "repository" or not name:
            continue
        allowed = set()
        for glob, what in user.get("repos", {}).items():
            if fnmatch.fnmatchcase(name, glob):
                allowed.update(what)
        actions = [action for action in actions.split(",") if action in allowed]
        if actions:
            access.append({"type": kind, "name": name, "actions": actions})
    return access


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20

    def log_message(self, *_):
        pass

    def answer(self, code, body, headers=()):
        data = json.dumps(body).encode()
        self.send_response(code)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def issue(self, query, name, password, form):
        issuer = self.server.issuer
        scopes = " ".join(query.get("scope", [])).split()
        user = account_of(issuer.users(), name, password)
        if user is None:
            issuer.log({"user": name, "asked": scopes, "granted": None, "outcome": "denied"})
            return self.answer(401, {"errors": [{"code": "UNAUTHORIZED", "message": "bad user name or password"}]},
                               [("WWW-Authenticate", 'Basic realm="slipway tests"')])
        access = granted(user, scopes)
        now = int(time.time())
        lifetime = int(user.get("lifetime", issuer.options.lifetime))
        token_id = uuid.uuid4().hex
        token = issuer.sign({
            "iss": issuer.options.issuer, "sub": name, "aud": (query.get("service") or [""])[0],
            "exp": now + lifetime, "nbf": now - 5, "iat": now, "jti": token_id, "access": access})
        issuer.log({"user": name, "asked": scopes, "granted": access, "lifetime": lifetime, "jti": token_id,
                    "method": self.command, "outcome": "issued", "token": token})
        issued_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
        body = {"access_token": token, "expires_in": lifetime, "issued_at": issued_at}
        if form:
            body["scope"] = " ".join(scopes)
        else:
            body["token"] = token
        return self.answer(200, body)

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        if url.path == "/healthz":
            return self.answer(200, {})
        if url.path != "/token":
            return self.answer(404, {"message": "not found"})
        name = password = ""
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
            except ValueError:
                return self.answer(400, {"message": "bad Authorization header"})
        return self.issue(urllib.parse.parse_qs(url.query), name, password, form=False)

    def do_POST(self):
        length = int(self.headers.get("Content-Length", 0))
        if urllib.parse.urlsplit(self.path).path != "/token" or length > 65536:
            self.close_connection = True
            return self.answer(404, {"message": "not found"})
        query = urllib.parse.parse_qs(self.rfile.read(length).decode())
        if query.get("grant_type") != ["password"]:
            return self.answer(400, {"error": "unsupported_grant_type"})
        return self.issue(query, query.get("username", [""])[0], query.get("password", [""])[0], form=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("listen", "cert", "key", "signer-cert", "signer-key", "users", "log"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--issuer", default="slipway-test-issuer")
    parser.add_argument("--lifetime", type=int, default=300)
    options = parser.parse_args()
    address, _, port = options.listen.rpartition(":")
    server = LocalServer((address, int(port)), Handler)
    server.issuer = Issuer(options)
    server.speak_tls(options.cert, options.key)
    server.serve_forever()


if __name__ == "__main__":
    main()
