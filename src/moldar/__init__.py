"""Moldar builds, keeps, runs and shares container images, with no daemon.

The public Python API is one typed function per verb; each takes an engine, which is one store and what works on it:

    import moldar

    engine = moldar.Engine()
    built = moldar.build(engine, moldar.BuildRequest("examples/flask", tags=("my-server",)))
    ran = moldar.run(engine, "my-server", moldar.RunOptions(detach=True, publish=("127.0.0.1:5000:5000",)))

A program that is not root's calls `moldar.become_root(moldar.default_home())` first, while it has one thread.

The command line calls the same functions. `import moldar` alone loads none of them, because a cached build must stay
instant.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "BuildRequest": "requests",
    "Engine": "engine",
    "RunOptions": "containers",
    "Settings": "engine",
    "become_root": "rootless",
    "build": "building",
    "default_home": "engine",
    "execute": "containers",
    "history": "images",
    "inspect": "images",
    "list_containers": "containers",
    "list_images": "images",
    "load": "images",
    "login": "registries",
    "logout": "registries",
    "logs": "containers",
    "pull": "registries",
    "push": "registries",
    "remove": "images",
    "run": "containers",
    "save": "images",
    "stop": "containers",
    "tag": "images",
}
"""Public names, and the modules of `moldar.app` that hold them."""


def __getattr__(name: str) -> Any:
    """The public names, loaded when first used (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'moldar' has no attribute {name!r}")
    return getattr(importlib.import_module(f"moldar.app.{_PUBLIC[name]}"), name)
