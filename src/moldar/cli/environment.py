"""What the command line takes from its surroundings: environment variables, the terminal, the user's directories."""

import os
import sys


def set_home(path: str) -> None:
    """Let --home win over MOLDAR_HOME for this process and its children."""
    os.environ["MOLDAR_HOME"] = os.path.abspath(path)


def is_root() -> bool:
    return os.geteuid() == 0


def home() -> str:
    """Where the store is: MOLDAR_HOME, else /var/lib/moldar for root, else the user's data directory."""
    chosen = os.environ.get("MOLDAR_HOME")
    if chosen:
        return os.path.abspath(chosen)
    if is_root():
        return "/var/lib/moldar"
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(data, "moldar")


def docker_config() -> str:
    """The directory of Docker's config.json: DOCKER_CONFIG or ~/.docker."""
    return os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")


def configuration_files() -> tuple[str, ...]:
    """Where moldar.toml may be, the strongest last: the system's, the user's, MOLDAR_CONFIG."""
    user = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    files = ["/etc/moldar/moldar.toml", os.path.join(user, "moldar", "moldar.toml")]
    if chosen := os.environ.get("MOLDAR_CONFIG"):
        files.append(chosen)
    return tuple(files)


def variable(name: str) -> str | None:
    """An environment variable that a flag refers to (`-e NAME`, `--build-arg NAME`, proxies)."""
    return os.environ.get(name)


def either_case(name: str) -> str:
    """A variable that programs look for in lower and in upper case, such as the proxies."""
    return os.environ.get(name.lower()) or os.environ.get(name) or ""


def stderr_is_terminal() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def stdout_is_terminal() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def wants_colour() -> bool:
    return not os.environ.get("NO_COLOR")


def terminal_size() -> tuple[int, int]:
    """Columns and lines of the terminal on stderr."""
    try:
        size = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):
        return 80, 24
    return size.columns or 80, size.lines or 24


def has_display() -> bool:
    """Whether a browser could show something."""
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
