"""RUN on a busybox root: sandbox, mounts, secrets, layers, logs, failures, cancellation."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from moldar.builder.graph import HostEntry, Ulimit
from moldar.builder.ops import stack_of
from moldar.builder.run import ProcessFailed
from moldar.builder.run_mounts import MissingSecret, StepSecrets
from moldar.builder.selection import MissingSource
from moldar.errors import MoldarError

from .builder_bench import Bench


def read(bench: Bench, text: str, path: str = "out", **options: object) -> str:
    """What the file `path` holds after the build."""
    result = bench.build(f"FROM busybox\n{text}", **options)
    with bench.mounted(result) as root:
        return (Path(root) / path).read_text()


def test_output_environment_and_user(bench: Bench) -> None:
    text = (
        "ARG A=1\nENV B=2\nUSER app:staff\nWORKDIR /w\n"
        'RUN echo "$A $B $HOME $(id -u):$(id -g) $PWD" | tee /tmp/out; echo e >&2'
    )
    assert read(bench, text, "tmp/out") == "1 2 /home/app 1000:50 /w\n"
    assert b"1 2 /home/app 1000:50 /w\n" in bench.output()
    assert b"e\n" in bench.output()
    logs = list((bench.base / "logs").iterdir())
    assert sorted(logs[0].read_bytes().splitlines()) == [b"1 2 /home/app 1000:50 /w", b"e"]


def test_a_layer_holds_what_changed_and_nothing_else(bench: Bench) -> None:
    assert bench.top_layer(bench.build("FROM busybox\nRUN true")) == []
    assert bench.top_layer(bench.build("FROM busybox\nRUN touch /new && rm /etc/group")) == [
        "etc",
        "etc/.wh.group",
        "new",
    ]


def test_a_second_build_is_cached_and_has_the_same_image(bench: Bench) -> None:
    text = "FROM busybox\nWORKDIR /w\nCOPY f .\nRUN date +%N > /out\nLABEL a=b"
    (bench.context / "f").write_text("one")
    first = bench.build(text)
    raw = bench.raw
    assert bench.ran() == ["WORKDIR /w", "COPY f .", "RUN date +%N > /out"]
    os.utime(bench.context / "f", (5, 5))
    assert bench.build(text) == first
    assert bench.raw == raw
    assert bench.ran() == []
    (bench.context / "f").write_text("two")
    bench.build(text)
    assert bench.ran() == ["COPY f .", "RUN date +%N > /out"]
    assert bench.reason("COPY f") == "ran because f changed (line 1)"
    assert bench.reason("RUN date") == "follows from: COPY f . ran because f changed (line 1)"


def test_no_cache_runs_everything_and_stages_can_be_named(bench: Bench) -> None:
    text = "FROM busybox AS a\nRUN echo a > /a\nFROM busybox AS b\nRUN echo b > /b\nCOPY --from=a /a /a"
    bench.build(text)
    bench.build(text, no_cache=True)
    assert sorted(bench.ran()) == ["COPY --from=a /a /a", "RUN echo a > /a", "RUN echo b > /b"]
    bench.build(text, no_cache_filter=("a",))
    assert bench.ran() == ["RUN echo a > /a"]


def test_a_record_counts_only_while_its_layer_is_here(bench: Bench) -> None:
    text = "FROM busybox\nRUN echo a > /a"
    result = bench.build(text)
    bench.snapshots.remove(bench.snapshots.keys(stack_of(result))[-1])
    bench.blobs.delete(result.layers[-1][0])
    bench.build(text)
    assert bench.ran() == ["RUN echo a > /a"]


def test_what_was_found_is_kept_once_a_step_runs(bench: Bench) -> None:
    first = bench.build("FROM busybox\nRUN echo a > /a").layers[-1][0]

    def kept() -> set[str]:
        return {key for (key,) in bench.database.rows("SELECT key FROM leases WHERE kind = 'layer'")}

    bench.database.write("DELETE FROM leases")
    bench.build("FROM busybox\nRUN echo a > /a")
    assert kept() == set()
    bench.build("FROM busybox AS a\nRUN echo a > /a\nFROM busybox\nRUN true\nCOPY --from=a /bin /copied")
    assert first in kept()


def test_a_changed_variable_is_named_without_its_value(bench: Bench) -> None:
    text = "FROM busybox\nARG TOKEN\nENV OTHER=1\nRUN true"
    bench.build(text, build_args={"TOKEN": "abc"})
    bench.build(text, build_args={"TOKEN": "xyz"})
    assert bench.reason("RUN true") == "ran because TOKEN changed"


def test_proxies_are_seen_and_change_nothing(bench: Bench) -> None:
    text = 'RUN echo "$HTTP_PROXY $http_proxy" > /out'
    assert read(bench, text, build_args={"HTTP_PROXY": "http://a:1"}) == "http://a:1 http://a:1\n"
    assert read(bench, text, build_args={"HTTP_PROXY": "http://b:2"}) == "http://a:1 http://a:1\n"
    assert bench.ran() == []


def test_a_cache_mount_is_kept_between_builds_and_not_in_the_image(bench: Bench) -> None:
    mount = "--mount=type=cache,target=/c,id=x,mode=0750,uid=1000"
    bench.build(f"FROM busybox\nRUN {mount} stat -c '%a %u' /c > /c/f")
    result = bench.build(f"FROM busybox\nRUN {mount} cp /c/f /out")
    assert bench.top_layer(result) == ["out"]
    with bench.mounted(result) as root:
        assert (Path(root) / "out").read_text() == "750 1000\n"


ALONE = "test ! -e /c/busy && touch /c/busy && sleep 0.3 && rm /c/busy"


def test_locked_caches_are_used_one_after_the_other(bench: Bench) -> None:
    step = f"RUN --mount=type=cache,target=/c,sharing=locked {ALONE}"
    stages = "".join(f"FROM busybox AS s{number}\n{step} && echo {number} > /n\n" for number in range(3))
    copies = "".join(f"COPY --from=s{number} /n /{number}\n" for number in range(3))
    bench.build(f"{stages}FROM busybox\n{copies}")


def test_a_private_cache_is_never_shared(bench: Bench) -> None:
    step = f"RUN --mount=type=cache,target=/c,sharing=private {ALONE}"
    stages = "".join(f"FROM busybox AS s{number}\n{step} && echo {number} > /n\n" for number in range(2))
    begin = time.monotonic()
    bench.build(f"{stages}FROM busybox\nCOPY --from=s0 /n /0\nCOPY --from=s1 /n /1\n")
    assert time.monotonic() - begin < 10
    assert len([name for name in os.listdir(bench.home.cachemounts) if "." not in name]) == 2


def test_one_cache_at_two_places(bench: Bench) -> None:
    mounts = " ".join(f"--mount=type=cache,target={target},id=x,sharing=locked" for target in ("/a", "/b"))
    assert read(bench, f"RUN {mounts} echo hi > /a/f && cp /b/f /out") == "hi\n"


def test_steps_that_lock_the_same_caches_in_another_order(bench: Bench) -> None:
    one, two = (
        "--mount=type=cache,target=/c/x,id=x,sharing=locked",
        "--mount=type=cache,target=/c/y,id=y,sharing=locked",
    )
    stages = "".join(f"FROM busybox AS a{n}\nRUN {one} {two} echo {n}\n" for n in range(3))
    stages += "".join(f"FROM busybox AS b{n}\nRUN {two} {one} echo {n}\n" for n in range(3))
    copies = "".join(f"COPY --from={stage}{n} /etc /{stage}{n}\n" for stage in "ab" for n in range(3))
    bench.build(f"{stages}FROM busybox\n{copies}")


def test_bind_mounts_of_context_and_stage(bench: Bench) -> None:
    (bench.context / "d").mkdir()
    (bench.context / "d/f").write_text("file\n")
    (bench.context / "d/hidden").write_text("secret\n")
    (bench.context / ".dockerignore").write_text("d/hidden\n")
    text = (
        "RUN --mount=target=/ctx --mount=source=d/f,target=/one cat /ctx/d/f /one > /out && ls /ctx/d >> /out\n"
        "RUN --mount=target=/ctx,rw echo changed > /ctx/d/f && rm -r /ctx/d && ls /ctx >> /out\n"
        "RUN --mount=from=busybox,source=/etc,target=/e wc -l < /e/group >> /out"
    )
    assert read(bench, text) == "file\nfile\nf\n3\n"
    assert (bench.context / "d/f").read_text() == "file\n"


def test_a_bind_mount_is_part_of_the_key(bench: Bench) -> None:
    (bench.context / "f").write_text("1")
    (bench.context / "other").write_text("1")
    text = "RUN --mount=source=f,target=/f cat /f > /out"
    assert read(bench, text) == "1"
    (bench.context / "other").write_text("2")
    assert read(bench, text) == "1"
    assert bench.ran() == []
    (bench.context / "f").write_text("2")
    assert read(bench, text) == "2"


def test_a_bind_mount_is_read_only(bench: Bench) -> None:
    (bench.context / "f").write_text("1")
    with pytest.raises(ProcessFailed, match="exit code: 1"):
        bench.build("FROM busybox\nRUN --mount=target=/ctx touch /ctx/new")
    assert b"Read-only" in bench.output()


def test_missing_mount_points_leave_no_trace(bench: Bench) -> None:
    (bench.context / "f").write_text("1")
    result = bench.build(
        "FROM busybox\nRUN --mount=source=f,target=/etc/a/b/c --mount=type=tmpfs,target=/t "
        "--mount=type=cache,target=/usr/c touch /done /t/x"
    )
    assert bench.top_layer(result) == ["done"]


def test_a_bind_source_that_is_missing(bench: Bench) -> None:
    with pytest.raises(MissingSource) as caught:
        bench.build("FROM busybox\nRUN --mount=source=nowhere,target=/f true")
    assert caught.value.message.startswith("Dockerfile:2: ")


SECRET = b"very-secret-value-9f1c"


def test_secrets_are_seen_and_kept_nowhere(bench: Bench) -> None:
    bench.secrets = StepSecrets({"token": SECRET})
    text = (
        "RUN --mount=type=secret,id=token,mode=0440,uid=1000 --mount=type=secret,id=token,env=TOKEN "
        'stat -c \'%a %u\' /run/secrets/token > /out && test "$TOKEN" = "$(cat /run/secrets/token)"'
    )
    result = bench.build(f"FROM busybox\n{text}")
    assert bench.top_layer(result) == ["out"]
    for path in bench.base.rglob("*"):
        assert not path.is_file() or path.is_symlink() or SECRET not in path.read_bytes(), path
    bench.secrets = StepSecrets({"token": b"another"})
    bench.build(f"FROM busybox\n{text}")
    assert bench.ran() == []


def test_a_required_secret(bench: Bench) -> None:
    with pytest.raises(MissingSecret, match="license"):
        bench.build("FROM busybox\nRUN --mount=type=secret,id=license,required=true true")


def test_scripts_from_heredocs(bench: Bench) -> None:
    text = 'RUN <<EOF\n#!/bin/awk -f\nBEGIN { print "awk" > "/out" }\nEOF'
    assert read(bench, text) == "awk\n"


def test_no_network_and_more_hosts(bench: Bench) -> None:
    text = "RUN --network=none tail -n +2 /proc/net/route | wc -l > /out\nRUN grep -c example /etc/hosts >> /out"
    assert read(bench, text, hosts=(HostEntry("www.example", "10.1.2.3"),)) == "0\n1\n"


def test_limits_and_memory(bench: Bench) -> None:
    text = "RUN ulimit -n > /out; df /dev/shm | tail -n 1 | awk '{ print $2 }' >> /out"
    assert read(bench, text, ulimits=(Ulimit("nofile", 100, 200),), shm_size=1 << 20) == "100\n1024\n"


def test_a_failing_process(bench: Bench) -> None:
    with pytest.raises(ProcessFailed) as caught:
        bench.build("FROM busybox\nRUN true\nRUN echo partly \\\n  && exit 37")
    error = caught.value
    assert error.status == 37
    assert error.message.startswith('Dockerfile:3: process "/bin/sh -c echo partly')
    assert error.message.endswith("exit code: 37")
    assert "4 | >>>" in error.excerpt
    assert Path(error.log).read_bytes() == b"partly\n"
    bench.build("FROM busybox\nRUN true")
    assert bench.ran() == []


@pytest.mark.parametrize(
    ("text", "words"),
    [('RUN ["/no/such/program"]', "/no/such/program"), ("USER ghost\nRUN true", "ghost")],
)
def test_what_cannot_start(bench: Bench, text: str, words: str) -> None:
    with pytest.raises(MoldarError) as caught:
        bench.build(f"FROM busybox\n{text}")
    assert words in caught.value.message
    assert caught.value.message.startswith("Dockerfile:")


def test_a_failure_stops_other_steps_and_leaves_nothing_mounted(bench: Bench) -> None:
    text = (
        "FROM busybox AS slow\nRUN sleep 60\nFROM busybox AS bad\nRUN sleep 0.3; exit 3\n"
        "FROM busybox\nCOPY --from=slow / /a\nCOPY --from=bad / /b"
    )
    begin = time.monotonic()
    with pytest.raises(ProcessFailed, match="exit code: 3"):
        bench.build(text)
    assert time.monotonic() - begin < 20
    assert not os.listdir(f"{bench.home.snapshots}/work")
    with open("/proc/self/mountinfo") as mounts:
        assert str(bench.base) not in mounts.read()


def test_ctrl_c_stops_the_build(bench: Bench) -> None:
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        bench.build("FROM busybox\nRUN sleep 60")
    assert time.monotonic() - begin < 20
    assert not os.listdir(f"{bench.home.snapshots}/work")


def test_a_root_without_directories_gets_them_once(bench: Bench) -> None:
    text = 'FROM scratch\nCOPY --from=busybox /bin/busybox /busybox\nRUN ["/busybox", "touch", "/f"]'
    assert bench.top_layer(bench.build(text)) == ["dev", "f", "proc", "sys"]


def test_equal_artifacts_of_a_changed_stage_keep_the_rest_cached(bench: Bench) -> None:
    def text(number: int) -> str:
        return (
            f"FROM busybox AS make\nRUN echo {number} > /log && echo same > /artifact\n"
            "FROM busybox\nCOPY --from=make /artifact /artifact\nRUN cat /artifact > /out"
        )

    bench.build(text(1))
    bench.build(text(2))
    assert bench.ran() == ["RUN echo 2 > /log && echo same > /artifact"]
