"""Build caches that travel: to a directory, a registry, or inside an image, and onto a second machine."""

import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.program import Moldar
from tests.e2e.test_build import steps

Project = Callable[..., Path]
BASE = "127.0.0.1:9/only/here:1"
"""The name of a base image that no registry serves."""
STAGES = f"""
FROM {BASE} AS build
RUN --mount=type=cache,target=/kept echo kept > /kept/file && head -c 400000 /dev/urandom > /large
COPY source /source
RUN cat /source /source > /made
FROM {BASE}
WORKDIR /app
COPY --from=build /made made
COPY later .
RUN cat made later > whole
CMD ["cat", "/app/whole"]
"""


@pytest.fixture
def context(with_busybox: Moldar, project: Project) -> Path:
    """A project with two stages, the first with a large layer, over an image that only the first machine has."""
    with_busybox("tag", "busybox", BASE)
    return project(Dockerfile=STAGES, source="1\n", later="2\n")


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Moldar]:
    """A machine with an empty store."""
    root = tmp_path / "second"
    root.mkdir()
    program = Moldar(root)
    yield program
    program.close()


def image_id(program: Moldar, name: str) -> str:
    return program("image", "inspect", "--format", "{{.Id}}", name).strip()


def largest_blob(program: Moldar) -> int:
    """Bytes of the largest layer blob in the store, the static busybox of the base image apart."""
    blobs = [path.stat().st_size for path in (program.home / "home/blobs/sha256").iterdir()]
    return max(size for size in blobs if size < 500_000)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_second_machine_with_only_the_cache_has_every_step_cached(
    with_busybox: Moldar, second: Moldar, context: Path, tmp_path: Path, mode: str
) -> None:
    cache = tmp_path / "cache"
    with_busybox("build", "-t", "app", "--cache-to", f"type=local,dest={cache},mode={mode}", context)
    done = second.run("build", "-t", "app", "--cache-from", f"type=local,src={cache}", context)
    assert done.returncode == 0, done.stderr
    assert len(steps(done.stderr)) == 7
    assert all(steps(done.stderr).values()), done.stderr
    assert image_id(second, "app") == image_id(with_busybox, "app")
    assert second("run", "--rm", "app") == "1\n1\n2\n"
    assert largest_blob(second) < 400_000, "the large layer of the other stage is not needed"
    assert second("system", "check").splitlines()[-1]
    if mode == "max":
        sizes = [path.stat().st_size for path in (cache / "blobs/sha256").iterdir()]
        assert any(400_000 <= size < 500_000 for size in sizes), "the cache itself has the large layer"


@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_change_runs_what_comes_after_it(
    with_busybox: Moldar, second: Moldar, context: Path, tmp_path: Path, mode: str
) -> None:
    cache = tmp_path / "cache"
    with_busybox("build", "--cache-to", f"type=local,dest={cache},mode={mode}", context)
    (context / "later").write_text("3\n")
    done = second.run("build", "-t", "app", "--cache-from", f"type=local,src={cache}", context)
    assert list(steps(done.stderr).values()).count(False) == 2, done.stderr
    assert second("run", "--rm", "app") == "1\n1\n3\n"
    assert largest_blob(second) < 400_000
    (context / "source").write_text("4\n")
    again = second.run("build", "-t", "app", "--cache-from", f"type=local,src={cache}", context)
    assert again.returncode == 0, again.stderr
    assert "ERROR" not in again.stderr
    assert ("only named in the imported cache" in again.stderr) == (mode == "min")
    assert second("run", "--rm", "app") == "4\n4\n3\n"


def test_the_next_build_needs_the_cache_no_more(
    with_busybox: Moldar, second: Moldar, tmp_path: Path, project: Project
) -> None:
    context = project(Dockerfile="FROM scratch\nCOPY a /a\nCOPY b /b\n", a="1", b="2")
    cache = tmp_path / "cache"
    with_busybox("build", "--cache-to", f"type=local,dest={cache}", context)
    second("build", "--cache-from", f"type=local,src={cache}", context)
    shutil.rmtree(cache)
    assert all(steps(second.run("build", context).stderr).values())


