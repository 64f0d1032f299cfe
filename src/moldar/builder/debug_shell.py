"""A shell in a step that failed: its files as it left them, its environment, its mounts, and the terminal."""

import os
import threading

from moldar.errors import MoldarError
from moldar.sandbox.bundle import write_bundle
from moldar.sandbox.runtime import Runtime, Streams
from moldar.sandbox.spec import SandboxSpec

_SHELLS = ("/bin/bash", "/bin/sh", "/bin/ash", "/bin/busybox")


class DebugShell:
    """Opens one shell for a build, in the first step that fails; those that fail beside it get none."""

    def __init__(self, runtime: Runtime, streams: Streams) -> None:
        self._runtime = runtime
        self._streams = streams
        self._lock = threading.Lock()
        self._opened = False

    def open(self, spec: SandboxSpec, bundle: str, status: int) -> None:
        """Run a shell where the process of `spec` ended with `status`, until the person leaves it."""
        with self._lock:
            if self._opened:
                return
            self._opened = True
        command = shell_of(spec)
        if not command:
            self._say("the step failed, and its image has no shell to look around with")
            return
        process = spec.process._replace(args=command, terminal=os.isatty(self._streams.stdin))
        identity = os.path.basename(os.path.dirname(bundle))
        self._say(f"the step failed with exit code {status}: this is a shell in it; `exit` ends the build")
        try:
            write_bundle(bundle, spec._replace(process=process), identity, self._runtime.features)
            self._runtime.run(bundle, identity, self._streams, foreground=True)
        except MoldarError as error:
            self._say(f"the shell cannot be opened: {error.message}")

    def _say(self, words: str) -> None:
        os.write(self._streams.stderr, f"moldar: {words}\n".encode())


def shell_of(spec: SandboxSpec) -> tuple[str, ...]:
    """The shell that the step used, or one that its files have; empty when there is none."""
    used = spec.process.args[0]
    wanted = (used, *_SHELLS) if os.path.basename(used).endswith("sh") else _SHELLS
    for path in wanted:
        if path.startswith("/") and os.path.lexists(f"{spec.root}{path}"):
            return (path, "sh") if path.endswith("/busybox") else (path,)
    return ()
