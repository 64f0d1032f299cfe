"""The grammar of options, names, signals and times."""

import re
import signal
from pathlib import Path

import pytest

from moldar.containers.logs import LogWriter, moment, read_logs
from moldar.containers.naming import check_name, new_id, new_name
from moldar.containers.options import (
    MountWord,
    RunOptions,
    parse_mount,
    parse_restart,
    parse_size,
    parse_tmpfs,
    parse_volume,
)
from moldar.containers.planning import define, merge_environment, signal_number
from moldar.containers.views import duration
from moldar.errors import UserMistake
from moldar.image.config import ContainerConfig
from moldar.image.model import Digest
from moldar.sandbox.ports import PortMapping

IMAGE = Digest("sha256:" + "1" * 64)


def defined(config: ContainerConfig | None = None, **members: object) -> object:
    options = RunOptions(**members)  # type: ignore[arg-type]
    given = config or ContainerConfig(cmd=("sh",))
    return define("a" * 64, IMAGE, given, options, driver="overlay", volumes="/volumes")


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "options", "expected"),
    [
        (None, ("a", "b"), {}, ("a", "b")),
        (("e",), ("a",), {}, ("e", "a")),
        (("e",), ("a",), {"command": ("x",)}, ("e", "x")),
        (("e",), ("a",), {"entrypoint": "z"}, ("z",)),
        (("e",), ("a",), {"entrypoint": "z", "command": ("x",)}, ("z", "x")),
        (("e",), ("a",), {"entrypoint": "", "command": ("x",)}, ("x",)),
    ],
)
def test_args(entrypoint: object, cmd: object, options: dict[str, object], expected: object) -> None:
    config = ContainerConfig(entrypoint=entrypoint, cmd=cmd)  # type: ignore[arg-type]
    assert defined(config, **options).args == expected  # type: ignore[attr-defined]


def test_a_container_needs_a_command() -> None:
    with pytest.raises(UserMistake, match="no command"):
        defined(ContainerConfig())


def test_what_the_image_says_is_the_default() -> None:
    config = ContainerConfig(
        user="web", env=("A=1", "PATH=/x"), cmd=("sh",), working_dir="/app", stop_signal="SIGINT",
        labels=(("k", "image"), ("l", "2")), volumes=("/data", "cache/"), exposed_ports=("80/tcp", "53/udp"),
    )  # fmt: skip
    made = defined(config, env=("A=2", "B=3"), labels=(("k", "own"),), publish_all=True, publish=("81:80",))
    assert made.user == "web"  # type: ignore[attr-defined]
    assert made.env == ("PATH=/x", "HOSTNAME=aaaaaaaaaaaa", "A=2", "B=3")  # type: ignore[attr-defined]
    assert made.cwd == "/app"  # type: ignore[attr-defined]
    assert made.stop_signal == "SIGINT"  # type: ignore[attr-defined]
    assert dict(made.labels) == {"k": "own", "l": "2"}  # type: ignore[attr-defined]
    assert made.ports == (PortMapping(80, "tcp", "", 81), PortMapping(53, "udp"))  # type: ignore[attr-defined]
    assert [mount.target for mount in made.mounts] == ["/data", "/cache"]  # type: ignore[attr-defined]
    assert all(mount.anonymous for mount in made.mounts)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"network": "lan"}, "network 'lan' not found"),
        ({"remove": True, "restart": "always"}, "conflicting options"),
        ({"volumes": ("a:/x", "b:/x")}, "duplicate mount point"),
        ({"stop_signal": "SIGNOPE"}, "invalid signal"),
        ({"publish": ("x",)}, "invalid port"),
    ],
)
def test_what_cannot_be(members: dict[str, object], message: str) -> None:
    with pytest.raises(UserMistake, match=message):
        defined(**members)


def test_later_variables_win_in_place() -> None:
    assert merge_environment(("A=1", "B=2"), ("A=3", "C=")) == ("A=3", "B=2", "C=")


def test_volumes() -> None:
    assert parse_volume("/data") == MountWord("volume", "", "/data")
    assert parse_volume("name:/data:ro") == MountWord("volume", "name", "/data", True)
    assert parse_volume("/host:/data") == MountWord("bind", "/host", "/data")
    assert parse_volume("./x:/data").source == f"{Path.cwd()}/x"
    assert parse_mount("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700") == MountWord(
        "tmpfs", "", "/t", False, 1 << 20, 0o700
    )
    assert parse_mount("type=bind,src=/etc,target=/e,readonly") == MountWord("bind", "/etc", "/e", True)
    assert parse_tmpfs("/t:size=64k") == MountWord("tmpfs", "", "/t", False, 1 << 16)


