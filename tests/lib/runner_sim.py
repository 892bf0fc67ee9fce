#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the stages of a custom executor exactly as GitLab Runner 19.4 does, with control that the runner lacks.

usage: runner_sim.py OUT JOB.json [OPTIONS] -- EXECUTOR ARGS...          a whole job, sub-stages and retries in the runner's order
       runner_sim.py OUT JOB.json [OPTIONS] --steps STEP... -- EXECUTOR ARGS...   these calls only, whatever they return

STEP is config, prepare, cleanup, run:SUB_STAGE or new-dir (a new temporary folder, as for a new try).
  --script SUB_STAGE=TEXT   the shell text of a sub-stage; otherwise the job's steps and small stand-ins for the rest
  --on POINT:REGEX:ACTION   once REGEX is in the output of POINT (a stage or sub-stage; "" = at its start), do ACTION:
                            cancel | abort | term | kill (SIGKILL to the driver's process alone) | cleanup | touch=FILE |
                            run=COMMAND | killall (SIGKILL to the driver's group and to this runner)
  --after POINT:COMMAND     a shell command after each call of POINT (before a retry)
  --payload FILE            these bytes as JOB_RESPONSE_FILE; --no-payload: the variable names a file that is not there
  --payload-mode OCTAL      the file's mode;  --env NAME=VALUE: more for the driver;  --exit-code-file TEXT: stale content
  --timeout S --grace S --force S    of one call: SIGTERM to the group, SIGKILL, giving up (600, 20, 5)
  --retry-pause S           between tries of prepare and of sources (the runner: 3 and 5; default 0.1)

OUT/events.jsonl: one line per call {stage, sub, dir, rc, signal, timed_out, abandoned, stopped, out, err, exit_code_file}.
OUT/result.json: {state, reason, exit_code} as the runner would tell GitLab. OUT/pid is this process.

Source: GitLab Runner 19.4, executors/custom/{custom,command}.go, helpers/process/killer.go, common/build.go."""
import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

PREPARE_TRIES = 3
HELD_BYTES = 64 << 20


class Failure(Exception):
    """blame is build, system or unknown; code is the job's own."""

    def __init__(self, blame, code=None):
        super().__init__(blame)
        self.blame, self.code = blame, code


class Cancelled(Failure):
    pass


class Call:
    """One process of the driver: own group, stdin /dev/null, two pipes that are read to their end."""

    def __init__(self, sim, argv, env, cwd, point):
        self.sim, self.point, self.fired = sim, point, set()
        self.text = {"out": b"", "err": b""}
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.ended = threading.Event()
        self.proc = subprocess.Popen(argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, preexec_fn=lambda: os.setpgid(0, 0))
        self.readers = [threading.Thread(target=self.read, args=(name, pipe), daemon=True)
                        for name, pipe in (("out", self.proc.stdout), ("err", self.proc.stderr))]
        for reader in self.readers:
            reader.start()
        threading.Thread(target=self.wait_all, daemon=True).start()
        self.look()

    def read(self, name, pipe):
        while chunk := os.read(pipe.fileno(), 65536):
            with self.lock:
                if len(self.text[name]) < HELD_BYTES:
                    self.text[name] += chunk
            self.look()

    # Go's Cmd.Wait: the process first, then the end of both pipes.
    def wait_all(self):
        self.proc.wait()
        for reader in self.readers:
            reader.join()
        self.ended.set()

    def look(self):
        with self.lock:
            seen = self.text["out"] + b"\n" + self.text["err"]
            due = [rule for rule in self.sim.rules if rule not in self.fired
                   and rule[0] in self.point and re.search(rule[1].encode(), seen)]
            self.fired.update(due)
        for rule in due:
            self.sim.act(rule[2], self)

    def group(self, number):
        try:
            os.killpg(self.proc.pid, number)
        except ProcessLookupError:
            pass

    def finish(self, timeout, grace, force):
        """The runner's kill ladder. Returns (timed_out, abandoned)."""
        deadline = time.monotonic() + timeout
        while not self.ended.wait(0.02):
            if self.stopping.is_set() or time.monotonic() >= deadline:
                late = not self.stopping.is_set()
                self.group(signal.SIGTERM)
                if self.ended.wait(grace):
                    return late, False
                self.group(signal.SIGKILL)
                return late, not self.ended.wait(force)
        return False, False


class Sim:
    def __init__(self, options):
        self.o = options
        self.out = os.path.abspath(options.out)
        os.makedirs(self.out, exist_ok=True)
        with open(options.job, encoding="utf-8") as f:
            self.job = json.load(f)
        self.rules = []
        for rule in options.on:
            point, rest = rule.split(":", 1)
            self.rules.append((point, *rest.rsplit(":", 1)))
        self.after = [rule.split(":", 1) for rule in options.after]
        self.scripts = dict(rule.split("=", 1) for rule in options.script)
        self.job_env, self.dir, self.script_cancelled, self.aborted, self.beside = {}, None, False, False, []
        self.status = "running"
        self.builds_dir = "/builds"

    # --- one call -------------------------------------------------------------------------------------------------
    def new_dir(self):
        self.dir = tempfile.mkdtemp(prefix="custom-executor", dir=self.out)
        path = os.path.join(self.dir, "response.json")
        if not self.o.no_payload:
            if self.o.payload:
                shutil.copyfile(self.o.payload, path)
            else:
                with open(path, "w", encoding="utf-8") as f:
                    json.dump(self.job, f)
            os.chmod(path, int(self.o.payload_mode, 8))
        if self.o.exit_code_file is not None:
            with open(os.path.join(self.dir, "build_exit_code"), "w", encoding="utf-8") as f:
                f.write(self.o.exit_code_file)

    def env(self, stage):
        env = dict(os.environ)
        env.update(TMPDIR=self.dir, BUILD_FAILURE_EXIT_CODE="1", SYSTEM_FAILURE_EXIT_CODE="2",
                   BUILD_EXIT_CODE_FILE=os.path.join(self.dir, "build_exit_code"),
                   JOB_RESPONSE_FILE=os.path.join(self.dir, "response.json"))
        if stage != "config":
            env.update(self.job_env)
        known = {"CI_JOB_STATUS": self.status, "CI_SERVER": "yes", "CI_BUILDS_DIR": "" if stage == "config" else self.builds_dir,
                 "CI_PROJECT_DIR": "" if stage == "config" else self.project_dir()}
        if self.job.get("image"):
            known["CI_JOB_IMAGE"] = self.job["image"]["name"]
        for variable in self.job.get("variables") or []:
            known[variable["key"]] = variable["value"]
        env.update({"CUSTOM_ENV_" + key: value for key, value in known.items()})
        env["CUSTOM_ENV_CI_JOB_SERVICES"] = json.dumps(self.job.get("services") or []) if self.job.get("services") else ""
        env.update(pair.split("=", 1) for pair in self.o.env)
        return env

    def project_dir(self):
        return f"{self.builds_dir}/{(self.job.get('job_info') or {}).get('project_full_path', 'grp/app')}"

    def script_for(self, sub):
        if sub in self.scripts:
            body = self.scripts[sub]
        else:
            steps = {"script": "build_script"}
            named = {steps.get(s["name"], s["name"] if s["name"] == "after_script" else "step_" + s["name"]): s["script"]
                     for s in self.job.get("steps") or []}
            stand_ins = {"prepare_script": "echo Running on $(hostname)...", "get_sources": f"mkdir -p {self.project_dir()}"}
            body = "\n".join(named[sub]) if sub in named else stand_ins.get(sub, ":")
        exports = "".join(f"export {v['key']}={ansi_c(v['value'])}\n" for v in self.job.get("variables") or [] if not v.get("file"))
        if sub != "prepare_script":
            place = f"cd {self.project_dir()}\n" if sub != "get_sources" else ""
            body = exports + f"export CI_JOB_STATUS={self.status}\n" + place + body
        return ("#!/usr/bin/env bash\n\ntrap 'exit 1' TERM\nif set -o | grep pipefail > /dev/null; then set -o pipefail; fi; "
                f"set -o errexit\nset +o noclobber\n(trap 'exit 1' TERM; eval {ansi_c(body)}) < /dev/null\nexit 0\n")

    def call(self, stage, sub=None):
        argv = [*self.o.executor, stage]
        if stage == "run":
            folder = tempfile.mkdtemp(prefix="script", dir=self.dir)
            script = os.path.join(folder, "script")
            with open(os.open(script, os.O_WRONLY | os.O_CREAT, 0o700), "w", encoding="utf-8") as f:
                f.write(self.script_for(sub))
            argv += [script, sub]
        point = {stage, sub} if stage == "run" else {stage}
        event = {"stage": stage, "sub": sub, "dir": self.dir}
        try:
            call = Call(self, argv, self.env(stage), self.dir, point)
        except OSError as failed:
            event.update(rc=None, error=f"failed to start command: {failed.strerror}")
            self.note(event)
            raise Failure("system") from failed
        event["timed_out"], event["abandoned"] = call.finish(self.o.timeout, self.o.grace, self.o.force)
        rc = call.proc.poll()
        event.update(rc=rc if rc is None or rc >= 0 else None, signal=-rc if rc is not None and rc < 0 else None,
                     stopped=call.stopping.is_set(), out=call.text["out"].decode("utf-8", "replace"),
                     err=call.text["err"].decode("utf-8", "replace"))
        code_file = os.path.join(self.dir, "build_exit_code")
        event["exit_code_file"] = None
        if os.path.exists(code_file):
            with open(code_file, encoding="utf-8") as f:
                event["exit_code_file"] = f.read()
        self.note(event)
        for point, command in self.after:
            if point in (stage, sub):
                subprocess.run(["bash", "-c", command], check=False)
        return event

    def note(self, event):
        with open(os.path.join(self.out, "events.jsonl"), "a", encoding="utf-8") as f:
            f.write(json.dumps(event) + "\n")

    def act(self, action, call):
        verb, _, rest = action.partition("=")
        if verb in ("cancel", "abort", "term"):
            self.script_cancelled = verb == "cancel"
            self.aborted = verb == "abort"
            if verb == "cancel":
                self.status = "canceled"
            call.stopping.set()
        elif verb == "kill":
            call.proc.kill()
        elif verb == "killall":
            call.group(signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        elif verb == "cleanup":
            beside = threading.Thread(target=self.call, args=("cleanup",))
            self.beside.append(beside)
            beside.start()
        elif verb == "touch":
            with open(rest, "w", encoding="utf-8"):
                pass
        elif verb == "run":
            subprocess.run(["bash", "-c", rest], check=False)
        else:
            raise SystemExit(f"unknown action {action}")

    # --- how the runner judges ------------------------------------------------------------------------------------
    def must(self, event):
        """waitForCommand of executors/custom/command/command.go."""
        if event["rc"] == 0:
            return
        if event["rc"] == 1:
            if event["exit_code_file"] is None:
                raise Failure("build", 1)
            line = event["exit_code_file"].split("\n")[0]
            if re.fullmatch(r"[+-]?[0-9]+", line):
                raise Failure("build", int(line))
            raise Failure("unknown")
        raise Failure("system" if event["rc"] == 2 else "unknown")

    def prepare(self):
        for attempt in range(PREPARE_TRIES):
            self.new_dir()
            try:
                event = self.call("config")
                self.must(event)
                document = json.loads(event["out"]) if event["out"] else {}
                self.builds_dir = document.get("builds_dir") or self.builds_dir
                self.job_env = document.get("job_env") or {}
                self.must(self.call("prepare"))
                return
            except (Failure, json.JSONDecodeError) as failed:
                if (isinstance(failed, Failure) and failed.blame == "build") or self.aborted or attempt == PREPARE_TRIES - 1:
                    raise failed if isinstance(failed, Failure) else Failure("system")
                self.cleanup()
                time.sleep(self.o.retry_pause)

    def cleanup(self):
        try:
            self.call("cleanup")
        except Failure:
            pass
        if not self.o.steps:
            shutil.rmtree(self.dir, ignore_errors=True)

    def attempts(self, variable):
        value = next((v["value"] for v in reversed(self.job.get("variables") or []) if v["key"] == variable), "1")
        return max(1, min(10, int(value)))

    def run_job(self):
        failure = None
        try:
            self.prepare()
            self.must(self.call("run", "prepare_script"))
            reached = True
            try:
                tries = self.attempts("GET_SOURCES_ATTEMPTS")
                for attempt in range(tries):
                    try:
                        if attempt:
                            self.must(self.call("run", "clear_worktree"))
                        self.must(self.call("run", "get_sources"))
                        break
                    except Failure:
                        if attempt == tries - 1 or self.aborted:
                            raise
                        time.sleep(self.o.retry_pause)
                if self.job.get("cache"):
                    self.must(self.call("run", "restore_cache"))
                if self.job.get("dependencies"):
                    self.must(self.call("run", "download_artifacts"))
                for step in self.job.get("steps") or []:
                    if step["name"] == "after_script":
                        continue
                    event = self.call("run", "build_script" if step["name"] == "script" else "step_" + step["name"])
                    if event["stopped"]:
                        raise Cancelled("build")
                    self.must(event)
            except Failure as failed:
                failure = failed
            if self.aborted:
                reached = False
            if reached:
                self.status = "canceled" if self.script_cancelled else "failed" if failure else "success"
                for step in self.job.get("steps") or []:
                    if step["name"] == "after_script":
                        self.call("run", "after_script")
                ending = "_on_failure" if failure else "_on_success"
                if self.job.get("cache"):
                    self.call("run", "archive_cache" + ("_on_failure" if failure else ""))
                if self.job.get("artifacts"):
                    event = self.call("run", "upload_artifacts" + ending)
                    if not failure:
                        self.must(event)
                self.call("run", "cleanup_file_variables")
        except Failure as failed:
            failure = failure or failed
        for beside in self.beside:
            beside.join()
        self.cleanup()
        result = {"state": "success", "reason": "", "exit_code": 0}
        if failure or self.aborted:
            reason = {"build": "script_failure"}.get(failure.blame if failure else "", "runner_system_failure")
            if self.aborted or self.script_cancelled:
                reason = "job_canceled"
            result = {"state": "failed", "reason": reason, "exit_code": failure.code if failure else None}
        with open(os.path.join(self.out, "result.json"), "w", encoding="utf-8") as f:
            json.dump(result, f)

    def run_steps(self):
        self.new_dir()
        for step in self.o.steps:
            stage, _, sub = step.partition(":")
            if stage == "new-dir":
                self.new_dir()
                continue
            try:
                self.call(stage, sub or None)
            except Failure:
                pass
        for beside in self.beside:
            beside.join()


def ansi_c(text):
    """Bash's $'...' quoting, as shells/bash.go writes it."""
    quoted = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return f"$'{quoted}'"


def main():
    own, executor = sys.argv[1:], []
    if "--" in own:
        cut = own.index("--")
        own, executor = own[:cut], own[cut + 1:]
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("out")
    parser.add_argument("job")
    parser.add_argument("--steps", nargs="+")
    for name in ("script", "on", "after", "env"):
        parser.add_argument("--" + name, action="append", default=[])
    parser.add_argument("--payload")
    parser.add_argument("--no-payload", action="store_true")
    parser.add_argument("--payload-mode", default="600")
    parser.add_argument("--exit-code-file")
    for name, seconds in (("timeout", 600), ("grace", 20), ("force", 5), ("retry-pause", 0.1)):
        parser.add_argument("--" + name, type=float, default=seconds)
    options = parser.parse_args(own)
    options.executor = executor
    if not executor:
        parser.error("no executor after --")
    sim = Sim(options)
    with open(os.path.join(sim.out, "pid"), "w", encoding="utf-8") as f:
        f.write(str(os.getpid()))
    if options.steps:
        sim.run_steps()
    else:
        sim.run_job()


if __name__ == "__main__":
    main()
