"""Containers: every verb that people have for them. `app` hands in the store's parts and the machinery."""

import os
import shutil
import signal
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, Protocol

from moldar.containers import wire
from moldar.containers.attaching import Attachment, MonitorLost
from moldar.containers.changes import without_mount_points
from moldar.containers.definition import Definition, decode_definition, encode_definition
from moldar.containers.discarding import discard
from moldar.containers.launching import launch
from moldar.containers.locks import alone, creating
from moldar.containers.logs import FILE as LOG_FILE
from moldar.containers.logs import LogLine, read_logs
from moldar.containers.naming import check_name, new_id, new_name
from moldar.containers.options import RunOptions, parse_mount, parse_volume
from moldar.containers.pausing import unpause
from moldar.containers.planning import define, merge_environment, signal_number
from moldar.containers.roots import open_root
from moldar.containers.status import LOST, ProcessName, Status, read_status, write_status
from moldar.containers.views import ContainerView, inspection, matches, port_lines, prunable
from moldar.containers.volumes import open_volume, populate
from moldar.errors import CorruptData, HostTrouble, UserMistake
from moldar.image.config import ImageConfig
from moldar.image.model import Digest
from moldar.sandbox.confinement import capabilities
from moldar.sandbox.network import stop_helper
from moldar.sandbox.runtime import Runtime, Streams
from moldar.sandbox.snapshots import Change, Snapshots
from moldar.sandbox.spec import ProcessSpec
from moldar.sandbox.unpacked import Stack
from moldar.sandbox.users import resolve_user
from moldar.store.containers import ContainerRow
from moldar.store.home import Home

DEFINITION = "definition.json"
STOP_REQUEST = "stop-requested"
_PATIENCE = 0.01
_KILL_SECONDS = 15.0


class Records(Protocol):
    """The store's container records."""

    def add(self, row: ContainerRow) -> None: ...
    def rename(self, container: str, name: str) -> None: ...
    def remove(self, container: str) -> None: ...
    def all(self) -> list[ContainerRow]: ...
    def find(self, text: str) -> ContainerRow: ...


class Machinery(Protocol):
    """What is needed only when something must be mounted or run."""

    @property
    def snapshots(self) -> Snapshots: ...
    @property
    def runtime(self) -> Runtime: ...


class NotRunning(UserMistake):
    """The container would have to run for this."""

    def __init__(self, name: str) -> None:
        super().__init__(f"container {name} is not running", hint=f"start it with `moldar start {name}`")


