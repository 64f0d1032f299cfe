"""What an interpreter is told to do: a configuration in the terms of system calls, and how it travels there.

Plain classes, because the modules that make better ones (`typing`, `dataclasses`) take longer to import than a
container takes to make.
"""

import marshal


class MountPlan:
    """A mount at `target`. Binds have the kind "bind" and ATTR_… in `attributes`; others MS_… in `flags`, and `data`.

    `recursive`: a bind brings along what is mounted below its source.
    """

    def __init__(
        self, *, target: str, kind: str, source: str, flags: int, attributes: int, data: str, recursive: bool
    ) -> None:
        self.target = target
        self.kind = kind
        self.source = source
        self.flags = flags
        self.attributes = attributes
        self.data = data
        self.recursive = recursive


class DevicePlan:
    """A device node: its type and permissions as in st_mode, its number as in st_rdev."""

    def __init__(self, *, path: str, mode: int, number: int, uid: int, gid: int) -> None:
        self.path = path
        self.mode = mode
        self.number = number
        self.uid = uid
        self.gid = gid


class ProcessPlan:
    """A process. Capabilities are bit masks, limits are triples of number, soft and hard limit."""

    def __init__(
        self,
        *,
        args: list[str],
        env: list[str],
        cwd: str,
        terminal: bool,
        umask: int,
        uid: int,
        gid: int,
        groups: list[int],
        limits: list[tuple[int, int, int]],
        bounding: int,
        permitted: int,
        effective: int,
        no_new_privileges: bool,
        filter: bytes,
    ) -> None:
        self.args = args
        self.env = env
        self.cwd = cwd
        self.terminal = terminal
        self.umask = umask
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.limits = limits
        self.bounding = bounding
        self.permitted = permitted
        self.effective = effective
        self.no_new_privileges = no_new_privileges
        self.filter = filter


class RootPlan:
    """The surroundings of a container's process.

    `unshared` are CLONE_NEW… flags, `joined` pairs of such a flag and the path of the name space. `nodev`: no device
    node of the root's files may be opened.
    """

    def __init__(
        self,
        *,
        path: str,
        readonly: bool,
        nodev: bool,
        unshared: int,
        joined: list[tuple[int, str]],
        mounts: list[MountPlan],
        devices: list[DevicePlan],
        sysctls: list[tuple[str, str]],
        masked: list[str],
        unwritable: list[str],
        hostname: str,
    ) -> None:
        self.path = path
        self.readonly = readonly
        self.nodev = nodev
        self.unshared = unshared
        self.joined = joined
        self.mounts = mounts
        self.devices = devices
        self.sysctls = sysctls
        self.masked = masked
        self.unwritable = unwritable
        self.hostname = hostname


class Plan:
    """`verb` is "run", "create" (with `root`) or "execute" (in the container whose process is `pid`).

    `cgroups` are the directories of the groups to enter, `record` is where the process is written down, `fifo` what a
    created one waits at, `console` the socket to send a terminal to. `parent` is the pid of who runs a container.
    """

    def __init__(
        self,
        *,
        verb: str,
        process: ProcessPlan,
        cgroups: list[str],
        root: RootPlan | None = None,
        parent: int = 0,
        record: str = "",
        fifo: str = "",
        console: str = "",
        pid: int = 0,
        started: int = 0,
        detach: bool = False,
    ) -> None:
        self.verb = verb
        self.process = process
        self.cgroups = cgroups
        self.root = root
        self.parent = parent
        self.record = record
        self.fifo = fifo
        self.console = console
        self.pid = pid
        self.started = started
        self.detach = detach


def pack(plan: Plan) -> bytes:
    """A plan for `unpack`, which must be of the same version of Python and Moldar."""
    root = plan.root
    parts = None
    if root:
        mounts, devices = [vars(mount) for mount in root.mounts], [vars(device) for device in root.devices]
        parts = {**vars(root), "mounts": mounts, "devices": devices}
    return marshal.dumps({**vars(plan), "process": vars(plan.process), "root": parts})


def unpack(data: bytes) -> Plan:
    """The plan that was packed."""
    document = marshal.loads(data)  # noqa: S302 - from our own parent process
    root = document["root"]
    if root:
        root["mounts"] = [MountPlan(**mount) for mount in root["mounts"]]
        root["devices"] = [DevicePlan(**device) for device in root["devices"]]
        document["root"] = RootPlan(**root)
    document["process"] = ProcessPlan(**document["process"])
    return Plan(**document)
