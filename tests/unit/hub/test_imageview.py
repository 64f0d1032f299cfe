"""Instructions as the page shows them."""

import pytest

from moldar.hub.layers.image import command_text, instruction_of


@pytest.mark.parametrize(
    ("created_by", "shown"),
    [
        ("/bin/sh -c #(nop) ADD file:1a2b in / ", "ADD file:1a2b in /"),
        ('/bin/sh -c #(nop)  CMD ["bash"]', 'CMD ["bash"]'),
        ("/bin/sh -c apt-get update && apt-get install -y curl", "RUN apt-get update && apt-get install -y curl"),
        ("RUN /bin/sh -c pip install Flask # buildkit", "RUN pip install Flask"),
        ("RUN |1 VERSION=3 /bin/sh -c make # buildkit", "RUN make"),
        ("COPY . . # buildkit", "COPY . ."),
        ("umoci repack", "umoci repack"),
        ("", ""),
    ],
)
def test_instructions(created_by: str, shown: str) -> None:
    assert instruction_of(created_by) == shown


def test_long_ones_are_cut() -> None:
    assert len(instruction_of("RUN " + "x" * 100_000)) == 4000


def test_commands() -> None:
    assert command_text(("echo", 'a "b"', "é")) == '["echo", "a \\"b\\"", "é"]'
    assert command_text(()) == command_text(None) == ""
