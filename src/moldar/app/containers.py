"""Verbs on containers: run, start, look at, stop, remove."""

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from moldar.app.engine import Engine
from moldar.app.machinery import machinery
from moldar.containers.logs import LogLine
from moldar.containers.options import RunOptions
from moldar.containers.service import Containers, Pruned, Started
from moldar.containers.views import ContainerView, ports_text, status_text
from moldar.errors import HostTrouble, NotFound, UserMistake
from moldar.image.model import Digest
from moldar.sandbox.null_device import open_null
from moldar.sandbox.runtime import Streams
from moldar.store.containers import ContainerTable

__all__ = ["ContainerView", "RunOptions", "ports_text", "status_text"]

_SECOND_MODES = {"amd64": "386", "arm64": "arm"}


class Ran(NamedTuple):
    """A container that was run. `exit_code` is 0 when it goes on by itself; `warnings` are for the person."""

    id: str
    exit_code: int
    warnings: tuple[str, ...] = ()


def find_image(engine: Engine, name: str, platform: str) -> Digest:
    """The image of the store that runs as `name`: on `platform`, if that is not empty. NotFound, UserMistake."""
    if not platform:
        return engine.images.resolve(name)
    from moldar.app.platforms import image_for
    from moldar.builder.plan import parse_platform

    wanted = parse_platform(platform)
    image = image_for(engine, name, wanted)
    found = engine.images.config(image).platform
    if found[:2] != wanted[:2] or (wanted.variant and found.variant and wanted.variant != found.variant):
        raise NotFound(f"the image {name} is for {found}, not for {wanted}")
    return image


def platform_warning(engine: Engine, image: str) -> str:
    """What to tell somebody who runs an image of the store that is for another platform; empty if it is not."""
    platform, here = engine.images.config(engine.images.resolve(image)).platform, engine.platform
    if platform.architecture in (here.architecture, _SECOND_MODES.get(here.architecture)):
        return ""
    return (
        f"The requested image's platform ({platform}) does not match the detected host platform ({here})"
        " and no specific platform was requested"
    )


def create(engine: Engine, image: str, options: RunOptions, *, platform: str = "") -> str:
    """Make a container of an image that is in the store, that for `platform`; its ID. NotFound, UserMistake."""
    identity = find_image(engine, image, platform)
    config = engine.images.config(identity)
    if config.platform.os not in ("", "linux"):
        raise UserMistake(f"cannot run an image for {config.platform}")
    parts = machinery(engine)
    engine.lease.protect("image", [identity])
    engine.lease.protect("snapshot", config.diff_ids)
    parts.forms.unpacked(config.diff_ids)
    return service(engine).create(identity, config, config.diff_ids, options._replace(image_name=image))


def run(
    engine: Engine, image: str, options: RunOptions, *, cidfile: str = "", platform: str = "", proxy: bool = True
) -> Ran:
    """Create a container and start it. Attached unless `options.detach`: its output is ours, its exit code returned.

    Signals that reach us go to the container unless `proxy` is off.
    A container that could not be started is removed again when it was to be removed at its end.
    """
    container = create(engine, image, options, platform=platform)
    if cidfile:
        _write_cidfile(cidfile, container)
    size = _terminal_size() if options.tty and not options.detach else None
    started = service(engine).start(container, attached=not options.detach, size=size)
    return Ran(container, _follow(started, options.interactive, options.tty, proxy=proxy), started.warnings)


def start(engine: Engine, name: str) -> Sequence[str]:
    """Start a container that does not run; warnings. ContainerNotFound, NotStarted."""
    return service(engine).start(name).warnings


def start_attached(engine: Engine, name: str, *, interactive: bool = False) -> int:
    """Start a container and show its output until it ends; its exit code."""
    containers = service(engine)
    tty = containers.view(name).definition.tty
    started = containers.start(name, attached=True, size=_terminal_size() if tty else None)
    return _follow(started, interactive, tty and interactive)


def _terminal_size() -> tuple[int, int] | None:
    """Rows and columns of the terminal that is our stdin."""
    try:
        columns, rows = os.get_terminal_size(0)
    except OSError:
        return None
    return rows, columns


def attach(engine: Engine, name: str, *, interactive: bool = True) -> int:
    """Show the output of a running container until it ends, and give it our input; its exit code. NotRunning."""
    containers = service(engine)
    tty = containers.view(name).definition.tty
    attachment = containers.attach(name)
    return attachment.pump(0 if interactive else -1, 1, 2, terminal=tty and interactive).exit_code


