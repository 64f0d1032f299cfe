"""Why a step ran, in words: a sentence for each kind of change."""

import time
from collections.abc import Sequence

import pytest

from moldar.builder.file_reasons import File, file_changes, first_changed_line, summary
from moldar.builder.graph import CopyOp, HostEntry, Mount, RunOp, Ulimit, WorkdirOp
from moldar.builder.inputs import hash_lines, pack, unpack
from moldar.builder.keys import copy_key, run_key, workdir_key
from moldar.builder.reasons import Image, Known, alike, differences, evicted, presentable
from moldar.builder.solver import Key
from moldar.image.model import Digest, Platform, digest_of

BASE, NEWER, OTHER, STEP = (digest_of(name) for name in (b"base", b"newer", b"other", b"step"))
IMAGES = {
    BASE: Image("python:3.11.6-slim", "sha256:" + "a" * 64),
    NEWER: Image("python:3.11.6-slim", "sha256:" + "b" * 64),
    OTHER: Image("node:18", "sha256:" + "c" * 64),
}
TEXTS = {"1": b"one\ntwo\nthree\n", "2": b"one\ntwo\n3\n", "3": b"one\n", "4": b"\0\1"}
APP = File("app.py", "file", 0o644, "", "1")
LINK = File("current", "symlink", 0o777, "", "v1")
FILES = {
    "sha256:same": [APP, LINK],
    "sha256:edited": [APP._replace(content="2"), LINK],
    "sha256:cut": [APP._replace(content="3"), LINK],
    "sha256:binary": [APP._replace(content="4"), LINK],
    "sha256:large": [APP._replace(content="unknown"), LINK],
    "sha256:two": [APP._replace(content="2"), LINK._replace(content="v2")],
    "sha256:three": [APP._replace(content="2"), LINK._replace(content="v2"), File("x", "file", content="9")],
    "sha256:added": [APP, LINK, File("lib", "dir", 0o755), File("lib/new.py", "file", content="5")],
    "sha256:removed": [LINK],
    "sha256:renamed": [APP._replace(path="main.py"), LINK],
    "sha256:mode": [APP._replace(mode=0o755), LINK],
    "sha256:owner": [APP._replace(owner="1000:1000"), LINK],
    "sha256:link": [APP, LINK._replace(content="v2")],
    "sha256:kind": [APP, File("current", "dir", 0o755)],
    "sha256:hard": [APP._replace(same_as="other.py"), LINK],
    "sha256:odd": [APP._replace(path="a\x1b[31m\n.py"), LINK],
}


def lines(content: str) -> bytes | None:
    return hash_lines(TEXTS[content]) or None if content in TEXTS else None


KNOWN = Known(FILES.get, lines, lambda identity: IMAGES.get(Digest(identity)))


def why(before: Key, after: Key) -> str:
    assert before.digest != after.digest
    return differences(dict(before.parts), after.parts, KNOWN)[0].text


def run(content: str = "", base: Digest = BASE, **changes: object) -> Key:
    op = RunOp(("/bin/sh", "-c", "make all"), ("PATH=/bin", "VERSION=1"), "", "/")._replace(**changes)  # type: ignore[arg-type]
    return run_key(op, base, [content] * len(op.mounts))


def copy(contents: str = "sha256:same", base: Digest = BASE, **changes: object) -> Key:
    return copy_key(CopyOp(((1, "."),), "/app/")._replace(**changes), base, contents)  # type: ignore[arg-type]


