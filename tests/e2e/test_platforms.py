"""`build --platform a,b`: an index with an image for each platform."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.program import Moldar

BOTH = "linux/amd64,linux/arm64"
DOCKERFILE = """FROM scratch
ARG TARGETARCH
COPY files/$TARGETARCH /arch
COPY files/amd64 files/arm64 /both/
WORKDIR /work
"""
FILES = {"files/amd64": "amd64", "files/arm64": "arm64"}


def document(archive: Path, digest: str) -> dict[str, Any]:
    with tarfile.open(archive) as tar:
        found: dict[str, Any] = json.load(tar.extractfile(f"blobs/{digest.replace(':', '/')}"))  # type: ignore[arg-type]
        return found


def root(archive: Path) -> dict[str, Any]:
    with tarfile.open(archive) as tar:
        listed = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
    return document(archive, listed["manifests"][0]["digest"])


def platforms(index: dict[str, Any]) -> list[str]:
    return [f"{entry['platform']['os']}/{entry['platform']['architecture']}" for entry in index["manifests"]]


def test_all_outputs_at_once(moldar: Moldar, project: Callable[..., Path], tmp_path: Path) -> None:
    context = project(Dockerfile=DOCKERFILE, **FILES)
    outputs = [
        f"type=oci,dest={tmp_path}/o.tar",
        f"type=local,dest={tmp_path}/out",
        f"type=tar,dest={tmp_path}/f.tar",
    ]
    notes = ["k=v", "index:i=j", "manifest[linux/arm64]:only=arm"]
    words = [word for output in outputs for word in ("-o", output)]
    words += [word for note in notes for word in ("--annotation", note)]
    moldar("build", "--platform", BOTH, *words, context)
    index = root(tmp_path / "o.tar")
    assert platforms(index) == ["linux/amd64", "linux/arm64"]
    assert index["annotations"] == {"i": "j"}
    manifests = [document(tmp_path / "o.tar", entry["digest"]) for entry in index["manifests"]]
    assert [manifest["annotations"] for manifest in manifests] == [{"k": "v"}, {"k": "v", "only": "arm"}]
    configs = [document(tmp_path / "o.tar", manifest["config"]["digest"]) for manifest in manifests]
    assert [config["architecture"] for config in configs] == ["amd64", "arm64"]
    assert (tmp_path / "out/linux_arm64/arch").read_text() == "arm64"
    assert (tmp_path / "out/linux_amd64/arch").read_text() == "amd64"
    with tarfile.open(tmp_path / "f.tar") as tar:
        assert {"linux_amd64/arch", "linux_arm64/both/amd64", "linux_arm64/work"} <= set(tar.getnames())


def test_names_stand_for_all_platforms(moldar: Moldar, project: Callable[..., Path], tmp_path: Path) -> None:
    """The name runs as the host's image; it is saved, and lives through a collection, as the whole index."""
    context = project(Dockerfile=DOCKERFILE, **FILES)
    digest_file = tmp_path / "iid"
    moldar("build", "--platform", BOTH, "-t", "both", "--iidfile", digest_file, context)
    moldar("tag", "both", "again")
    moldar("image", "prune", "-f")
    moldar("save", "-o", tmp_path / "saved.tar", "again")
    assert platforms(root(tmp_path / "saved.tar")) == ["linux/amd64", "linux/arm64"]
    assert digest_file.read_text().startswith("sha256:")
    moldar("system", "check")


def test_push_and_build_upon_an_index(moldar: Moldar, project: Callable[..., Path], tmp_path: Path, hub: str) -> None:
    """`--push` and `push` send every platform; each platform's build finds its own base in the registry."""
    context = project(Dockerfile=DOCKERFILE, **FILES)
    moldar("build", "--platform", BOTH, "--push", "-t", f"{hub}/alice/base:1", context)
    moldar("build", "--platform", BOTH, "-t", f"{hub}/alice/base:2", context)
    assert f"{hub}/alice/base" in moldar("push", f"{hub}/alice/base:2")
    child = project("child", Dockerfile=f"FROM {hub}/alice/base:2\nCOPY x /x\n", x="x")
    moldar("build", "--platform", BOTH, "-o", f"type=local,dest={tmp_path}/out", child)
    assert (tmp_path / "out/linux_arm64/arch").read_text() == "arm64"
    assert (tmp_path / "out/linux_amd64/arch").read_text() == "amd64"