class IsPaused(UserMistake):
    """The container would have to go on for this."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(
            f"container {name} is paused, unpause it before you {what} it", hint=f"`moldar unpause {name}`"
        )


class StillRunning(UserMistake):
    """The container would have to be stopped for this."""

    def __init__(self, name: str, state: str = "running") -> None:
        super().__init__(
            f'cannot remove container "/{name}": container is {state}', hint="stop it first, or remove it with -f"
        )


class Started(NamedTuple):
    """A container that was started. `attachment` is there when it was asked for."""

    id: str
    warnings: tuple[str, ...]
    attachment: Attachment | None


class Pruned(NamedTuple):
    """Containers that were removed, and the bytes that this freed."""

    removed: tuple[str, ...]
    freed: int


class Containers:
    """The containers of one store."""

    def __init__(self, home: Home, records: Records, machinery: Machinery) -> None:
        self._home = home
        self._records = records
        self._machinery = machinery

    def create(self, image: Digest, config: ImageConfig, stack: Stack, options: RunOptions) -> str:
        """Make a container of an image whose layers are unpacked; its ID. UserMistake when the options are wrong."""
        identity = new_id()
        name = check_name(options.name) if options.name else ""
        snapshots = self._machinery.snapshots
        options = options._replace(volumes=(*options.volumes, *self._inherited(options)))
        definition = define(
            identity, image, config.config, options, driver=snapshots.name, volumes=self._home.volumes
        )
        self.sweep()
        directory = self._directory(identity)
        text = encode_definition(definition)
        with creating(self._home.creation_lock):
            os.makedirs(directory, mode=0o711)
            try:
                with open(f"{directory}/{DEFINITION}", "w") as file:
                    file.write(text)
                snapshots.create_rootfs(identity, stack)
                self._make_volumes(definition, stack, snapshots)
                self._add_record(definition, name, text)
            except BaseException:
                discard(self._home, definition, snapshots, self._records)
                raise
        return identity

    def _inherited(self, options: RunOptions) -> list[str]:
        """The words for the volumes of other containers, without those for whose target there is another one."""
        given = [*map(parse_volume, options.volumes), *map(parse_mount, options.mounts)]
        targets = {os.path.normpath(word.target) for word in given}
        words = []
        for text in options.volumes_from:
            name, _, mode = text.partition(":")
            for mount in decode_definition(self._records.find(name).state).mounts:
                if mount.kind != "tmpfs" and mount.target not in targets:
                    targets.add(mount.target)
                    source = mount.name or mount.source
                    words.append(f"{source}:{mount.target}{':ro' if mount.readonly or mode == 'ro' else ''}")
        return words

    def sweep(self) -> list[str]:
        """Delete what killed creations left: containers without a record; their IDs. Later, if one is being made."""
        with alone(self._home.creation_lock) as granted:
            if not granted:
                return []
            found = set(os.listdir(self._home.containers))
            swept = sorted(found - {row.id for row in self._records.all()})
            for identity in swept:
                self._clear(identity)
        return swept

    def _clear(self, identity: str) -> None:
        """Delete a container that has no record."""
        directory = self._directory(identity)
        self._machinery.snapshots.remove_rootfs(identity)
        with suppress(OSError, CorruptData), open(f"{directory}/{DEFINITION}") as file:
            discard(self._home, decode_definition(file.read()), self._machinery.snapshots, self._records)
        shutil.rmtree(directory, ignore_errors=True)

    def start(self, name: str, *, attached: bool = False, size: tuple[int, int] | None = None) -> Started:
        """Start a container that does not run. NotStarted carries Docker's exit code.

        `size` is the terminal's (rows, columns) of who is attached, so that the process finds it from the first.
        """
        row = self._records.find(name)
        status = self._status(row)
        if status.paused:
            raise UserMistake("cannot start a paused container, try unpause instead")
        if status.running:
            return Started(row.id, (), self.attach(name) if attached else None)
        self._tidy(row, status)
        with suppress(FileNotFoundError):
            os.unlink(f"{self._directory(row.id)}/{STOP_REQUEST}")
        if not attached:
            return Started(row.id, launch(self._home.root, row.id).warnings, None)
        ours, theirs = socket.socketpair()
        try:
            if size:
                ours.sendall(wire.resize_frame(*size))
            with theirs:
                launched = launch(self._home.root, row.id, theirs)
        except BaseException:
            ours.close()
            raise
        return Started(row.id, launched.warnings, Attachment(ours))

    def attach(self, name: str) -> Attachment:
        """Be shown the output of a running container from now on, and give it input. NotRunning."""
        row = self._records.find(name)
        if self._status(row).paused:
            raise IsPaused(name, "attach to")
        attachment = self._connect(row)
        if attachment is None:
            raise NotRunning(name)
        attachment.subscribe()
        return attachment

    def logs(
        self, name: str, *, follow: bool = False, tail: int | None = None, since: str = "", until: str = ""
    ) -> Iterator[LogLine]:
        """What the container has printed; with `follow` until it ends."""
        directory = self._directory(self._records.find(name).id)

        def running() -> bool:
            status = read_status(directory)
            return status.monitor.alive and status.status in ("running", "restarting")

        return read_logs(directory, follow=follow, tail=tail, since=since, until=until, running=running)

    def execute(
        self,
        name: str,
        command: Sequence[str],
        streams: Streams,
        *,
        env: Iterable[str] = (),
        user: str = "",
        workdir: str = "",
        tty: bool = False,
        detach: bool = False,
        privileged: bool = False,
    ) -> int:
        """Run another process in a running container; its exit code. NotRunning, CannotStart (126, 127)."""
        row = self._records.find(name)
        status = self._status(row)
        if not status.running:
            raise NotRunning(name)
        if status.paused:
            raise IsPaused(name, "exec into")
        definition = decode_definition(row.state)
        root = f"/proc/{status.process.pid}/root"
        account = resolve_user(root, user or definition.user, definition.groups)
        basic = (f"HOME={account.home}", *(("TERM=xterm",) if tty else ()))
        process = ProcessSpec(
            tuple(command),
            merge_environment(basic, definition.env, env),
            os.path.join(definition.cwd, workdir),
            account.user,
            tty,
        )
        allowed = capabilities(
            privileged=privileged or definition.privileged, added=definition.cap_add, dropped=definition.cap_drop
        )
        work = f"{self._directory(row.id)}/bundle"
        return self._machinery.runtime.execute(
            row.id, process, streams, work=work, root=root, allowed=allowed, detach=detach
        )

    def stop(self, name: str, timeout: int | None = None, signal_name: str = "") -> None:
        """Send the stop signal, and SIGKILL after `timeout` seconds (below 0: never). It may have ended or be paused.

        `signal_name` replaces the container's own stop signal.
        """
        row = self._records.find(name)
        definition = decode_definition(row.state)
        number = signal_number(signal_name or definition.stop_signal)
        seconds = definition.stop_timeout if timeout is None else timeout
        status = self._request_stop(row)
        self._signal(status, number)
        self._wake(row, status)
        deadline = time.monotonic() + seconds if seconds >= 0 else float("inf")
        while status.process.alive and time.monotonic() < deadline:
            time.sleep(_PATIENCE)
        self._finish(row, status)

    def kill(self, name: str, signal_name: str = "KILL") -> None:
        """Send a signal to the container's process; NotRunning, UserMistake."""
        row = self._records.find(name)
        number = signal_number(signal_name)
        status = self._status(row)
        if not status.running:
            raise NotRunning(name)
        if number != signal.SIGKILL:
            self._signal(status, number)
            if number == signal_number(decode_definition(row.state).stop_signal):
                self._wake(row, status)
            return
        self._finish(row, self._request_stop(row))

    def restart(self, name: str, timeout: int | None = None, signal_name: str = "") -> Started:
        """Stop the container if it runs, and start it."""
        self.stop(name, timeout, signal_name)
        return self.start(name)

    def remove(self, name: str, *, force: bool = False, volumes: bool = False) -> None:
        """Delete a container; StillRunning unless `force`, which kills it. `volumes`: its anonymous ones too."""
        row = self._records.find(name)
        status = self._status(row)
        if status.status in ("running", "restarting"):
            if not force:
                raise StillRunning(row.name, status.state)
            status = self._request_stop(row)
            self._finish(row, status)
        self._await_monitor(status)
        self._tidy(row, status)
        discard(self._home, decode_definition(row.state), self._machinery.snapshots, self._records, volumes=volumes)

    def rename(self, name: str, new: str) -> None:
        """Give a container another name; UserMistake when it is taken or malformed."""
        self._records.rename(self._records.find(name).id, check_name(new))

    def wait(self, name: str) -> int:
        """The exit code, when the container has ended."""
        row = self._records.find(name)
        attachment = self._connect(row)
        if attachment is not None:
            with suppress(MonitorLost):
                return attachment.wait()
        status = self._status(row)
        while status.running:  # its monitor is gone
            time.sleep(_PATIENCE)
            status = self._status(row)
        return status.exit_code

    def list(self, *, everything: bool = False, filters: Iterable[tuple[str, str]] = ()) -> list[ContainerView]:
        """The running containers, or all; the newest first."""
        filters = tuple(
            (key, str(self.view(value).definition.created) if key in ("before", "since") else value)
            for key, value in filters
        )
        everything = everything or any(name in ("status", "exited") for name, _ in filters)
        views = map(self._view, self._records.all())
        shown = [view for view in views if everything or view.status.status in ("running", "restarting")]
        return [view for view in shown if matches(view, filters)]

    def view(self, name: str) -> ContainerView:
        """One container as it is now."""
        return self._view(self._records.find(name))

    def inspect(self, name: str) -> dict[str, Any]:
        """The document of `inspect`, with Docker's names."""
        view = self.view(name)
        return inspection(view, f"{self._directory(view.id)}/{LOG_FILE}")

    @contextmanager
    def root(self, name: str, *, mounts: bool = True) -> Iterator[int]:
        """A descriptor of the container's root file system, with `mounts` its volumes and bind mounts in it."""
        row = self._records.find(name)
        definition = decode_definition(row.state)
        with open_root(self._directory(row.id), definition, self._machinery.snapshots, mounts=mounts) as root:
            yield root

    @contextmanager
    def changes(self, name: str, stack: Stack) -> Iterator[tuple[Iterator[Change], str]]:
        """What the container changed over its image, as a layer's entries, and the image's root to compare with."""
        identity = self._records.find(name).id
        snapshots = self._machinery.snapshots
        with snapshots.mount(stack) as lower:
            yield without_mount_points(snapshots.rootfs_changes(identity, stack), lower), lower

    def ports(self, name: str) -> tuple[tuple[str, str], ...]:
        """Pairs of container port (5000/tcp) and host address (127.0.0.1:5000)."""
        return port_lines(self.view(name))

    def prune(self, filters: Iterable[tuple[str, str]] = ()) -> Pruned:
        """Remove all containers that do not run and pass the filters until, label and label!; their volumes stay."""
        filters = tuple(filters)
        self.sweep()
        removed, freed = [], 0
        for row in self._records.all():
            view = self._view(row)
            if view.status.status in ("created", "exited") and prunable(view, filters):
                freed += self._size(row)
                with suppress(StillRunning):
                    self.remove(row.id)
                    removed.append(row.id)
        return Pruned(tuple(removed), freed)

    def _directory(self, identity: str) -> str:
        return f"{self._home.containers}/{identity}"

    def _status(self, row: ContainerRow) -> Status:
        return read_status(self._directory(row.id))

    def _view(self, row: ContainerRow) -> ContainerView:
        return ContainerView(row.name, decode_definition(row.state), self._status(row))

    def _size(self, row: ContainerRow) -> int:
        total = 0
        for folder, _, files in os.walk(self._machinery.snapshots.rootfs_upper(row.id)):
            total += sum(os.lstat(os.path.join(folder, file)).st_size for file in files)
        return total

    def _add_record(self, definition: Definition, name: str, text: str) -> None:
        """A name of our own making can be taken by another process at the same time; then another is made."""
        row = ContainerRow(definition.id, name, Digest(definition.image), definition.created, text)
        while not name:
            row = row._replace(name=new_name(other.name for other in self._records.all()))
            with suppress(UserMistake):
                self._records.add(row)
                return
        self._records.add(row)

    def _make_volumes(self, definition: Definition, stack: Stack, snapshots: Snapshots) -> None:
        empty = []
        for mount in definition.mounts:
            if mount.kind == "volume":
                volume = open_volume(self._home.volumes, mount.name, anonymous=mount.anonymous)
                if not os.listdir(volume.path):
                    empty.append((volume, mount.target))
        if empty:
            with snapshots.mount(stack) as root:
                for volume, target in empty:
                    populate(volume, root, target)

    def _connect(self, row: ContainerRow) -> Attachment | None:
        """A connection to the container's monitor if it has one."""
        status = self._status(row)
        if status.status not in ("running", "restarting") or not status.monitor.alive:
            return None
        try:
            return Attachment(wire.connect(self._directory(row.id)))
        except OSError:
            return None

    def _request_stop(self, row: ContainerRow) -> Status:
        with open(f"{self._directory(row.id)}/{STOP_REQUEST}", "w"):
            pass
        return self._status(row)

    def _signal(self, status: Status, number: int) -> None:
        """By a pidfd, so that the signal cannot reach another process that got the pid meanwhile."""
        with suppress(ProcessLookupError):
            process = os.pidfd_open(status.process.pid) if status.process.pid else -1
            if process >= 0:
                try:
                    if status.process.alive:
                        signal.pidfd_send_signal(process, number)
                finally:
                    os.close(process)

    def _wake(self, row: ContainerRow, status: Status) -> None:
        """Let a paused container go on, so that it gets the signal that was sent to it."""
        if status.paused:
            try:
                unpause(self._directory(row.id), row.id, status.process)
            except HostTrouble:  # its cgroup goes with it
                if status.process.alive:
                    raise

    def _finish(self, row: ContainerRow, status: Status) -> None:
        """Kill what still runs, and wait until the container has ended and its end is recorded."""
        self._signal(status, signal.SIGKILL)
        self._wake(row, status)
        deadline = time.monotonic() + _KILL_SECONDS
        while time.monotonic() < deadline:
            now = self._status(row)
            if now.status in ("created", "exited"):
                if not status.monitor.alive:
                    self._tidy(row, now)
                return
            time.sleep(_PATIENCE)
        raise HostTrouble(f"container {row.name} does not end", hint="see whether its processes hang in the kernel")

    def _await_monitor(self, status: Status) -> None:
        """The monitor of a container that has ended has a little to put away yet."""
        deadline = time.monotonic() + _KILL_SECONDS
        while status.monitor.alive and time.monotonic() < deadline:
            time.sleep(_PATIENCE)

    def _tidy(self, row: ContainerRow, status: Status) -> None:
        """Put away what a killed monitor left: network helper, runtime's records, mounts."""
        if status.monitor.alive or not status.monitor.pid or status.process.alive:
            return
        if not os.path.isdir(self._directory(row.id)):  # the monitor of a --rm container has removed it
            return
        if status.helper.alive:
            stop_helper(status.helper.pid)
        if status.exit_code == LOST or status.helper.pid:
            self._machinery.runtime.delete(row.id)
            self._machinery.snapshots.unmount_rootfs(row.id)
            write_status(self._directory(row.id), status._replace(helper=ProcessName(), process=ProcessName()))
