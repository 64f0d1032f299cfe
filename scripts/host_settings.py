"""What this host's package clients are told, for stand-ins (see `stand-ins`) that are to work where they do."""

import json
import re
import subprocess
import sys
from pathlib import Path

SUITE = "bookworm"
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


def host_settings(base: Path) -> dict[str, bytes]:
    """The files, by path in the image, that let its package clients work where this host's do."""
    settings: dict[str, bytes] = {}
    pip, npm = _pip_settings(), _npm_settings()
    if pip:
        settings["etc/pip.conf"] = "".join(
            ["[global]\n", *(f"{key} = {value}\n" for key, value in pip.items())]
        ).encode()
    if npm:
        npmrc = "".join(f"{key}={value}\n" for key, value in npm.items()).encode()
        # Debian's npm reads the first, yarn the second
        settings |= {"etc/npmrc": npmrc, "usr/etc/npmrc": npmrc}
    bundle = Path(BUNDLE)
    if bundle.exists():
        settings[BUNDLE[1:]] = bundle.read_bytes()
        known = set(_certificates(base / BUNDLE[1:]))
        for number, certificate in enumerate(c for c in _certificates(bundle) if c not in known):
            # kept as a local authority too, so that update-ca-certificates does not lose it
            settings[f"usr/local/share/ca-certificates/host-{number}.crt"] = certificate.encode() + b"\n"
    return settings


def _certificates(bundle: Path) -> list[str]:
    blocks = re.findall(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", bundle.read_text(), re.DOTALL)
    return list(dict.fromkeys(blocks))


def _pip_settings() -> dict[str, str]:
    """What `pip config list` tells, as far as it makes sense elsewhere: no local paths, no file:// indexes."""
    told = _output([sys.executable, "-m", "pip", "config", "list"])
    settings: dict[str, str] = {}
    for line in told.splitlines():
        key, _, value = line.partition("=")
        name, value = key.rpartition(".")[2], value.strip("'\"")
        if name in ("index-url", "extra-index-url", "find-links"):
            urls = [url for url in value.replace("\\n", " ").split() if url.startswith(("https://", "http://"))]
            if urls:
                settings[name] = " ".join(urls)
        elif name in ("trusted-host", "proxy", "retries", "timeout", "default-timeout", "disable-pip-version-check"):
            settings[name.removeprefix("default-")] = value.replace("\\n", " ")
        elif name == "cert":
            settings[name] = BUNDLE
    return settings


def _npm_settings() -> dict[str, str]:
    try:
        told = json.loads(_output(["npm", "config", "list", "--long", "--json"]))
    except ValueError:
        return {}
    settings: dict[str, str] = {}
    for key in ("registry", "proxy", "https-proxy", "noproxy", "strict-ssl", "cafile"):
        value = told.get(key)
        if value in (None, "", [], [""], True) or (key == "registry" and value == _npm_default(key)):
            continue
        text = ",".join(value) if isinstance(value, list) else str(value).lower() if value is False else str(value)
        settings[key] = BUNDLE if key == "cafile" else text
    return settings


def _npm_default(key: str) -> str:
    """What npm takes when no file says anything."""
    nowhere = ["--userconfig=/dev/null", "--globalconfig=/dev/zero/none"]
    return _output(["npm", "config", "get", key, *nowhere]).strip()


def debian_mirror() -> str:
    """Where this host gets Debian from; empty when it is no Debian, and debootstrap's own default serves."""
    for line in _output(
        ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT) $(CREATED_BY)"]
    ).splitlines():
        site, release, component, kind = (line.split() + [""] * 4)[:4]
        if (release, component, kind) == (SUITE, "main", "Packages") and site.startswith(("http://", "https://")):
            return site.rstrip("/")
    return ""


def _output(command: list[str]) -> str:
    """What a command prints, nothing when it fails or is not there."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
