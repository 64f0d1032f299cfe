"""Instructions that only change the image's config and what later instructions see."""

import posixpath
from collections.abc import Callable, Iterable
from typing import Any

from moldar.builder.plan import describe
from moldar.builder.plan.options import Unset
from moldar.builder.plan.state import StageState
from moldar.builder.plan.values import check_signal, exposed_ports
from moldar.dockerfile import instructions as ins
from moldar.image.config import Healthcheck

DEFAULT_SHELL = ("/bin/sh", "-c")


def shell_words(state: StageState, command: ins.Command) -> tuple[str, ...]:
    """The argv of a command: exec form as it is, shell form behind the stage's SHELL."""
    return (*(state.config.shell or DEFAULT_SHELL), *command.args) if command.shell else command.args


def set_environment(state: StageState, instruction: ins.Env) -> None:
    """ENV."""
    state.set_variables(_plain(instruction.pairs))
    state.commit("ENV " + _shown(instruction.pairs))


def set_labels(state: StageState, instruction: ins.Label) -> None:
    """LABEL."""
    state.set_labels(_plain(instruction.pairs))
    state.commit("LABEL " + _shown(instruction.pairs))


def set_author(state: StageState, instruction: ins.Maintainer) -> None:
    """MAINTAINER."""
    state.author = instruction.author
    state.commit(f"MAINTAINER {instruction.author}")


def set_user(state: StageState, instruction: ins.User) -> None:
    """USER."""
    state.change(user=instruction.user)
    state.commit(f"USER {instruction.user}")


def add_volumes(state: StageState, instruction: ins.Volume) -> None:
    """VOLUME."""
    state.change(volumes=tuple(dict.fromkeys((*state.config.volumes, *instruction.paths))))
    state.commit(f"VOLUME [{' '.join(instruction.paths)}]")


def add_ports(state: StageState, instruction: ins.Expose) -> None:
    """EXPOSE."""
    ports = exposed_ports(instruction.ports)
    state.change(exposed_ports=tuple(dict.fromkeys((*state.config.exposed_ports, *ports))))
    state.commit(f"EXPOSE [{' '.join(ports)}]")


def set_stop_signal(state: StageState, instruction: ins.StopSignal) -> None:
    """STOPSIGNAL."""
    check_signal(instruction.signal)
    state.change(stop_signal=instruction.signal)
    state.commit(f"STOPSIGNAL {instruction.signal}")


def set_shell(state: StageState, instruction: ins.Shell) -> None:
    """SHELL."""
    state.change(shell=instruction.args)
    state.commit(f"SHELL [{' '.join(instruction.args)}]")


def set_command(state: StageState, instruction: ins.Cmd) -> None:
    """CMD."""
    words = shell_words(state, instruction.command)
    state.change(cmd=words)
    state.command_set = True
    state.commit("CMD " + describe.quoted_list(words))


def set_entrypoint(state: StageState, instruction: ins.Entrypoint) -> None:
    """ENTRYPOINT; a CMD that this stage did not set itself belongs to another program, so it goes."""
    words = shell_words(state, instruction.command)
    state.change(entrypoint=words)
    if not state.command_set:
        state.change(cmd=None)
    state.commit("ENTRYPOINT " + describe.quoted_list(words))


def unset(state: StageState, what: Unset) -> None:
    """Drop from the config what --unset-volume and its like name; a name that is not there is fine. UserMistake."""
    if what == Unset():
        return
    config = state.config
    ports = exposed_ports(what.ports)
    volumes = [posixpath.normpath(path) for path in what.volumes]
    state.change(
        volumes=tuple(path for path in config.volumes if posixpath.normpath(path) not in volumes),
        exposed_ports=tuple(port for port in config.exposed_ports if port not in ports),
        env=tuple(variable for variable in config.env if variable.partition("=")[0] not in what.variables),
        labels=tuple(pair for pair in config.labels if pair[0] not in what.labels),
    )


def set_healthcheck(state: StageState, instruction: ins.Healthcheck) -> None:
    """HEALTHCHECK; it replaces an earlier one with all its options."""
    check = Healthcheck(
        instruction.test,
        instruction.interval,
        instruction.timeout,
        instruction.start_period,
        instruction.start_interval,
        instruction.retries,
    )
    state.change(healthcheck=check)
    state.commit("HEALTHCHECK " + describe.healthcheck(check))


def add_trigger(state: StageState, instruction: ins.Onbuild) -> None:
    """ONBUILD is recorded as written and leaves no history."""
    state.change(on_build=(*state.config.on_build, instruction.trigger))


def _plain(pairs: Iterable[ins.Pair]) -> list[tuple[str, str]]:
    return [(pair.key, pair.value) for pair in pairs]


def _shown(pairs: Iterable[ins.Pair]) -> str:
    return " ".join(f"{pair.key}={pair.value}" for pair in pairs)


HANDLERS: dict[type, Callable[[StageState, Any], None]] = {
    ins.Env: set_environment,
    ins.Label: set_labels,
    ins.Maintainer: set_author,
    ins.User: set_user,
    ins.Volume: add_volumes,
    ins.Expose: add_ports,
    ins.StopSignal: set_stop_signal,
    ins.Shell: set_shell,
    ins.Cmd: set_command,
    ins.Entrypoint: set_entrypoint,
    ins.Healthcheck: set_healthcheck,
    ins.Onbuild: add_trigger,
}
