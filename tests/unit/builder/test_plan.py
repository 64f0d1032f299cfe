"""Plans: history texts, config, stages, errors with their places. The graphs themselves are goldens."""

import json
from collections.abc import Sequence

import pytest

from moldar.builder.plan import ImageRequest, NamedContext, Plan, PlanOptions, ResolvedImage, finish, plan
from moldar.dockerfile.reading import read_dockerfile
from moldar.errors import MoldarError, NotFound, UserMistake
from moldar.image.config import HistoryEntry
from moldar.image.model import Digest, Platform, digest_of
from moldar.image.reference import parse_reference

from .plain_images import PlainImages


def planned(text: str, images: PlainImages | None = None, **options: object) -> Plan:
    return plan(read_dockerfile(text.encode()), PlanOptions(**options), images or PlainImages())  # type: ignore[arg-type]


def finished(plan: Plan, created: float = 1.0) -> dict[str, object]:
    count = len(plan.image.diff_ids) + len(plan.layer_vertices)
    diff_ids = [digest_of(str(number).encode()) for number in range(count)]
    document: dict[str, object] = json.loads(finish(plan, diff_ids, [created] * len(plan.graph.vertices)))
    return document


def history(plan: Plan) -> list[str]:
    return [step.created_by for step in plan.steps]


def failure(text: str, **options: object) -> MoldarError:
    with pytest.raises(MoldarError) as caught:
        planned(text, **options)
    return caught.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ARG A=1\nARG B\nENV A=2\nRUN x", "RUN |2 A=2 B= /bin/sh -c x # buildkit"),
        ("ENV A=2\nARG A=1\nRUN x", "RUN |1 A=1 /bin/sh -c x # buildkit"),
        ('SHELL ["/bin/bash", "-c"]\nRUN x y', "RUN /bin/bash -c x y # buildkit"),
        ('RUN ["x", "y z"]', "RUN x y z # buildkit"),
        ("COPY --link --chown=1 --chmod=600 a b /c/", "COPY --chown=1 --chmod=600 a b /c/ # buildkit"),
        ("CMD echo \"a\tb\" \\\\ é", r'CMD ["/bin/sh" "-c" "echo \"a\tb\" \\\\ é"]'),
        ("EXPOSE 9000/udp 80-81", "EXPOSE [80/tcp 81/tcp 9000/udp]"),
        ("WORKDIR a\nWORKDIR ../b/", "WORKDIR /b"),
        ("USER 1:2", "USER 1:2"),
        ("VOLUME [\"/a b\"]", "VOLUME [/a b]"),
        ("HEALTHCHECK --timeout=1.5s --interval=1h2m CMD x",
         "HEALTHCHECK {Test:[CMD-SHELL x] Interval:1h2m0s Timeout:1.5s StartPeriod:0s StartInterval:0s Retries:0}"),
    ],
)  # fmt: skip
def test_history(text: str, expected: str) -> None:
    assert history(planned(f"FROM busybox\n{text}"))[-1] == expected


def test_entrypoint_drops_only_an_inherited_cmd() -> None:
    dropped = planned('FROM busybox\nENTRYPOINT ["e"]').image.config
    assert (dropped.entrypoint, dropped.cmd) == (("e",), None)
    kept = planned('FROM busybox\nCMD ["c"]\nENTRYPOINT ["e"]').image.config
    assert (kept.entrypoint, kept.cmd) == (("e",), ("c",))
    child = planned('FROM busybox AS a\nCMD ["c"]\nFROM a\nENTRYPOINT ["e"]').image.config
    assert child.cmd is None


def test_a_scratch_image_has_a_path_and_a_directory() -> None:
    config = planned("FROM scratch\nLABEL a=b").image.config
    assert config.working_dir == "/"
    assert config.env == ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)