@pytest.mark.parametrize("text", ["data", "a:b", "a:/b:ro:x", "a:/", ":/x", ""])
def test_volumes_refused(text: str) -> None:
    with pytest.raises(UserMistake, match="invalid"):
        parse_volume(text)


@pytest.mark.parametrize(
    "text", ["type=disk,target=/x", "type=bind,target=/x", "type=bind,source=/nowhere/x,target=/x", "target=x"]
)
def test_mounts_refused(text: str) -> None:
    with pytest.raises(UserMistake, match="invalid mount"):
        parse_mount(text)


def test_sizes() -> None:
    assert [parse_size(text) for text in ("5", "5b", "2k", "2KB", "1.5m", "1g")] == [
        5, 5, 2048, 2048, 1572864, 1 << 30,
    ]  # fmt: skip
    with pytest.raises(UserMistake):
        parse_size("many")


def test_restart_policies() -> None:
    assert parse_restart("on-failure:3") == ("on-failure", 3)
    assert parse_restart("") == ("no", 0)
    for text in ("sometimes", "always:3", "on-failure:x"):
        with pytest.raises(UserMistake, match="restart policy"):
            parse_restart(text)


def test_signals() -> None:
    assert [signal_number(text) for text in ("9", "KILL", "sigterm", "SIGRTMIN+3", "RTMAX-1")] == [
        9, 9, 15, signal.SIGRTMIN + 3, signal.SIGRTMAX - 1,
    ]  # fmt: skip
    for text in ("0", "99", "NOPE", "RTMIN+99", "_DFL", "SIG_IGN", ""):
        with pytest.raises(UserMistake, match="invalid signal"):
            signal_number(text)


def test_names() -> None:
    assert re.fullmatch("[0-9a-f]{64}", new_id())
    assert re.fullmatch("[a-z]+_[a-z]+", new_name(()))
    assert check_name("/web-1") == "web-1"
    for name in ("", "-x", "a b", "x", "é1"):
        with pytest.raises(UserMistake, match="invalid container name"):
            check_name(name)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "Less than a second"), (1, "1 second"), (59, "59 seconds"), (61, "About a minute"), (150, "2 minutes"),
        (3700, "About an hour"), (7300, "2 hours"), (3 * 86400, "3 days"), (20 * 86400, "2 weeks"),
        (100 * 86400, "3 months"), (800 * 86400, "2 years"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_logs_keep_lines_and_bytes(tmp_path: Path) -> None:
    writer = LogWriter(str(tmp_path))
    writer.write("stdout", b"one\ntw")
    writer.write("stderr", b"err\xff\n")
    writer.write("stdout", b"o\n" + b"x" * 40000 + b"\nlast")
    writer.close()
    lines = list(read_logs(str(tmp_path)))
    assert (
        b"".join(line.data for line in lines if line.stream == "stdout") == b"one\ntwo\n" + b"x" * 40000 + b"\nlast"
    )
    assert [line.data for line in lines if line.stream == "stderr"] == [b"err\xff\n"]
    assert max(len(line.data) for line in lines) <= 16384
    assert [line.data for line in read_logs(str(tmp_path), tail=1)] == [b"last"]
    assert list(read_logs(str(tmp_path), tail=0)) == []
    assert len(list(read_logs(str(tmp_path), tail=999))) == len(lines)


def test_logs_by_time(tmp_path: Path) -> None:
    records = [f'{{"time": "2026-01-0{day}T00:00:00.0Z", "stream": "stdout", "log": "{day}"}}' for day in (1, 2, 3)]
    (tmp_path / "log.jsonl").write_text("\n".join([*records, '{"cut sh']) + "\n")
    assert [line.data for line in read_logs(str(tmp_path), since="2026-01-02T00:00:00Z")] == [b"2", b"3"]
    assert [line.data for line in read_logs(str(tmp_path), until="2026-01-02T12:00:00Z")] == [b"1", b"2"]
    assert list(read_logs(str(tmp_path / "none"))) == []


def test_moments() -> None:
    assert moment("0") == "1970-01-01T00:00:00.000000000Z"
    assert moment("1h30m", now=5400.0) == "1970-01-01T00:00:00.000000000Z"
    assert moment("2026-01-02T03:04:05+01:00").startswith("2026-01-02T02:04:05")
    for text in ("yesterday", "5x", "m"):
        with pytest.raises(UserMistake, match="invalid time"):
            moment(text)