def test_an_index_of_the_store_is_the_base_of_each_platform(
    moldar: Moldar, project: Callable[..., Path], tmp_path: Path
) -> None:
    moldar("build", "--platform", BOTH, "-t", "127.0.0.1:9/base", project(Dockerfile=DOCKERFILE, **FILES))
    child = project("child", Dockerfile="FROM 127.0.0.1:9/base\nCOPY x /x\n", x="x")
    moldar("build", "--platform", BOTH, "-o", f"type=local,dest={tmp_path}/out", child)
    assert (tmp_path / "out/linux_arm64/arch").read_text() == "arm64"
    assert (tmp_path / "out/linux_amd64/arch").read_text() == "amd64"
    told = moldar.fails("build", "--platform", "linux/s390x", child)
    assert "127.0.0.1:9" in told


def test_single_annotations_stay_in_the_store(moldar: Moldar, project: Callable[..., Path], tmp_path: Path) -> None:
    context = project(Dockerfile=DOCKERFILE, **FILES)
    moldar("build", "-t", "noted", "--annotation", "a=b", "--annotation", "index:c=d", context)
    moldar("save", "-o", tmp_path / "saved.tar", "noted")
    assert root(tmp_path / "saved.tar")["annotations"] == {"a": "b"}


def test_a_foreign_run_says_what_is_missing(moldar: Moldar, project: Callable[..., Path]) -> None:
    context = project(Dockerfile='FROM scratch\nCOPY Dockerfile /\nRUN ["/x"]\n')
    told = moldar.fails("build", "--platform", "linux/vax,linux/pdp11", context)
    assert "Dockerfile:3" in told
    assert "no emulator is registered" in told
    assert "qemu-user-static" in told


SHARED = """FROM --platform=$BUILDPLATFORM busybox AS tools
RUN cat /proc/sys/kernel/random/uuid > /shared
FROM --platform=$BUILDPLATFORM busybox AS made
ARG TARGETARCH
RUN --mount=type=cache,target=/met touch /met/$TARGETARCH; \\
    for i in $(seq 100); do [ -e /met/amd64 ] && [ -e /met/arm64 ] && exit 0; sleep 0.1; done; exit 1
FROM scratch
COPY --from=made /etc/passwd /passwd
COPY --from=tools /shared /shared
"""


def test_platforms_are_built_side_by_side_and_share_equal_steps(
    with_busybox: Moldar, project: Callable[..., Path], tmp_path: Path
) -> None:
    """The steps of both platforms wait for each other; what both need runs once, in one build of the history."""
    context = project(Dockerfile=SHARED)
    words = ("--progress", "plain", "-o", f"type=local,dest={tmp_path}/out", context)
    told = with_busybox.run("build", "--platform", BOTH, *words)
    assert told.returncode == 0, told.stderr
    assert "[linux/amd64->arm64 made 2/2] RUN" in told.stderr
    assert "[linux/arm64 stage-2 2/2] COPY --from=tools" in told.stderr
    shared = [(tmp_path / f"out/linux_{name}/shared").read_text() for name in ("amd64", "arm64")]
    assert shared[0] == shared[1]
    assert len(with_busybox("build", "history", "ls", "-q").split()) == 1
    assert with_busybox("build", "history", "show").count("RUN cat /proc") == 1


def test_one_cache_for_all_platforms(moldar: Moldar, project: Callable[..., Path], tmp_path: Path) -> None:
    context = project(Dockerfile=DOCKERFILE, **FILES)
    for mode in ("min", "max"):
        cache = tmp_path / f"cache-{mode}"
        moldar("build", "--platform", BOTH, "--cache-to", f"type=local,dest={cache},mode={mode}", context)
        other = Moldar(tmp_path / f"other-{mode}")
        words = ("--progress", "plain", "--cache-from", f"type=local,src={cache}", context)
        told = other.run("build", "--platform", BOTH, *words).stderr
        assert told.count("CACHED") == 6, told