BIND = Mount("bind", "/src", 1)
SECRET = Mount("secret", "/run/secrets/token", cache_id="token")
CASES: Sequence[tuple[Key, Key, str]] = (
    # files
    (copy(), copy("sha256:edited"), "app.py changed (line 3)"),
    (copy(), copy("sha256:cut"), "app.py changed (line 2)"),
    (copy(), copy("sha256:binary"), "app.py changed"),
    (copy(), copy("sha256:large"), "app.py changed"),
    (copy(), copy("sha256:two"), "app.py changed (line 3), and 1 more file changed"),
    (copy(), copy("sha256:three"), "app.py changed (line 3), and 2 more files changed"),
    (copy(), copy("sha256:added"), "lib/new.py was added"),
    (copy(), copy("sha256:removed"), "app.py was removed"),
    (copy(), copy("sha256:renamed"), "app.py was renamed to main.py"),
    (copy(), copy("sha256:mode"), "app.py has mode 0755 now (was 0644)"),
    (copy(), copy("sha256:owner"), "app.py belongs to 1000:1000 now (was 0:0)"),
    (copy(), copy("sha256:link"), "current points to v2 now (was v1)"),
    (copy(), copy("sha256:kind"), "current is a directory now (was a symbolic link)"),
    (copy(), copy("sha256:hard"), "app.py is a hard link to other.py now"),
    (copy("sha256:hard"), copy(), "app.py is no hard link any more"),
    (copy(), copy("sha256:odd"), "app.py was renamed to a?[31m?.py"),
    (copy(), copy("sha256:forgotten"), "the copied files changed"),
    (copy(BASE), copy(NEWER), "python:3.11.6-slim is now sha256:bbbbbbbbbbbb… (was sha256:aaaaaaaaaaaa…)"),
    (copy(BASE), copy(OTHER), "the image that it copies from changed: python:3.11.6-slim -> node:18"),
    # how they are copied
    (copy(), copy(destination="/srv/"), "the destination changed: /app/ -> /srv/"),
    (copy(), copy(sources=((1, "a"), (1, "b"))), "the sources changed: . -> a b"),
    (copy(), copy(chown="app"), "--chown changed: none -> app"),
    (copy(chmod="644"), copy(chmod="755"), "--chmod changed: 644 -> 755"),
    (copy(base=STEP), copy(base=STEP, parents=True), "--parents is given now"),
    (copy(exclude=("a",)), copy(), "--exclude is not given any more"),
    (copy(exclude=("a",)), copy(exclude=("a", "b")), "--exclude changed: a -> a b"),
    (copy(created_epoch=1), copy(created_epoch=2), "SOURCE_DATE_EPOCH changed: 1 -> 2"),
    # what is below
    (run(), run(base=NEWER), "python:3.11.6-slim is now sha256:bbbbbbbbbbbb… (was sha256:aaaaaaaaaaaa…)"),
    (run(), run(base=OTHER), "the base image changed: python:3.11.6-slim -> node:18"),
    (run(), run(base=STEP), "what is below it changed"),
    # commands
    (run(), run(args=("/bin/sh", "-c", "make fast")), "the command changed: make all -> make fast"),
    (run(), run(args=("make", "all")), "the command changed: make all -> make all, run without a shell"),
    (run(), run(environment=("PATH=/bin", "VERSION=2")), "VERSION changed: 1 -> 2"),
    (run(), run(environment=("PATH=/bin", "VERSION=1", "A=b")), "the variable A is new: b"),
    (run(), run(environment=("PATH=/bin",)), "the variable VERSION is gone"),
    (run(environment=("API_KEY=a",)), run(environment=("API_KEY=b",)), "API_KEY changed"),
    (run(environment=("X=a",)), run(environment=("X=" + "b" * 50,)), "X changed"),
    (run(), run(user="app"), "the user changed: root -> app"),
    (run(), run(one_id=True), "who can own files changed: everybody -> root only"),
    (run(), run(workdir="/srv"), "the working directory changed: / -> /srv"),
    (run(), run(network="none"), "the network changed: default -> none"),
    (run(), run(security="insecure"), "the security mode changed: sandbox -> insecure"),
    (run(platform=Platform("linux", "amd64")), run(platform=Platform("linux", "arm64")),
     "the platform changed: linux/amd64 -> linux/arm64"),
    (run(), run(hosts=(HostEntry("db", "10.0.0.1"),)), "--add-host changed: none -> db:10.0.0.1"),
    (run(), run(shm_size=64 << 20), "--shm-size changed: none -> 64 MB"),
    (run(), run(ulimits=(Ulimit("nofile", 1, 2),)), "--ulimit changed: none -> nofile:1:2"),
    (run(script_files=(("EOF", b"a"),)), run(script_files=(("EOF", b"b"),)),
     "the script in the heredoc EOF changed"),
    (run(newest=1), run(newest=2), "SOURCE_DATE_EPOCH changed: 1 -> 2"),
    # mounts
    (run("sha256:same", mounts=(BIND,)), run("sha256:edited", mounts=(BIND,)),
     "app.py changed (line 3) in the bind mount /src"),
    (run("sha256:x", mounts=(BIND,)), run("sha256:y", mounts=(BIND,)), "what the bind mount /src shows changed"),
    (run(), run(mounts=(SECRET,)), "the secret mount /run/secrets/token is new"),
    (run(mounts=(SECRET,)), run(), "the secret mount /run/secrets/token is gone"),
    (run(mounts=(SECRET,)), run(mounts=(SECRET._replace(required=True, mode=0o440),)),
     "the secret mount /run/secrets/token is defined otherwise (mode, required)"),
    # directories
    (workdir_key(WorkdirOp("/a"), BASE), workdir_key(WorkdirOp("/b"), BASE), "the directory changed: /a -> /b"),
)  # fmt: skip


