"""What the rules want to know beyond the Dockerfile: build arguments, base images, the ignore file."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from moldar.dockerfile.ignore import Patterns


class BaseImage(NamedTuple):
    """What is known of a base image: its environment, platform (`linux/amd64`), triggers, whether it sets SHELL.

    `workdir` is empty when it is not known.
    """

    environment: Mapping[str, str]
    platform: str = ""
    has_shell: bool = False
    triggers: tuple[str, ...] = ()
    workdir: str = ""


def _unknown(name: str, platform: str) -> BaseImage | None:
    return None


class Facts(NamedTuple):
    """What the rules want to know beyond the file. `base_image(name, platform)` gives None for what is unknown.

    `platform_args` are the predefined variables (TARGETPLATFORM, BUILDARCH ...); `ignore` the context's patterns.
    """

    build_args: Mapping[str, str] = {}
    platform_args: Mapping[str, str] = {}
    ignore: Patterns | None = None
    base_image: Callable[[str, str], BaseImage | None] = _unknown