def _follow(started: Started, interactive: bool, tty: bool, *, proxy: bool = True) -> int:
    if started.attachment is None:
        return 0
    return started.attachment.pump(0 if interactive else -1, 1, 2, terminal=tty, proxy_signals=proxy).exit_code


def execute(
    engine: Engine,
    name: str,
    command: Sequence[str],
    *,
    interactive: bool = False,
    tty: bool = False,
    detach: bool = False,
    env: Iterable[str] = (),
    user: str = "",
    workdir: str = "",
    privileged: bool = False,
) -> int:
    """Run another process in a running container, with our standard streams; its exit code."""
    nothing = open_null(f"{engine.home.root}/run")
    try:
        outputs = (nothing, nothing) if detach else (1, 2)
        streams = Streams(0 if interactive and not detach else nothing, *outputs)
        return service(engine).execute(
            name,
            command,
            streams,
            env=env,
            user=user,
            workdir=workdir,
            tty=tty,
            detach=detach,
            privileged=privileged,
        )
    finally:
        os.close(nothing)


def logs(
    engine: Engine, name: str, *, follow: bool = False, tail: int | None = None, since: str = "", until: str = ""
) -> Iterator[LogLine]:
    """What a container has printed; with `follow` until it ends."""
    return service(engine).logs(name, follow=follow, tail=tail, since=since, until=until)


def list_containers(
    engine: Engine, *, everything: bool = False, filters: Iterable[tuple[str, str]] = ()
) -> list[ContainerView]:
    """The running containers, or all; the newest first."""
    return service(engine).list(everything=everything, filters=filters)


def inspect(engine: Engine, name: str, *, size: bool = False) -> dict[str, Any]:
    """What `docker inspect` tells of a container, with `size` that of its files too; ContainerNotFound."""
    document = service(engine).inspect(name)
    if size:
        changed, whole = sizes(engine, service(engine).view(name))
        document |= {"SizeRw": changed, "SizeRootFs": whole}
    return document


def sizes(engine: Engine, view: ContainerView) -> tuple[int, int]:
    """Bytes of what the container changed, and of its whole root file system."""
    from moldar.store.usage import tree_size

    image = engine.images.get(view.definition.image)
    below = image.size if image else 0
    snapshots = machinery(engine).snapshots
    kept = tree_size(snapshots.rootfs_upper(view.id))
    if snapshots.whiteouts != "apply":
        return kept, below + kept
    return max(kept - below, 0), kept


def ports(engine: Engine, name: str) -> Sequence[tuple[str, str]]:
    """Pairs of container port and host address."""
    return service(engine).ports(name)


def stop(engine: Engine, name: str, *, timeout: int | None = None, signal: str = "") -> None:
    """Ask a container to end, by its stop signal or `signal`, and kill it after `timeout` seconds."""
    service(engine).stop(name, timeout, signal)


def kill(engine: Engine, name: str, signal: str = "KILL") -> None:
    """Send a signal to a container's process."""
    service(engine).kill(name, signal)


def restart(engine: Engine, name: str, *, timeout: int | None = None, signal: str = "") -> None:
    """Stop a container if it runs, and start it."""
    service(engine).restart(name, timeout, signal)


def remove(engine: Engine, name: str, *, force: bool = False, volumes: bool = False) -> None:
    """Delete a container; StillRunning unless `force`."""
    service(engine).remove(name, force=force, volumes=volumes)


def rename(engine: Engine, name: str, new: str) -> None:
    """Give a container another name."""
    service(engine).rename(name, new)


def wait(engine: Engine, name: str) -> int:
    """The exit code of a container, when it has ended."""
    return service(engine).wait(name)


def prune(engine: Engine, filters: Iterable[tuple[str, str]] = ()) -> Pruned:
    """Remove all containers that do not run and pass the filters until, label and label!."""
    return service(engine).prune(filters)


def service(engine: Engine) -> Containers:
    """The containers of the engine's store."""
    return Containers(engine.home, ContainerTable(engine.database), machinery(engine))


def _write_cidfile(path: str, container: str) -> None:
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(container)
    except FileExistsError as error:
        raise UserMistake(f"container ID file found: {path}", hint="remove it, or use another --cidfile") from error
    except OSError as error:
        raise HostTrouble(f"cannot write {path}: {error.strerror}") from error