def test_triggers_of_an_image_run_first_and_only_once() -> None:
    images = PlainImages(trigger=("RUN one", "COPY --from=other /a /b"))
    text = "FROM trigger AS a\nRUN two\nFROM a\nRUN three"
    plan = planned(text, images)
    assert history(plan) == [
        "RUN /bin/sh -c one # buildkit", "COPY /a /b # buildkit", "RUN /bin/sh -c two # buildkit",
        "RUN /bin/sh -c three # buildkit",
    ]  # fmt: skip
    assert "docker.io/library/other:latest" in images.asked
    assert plan.image.config.on_build == ()


def test_only_images_that_the_target_needs_are_resolved_and_each_once() -> None:
    images = PlainImages()
    planned("FROM one AS a\nFROM two AS b\nFROM a\nCOPY --from=three / /x\nCOPY --from=three / /y", images)
    assert sorted(images.asked) == ["docker.io/library/one:latest", "docker.io/library/three:latest"]


def test_a_replaced_stage_needs_nothing() -> None:
    images = PlainImages()
    text = "FROM one AS deps\nRUN exit 1\nFROM two\nCOPY --from=deps /a /a"
    planned(text, images, contexts={"DEPS": NamedContext("local", "/deps")})
    assert images.asked == ["docker.io/library/two:latest"]


def test_a_context_may_be_another_image() -> None:
    images = PlainImages()
    planned("FROM alpine", images, contexts={"alpine": NamedContext("image", "docker.io/library/edge:1")})
    assert images.asked == ["docker.io/library/edge:1"]


def test_the_same_plan_is_finished_to_the_same_bytes() -> None:
    text = "FROM busybox\nENV A=1\nRUN x\nLABEL b=c"
    plan = planned(text)
    document = finished(plan, 1_600_000_000.5)
    assert document == finished(planned(text), 1_600_000_000.5)
    dates = [entry["created"] for entry in document["history"]]  # type: ignore[attr-defined]
    assert dates == ["2020-01-01T00:00:00Z", *["2020-09-13T12:26:40.5Z"] * 3]
    assert document["created"] == "2020-09-13T12:26:40.5Z"


def test_the_epoch_dates_the_image_and_its_own_history() -> None:
    document = finished(planned("FROM busybox\nRUN x", source_date_epoch="1500000000"))
    assert [entry["created"] for entry in document["history"]] == [  # type: ignore[attr-defined]
        "2020-01-01T00:00:00Z", "2017-07-14T02:40:00Z",
    ]  # fmt: skip
    assert document["created"] == "2017-07-14T02:40:00Z"


def test_every_layer_has_a_history_entry() -> None:
    plan = planned("FROM busybox\nRUN x")._replace(base_history=())
    plan = plan._replace(base_history=(HistoryEntry("", "one", True),))
    document = json.loads(finish(plan, [Digest("sha256:a")], [0.0, 0.0]))
    assert sum(not entry.get("empty_layer", False) for entry in document["history"]) == 1


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("FROM busybox\nEXPOSE eighty", 2, "eighty"),
        ("FROM busybox\nSTOPSIGNAL SIGFOO", 2, "SIGFOO"),
        ("FROM busybox\nRUN --network=host x", 2, "network.host"),
        ("FROM busybox\nADD --checksum=sha256:" + "0" * 64 + " f /f", 2, "checksum"),
        ("ARG NOTHING\nFROM $NOTHING", 2, "$NOTHING"),
        ('FROM busybox\nLABEL a="${B:?say b}"', 2, "say b"),
        ("FROM --platform=linux busybox", 1, "linux"),
        ("FROM Busybox:tag:tag", 1, "tag"),
        ("FROM busybox AS early\nCOPY --from=later /f /f\nFROM busybox AS later\nFROM early", 2, "later"),
    ],
)
def test_mistakes_are_shown_at_their_line(text: str, line: int, words: str) -> None:
    error = failure(text)
    assert error.message.startswith(f"Dockerfile:{line}: ")
    assert words in error.message
    assert f"{line} | >>>" in error.excerpt


def test_stages_that_need_each_other() -> None:
    error = failure("FROM a AS a\nCOPY --from=b / /\nFROM x AS b\nCOPY --from=a / /")
    assert isinstance(error, UserMistake)
    assert "circular dependency detected on stage: a" in error.message
    assert error.hint == "the circle is a -> b -> a"


