"""OCI runtimes: crun and runc behind one contract."""

from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

from moldar.errors import HostTrouble, StepFailed
from moldar.sandbox.bundle import Features
from moldar.sandbox.spec import ProcessSpec

Status = Literal["created", "running", "stopped"]


class Streams(NamedTuple):
    """Descriptors for a process's standard streams; they stay the caller's to close."""

    stdin: int
    stdout: int
    stderr: int


class ContainerState(NamedTuple):
    """What the runtime knows of a container."""

    status: Status
    pid: int


class CannotStart(StepFailed):
    """The process could not be started: 127 when its program was not found, 126 when it cannot be executed."""

    def __init__(self, message: str, exit_code: int, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


class RuntimeTrouble(HostTrouble):
    """The OCI runtime itself failed; 125 as Docker's exit code for it."""

    exit_code = 125


class Canceller(Protocol):
    """Tells when to give up: `attach` keeps a callback, called at once when that has already happened."""

    def attach(self, callback: Callable[[], None]) -> None: ...
    def detach(self, callback: Callable[[], None]) -> None: ...


class Runtime(Protocol):
    """Runs bundles (directories made by `bundle.write_bundle`). `identity` names a container on this host."""

    name: str
    features: Features

    def run(
        self,
        bundle: str,
        identity: str,
        streams: Streams,
        canceller: Canceller | None = None,
        *,
        foreground: bool = False,
    ) -> int:
        """Run the bundle's process to its end and leave nothing behind; its exit code, 128 + n for signal n.

        Cancelling kills it. With `foreground` it may read our terminal. Raises CannotStart and RuntimeTrouble.
        """
        ...

    def create(self, bundle: str, identity: str, streams: Streams, console_socket: str = "") -> int:
        """Make the container, its process waiting to be started; gives the process's pid."""
        ...

    def start(self, identity: str) -> None:
        """Let the created process go."""
        ...

    def execute(
        self,
        identity: str,
        process: ProcessSpec,
        streams: Streams,
        console_socket: str = "",
        *,
        work: str,
        root: str = "",
        allowed: tuple[str, ...] = (),
        detach: bool = False,
    ) -> int:
        """Run another process in a running container; its exit code (0 at once when detached).

        `work` is a directory for passing files, `root` the container's root as seen from here (to explain failures),
        `allowed` the capabilities to give.
        """
        ...

    def kill(self, identity: str, number: int) -> None:
        """Send a signal to the container's process; a container that is not there is fine."""
        ...

    def delete(self, identity: str) -> None:
        """Kill what runs and forget the container; one that is not there is fine."""
        ...

    def sweep(self) -> list[str]:
        """End what `run` started for processes that were killed; gives the identities."""
        ...

    def state(self, identity: str) -> ContainerState | None:
        """What the runtime knows, None when it knows nothing."""
        ...
