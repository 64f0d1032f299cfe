"""Why a process could not be started, found by looking and not by reading the runtime's message."""

import os
import stat

from moldar.sandbox.mounts import open_in_root
from moldar.sandbox.spec import ProcessSpec

NOT_FOUND = 127
NOT_EXECUTABLE = 126
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def why_not_started(root: str, process: ProcessSpec) -> tuple[int, str] | None:
    """The exit code and reason if `process` cannot be executed in `root`; None when nothing is wrong with it."""
    program = process.args[0] if process.args else ""
    if not program:
        return NOT_FOUND, "no command was given"
    if "/" in program:
        return _judge(root, os.path.join("/", process.cwd, program), program)
    found = None
    for folder in _search_path(process.env).split(":"):
        found = _judge(root, os.path.join("/", process.cwd, folder, program), program)
        if found is None or found[0] == NOT_EXECUTABLE:
            return found
    return NOT_FOUND, f'exec: "{program}": executable file not found in $PATH'


def _search_path(env: tuple[str, ...]) -> str:
    for variable in reversed(env):
        if variable.startswith("PATH="):
            return variable.removeprefix("PATH=")
    return _DEFAULT_PATH


def _judge(root: str, path: str, program: str) -> tuple[int, str] | None:
    try:
        descriptor = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return NOT_FOUND, f'exec: "{program}": no such file or directory'
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            return NOT_EXECUTABLE, f'exec: "{program}": is a directory'
        if not stat.S_ISREG(status.st_mode) or not status.st_mode & 0o111:
            return NOT_EXECUTABLE, f'exec: "{program}": permission denied'
        return _judge_content(root, os.read(descriptor, 256), program)
    finally:
        os.close(descriptor)


def _judge_content(root: str, start: bytes, program: str) -> tuple[int, str] | None:
    """A script needs its interpreter; anything else must be ELF."""
    if start.startswith(b"#!"):
        words = start[2:].split(b"\n")[0].split()
        interpreter = words[0].decode(errors="replace") if words else ""
        try:
            os.close(open_in_root(root, interpreter, os.O_PATH))
        except OSError:
            shown = interpreter.replace("\r", "\\r")
            return NOT_FOUND, f'exec: "{program}": its interpreter {shown!r} does not exist'
        return None
    if not start.startswith(b"\x7fELF"):
        return NOT_EXECUTABLE, f'exec: "{program}": exec format error'
    return None
