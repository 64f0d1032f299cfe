"""Finding out what this host can do: which runtime works, and whether overlayfs does. Answers are remembered.

A probe does the thing itself once, in small: starts a container that ends at once, mounts two directories. The
answer is kept in a file beside what it depends on (kernel, boot, programs), so that asking again costs one read.
"""

import os
import shutil
import struct
import sys
from collections.abc import Iterator
from typing import Any

from moldar.errors import HostTrouble, MoldarError
from moldar.image.layer_entry import Whiteouts
from moldar.image.ownership import ownership
from moldar.sandbox.bundle import Features, write_bundle
from moldar.sandbox.copying import CopyingSnapshots
from moldar.sandbox.isolation.builtin import NAME as BUILTIN
from moldar.sandbox.isolation.builtin import BuiltinRuntime
from moldar.sandbox.overlay import OverlaySnapshots
from moldar.sandbox.remembered import remembered
from moldar.sandbox.runtime import Runtime, Streams
from moldar.sandbox.runtimes import OciRuntime, RuntimeSetup
from moldar.sandbox.snapshots import Snapshots, SnapshotTable
from moldar.sandbox.spawning import UNIFIED
from moldar.sandbox.spec import ProcessSpec, SandboxSpec
from moldar.sandbox.unpacked import TREE_FOLDER, driver_answer, driver_facts, users_mark
from moldar.sandbox.user_namespace import is_restricted
from moldar.sandbox.workdirs import make_folders, sweep_work

PROGRAMS = ("crun", "runc")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class NoRuntime(HostTrouble):
    """Neither crun nor runc works on this host, nor our own isolation."""

    def __init__(self, reasons: dict[str, str]) -> None:
        lines = "\n".join(f"{name}: {reason}" for name, reason in reasons.items())
        hint = "install one: apt-get install crun"
        if ownership().in_namespace and is_restricted():
            hint = "let users have namespaces: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 as root"
        super().__init__("no OCI runtime works on this host", hint=hint, excerpt=lines)
        self.reasons = reasons


class NotRoot(HostTrouble):
    """Containers need root, if only in a user namespace, and this host lets us have none."""

    def __init__(self, reason: str) -> None:
        settings = (
            "kernel.apparmor_restrict_unprivileged_userns=0" if is_restricted() else "user.max_user_namespaces=15000"
        )
        super().__init__(
            f"cannot run a container without root: {reason}",
            hint=f"let users have namespaces (as root: sysctl -w {settings}), or work as root",
        )


def choose_runtime(run: str, only: str = "") -> Runtime:
    """The fastest runtime that works here; what killed processes left running is ended.

    `run` is a directory for records of running containers and of the answer. `only` names the one to
    take ("crun", "runc", "builtin"). Raises NoRuntime.
    """
    programs = {name: path for name in PROGRAMS if (path := shutil.which(name, path=_PATH)) and only in ("", name)}
    if only in ("", BUILTIN):
        programs[BUILTIN] = sys.executable
    os.makedirs(run, mode=0o711, exist_ok=True)

    def ask() -> dict[str, Any]:
        reasons = {name: "not installed" for name in PROGRAMS if name not in programs}
        for setup in _candidates(programs, run):
            reason = _try(setup, run)
            if not reason:
                return {"name": setup.name, "number": _number(setup, programs, run)}
            reasons[setup.name] = reason
        raise NoRuntime(reasons)

    facts = [_identity(path) for path in programs.values()] + [_cgroups(), *map(str, _candidates(programs, run))]
    answer = remembered(f"{run}/runtime{'-' + only if only else ''}.json", facts, ask)
    runtime = _runtime(list(_candidates(programs, run))[answer["number"]])
    runtime.sweep()
    return runtime


def choose_snapshots(base: str, table: SnapshotTable, only: str = "") -> Snapshots:
    """Overlay snapshots in `base` if that works there, else copying ones. `only` names the one to take."""
    if only == CopyingSnapshots.name:
        return CopyingSnapshots(base, table)
    make_folders(base)
    sweep_work(f"{base}/work")
    if only == OverlaySnapshots.name:
        return OverlaySnapshots(base, table, _style_of(base))
    answer = remembered(driver_answer(base), driver_facts(base), lambda: {"whiteouts": _working_style(base, table)})
    style: Whiteouts = answer["whiteouts"]
    return CopyingSnapshots(base, table) if style == "apply" else OverlaySnapshots(base, table, style)


