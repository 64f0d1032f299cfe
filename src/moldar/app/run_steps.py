"""The runner of RUN, which needs a runtime, mounts and secrets."""

import os

from moldar.app.engine import Engine
from moldar.app.machinery import machinery
from moldar.app.requests import BuildRequest, SecretSource
from moldar.builder.ops import Workshop
from moldar.builder.progress import EventSink, Warned
from moldar.builder.read_sets import ReadSets
from moldar.builder.run import RunRunner
from moldar.builder.run_mounts import RunSettings, StepSecrets
from moldar.errors import UserMistake
from moldar.sandbox.runtime import Streams


def run_runner(
    engine: Engine,
    request: BuildRequest,
    build: str,
    shop: Workshop,
    read_sets: ReadSets | None,
    *,
    events: EventSink,
) -> RunRunner:
    """The runner of RUN for the build of that ID. Raises NoRuntime; UserMistake for secrets that are not there."""
    home, parts = engine.home, machinery(engine)
    logs = f"{home.builds}/{build}"
    os.makedirs(logs, mode=0o700, exist_ok=True)
    settings = RunSettings(
        parts.runtime,
        parts.snapshots,
        home.cachemounts,
        logs,
        f"{home.snapshots}/work",
        StepSecrets({secret.id: _value(secret) for secret in request.secrets}, dict(request.ssh)),
        Streams(0, 2, 2) if request.debug_shell else None,
        request.cgroup_parent,
    )
    if request.cgroup_parent and not parts.runtime.features.cgroups:
        events.publish(Warned("", "--cgroup-parent is ignored: cgroups cannot be used on this host"))
    return RunRunner(shop, settings, read_sets)


def _value(secret: SecretSource) -> bytes:
    if secret.value is not None:
        return secret.value
    try:
        with open(secret.file, "rb") as file:
            return file.read()
    except OSError as error:
        raise UserMistake(f"cannot read secret {secret.id} from {secret.file}: {error.strerror}") from error