def test_a_registry_keeps_a_cache_and_is_sent_nothing_twice(
    with_busybox: Moldar, second: Moldar, context: Path, hub: str
) -> None:
    place = f"type=registry,ref={hub}/alice/app:cache,mode=max"
    with_busybox("build", "-t", "app", "--cache-to", place, context)
    again = with_busybox.run("build", "-t", "app", "--cache-to", place, context)
    sent = [line for line in again.stderr.splitlines() if "sha256:" in line and " / " in line]
    assert len(sent) > 5
    assert all(line.split()[2] == "0B" for line in sent), again.stderr
    second("login", "-u", "alice", "--password-stdin", hub, stdin="secret-of-alice")
    done = second.run("build", "-t", "app", "--cache-from", f"type=registry,ref={hub}/alice/app:cache", context)
    assert len(steps(done.stderr)) == 7
    assert all(steps(done.stderr).values()), done.stderr
    assert image_id(second, "app") == image_id(with_busybox, "app")
    assert largest_blob(second) < 400_000


def test_an_image_carries_its_own_cache(with_busybox: Moldar, second: Moldar, context: Path, hub: str) -> None:
    name = f"{hub}/alice/app"
    with_busybox("build", "-t", name, "--cache-to", "type=inline", context)
    first = image_id(with_busybox, name)
    with_busybox("build", "-t", name, "--cache-to", "type=inline", "--push", context)
    assert image_id(with_busybox, name) == first
    second("login", "-u", "alice", "--password-stdin", hub, stdin="secret-of-alice")
    (context / "Dockerfile").write_text(STAGES.replace(BASE, f"{hub}/alice/base"))
    with_busybox("tag", "busybox", f"{hub}/alice/base")
    with_busybox("push", f"{hub}/alice/base")
    done = second.run("build", "-t", "app", "--cache-from", name, context)
    assert all(steps(done.stderr).values()), done.stderr
    assert second("run", "--rm", "app") == "1\n1\n2\n"
    config = second.home / "home/blobs/sha256" / image_id(second, "app").removeprefix("sha256:")
    assert "moldar.buildcache.v1" not in json.loads(config.read_text()), "nobody asked for it here"


def test_an_index_carries_the_cache_of_each_platform_in_its_image(
    with_busybox: Moldar, second: Moldar, project: Project, tmp_path: Path, hub: str
) -> None:
    """Each config has the steps of its own platform, and a second machine reads those that it builds for."""
    name = f"{hub}/alice/app"
    with_busybox("tag", "busybox", f"{hub}/alice/base")
    with_busybox("push", f"{hub}/alice/base")
    text = (
        f"FROM --platform=linux/amd64 {hub}/alice/base AS made\nARG TARGETARCH\nRUN echo $TARGETARCH > /made\n"
        "FROM scratch\nCOPY --from=made /made /made\n"
    )
    context = project(Dockerfile=text)
    platforms = ("--platform", "linux/amd64,linux/arm64")
    words = (*platforms, "-t", name, "--cache-to", "type=inline", context)
    with_busybox("build", *words, "--push")
    with_busybox("build", *words, "-o", f"type=oci,dest={tmp_path}/layout,tar=false")
    blobs = [path.read_bytes() for path in (tmp_path / "layout/blobs/sha256").iterdir()]
    configs = [json.loads(blob) for blob in blobs if b"moldar.buildcache.v1" in blob]
    assert sorted(config["architecture"] for config in configs) == ["amd64", "arm64"]
    for config in configs:
        records = config["moldar.buildcache.v1"]["records"]
        assert {layer["diffID"] for record in records for layer in record["layers"]} >= set(
            config["rootfs"]["diff_ids"]
        )
        assert len({record["identity"] for record in records}) == 2, "the two steps of this platform"
    second("login", "-u", "alice", "--password-stdin", hub, stdin="secret-of-alice")
    for chosen, place in ((("--platform", "linux/arm64"), f"type=registry,ref={name}"), (platforms, name)):
        done = second.run("build", *chosen, "--cache-from", place, context)
        assert done.returncode == 0, done.stderr
        found = {step: hit for step, hit in steps(done.stderr).items() if " internal] " not in step}
        assert len(found) == 2 * len(chosen[1].split(","))
        assert all(found.values()), done.stderr