def _working_style(base: str, table: SnapshotTable) -> Whiteouts:
    """The style in which overlayfs works in this store, "apply" if in none.

    Marks of the one kind say nothing to a mount of the other, so that layers that are there already decide.
    """
    begun = any(not name.startswith(TREE_FOLDER) for name in os.listdir(f"{base}/layers"))
    style = _style_of(base)
    styles: tuple[Whiteouts, ...] = (style,) if begun or style == "userxattr" else ("overlay", "userxattr")
    for style in styles:
        if OverlaySnapshots(base, table, style).works():
            if style == "userxattr":
                os.close(os.open(users_mark(base), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            return style
    return "apply"


def _style_of(base: str) -> Whiteouts:
    return "userxattr" if os.path.exists(users_mark(base)) else "overlay"


def _candidates(programs: dict[str, str], run: str) -> Iterator[RuntimeSetup]:
    """Ways to call each program, the best first. The number of one in this order is what is remembered."""
    version2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    ids = ownership()
    full = Features(cgroups=True, cgroup_mount=version2, in_namespace=ids.in_namespace, one_id=ids.squashed)
    bare = full._replace(cgroups=False, cgroup_mount=False)
    hidden = os.path.exists(f"{UNIFIED}/cgroup.controllers")
    for name, program in programs.items():
        root = f"{run}/{name}"
        if name == "crun":
            yield RuntimeSetup(name, program, root, full, ("--cgroup-manager=cgroupfs",), hidden)
            yield RuntimeSetup(name, program, root, bare, ("--cgroup-manager=disabled",), hidden)
        else:  # runc and our own
            yield RuntimeSetup(name, program, root, full)
            yield RuntimeSetup(name, program, root, bare)


def _runtime(setup: RuntimeSetup) -> Runtime:
    if setup.name == BUILTIN:
        return BuiltinRuntime(setup.state_root, setup.features)
    return OciRuntime(setup)


def _number(setup: RuntimeSetup, programs: dict[str, str], run: str) -> int:
    return list(_candidates(programs, run)).index(setup)


def _try(setup: RuntimeSetup, run: str) -> str:
    """Runs a program of a few bytes in a container; why that failed, empty if it did not."""
    identity = f"probe-{os.urandom(6).hex()}"
    bundle = f"{run}/{identity}"
    root = f"{bundle}/root"
    os.makedirs(root)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        _write_program(f"{root}/true")
        os.makedirs(setup.state_root, mode=0o700, exist_ok=True)
        spec = SandboxSpec(root, ProcessSpec(("/true",)), hostname="probe", etc=())
        write_bundle(bundle, spec, identity, setup.features)
        code = _runtime(setup).run(bundle, identity, Streams(null, null, null))
        return f"exit code {code}" if code else ""
    except MoldarError as error:
        return error.message
    finally:
        os.close(null)
        shutil.rmtree(bundle)


def _write_program(path: str) -> None:
    """The smallest ELF program that exits with 0, for the processor here."""
    code = {
        "x86_64": (62, bytes.fromhex("31ff b83c000000 0f05")),  # xor edi,edi; mov eax,60; syscall
        "aarch64": (183, bytes.fromhex("000080d2 a80b80d2 010000d4")),  # mov x0,#0; mov x8,#93; svc #0
    }.get(os.uname().machine)
    if code is None:
        shutil.copy("/bin/true", path)
        return
    machine, text = code
    start, base = 120, 0x400000
    head = b"\x7fELF\x02\x01\x01" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, base + start, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, start + len(text), start + len(text), 0x1000)
    with open(path, "wb") as file:
        file.write(head + segment + text)
    os.chmod(path, 0o755)


def _identity(path: str) -> str:
    status = os.stat(path)
    return f"{path} {status.st_ino} {status.st_size} {status.st_mtime_ns}"


def _cgroups() -> str:
    """How cgroups are mounted here, as far as runtimes care."""
    return " ".join(
        name
        for name in ("cgroup.controllers", "unified/cgroup.controllers", "memory")
        if os.path.exists(f"/sys/fs/cgroup/{name}")
    )
