"""A secret that steps use is nowhere afterwards: not in the store, the image, an export, the history or the logs."""

from collections.abc import Callable
from pathlib import Path

from tests.e2e.program import Moldar

SECRET = "correct-horse-battery-staple"
STEPS = """
FROM busybox
RUN --mount=type=secret,id=token sh -c 'test "$(wc -c < /run/secrets/token)" = 28'
RUN --mount=type=secret,id=token,target=/etc/token,mode=0444 cp /etc/token /dev/null && ls -l /etc/token
RUN --mount=type=secret,id=token,env=TOKEN test -n "$TOKEN" && echo ${#TOKEN} > /length
"""


def test_a_secret_leaves_no_trace(with_busybox: Moldar, project: Callable[..., Path], tmp_path: Path) -> None:
    context = project(Dockerfile=STEPS)
    (tmp_path / "token").write_text(SECRET)
    out = tmp_path / "out"
    out.mkdir()
    words = ("build", "--progress=plain", "--secret", f"id=token,src={tmp_path / 'token'}", "-t", "app")
    cache = ("--cache-to", f"type=local,dest={out / 'cache'},mode=max,compression=uncompressed")
    output = ("-o", f"type=oci,dest={out / 'image.tar'},compression=uncompressed", "-o", "type=image")
    done = with_busybox.run(*words, *cache, *output, context)
    assert done.returncode == 0, done.stderr
    (out / "said").write_text(done.stdout + done.stderr)
    (out / "told").write_text(with_busybox("history", "--no-trunc", "app") + with_busybox("inspect", "app"))
    assert with_busybox("run", "--rm", "app", "cat", "/length") == "28\n"
    assert (out / "cache" / "index.json").exists()
    searched = [path for root in (out, with_busybox.home / "home") for path in root.rglob("*") if path.is_file()]
    assert len(searched) > 20
    assert [path for path in searched if SECRET.encode() in path.read_bytes()] == []
