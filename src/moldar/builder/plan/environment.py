"""The variables that exist before any instruction: platforms, proxies, and ARGs before the first FROM."""

from collections.abc import Mapping

from moldar.builder.plan.options import PlanOptions
from moldar.errors import UserMistake
from moldar.image.model import Platform

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")


def automatic_variables(options: PlanOptions) -> dict[str, str]:
    """The platform variables, which FROM sees and which ARG declares for a stage. --build-arg may replace them."""
    variables = {
        **_platform_variables("BUILD", options.build_platform),
        **_platform_variables("TARGET", options.platform),
        "TARGETSTAGE": options.target or "default",
    }
    return {name: options.build_args.get(name, value) for name, value in variables.items()}


def _platform_variables(prefix: str, platform: Platform) -> dict[str, str]:
    return {
        f"{prefix}PLATFORM": str(platform),
        f"{prefix}OS": platform.os,
        f"{prefix}OSVERSION": "",
        f"{prefix}ARCH": platform.architecture,
        f"{prefix}VARIANT": platform.variant,
    }


def proxy_variables(build_args: Mapping[str, str]) -> tuple[str, ...]:
    """NAME=value of the proxies given as build args: a RUN sees them in both cases, the cache and history never."""
    proxies: dict[str, str] = {}
    for name in PROXIES:
        value = build_args.get(name) or build_args.get(name.lower())
        if value:
            proxies[name] = proxies[name.lower()] = value
    return tuple(f"{name}={value}" for name, value in proxies.items())


def parse_platform(text: str) -> Platform:
    """The platform written as os/architecture[/variant]; UserMistake for anything else."""
    parts = text.split("/")
    if not 2 <= len(parts) <= 3 or not all(parts):
        raise UserMistake(f"invalid platform {text!r}", hint="expected os/architecture, such as linux/amd64")
    os, architecture, *variant = (part.lower() for part in parts)
    architecture = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}.get(architecture, architecture)
    if architecture == "arm64" and variant == ["v8"]:
        variant = []
    return Platform(os, architecture, *variant)
