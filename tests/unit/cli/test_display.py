"""The picture of a build, as lines."""

from moldar.builder.progress import VertexCompleted, VertexLog, VertexStarted, VertexStatus
from moldar.cli.progress.display import Display


def drawing(*, colour: bool = False) -> Display:
    display = Display("Building", colour=colour)
    display.apply(VertexStarted("a", "[internal] load build definition from Dockerfile", 100.0))
    display.apply(VertexCompleted("a", 100.1))
    display.apply(VertexStarted("b", "[2/3] WORKDIR /app", 100.1))
    display.apply(VertexCompleted("b", 100.1, cached=True))
    display.apply(VertexStarted("c", "[3/3] RUN make", 100.1))
    return display


def test_a_running_step_shows_its_last_lines_of_output() -> None:
    display = drawing()
    display.apply(VertexLog("c", 1, b"".join(b"line %d\n" % number for number in range(9)) + b"rest", 101.0))
    assert display.lines(60, 40, 105.0) == [
        "[+] Building 5.0s (2/3)",
        " => [internal] load build definition from Dockerfile    0.1s",
        " => CACHED [2/3] WORKDIR /app                           0.0s",
        " => [3/3] RUN make                                      4.9s",
        *(f" => => # line {number}" for number in range(3, 9)),
    ]


def test_the_last_picture_says_finished_and_drops_the_output() -> None:
    display = drawing()
    display.apply(VertexLog("c", 1, b"hello\n", 101.0))
    display.apply(VertexStatus("c", "exporting layers", 5_000_000, 0, 101.0, completed=True))
    display.apply(VertexCompleted("c", 117.7))
    lines = display.lines(60, 5, 200.0, final=True)
    assert lines[0] == "[+] Building 17.7s (3/3) FINISHED"
    assert lines[-1].startswith(" => => exporting layers 5MB")
    assert not any("hello" in line for line in lines)


def test_an_error_is_marked() -> None:
    display = drawing(colour=True)
    display.apply(VertexCompleted("c", 101.0, error="exit code: 1"))
    lines = display.lines(60, 40, 101.0, final=True)
    assert "ERROR" in lines[0]
    assert "ERROR [3/3] RUN make" in lines[-1]
    assert lines[-1].startswith("\x1b[31m")


def test_the_output_of_a_failed_step_is_kept() -> None:
    display = drawing()
    display.apply(VertexLog("c", 2, b"first\nlast", 101.0))
    assert display.failures() == []
    display.apply(VertexCompleted("c", 101.0, error="exit code: 1"))
    assert display.failures() == ["------", " > [3/3] RUN make:", "first", "last", "------"]


def test_no_line_is_wider_than_the_terminal_and_the_picture_fits() -> None:
    display = drawing()
    for number in range(50):
        display.apply(VertexStarted(f"s{number}", "x" * 200, 100.0))
    lines = display.lines(40, 20, 101.0)
    assert max(map(len, lines)) <= 40
    assert len(lines) <= 20


def test_output_is_shown_as_a_terminal_would_leave_it() -> None:
    display = drawing()
    display.apply(VertexLog("c", 1, b"10%\r50%\r\x1b[32m100%\x1b[0m\n", 101.0))
    assert display.lines(60, 40, 105.0)[-1] == " => => # 100%"
