#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""AWS as moto plays it, with authentication switched on: signatures and the policies of roles are checked.

Prints one line of JSON (address, roles, the keys of a session of an instance's role) and serves until stdin ends.
Needs the Python that `packaging/tools/build moto` makes. The account has two roles: `push`, which may ask ECR for a
login, and which the role `host`, the instance's, may assume; and `idle`, which may nothing."""

import json
import sys
import urllib.request

import boto3
from moto.server import ThreadedMotoServer

REGION = "eu-central-1"


def allow(*actions, resource="*"):
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": resource}]}


def trust(principal):
    return {"Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}]}


def main():
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"

    def client(service):
        return boto3.client(service, endpoint_url=address, region_name=REGION, aws_access_key_id="set-up",
                            aws_secret_access_key="set-up")

    iam, arns = client("iam"), {}
    for name, may in (("host", allow("sts:AssumeRole")), ("push", allow("ecr:GetAuthorizationToken")), ("idle", None)):
        arns[name] = iam.create_role(
            RoleName=name, AssumeRolePolicyDocument=json.dumps(trust({"AWS": "*"})))["Role"]["Arn"]
        if may:
            iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=json.dumps(may))
    keys = client("sts").assume_role(RoleArn=arns["host"], RoleSessionName="i-0123456789abcdef0")["Credentials"]
    switch = urllib.request.Request(address + "/moto-api/reset-auth", data=b"0", headers={"Content-Type": "text/plain"})
    with urllib.request.urlopen(switch, timeout=10) as answer:
        answer.read()
    print(json.dumps({"address": address, "roles": arns,
                      "instance": {"Code": "Success", "AccessKeyId": keys["AccessKeyId"],
                                   "SecretAccessKey": keys["SecretAccessKey"], "Token": keys["SessionToken"]}}),
          flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
