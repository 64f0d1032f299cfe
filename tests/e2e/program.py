"""The `moldar` program as the end-to-end tests run it."""

import os
import subprocess
import sys
from pathlib import Path

TIMEOUT = 300


class Moldar:
    """The program with a store of its own. Calling it runs a command; `fails` expects an exit code."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"},
            "MOLDAR_HOME": str(home / "home"),
            "DOCKER_CONFIG": str(home / "docker"),
            "MOLDAR_CONFIG": str(home / "moldar.toml"),
        }

    def run(self, *words: str | Path, cwd: Path | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command and return what came of it, whatever its exit code."""
        return subprocess.run(
            [sys.executable, "-m", "moldar", *map(str, words)],
            cwd=cwd,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )

    def __call__(self, *words: str | Path, cwd: Path | None = None, stdin: str = "") -> str:
        """Run a command that must succeed; its stdout."""
        done = self.run(*words, cwd=cwd, stdin=stdin)
        assert done.returncode == 0, (
            f"moldar {' '.join(map(str, words))}: {done.returncode}\n{done.stderr}{done.stdout}"
        )
        return done.stdout

    def fails(self, *words: str | Path, code: int = 1, cwd: Path | None = None, stdin: str = "") -> str:
        """Run a command that must fail with `code` and without a traceback; its stderr."""
        done = self.run(*words, cwd=cwd, stdin=stdin)
        assert done.returncode == code, f"exit code {done.returncode}, expected {code}\n{done.stderr}{done.stdout}"
        assert "Traceback" not in done.stderr, done.stderr
        return done.stderr

    def close(self) -> None:
        """Remove the containers, which would outlive the test."""
        containers = self.run("ps", "-aq").stdout.split()
        if containers:
            self.run("rm", "-f", *containers)
