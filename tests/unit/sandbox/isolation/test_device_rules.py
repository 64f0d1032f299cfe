"""Device rules in a real control group of version 2."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from moldar.sandbox.isolation.device_rules import DeviceRule, attach_rules, device_rules

DENIED = {"allow": False, "access": "rwm"}


@pytest.fixture
def group(unified_tree: str) -> Iterator[str]:
    """A new group; device rules need no controller, so the tree may be a hybrid one."""
    path = f"{unified_tree}/moldar-test-{os.getpid()}"
    os.mkdir(path)
    yield path
    os.rmdir(path)


def outcome(group: str, path: str, flags: int) -> int:
    """The errno of opening `path` in the group, 0 when it opens."""
    child = os.fork()
    if not child:
        code = 255
        try:
            Path(f"{group}/cgroup.procs").write_text("0")
            os.open(path, flags)
            code = 0
        except OSError as error:
            code = error.errno or 255
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_only_the_usual_devices(group: str) -> None:
    attach_rules(group, device_rules([DENIED]))
    for name in ("null", "zero", "full", "random", "urandom"):
        assert outcome(group, f"/dev/{name}", os.O_RDWR) == 0, name
    for kind, major, minor in ((stat.S_IFBLK, 7, 200), (stat.S_IFCHR, 1, 11)):
        node = f"/dev/moldar-test-{os.getpid()}"  # not below tmp_path, where nodev could be the reason
        os.mknod(node, kind | 0o600, os.makedev(major, minor))
        try:
            assert outcome(group, node, os.O_RDONLY) == errno.EPERM
        finally:
            os.unlink(node)


@pytest.mark.parametrize(
    ("access", "flags", "expected"),
    [
        ("rwm", os.O_RDWR, 0),
        ("r", os.O_RDONLY, 0),
        ("r", os.O_RDWR, errno.EPERM),
        ("rw", os.O_RDWR, 0),
        ("m", os.O_RDONLY, errno.EPERM),
    ],
)
def test_a_device_that_was_asked_for(group: str, access: str, flags: int, expected: int) -> None:
    attach_rules(group, [DeviceRule(False), DeviceRule(True, "c", 1, 7, access)])
    assert outcome(group, "/dev/full", flags) == expected
    assert outcome(group, "/dev/null", flags) == errno.EPERM


def test_a_denial_of_part(group: str) -> None:
    attach_rules(group, [DeviceRule(True), DeviceRule(False, "c", 1, 3, "w")])
    assert outcome(group, "/dev/null", os.O_RDONLY) == 0
    assert outcome(group, "/dev/null", os.O_WRONLY) == errno.EPERM
    assert outcome(group, "/dev/null", os.O_RDWR) == errno.EPERM
    assert outcome(group, "/dev/zero", os.O_RDWR) == 0