def test_cache_mounts_travel_and_only_changed_ones_again(
    with_busybox: Moldar, second: Moldar, project: Project, tmp_path: Path
) -> None:
    with_busybox("tag", "busybox", BASE)
    text = f"FROM {BASE}\nARG N\n" + "".join(
        f"RUN --mount=type=cache,target=/{name} echo $N >> /{name}/log && cat /{name}/log > /{name}.log\n"
        for name in ("one", "two")
    )
    context = project(Dockerfile=text)
    cache = tmp_path / "cache"
    to = f"type=local,dest={cache},mounts=true"
    with_busybox("build", "--build-arg", "N=1", "--cache-to", to, context)
    before = {path.name for path in (cache / "blobs/sha256").iterdir()}
    assert len(mounts_of(cache)) == 2
    # the second machine runs the steps with another argument, over the mounts of the first one
    second("build", "-t", "app", "--build-arg", "N=2", "--cache-from", f"type=local,src={cache}", context)
    assert second("run", "--rm", "app", "cat", "/one.log", "/two.log") == "1\n2\n1\n2\n"
    (context / "Dockerfile").write_text(text.replace("/two/log &&", "/two/log && true &&"))
    with_busybox("build", "--build-arg", "N=1", "--cache-to", to, context)
    mounts = mounts_of(cache)
    assert sum(mount in before for mount in mounts) == 1, "one changed, the other stayed what it was"


def mounts_of(cache: Path) -> list[str]:
    """The names of the blobs of cache mounts in a cache directory."""
    return [mount["layer"]["digest"].removeprefix("sha256:") for mount in document_of(cache)["mounts"]]


def document_of(cache: Path) -> dict[str, list[dict[str, dict[str, str]]]]:
    index = json.loads((cache / "index.json").read_text())
    manifest = json.loads(blob(cache, index["manifests"][0]["digest"]))
    assert manifest["config"]["mediaType"] == "application/vnd.moldar.buildcache.v1+json"
    found: dict[str, list[dict[str, dict[str, str]]]] = json.loads(blob(cache, manifest["config"]["digest"]))
    return found


def blob(cache: Path, digest: str) -> bytes:
    return (cache / "blobs" / digest.replace(":", "/")).read_bytes()


def test_the_store_is_exported_and_imported_without_a_build(
    with_busybox: Moldar, second: Moldar, context: Path, tmp_path: Path, busybox_archive: Path
) -> None:
    cache = tmp_path / "cache"
    with_busybox("build", "-t", "app", context)
    said = with_busybox("cache", "export", "--mounts", f"type=local,dest={cache}")
    assert "1 cache mounts" in said
    assert "Sent: 0B" in with_busybox("cache", "export", "--mounts", f"type=local,dest={cache}")
    second("load", "-i", busybox_archive)
    second("tag", "busybox", BASE)
    assert "1 cache mounts" in second("cache", "import", f"type=local,src={cache}")
    done = second.run("build", "-t", "app", context)
    assert all(steps(done.stderr).values()), done.stderr
    assert image_id(second, "app") == image_id(with_busybox, "app")
    assert "Imported 0 records, 0 layers, 0 cache mounts" in second("cache", "import", f"type=local,src={cache}")
    only = with_busybox("cache", "export", f"type=local,dest={tmp_path / 'only'}", "app")
    assert only.split()[3] == "4", only  # layers of the image itself


def test_a_cache_that_cannot_be_read_is_a_warning(second: Moldar, project: Project, tmp_path: Path) -> None:
    context = project(Dockerfile="FROM scratch\nCOPY a /a\n", a="1")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "oci-layout").write_text("{}")
    (broken / "index.json").write_text("not JSON")
    words = ["--cache-from", f"type=local,src={broken}", "--cache-from", f"type=local,src={tmp_path / 'absent'}"]
    done = second.run("build", *words, "--cache-from", "127.0.0.1:9/no/registry", context)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("WARNING: CacheImportFailed") == 3, done.stderr
    assert "Traceback" not in done.stderr


def test_nobody_asks_for_a_cache_when_the_store_has_everything(second: Moldar, project: Project) -> None:
    context = project(Dockerfile="FROM scratch\nCOPY a /a\n", a="1")
    second("build", context)
    done = second.run("build", "--cache-from", "127.0.0.1:9/no/registry", context)
    assert all(steps(done.stderr).values())
    assert "importing" not in done.stderr


@pytest.mark.parametrize(("compression", "magic"), [("zstd", b"\x28\xb5\x2f\xfd"), ("uncompressed", b"a\0\0\0")])
def test_layers_are_compressed_as_asked(
    second: Moldar, moldar: Moldar, project: Project, compression: str, magic: bytes
) -> None:
    context = project(Dockerfile="FROM scratch\nCOPY a /a\n", a="1" * 10000)
    cache = context.parent / "cache"
    moldar("build", "--cache-to", f"type=local,dest={cache},compression={compression}", context)
    assert any(path.read_bytes().startswith(magic) for path in (cache / "blobs/sha256").iterdir())
    assert all(steps(second.run("build", "--cache-from", f"type=local,src={cache}", context).stderr).values())


