"""Expansion of instructions: which fields, and with which rules."""

from typing import Any

import pytest

from moldar.dockerfile.instructions import Instruction
from moldar.dockerfile.reading import read_dockerfile
from moldar.dockerfile.source import DockerfileError
from moldar.dockerfile.words import Expander

VALUES = {"A": "x", "B": "y z", "SIG": "TERM"}


def expanded(text: str) -> Any:
    (instruction,) = read_dockerfile(b"FROM scratch\n" + text.encode()).stages[0].instructions
    return instruction.expand(Expander(VALUES.get))


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("ENV $A=$B C='$A'", {"pairs": (("x", "y z", False), ("C", "$A", False))}),
        ("LABEL k.$A $B", {"pairs": (("k.x", "y z", True),)}),
        ("WORKDIR /$A/$B", {"path": "/x/y z"}),
        ("USER $A:$NO", {"user": "x:"}),
        ("VOLUME /$A $B", {"paths": ("/x", "y z")}),
        ("STOPSIGNAL SIG$SIG", {"signal": "SIGTERM"}),
        ("EXPOSE $B 1", {"ports": ("y", "z", "1")}),
        ("MAINTAINER $A", {"author": "$A"}),
        ("RUN echo $A", {"command": (("echo $A",), True)}),
        ("RUN <<E\n$A\nE", {"command": (("$A\n",), True)}),
        ('CMD ["$A"]', {"command": (("$A",), False)}),
        ("ENTRYPOINT $A", {"command": (("$A",), True)}),
        ("HEALTHCHECK CMD $A", {"test": ("CMD-SHELL", "$A")}),
        ('SHELL ["$A"]', {"args": ("$A",)}),
        ("ONBUILD ENV A=$A", {"trigger": "ENV A=$A"}),
        ("ARG X=$A", {"arguments": (("X", "$A", ""),)}),
        (
            "COPY --chown=$A --chmod=$NO --exclude=$A $A $B /$A/",
            {"chown": "x", "chmod": "", "exclude": ("$A",), "sources": ("x", "y z"), "destination": "/x/"},
        ),
        ("COPY <<E <<'F' /d/\n\"$A\" \\$A\nE\n$A\nF", {"files": (("E", '"x" $A\n', True), ("F", "$A\n", False))}),
        ("ADD --checksum=$A http://$A /$A", {"checksum": "x", "sources": ("http://x",), "destination": "/x"}),
    ],
)
def test_fields(text: str, fields: dict[str, object]) -> None:
    result: Instruction = expanded(text)
    assert {name: getattr(result, name) for name in fields} == fields


def test_mounts_are_read_when_expanded() -> None:
    run = expanded("RUN --mount=type=cache,target=/$A,id=$A x")
    assert [(mount.kind, mount.target, mount.cache_id) for mount in run.mounts] == [("cache", "/x", "x")]


def test_ports_of_the_expanded_instruction() -> None:
    assert expanded("EXPOSE 80 53/udp 7-8 80/TCP").exposed() == ["53/udp", "7/tcp", "8/tcp", "80/tcp", "80/tcp"]


@pytest.mark.parametrize(
    "text",
    [
        "ENV A=${",
        "LABEL a=${A!}",
        "WORKDIR '",
        "USER ${NO:?say who}",
        "VOLUME $NO",
        "STOPSIGNAL SIGFOO",
        "EXPOSE ${",
        "EXPOSE eighty",
        "COPY ${ x",
        "COPY <<E /x\n${\nE",
        "ADD a '",
        "RUN --mount=type=x y",
    ],
)
def test_mistakes_are_located(text: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        result = expanded(text)
        result.exposed()
    assert caught.value.message.startswith("Dockerfile:2: ")
    assert "   2 | >>> " in caught.value.excerpt
