#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The robot accounts of a Harbor, for tests (Python standard library): what slipway's provider `harbor` calls, checked as
Harbor checks it. Written from Harbor's API description and handler; it is not Harbor.

POST, GET and DELETE /api/v2.0/robots, GET /api/v2.0/projects/NAME, all with Basic auth of the one account. A robot that
lives is a user of the token server (tests/lib/token_server.py reads the same --users file), with its project's
repositories. Robots are kept in STATE/robots.json, and each call is a line of STATE/calls.jsonl. STATE/faults.json makes it
misbehave: {"lose_answers": N} makes the next N robots and cuts the connection instead of answering, {"down": true} answers
everything with 503, {"hold": METHOD, "at": "call" | "answer"} lets such calls wait, before or after they do what they ask
for, once, until the file says something else; each that waits is a line {"held": METHOD} of the calls."""

import argparse
import base64
import json
import os
import re
import secrets
import socket
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from local_server import LocalServer

NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
DAY = 24 * 3600


def replace(path, value):
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(value, indent=1), encoding="utf-8")
    os.replace(temporary, path)


class Harbor:
    def __init__(self, options):
        self.state = Path(options.state)
        self.users = Path(options.users)
        self.account = (options.username, Path(options.password_file).read_text(encoding="utf-8").strip())
        self.projects = {name: number for number, name in enumerate(options.projects.split(","), 1)}
        self.lock = threading.Lock()
        self.robots = []
        self.last_id = 0
        replace(self.state / "robots.json", self.robots)

    def faults(self):
        try:
            return json.loads((self.state / "faults.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}

    def loses_this_answer(self):
        faults = self.faults()
        left = faults.get("lose_answers", 0)
        if left > 0:
            replace(self.state / "faults.json", {**faults, "lose_answers": left - 1})
        return left > 0

    def log(self, row):
        with open(self.state / "calls.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"time": time.time(), **row}) + "\n")

    def hold(self, method, at):
        faults = self.faults()
        if (faults.get("hold"), faults.get("at")) != (method, at):
            return False
        self.log({"held": method, "at": at})
        while self.faults() == faults:
            time.sleep(0.02)
        return True

    def save(self):
        replace(self.state / "robots.json", [{k: v for k, v in robot.items() if k != "secret"} for robot in self.robots])
        users = json.loads(self.users.read_text(encoding="utf-8"))
        users = {name: user for name, user in users.items() if not name.startswith("robot$")}
        for robot in self.robots:
            if robot["expires_at"] > time.time():
                users[robot["name"]] = {"password": robot["secret"],
                                        "repos": {robot["project"] + "/*": robot["actions"]}}
        replace(self.users, users)

    def create(self, body):
        """Status and answer, as Harbor's CreateRobot."""
        permissions = body.get("permissions") or []
        if not NAME.fullmatch(body.get("name", "")):
            return 400, "robot name is not in lower case or contains illegal characters"
        if body.get("level") != "project" or len(permissions) != 1 or permissions[0].get("kind") != "project":
            return 400, "bad request permission"
        if not isinstance(body.get("duration"), int) or body["duration"] == 0 or body["duration"] < -1:
            return 400, "bad request error duration input"
        project = permissions[0].get("namespace")
        access = permissions[0].get("access") or []
        if project not in self.projects:
            return 404, "project not found"
        if not access or any(one.get("resource") != "repository" for one in access):
            return 400, "bad request empty access"
        name = f"robot${project}+{body['name']}"
        if any(robot["name"] == name for robot in self.robots):
            return 409, "robot account already exists"
        self.last_id += 1
        now = int(time.time())
        robot = {"id": self.last_id, "name": name, "secret": secrets.token_urlsafe(24), "project": project,
                 "actions": [one["action"] for one in access], "duration": body["duration"],
                 "creation_time": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(now)),
                 "expires_at": now + body["duration"] * DAY}
        self.robots.append(robot)
        self.save()
        return 201, {key: robot[key] for key in ("id", "name", "secret", "creation_time", "expires_at")}

    def delete(self, number):
        left = [robot for robot in self.robots if str(robot["id"]) != number]
        if len(left) == len(self.robots):
            return 404, "robot not found"
        self.robots = left
        self.save()
        return 200, {}

    def listed(self, query):
        wanted = dict(part.split("=", 1) for part in query.get("q", [""])[0].split(",") if "=" in part)
        if wanted.get("Level") != "project" or "ProjectID" not in wanted:
            return 400, "must with project ID when to query project robots"
        names = [name for name, number in self.projects.items() if str(number) == wanted["ProjectID"]]
        robots = [robot for robot in self.robots if [robot["project"]] == names]
        if query.get("sort") == ["-creation_time"]:
            robots = robots[::-1]
        page, size = int(query.get("page", ["1"])[0]), min(int(query.get("page_size", ["10"])[0]), 100)
        return 200, [{key: robot[key] for key in ("id", "name", "creation_time", "expires_at", "duration")}
                     for robot in robots[(page - 1) * size:page * size]]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    disable_nagle_algorithm = True  # else each answer takes the client's delayed acknowledgement, 40 ms

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        if isinstance(body, str):
            body = {"errors": [{"code": "ERROR", "message": body}]}
        data = b"" if body == {} else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def authorized(self):
        scheme, _, value = self.headers.get("Authorization", "").partition(" ")
        try:
            name, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except ValueError:
            return False
        return scheme == "Basic" and (name, password) == self.server.harbor.account

    def serve(self):
        harbor = self.server.harbor
        url = urllib.parse.urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(min(length, 65536))
        held = harbor.hold(self.command, "call")
        with harbor.lock:
            if harbor.faults().get("down"):
                status, answer = 503, "down for tests"
            elif not self.authorized():
                status, answer = 401, "unauthorized"
            else:
                status, answer = self.route(harbor, url, body)
            harbor.log({"method": self.command, "path": url.path, "status": status})
            lost = status == 201 and harbor.loses_this_answer()
        if not held:
            harbor.hold(self.command, "answer")
        if lost:
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.answer(status, answer)

    def route(self, harbor, url, body):
        if url.path == "/api/v2.0/robots" and self.command == "POST":
            try:
                return harbor.create(json.loads(body))
            except (ValueError, AttributeError, KeyError):
                return 422, "the body cannot be read"
        if url.path == "/api/v2.0/robots" and self.command == "GET":
            return harbor.listed(urllib.parse.parse_qs(url.query))
        if url.path.startswith("/api/v2.0/robots/") and self.command == "DELETE":
            return harbor.delete(url.path.rsplit("/", 1)[1])
        if url.path.startswith("/api/v2.0/projects/") and self.command == "GET":
            name = urllib.parse.unquote(url.path.rsplit("/", 1)[1])
            if name not in harbor.projects or self.headers.get("X-Is-Resource-Name") != "true":
                return 404, "project not found"
            return 200, {"project_id": harbor.projects[name], "name": name}
        return 404, "no such path"

    do_GET = do_POST = do_DELETE = serve


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("listen", "cert", "key", "users", "state", "username", "password-file", "projects"):
        parser.add_argument("--" + name, required=True)
    options = parser.parse_args()
    address, _, port = options.listen.rpartition(":")
    server = LocalServer((address, int(port)), Handler)
    server.harbor = Harbor(options)
    server.speak_tls(options.cert, options.key)
    server.serve_forever()


if __name__ == "__main__":
    main()
