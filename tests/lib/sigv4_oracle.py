#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Generated requests and how botocore signs them, one JSON object a line: sigv4_oracle.py COUNT SEED

Needs Debian's python3-botocore, so run it with /usr/bin/python3."""

import datetime
import json
import random
import string
import sys
import urllib.parse

import botocore.auth
import botocore.awsrequest
import botocore.credentials

UNRESERVED = string.ascii_letters + string.digits + "-._~"
# What stands between quotes in a header is folded as well.
HEADER_TEXT = string.ascii_letters + string.digits + "  \t\"'/;:=,+!*()[]{}"
ANY_TEXT = string.printable[:-5] + "äß漢🦀"


def text(rng, alphabet, low, high):
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(low, high)))


def encoded(rng, low, high):
    return urllib.parse.quote(text(rng, ANY_TEXT, low, high), safe="")


def generate(rng):
    host = text(rng, string.ascii_lowercase, 1, 12) + ".example" + rng.choice(["", ":8443"])
    segments = [rng.choice(["", ".", "..", encoded(rng, 1, 8), text(rng, UNRESERVED, 1, 8)])
                for _ in range(rng.randint(0, 5))]
    query = []
    for _ in range(rng.randint(0, 6)):
        name = rng.choice(["a", "A", "b", "param", encoded(rng, 1, 6)])
        query.append(name + "=" + rng.choice(["", encoded(rng, 0, 8)]))
    headers = {}
    for _ in range(rng.randint(0, 4)):
        headers.setdefault("X-" + text(rng, string.ascii_letters, 1, 10).title(), text(rng, HEADER_TEXT, 0, 30).strip())
    method = rng.choice(["GET", "POST", "PUT", "DELETE"])
    return {
        "method": method,
        "authority": host,
        "target": "/" + "/".join(segments) + ("?" + "&".join(query) if query else ""),
        "headers": headers,
        "body": text(rng, ANY_TEXT, 0, 300) if method in ("POST", "PUT") else "",
        "access_key_id": "AKIA" + text(rng, string.ascii_uppercase, 16, 16),
        "secret_access_key": text(rng, string.ascii_letters + string.digits + "+/", 40, 40),
        "session_token": rng.choice(["", text(rng, string.ascii_letters + string.digits + "+/=", 50, 400)]),
        "region": rng.choice(["eu-central-1", "cn-north-1", "us-gov-west-1"]),
        "service": rng.choice(["ecr", "sts"]),
        "time": rng.randint(1_000_000_000, 4_000_000_000),
    }


def sign(row):
    """What botocore puts into Authorization for this request."""
    now = datetime.datetime.fromtimestamp(row["time"], datetime.timezone.utc).replace(tzinfo=None)

    class Datetime(datetime.datetime):
        @classmethod
        def utcnow(cls):
            return now

    class Module:
        datetime = Datetime

    botocore.auth.datetime = Module
    request = botocore.awsrequest.AWSRequest(
        method=row["method"], url="https://" + row["authority"] + row["target"], headers=dict(row["headers"]),
        data=row["body"].encode())
    credentials = botocore.credentials.Credentials(
        row["access_key_id"], row["secret_access_key"], row["session_token"] or None)
    botocore.auth.SigV4Auth(credentials, row["service"], row["region"]).add_auth(request)
    return request.headers["Authorization"]


def main():
    rng = random.Random(int(sys.argv[2]))
    for _ in range(int(sys.argv[1])):
        row = generate(rng)
        print(json.dumps({**row, "authorization": sign(row)}))


if __name__ == "__main__":
    main()
