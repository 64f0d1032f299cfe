"""The `moldar` program as somebody runs it who is not root: a real account, with or without subordinate ids.

The interpreter and the packages may lie where only root may look (a clone in root's home), so they are shown below
the account's home by bind mounts in a mount namespace of the command's own.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import moldar

TIMEOUT = 120
_SOURCES = Path(moldar.__file__).parent.parent
_PACKAGES = next(path for path in sys.path if path.endswith("site-packages"))
_SHOWN = {"python": sys.base_prefix, "sources": str(_SOURCES), "packages": _PACKAGES}
_DEVICES = {"/dev/fuse": 0o666, "/dev/net/tun": 0o666}
"""Modes that udev gives; a machine without udev leaves them to root."""


class Account:
    """A user of this machine. `ids`: how many subordinate ids it has."""

    def __init__(self, name: str, ids: int) -> None:
        self.name = name
        self.home = Path("/home") / name
        self._run("useradd", "-m", "-K", "SUB_UID_COUNT=0", "-K", "SUB_GID_COUNT=0", name)
        if ids:
            last = 600_000 + ids - 1
            self._run("usermod", "--add-subuids", f"600000-{last}", "--add-subgids", f"600000-{last}", name)
        for folder in _SHOWN:
            (self.home / folder).mkdir()
        for device, mode in _DEVICES.items():
            os.chmod(device, mode)

    def close(self) -> None:
        """Remove the user with everything of it."""
        subprocess.run(["pkill", "-9", "-u", self.name], check=False)
        self._run("userdel", self.name)
        shutil.rmtree(self.home)

    def give(self, path: Path) -> None:
        """Make `path` and all below the user's."""
        self._run("chown", "-R", f"{self.name}:{self.name}", path)

    @staticmethod
    def _run(*words: str | Path) -> None:
        subprocess.run(words, check=True, capture_output=True, text=True)


class Rootless:
    """Runs commands as an account whose store is where it is by default."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.home = account.home
        self.store = self.home / ".local/share/moldar"

    def project(self, name: str = "project", **files: str) -> Path:
        """Writes a build context that is the account's."""
        root = self.home / name
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        self.account.give(root)
        return root

    def command(self, *words: str | Path, prefix: str = "", program: Sequence[str] = ("-m", "moldar")) -> list[str]:
        """The command line for root's shell. `prefix` are words before, such as chroot; `program` is for Python."""
        home = shlex.quote(str(self.home))
        binds = [f"mount --bind {shlex.quote(source)} {home}/{name}" for name, source in _SHOWN.items()]
        python = [f"python/bin/python3.{sys.version_info.minor}", *program, *map(str, words)]
        variables = [
            f"HOME={self.home}",
            "PATH=/usr/bin:/bin:/usr/sbin:/sbin",
            f"PYTHONPATH={self.home}/sources:{self.home}/packages",
        ]
        name = self.account.name
        become = ["setpriv", "--reuid", name, "--regid", name, "--init-groups", "env", "-i", *variables]
        lines = [*binds, f"cd {home}", f"exec {prefix} {shlex.join(become)} {home}/{shlex.join(python)}"]
        return ["unshare", "--mount", "--propagation", "slave", "sh", "-ec", "\n".join(lines)]

    def run(self, *words: str | Path, stdin: bytes = b"", prefix: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            self.command(*words, prefix=prefix), input=stdin, capture_output=True, timeout=TIMEOUT, check=False
        )
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    def __call__(self, *words: str | Path, stdin: bytes = b"") -> str:
        """Run a command that must succeed; its stdout."""
        done = self.run(*words, stdin=stdin)
        assert done.returncode == 0, f"moldar {shlex.join(map(str, words))}: {done.returncode}\n{done.stderr}"
        return done.stdout

    def fails(self, *words: str | Path, code: int = 1, prefix: str = "") -> str:
        """Run a command that must fail with `code` and without a traceback; its stderr."""
        done = self.run(*words, prefix=prefix)
        assert done.returncode == code, f"exit code {done.returncode}, expected {code}\n{done.stderr}{done.stdout}"
        assert "Traceback" not in done.stderr, done.stderr
        return done.stderr