def test_a_cache_that_cannot_be_written_is_a_warning(second: Moldar, project: Project, tmp_path: Path) -> None:
    context = project(Dockerfile="FROM scratch\nCOPY a /a\n", a="1")
    (tmp_path / "file").write_text("")
    done = second.run(
        "build", "-t", "app", "--cache-to", f"type=local,dest={tmp_path / 'file'}",
        "--cache-to", "type=registry,ref=127.0.0.1:9/no/registry", context,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("WARNING: CacheExportFailed") == 2, done.stderr
    assert image_id(second, "app").startswith("sha256:")


@pytest.mark.parametrize("damage", [b"", b"not a layer"])
def test_a_cache_with_a_damaged_layer_is_left_behind(
    with_busybox: Moldar, second: Moldar, tmp_path: Path, project: Project, damage: bytes
) -> None:
    context = project(Dockerfile="FROM scratch\nCOPY a /a\nCOPY b /b\n", a="1", b="2")
    cache = tmp_path / "cache"
    with_busybox("build", "--cache-to", f"type=local,dest={cache}", context)
    layers = json.loads(blob(cache, json.loads((cache / "index.json").read_text())["manifests"][0]["digest"]))
    victim = cache / "blobs" / layers["layers"][0]["digest"].replace(":", "/")
    victim.write_bytes(damage) if damage else victim.unlink()
    done = second.run("build", "-t", "app", "--cache-from", f"type=local,src={cache}", context)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("WARNING: CacheImportFailed") == 1, done.stderr
    assert "Errors" not in second("system", "check")
    assert image_id(second, "app").startswith("sha256:")


def test_secrets_never_reach_a_cache(with_busybox: Moldar, project: Project, tmp_path: Path) -> None:
    with_busybox("tag", "busybox", BASE)
    secret, argument = "correct-horse-battery", "argument-of-one-build"
    (tmp_path / "secret").write_text(secret)
    context = project(
        Dockerfile=f"FROM {BASE}\nARG WORD\n"
        "RUN --mount=type=secret,id=s,env=S --mount=type=secret,id=s --mount=type=cache,target=/c "
        "cat /run/secrets/s | wc -c > /size && echo $S | wc -c > /c/size\n"
    )
    cache = tmp_path / "cache"
    with_busybox(
        "build", "--secret", f"id=s,src={tmp_path / 'secret'}", "--build-arg", f"WORD={argument}",
        "--cache-to", f"type=local,dest={cache},mode=max,mounts=true", context,
    )  # fmt: skip
    everything = b"".join(path.read_bytes() for path in cache.rglob("*") if path.is_file())
    everything += b"".join(
        gzip.decompress(path.read_bytes())
        for path in cache.rglob("*")
        if path.is_file() and path.read_bytes()[:2] == b"\x1f\x8b"
    )
    assert b"cat /run/secrets/s" in everything
    assert secret.encode() not in everything
    assert argument.encode() not in everything


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--cache-to", "type=s3,bucket=b"], "type=s3 is not supported"),
        (["--cache-to", "type=gha"], "supported are type=local, type=registry, type=inline"),
        (["--cache-from", "type=azblob"], "supported are type=local, type=registry"),
        (["--cache-to", "type=locl,dest=x"], "unknown type 'locl'"),
        (["--cache-to", "type=local"], "no dest in --cache-to"),
        (["--cache-from", "type=local"], "no src in --cache-from"),
        (["--cache-to", "type=local,dest=x,mode=all"], "invalid mode 'all'"),
        (["--cache-to", "type=local,dest=x,mood=max"], "unexpected key 'mood'"),
        (["--cache-to", "type=local,dest=x,compression=lz4"], "unsupported compression 'lz4'"),
        (["--cache-to", "type=registry,ref=UPPER"], "must be lower case"),
    ],
)
def test_words_that_make_no_sense(second: Moldar, project: Project, words: list[str], expected: str) -> None:
    assert expected in second.fails("build", *words, project(Dockerfile="FROM scratch\nCOPY a /a\n", a="1"))
