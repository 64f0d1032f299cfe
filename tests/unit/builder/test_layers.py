"""COPY, ADD and WORKDIR through the whole builder: what their layers hold, when they are cached."""

import os
import tarfile
from pathlib import Path

import pytest

from moldar.builder.ops import stack_of
from moldar.builder.plan import NamedContext
from moldar.errors import UserMistake

from .builder_bench import Bench


def status(bench: Bench, text: str, path: str) -> os.stat_result:
    with bench.mounted(bench.build(text)) as root:
        return os.lstat(Path(root) / path)


def test_workdir_makes_what_is_missing_and_gives_it_to_the_user(bench: Bench) -> None:
    text = "FROM busybox\nUSER app:staff\nWORKDIR /home/app/a/b"
    result = bench.build(text)
    assert bench.top_layer(result) == ["home", "home/app", "home/app/a", "home/app/a/b"]
    made = status(bench, text, "home/app/a")
    assert (made.st_uid, made.st_gid, made.st_mode & 0o7777) == (1000, 50, 0o755)
    assert status(bench, text, "home").st_uid == 0


def test_workdir_on_an_existing_directory_is_an_empty_layer(bench: Bench) -> None:
    result = bench.build("FROM busybox\nUSER app\nWORKDIR /root")
    assert bench.top_layer(result) == []
    assert len(result.layers) == 2


def test_workdir_follows_links(bench: Bench) -> None:
    text = "FROM busybox\nRUN mkdir /real && ln -s real /link\nWORKDIR /link/below"
    assert bench.top_layer(bench.build(text)) == ["real", "real/below"]


def test_workdir_cannot_be_below_a_file(bench: Bench) -> None:
    with pytest.raises(
        UserMistake, match="Dockerfile:2: cannot make the directory /etc/passwd/x: /etc/passwd is a file"
    ):
        bench.build("FROM busybox\nWORKDIR /etc/passwd/x")


def test_the_epoch_dates_new_directories_and_no_copied_file(bench: Bench) -> None:
    (bench.context / "f").write_text("f")
    os.utime(bench.context / "f", (1_400_000_000, 1_400_000_000))
    result = bench.build("FROM scratch\nWORKDIR /made\nCOPY f /made/", source_date_epoch="1300000000")
    with bench.mounted(result) as root:
        assert os.stat(f"{root}/made/f").st_mtime == 1_400_000_000
    assert bench.config.created == "2011-03-13T07:06:40Z"


def test_the_same_build_in_another_store_has_the_same_layers(bench: Bench, tmp_path: Path, busybox: Path) -> None:
    text = "FROM busybox\nWORKDIR /w\nCOPY . .\nRUN cat f > g && touch -d @5 g . && chmod 600 g"
    (bench.context / "f").write_text("f")
    os.utime(bench.context / "f", (1_400_000_000, 1_400_000_000))
    os.utime(bench.context, (1_400_000_000, 1_400_000_000))
    (tmp_path / "other").mkdir()
    other = Bench(tmp_path / "other", busybox, "overlay")
    try:
        other.context.rmdir()
        other.context.symlink_to(bench.context)
        first = bench.build(text, source_date_epoch="1300000000")
        assert stack_of(other.build(text, source_date_epoch="1300000000")) == stack_of(first)
        assert other.raw == bench.raw
    finally:
        other.lease.release()
        other.database.close()


def test_a_linked_copy_is_reused_on_another_base(bench: Bench) -> None:
    (bench.context / "f").write_text("f")
    bench.build("FROM busybox\nRUN echo 1 > /n\nCOPY --link f /x/f")
    result = bench.build("FROM busybox\nRUN echo 2 > /n\nCOPY --link f /x/f")
    assert bench.ran() == ["RUN echo 2 > /n"]
    with bench.mounted(result) as root:
        assert (Path(root) / "n").read_text() == "2\n"
        assert (Path(root) / "x/f").read_text() == "f"


def test_files_from_the_dockerfile_and_an_archive(bench: Bench) -> None:
    (bench.context / "inner").write_text("inner")
    with tarfile.open(bench.context / "a.tar.gz", "w:gz") as archive:
        archive.add(bench.context / "inner", "inner")
    result = bench.build("FROM busybox\nARG WHO=me\nCOPY <<one <<'two' /d/\n$WHO\none\n$WHO\ntwo\nADD a.tar.gz /d/")
    with bench.mounted(result) as root:
        directory = Path(root) / "d"
        contents = {path.name: path.read_text() for path in directory.iterdir()}
    assert contents == {"one": "me\n", "two": "$WHO\n", "inner": "inner"}


def test_a_named_context_as_base_and_as_source(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/tool").write_text("tool")
    bench.contexts["tools"] = str(tmp_path)
    contexts = {"tools": NamedContext("local", str(tmp_path))}
    result = bench.build("FROM tools\nCOPY --from=tools bin/tool /copy", contexts=contexts)
    with bench.mounted(result) as root:
        assert sorted(os.listdir(root)) == ["bin", "copy"]
    assert [entry.created_by for entry in bench.config.history] == [
        "COPY bin/tool /copy # buildkit", "[stage-0 1/2] COPY --from=tools bin/tool /copy",
    ]  # fmt: skip