def test_an_unknown_target_is_told_with_the_nearest_name() -> None:
    error = failure("FROM busybox AS middle", target="midle")
    assert isinstance(error, NotFound)
    assert "midle" in error.message
    assert "middle" in error.hint


def test_a_long_chain_of_stages() -> None:
    text = "FROM busybox AS s0\n" + "".join(f"FROM s{number} AS s{number + 1}\n" for number in range(3000))
    assert planned(text).stage == "s3000"


@pytest.mark.parametrize("epoch", ["yesterday", "1.5", "٣"])
def test_an_epoch_is_a_number(epoch: str) -> None:
    assert epoch in failure("FROM busybox", source_date_epoch=epoch).message


@pytest.mark.parametrize(
    "name", ["busybox", "busybox:latest", "docker.io/library/busybox", "index.docker.io/busybox"]
)
def test_a_context_for_an_image_is_found_by_any_of_its_names(name: str) -> None:
    images = PlainImages()
    planned("FROM busybox", images, contexts={name: NamedContext("image", "docker.io/library/other:1")})
    assert images.asked == ["docker.io/library/other:1"]


class NoImages:
    def resolve(self, requests: Sequence[ImageRequest]) -> Sequence[ResolvedImage]:
        for request in requests:
            if request.reference.repository != "library/busybox":
                raise NotFound(f"no image {request.reference}")
        return PlainImages().resolve(requests)


@pytest.mark.parametrize(("text", "line"), [("FROM busybox AS a\nFROM nowhere\nCOPY --from=a / /", 2),
    ("FROM busybox\nRUN true\nRUN --mount=from=nowhere,target=/x true", 3)])  # fmt: skip
def test_an_image_that_is_not_there_is_shown_where_it_is_named(text: str, line: int) -> None:
    with pytest.raises(NotFound) as caught:
        plan(read_dockerfile(text.encode()), PlanOptions(), NoImages())
    assert caught.value.message == f"Dockerfile:{line}: no image docker.io/library/nowhere:latest"


def test_a_new_image_does_not_tell_how_its_base_was_made() -> None:
    base = PlainImages().resolve([ImageRequest(parse_reference("busybox"), Platform())])[0]
    config = base.config.config._replace(extra={"Hostname": "0a1b", "ArgsEscaped": True})
    old = base.config._replace(config=config, extra={"docker_version": "1.12", "os.version": "10"})

    class Old:
        def resolve(self, requests: Sequence[ImageRequest]) -> Sequence[ResolvedImage]:
            return [base._replace(config=old)]

    document = finished(plan(read_dockerfile(b"FROM busybox"), PlanOptions(), Old()))
    assert "docker_version" not in document and document["os.version"] == "10"
    assert "Hostname" not in document["config"] and document["config"]["ArgsEscaped"]  # type: ignore[operator, index]


@pytest.mark.parametrize(
    ("argument", "name"),
    [("", "linux/amd64"), ("ARG TARGETARCH", "linux/amd64->arm"), ("ARG TARGETPLATFORM", "linux/amd64->arm/v7")],
)
def test_with_several_platforms_steps_are_named_after_theirs(argument: str, name: str) -> None:
    text = (
        f"FROM --platform=$BUILDPLATFORM busybox AS tools\n{argument}\nRUN a\nFROM busybox\nCOPY --from=tools /a /\n"
    )
    arm = Platform("linux", "arm", "v7")
    plan = planned(text, platform=arm, build_platform=Platform(), multi_platform=True)
    assert [vertex.name for vertex in plan.graph.vertices if vertex.name.startswith("[")] == [
        "[linux/amd64 tools 1/2] FROM docker.io/library/busybox:latest@" + digest_of(b"manifest of busybox"),
        f"[{name} tools 2/2] RUN a",
        "[linux/arm/v7 stage-1 1/2] FROM docker.io/library/busybox:latest@" + digest_of(b"manifest of busybox"),
        "[linux/arm/v7 stage-1 2/2] COPY --from=tools /a /",
    ]