@pytest.mark.parametrize(("before", "after", "sentence"), CASES, ids=[case[2] for case in CASES])
def test_the_sentence(before: Key, after: Key, sentence: str) -> None:
    assert why(before, after) == sentence


def test_there_are_sentences_for_many_kinds_of_change() -> None:
    assert len({sentence for _, _, sentence in CASES}) > 40


def test_long_commands_are_cut_to_where_they_differ() -> None:
    start = "apt-get update && apt-get install -y --no-install-recommends build-essential "
    text = why(
        run(args=("/bin/sh", "-c", start + "curl")), run(args=("/bin/sh", "-c", start + "wget && " + "x " * 90))
    )
    assert text.startswith("the command changed: …nds build-essential curl -> …nds build-essential wget && x ")
    assert len(text) < 180


def test_all_differences_are_kept_in_order() -> None:
    found = differences(dict(run().parts), run(base=NEWER, user="app", environment=("VERSION=2", "A=1")).parts, KNOWN)
    assert [difference.part for difference in found] == ["the files below it", "the environment", "the user"]
    assert found[1].clauses == ("the variable A is new: 1", "the variable PATH is gone", "VERSION changed: 1 -> 2")


@pytest.mark.parametrize(
    ("cause", "amount", "end"),
    [
        ("size", 10.0 * 2**30, ": the cache was larger than 10 GB"),
        ("age", 30 * 86400.0, ": unused for 30 days"),
        ("age", 0.0, ": the whole cache was pruned"),
        ("damaged", 0.0, ": its record was damaged"),
    ],
)
def test_evictions(cause: str, amount: float, end: str) -> None:
    when = time.mktime((2026, 11, 24, 9, 5, 0, 0, 0, -1))
    assert evicted(when, cause, amount) == "its result was evicted from the cache on 2026-11-24 09:05" + end


def test_values_that_look_like_secrets_are_not_shown() -> None:
    assert presentable("VERSION", "1.2.3-rc1")
    assert presentable("PATH", "/usr/bin:/bin")
    for name, value in (
        ("DB_PASSWORD", "x"), ("GITHUB_TOKEN", "x"), ("URL", "http://me:pw@host"), ("A", "a\nb"),
        ("ID", "ghp4f9a8b7c6d5e4f3a2b1"),
    ):  # fmt: skip
        assert not presentable(name, value)


def test_lines_are_compared_by_hash_alone() -> None:
    one, other = hash_lines(b"a\nb\nc"), hash_lines(b"a\nX\nc\nd")
    assert first_changed_line(one, other) == 2
    assert first_changed_line(one, hash_lines(b"a\nb\nc\nd")) == 4
    assert len(one) == 9
    assert hash_lines(b"\0elf") == b""


def test_a_moved_directory_is_told_by_its_files() -> None:
    before = [File("a", "dir"), File("a/x", "file", content="1"), File("a/y", "file", content="2")]
    after = [File("b", "dir"), File("b/x", "file", content="1"), File("b/y", "file", content="2")]
    changes = file_changes(before, after, lines)
    assert changes[:2] == ["a/x was renamed to b/x", "a/y was renamed to b/y"]
    assert summary(changes).startswith("a/x was renamed to b/x, and ")
    assert summary([]) == ""


def test_lists_of_files_survive_the_store() -> None:
    files = [APP, LINK, File("\udcff", "file")]
    assert unpack(pack(files)) == files
    assert unpack(b"nothing") is None


def test_only_steps_worded_alike_are_taken_for_each_other() -> None:
    assert alike("RUN pip install flask", "RUN pip install flask gunicorn")
    assert not alike("RUN make", "RUN apt-get install -y curl")
