"""What to run and in what surroundings, as immutable values: the input of `bundle`, which writes the OCI form."""

from typing import NamedTuple


class User(NamedTuple):
    """Numeric identity of a process."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()


class ProcessSpec(NamedTuple):
    """A process. `env` are NAME=value strings, `cwd` is absolute; `terminal` gives it a new pty."""

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: User = User()
    terminal: bool = False


class BindMount(NamedTuple):
    """A host path shown at `target`; recursive, private, without device nodes unless privileged."""

    source: str
    target: str
    readonly: bool = False


class TmpfsMount(NamedTuple):
    """A memory file system at `target`. `size` in bytes (0: the kernel's default)."""

    target: str
    size: int = 0
    mode: int = 0o1777
    uid: int = 0
    gid: int = 0


Mount = BindMount | TmpfsMount


class Limit(NamedTuple):
    """A resource limit by its ulimit name: nofile, nproc, core …; -1 is unlimited."""

    name: str
    soft: int
    hard: int


class Resources(NamedTuple):
    """What a cgroup allows; 0 where there is no limit. `memory` in bytes, `cpus` in whole processors."""

    memory: int = 0
    memory_swap: int = 0
    cpus: float = 0.0
    pids: int = 0

    @property
    def any(self) -> bool:
        """Whether there is a limit at all."""
        return bool(self.memory or self.memory_swap or self.cpus or self.pids)


class Device(NamedTuple):
    """A device node of the host to show at `target`."""

    source: str
    target: str


class SandboxSpec(NamedTuple):
    """A root file system and the sandbox around one process.

    `network` is "host", "none" (a new name space with nothing but loopback) or the path of a name space to join.
    `hosts` are more lines (name, address) for /etc/hosts. `shm_size` in bytes. `privileged` lifts the
    confinement, as `--privileged` and `RUN --security=insecure`. `address` is the sandbox's own, for /etc/hosts;
    `dns` replaces the host's name servers. The sandbox's cgroup is made below `cgroup_parent`, a path from the top of
    the hierarchy (empty for our own). `etc` are the files to provide below /etc (hosts, resolv.conf, hostname).
    """

    root: str
    process: ProcessSpec
    mounts: tuple[Mount, ...] = ()
    hostname: str = ""
    network: str = "host"
    hosts: tuple[tuple[str, str], ...] = ()
    address: str = ""
    readonly: bool = False
    privileged: bool = False
    limits: tuple[Limit, ...] = ()
    shm_size: int = 64 << 20
    resources: Resources = Resources()
    devices: tuple[Device, ...] = ()
    capabilities_added: tuple[str, ...] = ()
    capabilities_dropped: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    cgroup_parent: str = ""
    etc: tuple[str, ...] = ("hosts", "resolv.conf")
    etc_readonly: bool = True
