"""Drives the builder under test through its command line."""

import json
import os
import subprocess

TIMEOUT = 300


def run(argv, cwd, env):
    """(exit status, stdout, stderr)"""
    p = subprocess.run(
        [str(a) for a in argv],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=TIMEOUT,
    )
    return p.returncode, p.stdout, p.stderr


def case_env(ws, **extra):
    env = {k: v for k, v in os.environ.items() if k != "SOURCE_DATE_EPOCH"}
    return env | extra | ws.case.opts.get("env", {})


class Builder:
    """The builder under test: `command` is its argv, `home` its store."""

    def __init__(self, command, home):
        self.command, self.home = command, home

    def load(self, base, archive):
        base.write_archive(archive)
        env = dict(os.environ, MOLDAR_HOME=str(self.home))
        rc, out, err = run([*self.command, "load", "-i", archive], None, env)
        if rc:
            raise RuntimeError(f"loading the base image failed: {err or out}")

    def options(self, ws):
        case, args = ws.case, ["-f", ws.dockerfile]
        for k, v in case.data.get("build_args", {}).items():
            args += ["--build-arg", f"{k}={v}"]
        if "target" in case.data:
            args += ["--target", case.data["target"]]
        for k, p in ws.secrets.items():
            args += ["--secret", f"id={k},src={p}"]
        for k, p in ws.contexts.items():
            args += ["--build-context", f"{k}={p}"]
        for k, v in case.opts.get("labels", {}).items():
            args += ["--label", f"{k}={v}"]
        if "platform" in case.opts:
            args += ["--platform", case.opts["platform"]]
        if case.opts.get("no_cache"):
            args.append("--no-cache")
        return args

    def build(self, ws):
        argv = [
            *self.command,
            "build",
            *self.options(ws),
            "--progress",
            "plain",
            "-o",
            f"type=oci,dest={ws.out}",
            ".",
        ]
        rc, out, err = run(argv, ws.context, case_env(ws, MOLDAR_HOME=str(self.home)))
        return rc, out + err

    def lint(self, ws):
        argv = [*self.command, "build", "--check", "--format", "json", *self.options(ws), "."]
        rc, out, err = run(argv, ws.context, case_env(ws, MOLDAR_HOME=str(self.home)))
        return parse_lint_json(out)


def parse_lint_json(text):
    """The only place that knows the JSON of `build --check`: {"warnings": [{"ruleName", "location"}]}.

    A location is either {"line": N} / {"start": {"line": N}} or {"ranges": [{"start": {"line": N}}]}.
    """
    doc = json.loads(text)
    found = []
    for w in doc.get("warnings") or []:
        loc = w.get("location") or {}
        ranges = loc.get("ranges") or [loc]
        line = ranges[0].get("line") or (ranges[0].get("start") or {}).get("line") or 0
        found.append({"rule": w["ruleName"], "line": line})
    return sorted(found, key=lambda w: (w["line"], w["rule"]))
