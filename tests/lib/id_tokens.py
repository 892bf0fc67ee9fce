#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""ID tokens as a GitLab instance signs them, and its public keys over HTTPS, for tests (Python standard library, openssl).

  id_tokens.py serve --listen HOST:PORT --cert PEM --key PEM --signer KEY.pem     GET anything: the key set
  id_tokens.py sign --signer KEY.pem [--alg RS256|HS256|none] [--kid KID] CLAIMS  prints a token; with HS256 the secret is
                                                                                  the public key in PEM (the confusion)
"""

import argparse
import base64
import hashlib
import hmac
import json
import subprocess
from http.server import BaseHTTPRequestHandler

from local_server import LocalServer

KID = "gitlab-1"


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def openssl(*words, data=b"") -> bytes:
    return subprocess.run(["openssl", *words], input=data, capture_output=True, check=True, timeout=10).stdout


def key_set(signer):
    modulus = bytes.fromhex(openssl("rsa", "-in", signer, "-noout", "-modulus").decode().strip().split("=")[1])
    return {"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": KID, "n": b64url(modulus), "e": "AQAB"}]}


def sign(signer, algorithm, kid, claims) -> str:
    header = {"typ": "JWT", "alg": algorithm, "kid": kid}
    text = b64url(json.dumps(header).encode()) + "." + b64url(json.dumps(claims).encode())
    if algorithm == "none":
        return text + "."
    if algorithm == "HS256":
        public = openssl("rsa", "-in", signer, "-pubout")
        return text + "." + b64url(hmac.new(public, text.encode(), hashlib.sha256).digest())
    return text + "." + b64url(openssl("dgst", "-sha256", "-sign", signer, data=text.encode()))


class Handler(BaseHTTPRequestHandler):
    timeout = 20

    def log_message(self, *_):
        pass

    def do_GET(self):
        data = json.dumps(self.server.keys).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve")
    for name in ("--listen", "--cert", "--key", "--signer"):
        serve.add_argument(name, required=True)
    signing = commands.add_parser("sign")
    signing.add_argument("--signer", required=True)
    signing.add_argument("--alg", default="RS256", choices=["RS256", "HS256", "none"])
    signing.add_argument("--kid", default=KID)
    signing.add_argument("claims")
    options = parser.parse_args()
    if options.command == "sign":
        print(sign(options.signer, options.alg, options.kid, json.loads(options.claims)))
        return
    host, _, port = options.listen.rpartition(":")
    server = LocalServer((host, int(port)), Handler)
    server.keys = key_set(options.signer)
    server.speak_tls(options.cert, options.key)
    server.serve_forever()


if __name__ == "__main__":
    main()
