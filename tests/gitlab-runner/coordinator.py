#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stub GitLab coordinator for driving a real gitlab-runner (Python standard library only).

usage: coordinator.py [ADDRESS:]PORT OUTDIR JOB.json [JOB.json ...]   (PORT 0 = any; printed as first line)

Serves each job once, in order, then 204. Writes under OUTDIR:
  ID.trace  ID.result.json  requests.jsonl  jobs_request.json  ID-N-NAME (uploaded artifacts)
A job may carry a private key "_signal": {"after": "REGEX in trace", "status": "canceling"};
from that moment the Job-Status header carries the status. OUTDIR/ID.status does the same by hand.
OUTDIR/dep-ID.zip is served as the archive of dependency ID."""
import json, os, re, sys, threading, time, zlib
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer

T0 = time.monotonic()


class Job:
    def __init__(self, spec):
        self.signal = spec.pop("_signal", None)
        self.spec, self.trace, self.state = spec, b"", "running"
        self.updates, self.artifacts = [], []


class Coordinator(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address, port, out, specs):
        os.makedirs(out, exist_ok=True)
        self.out, self.queue, self.jobs = out, [Job(s) for s in specs], {}
        self.lock = threading.RLock()
        super().__init__((address, port), Handler)

    def server_bind(self):
        # Not HTTPServer's, which asks DNS for the name of the address: ten seconds where there is none.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def path(self, name):
        return os.path.join(self.out, name)

    def status(self, job):
        try:
            with open(self.path(f"{job.spec['id']}.status")) as f:
                return f.read().strip()
        except OSError:
            pass
        if job.state == "running" and job.signal and re.search(job.signal["after"].encode(), job.trace):
            return job.signal["status"]
        return job.state

    def note(self, **row):
        with self.lock, open(self.path("requests.jsonl"), "a") as f:
            f.write(json.dumps({"t": round(time.monotonic() - T0, 2), **row}) + "\n")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Coordinator

    def log_message(self, *_):
        pass

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        data = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def reply(self, code, obj=None, **headers):
        data = b"" if obj is None else json.dumps(obj).encode()
        self.send_response(code)
        if obj is not None:
            self.send_header("Content-Type", "application/json")
        for k, v in headers.items():
            self.send_header(k.replace("_", "-"), str(v))
        if code != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.server.note(m=self.command, path=self.path, code=code, status=headers.get("Job_Status"),
                         headers={k: v for k, v in self.headers.items() if k.upper() not in ("HOST", "USER-AGENT")})

    def job(self, jid):
        job, token = self.server.jobs.get(int(jid)), self.headers.get("JOB-TOKEN")
        allowed = job and {None, job.spec["token"], *(d["token"] for d in job.spec.get("dependencies") or [])}
        if job is None:
            self.reply(404, {"message": "404 Not Found"})
        elif token not in allowed:
            self.reply(403, {"message": "403 Forbidden"})
        else:
            return job

    def do_POST(self):
        srv, path, body = self.server, self.path.split("?")[0], self.body()
        if path == "/api/v4/jobs/request":
            with open(srv.path("jobs_request.json"), "wb") as f:
                f.write(body)
            with srv.lock:
                job = srv.queue.pop(0) if srv.queue else None
                if job:
                    srv.jobs[job.spec["id"]] = job
            return self.reply(201, job.spec) if job else self.reply(204)
        if path == "/api/v4/runners/verify":
            return self.reply(200, {"id": 1, "token": json.loads(body).get("token"), "token_expires_at": None})
        if path == "/api/v4/runners":
            return self.reply(201, {"id": 1, "token": "glrt-stub", "token_expires_at": None})
        m = re.fullmatch(r"/api/v4/jobs/(\d+)/artifacts", path)
        if not m:
            return self.reply(404, {"message": "404 Not Found"})
        if job := self.job(m[1]):
            head = b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n"
            for part in BytesParser(policy=HTTP).parsebytes(head + body).iter_parts():
                name, data = os.path.basename(part.get_filename() or "file"), part.get_payload(decode=True)
                job.artifacts.append([name, len(data), self.path.partition("?")[2]])
                with open(srv.path(f"{m[1]}-{len(job.artifacts)}-{name}"), "wb") as f:
                    f.write(data)
            self.reply(201, {})

    def do_PATCH(self):
        srv, body = self.server, self.body()
        m = re.fullmatch(r"/api/v4/jobs/(\d+)/trace", self.path.split("?")[0])
        job = self.job(m[1]) if m else self.reply(404)
        if not job:
            return
        with srv.lock:
            fits = int(self.headers["Content-Range"].split("-")[0]) == len(job.trace)
            if fits:
                job.trace += body
                with open(srv.path(f"{m[1]}.trace"), "wb") as f:
                    f.write(job.trace)
        self.reply(202 if fits else 416, None, Job_Status=srv.status(job), Range=f"0-{len(job.trace)}",
                   X_GitLab_Trace_Update_Interval=1)

    def do_PUT(self):
        srv, body = self.server, json.loads(self.body())
        m = re.fullmatch(r"/api/v4/jobs/(\d+)", self.path)
        job = self.job(m[1]) if m else self.reply(404)
        if not job:
            return
        if body.get("token") != job.spec["token"]:
            return self.reply(403, {"message": "403 Forbidden"})
        upd = {k: body.get(k) for k in ("state", "failure_reason", "exit_code", "output")}
        job.updates.append(upd)
        if body["state"] in ("success", "failed"):
            job.state = body["state"]
            upd["trace_ok"] = (body.get("output") or {}).get("checksum") == "crc32:%08x" % zlib.crc32(job.trace)
            result = {"id": job.spec["id"], "final": upd, "updates": len(job.updates), "artifacts": job.artifacts}
            with open(srv.path(f"{m[1]}.result.json"), "w") as f:
                json.dump(result, f)
            print(json.dumps(result), flush=True)
        self.reply(200, None, Job_Status=srv.status(job))

    def do_GET(self):
        m = re.fullmatch(r"/api/v4/jobs/(\d+)/artifacts", self.path.split("?")[0])
        name = m and self.server.path(f"dep-{m[1]}.zip")
        if not name or not os.path.exists(name):
            return self.reply(404, {"message": "404 Not Found"})
        with open(name, "rb") as f:
            data = f.read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.server.note(m="GET", path=self.path, code=200)


if __name__ == "__main__":
    specs = []
    for name in sys.argv[3:]:
        with open(name) as f:
            specs.append(json.load(f))
    address, _, port = sys.argv[1].rpartition(":")
    server = Coordinator(address or "127.0.0.1", int(port), sys.argv[2], specs)
    print(server.server_address[1], flush=True)
    server.serve_forever()
