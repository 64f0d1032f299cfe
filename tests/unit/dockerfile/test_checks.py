"""The lint rules: what each finds and where, what silences it."""

import pytest

from moldar.dockerfile.checks.checking import check, check_text
from moldar.dockerfile.checks.facts import BaseImage, Facts
from moldar.dockerfile.checks.rules import DESCRIPTIONS, Finding, Options, parse_options
from moldar.dockerfile.ignore import read_ignore_file
from moldar.dockerfile.reading import read_dockerfile
from moldar.dockerfile.source import DockerfileError, Location

PLATFORM_ARGS = {"TARGETPLATFORM": "linux/amd64", "BUILDPLATFORM": "linux/amd64", "TARGETARCH": "amd64"}
SECRET, COPY, WORKDIR = "SecretsUsedInArgOrEnv", "CopyIgnoredFile", "WorkdirRelativePath"
IGNORED = read_ignore_file(b"secret\n*.tmp\n")


def base_image(name: str, platform: str) -> BaseImage | None:
    if name == "unknown":
        return None
    triggers = ("RUN --mount=target=$UNSET x", "WORKDIR rel") if name == "triggers" else ()
    return BaseImage({"PATH": "/bin", "FROM_BASE": "1"}, "linux/amd64", name == "shelled", triggers)


FACTS = Facts({"GIVEN": "v"}, PLATFORM_ARGS, IGNORED, base_image)


def found(text: str, facts: Facts = FACTS) -> list[tuple[str, int]]:
    report = check(read_dockerfile(text.encode()), facts)
    assert report.error is None
    return [(finding.rule, finding.line) for finding in report.findings]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a AS Build", [("StageNameCasing", 1)]),
        ("FROM a as b\nfrom c", [("FromAsCasing", 1), ("ConsistentInstructionCasing", 2)]),
        ("From a as b", [("ConsistentInstructionCasing", 1)]),
        ("from a as b\nrun x\nRUN y", [("ConsistentInstructionCasing", 3)]),
        ("FROM a\nRUN x \\\n\n  y\nRUN z", [("NoEmptyContinuation", 4)]),
        ("FROM a AS x\nFROM b AS x", [("DuplicateStageName", 2)]),
        ("FROM a AS scratch", [("ReservedStageName", 1)]),
        ("FROM a\nCMD x\nENTRYPOINT y", [("JSONArgsRecommended", 2), ("JSONArgsRecommended", 3)]),
        ('FROM a\nCMD ["x"]\nRUN y', []),
        ("FROM shelled\nCMD x", []),
        ('FROM a AS s\nSHELL ["x"]\nFROM s\nCMD y', []),
        ("FROM a\nMAINTAINER me", [("MaintainerDeprecated", 2)]),
        ("FROM a$NO", [("UndefinedArgInFrom", 1)]),
        ("ARG YES\nFROM a$YES$TARGETARCH", []),
        ("FROM --platform=${NO:-linux/amd64} a", [("UndefinedArgInFrom", 1)]),
        ("FROM a\nWORKDIR x\nWORKDIR y", [("WorkdirRelativePath", 2)]),
        ("FROM a\nWORKDIR /x\nWORKDIR y", []),
        ("FROM a\nENV D=x\nWORKDIR $D", [("WorkdirRelativePath", 3)]),
        ("FROM a AS s\nWORKDIR /x\nFROM s\nWORKDIR y", []),
        ("FROM a\nCOPY $NO $NO2 /", [("UndefinedVar", 2), ("UndefinedVar", 2)]),
        ("FROM a\nARG A\nENV B=$A$FROM_BASE\nLABEL c=$B d=${NO:-x}", [("UndefinedVar", 4)]),
        ("FROM a\nARG B=$NO", [("UndefinedVar", 2)]),
        ("FROM a\nARG GIVEN=$NO", []),
        ("FROM unknown\nENV A=$NO", []),
        ("FROM scratch\nENV A=$PATH B=$FROM_BASE", [("UndefinedVar", 2)]),
        ("FROM a\nRUN --mount=target=$NO echo $NO", [("UndefinedVar", 2)]),
        ("FROM a\nCOPY <<E /x\n$NO\nE\nCOPY <<'F' /x\n$NO\nF", [("UndefinedVar", 2)]),
        ("ARG G=1\nFROM a\nARG G\nENV X=$G", []),
        ("ARG G=1\nFROM a\nENV X=$G", [("UndefinedVar", 3)]),
        ('FROM a\nCMD ["1"]\nCMD ["2"]\nFROM a\nCMD ["3"]', [("MultipleInstructionsDisallowed", 2)]),
        ("FROM a\nHEALTHCHECK NONE\nHEALTHCHECK NONE", [("MultipleInstructionsDisallowed", 2)]),
        ("FROM a\nENV a b\nLABEL c d", [("LegacyKeyValueFormat", 2), ("LegacyKeyValueFormat", 3)]),
        ("FROM --platform=$TARGETPLATFORM a", [("RedundantTargetPlatform", 1)]),
        ("FROM --platform=$BUILDPLATFORM a", []),
        ("FROM --platform=linux/amd64 a", [("FromPlatformFlagConstDisallowed", 1)]),
        ("FROM --platform=linux/amd64 a AS x-amd64", []),
        ("FROM --platform=arm64 a AS x-arm64", [("InvalidBaseImagePlatform", 1)]),
        ("FROM a\nARG API_KEY\nENV auth=1 KEYBOARD=1 KEY_FILE=x", [(SECRET, 2), (SECRET, 3)]),
        ("ARG GIVEN\nFROM a:$GIVEN", [("InvalidDefaultArgInFrom", 2)]),
        ("ARG GIVEN=v\nFROM a:$GIVEN", []),
        ("ARG T=1\nFROM a:${T}x@sha256:" + "0" * 64, []),
        ("FROM a\nCOPY secret/x b.tmp /\nADD c.tmp /\nCOPY . /", [(COPY, 2), (COPY, 2), (COPY, 3)]),
        ("FROM a AS s\nFROM a\nCOPY --from=s secret /\nADD http://x/b.tmp /", []),
        ("FROM a\nEXPOSE 80/TCP", [("ExposeProtoCasing", 2)]),
        ("FROM a\nEXPOSE 1.2.3.4:80:81 82:83", [("ExposeInvalidFormat", 2), ("ExposeInvalidFormat", 2)]),
        ("FROM triggers\nWORKDIR /x", [("UndefinedVar", 1), ("WorkdirRelativePath", 1)]),
        ("FROM a AS s\nONBUILD WORKDIR rel\nFROM s", [("WorkdirRelativePath", 3)]),
        ("# x\nARG A\n# A is a\nARG A\nFROM a", []),
        ("# check=experimental=all\n# x\nARG A\n# A is a\nARG A\nFROM a", [("InvalidDefinitionDescription", 3)]),
        ("# check=skip=JSONArgsRecommended, WorkdirRelativePath\nFROM a\nCMD x\nWORKDIR y", [(WORKDIR, 4)]),
        ("# check=skip=all\nFROM a\nCMD x\nWORKDIR y", []),
        ("FROM a\n# check=skip=JSONArgsRecommended\nCMD x\nENTRYPOINT x", [("JSONArgsRecommended", 4)]),
    ],
)  # fmt: skip
def test_findings(text: str, expected: list[tuple[str, int]]) -> None:
    assert found(text) == expected


def test_exceptions_in_the_ignore_file_turn_copy_ignored_file_off() -> None:
    facts = FACTS._replace(ignore=read_ignore_file(b"secret\n!secret/x\n"))
    assert found("FROM a\nCOPY secret /", facts) == []


def test_an_ignored_root_is_found() -> None:
    facts = FACTS._replace(ignore=read_ignore_file(b"*\n"))
    assert found("FROM a\nCOPY . /", facts) == [("CopyIgnoredFile", 2)]


def test_only_some_stages() -> None:
    file = read_dockerfile(b"FROM a AS x\nCMD y\nFROM b\nCMD y")
    report = check(file, FACTS, only={1})
    assert [finding.line for finding in report.findings] == [4]


def test_error_option_and_names() -> None:
    report = check(read_dockerfile(b"# check=error=true\nFROM a\nWORKDIR y\nCMD x"), FACTS)
    assert report.fail
    assert report.rules == ("JSONArgsRecommended", "WorkdirRelativePath")
    assert not check(read_dockerfile(b"# check=error=true\nFROM a"), FACTS).fail


def test_a_mistake_ends_the_check_with_what_was_found() -> None:
    report = check(read_dockerfile(b"FROM a\nWORKDIR y\nUSER ${x\nWORKDIR z"), FACTS)
    assert [finding.rule for finding in report.findings] == ["WorkdirRelativePath"]
    assert report.error is not None
    assert report.error.message.startswith("Dockerfile:3: ")


@pytest.mark.parametrize(
    ("text", "expected", "line"),
    [
        (
            "FROM a AS Bad\nMAINTAINER me\nWORKDIR x\nBADCMD\nMAINTAINER you",
            ["StageNameCasing", "MaintainerDeprecated"],
            4,
        ),
        ("# check=skip=StageNameCasing\nFROM a AS Bad\n# check=skip=all\nMAINTAINER me\nBADCMD", [], 5),
        ("RUN x", [], 1),
        ("FROM a as b\nRUN <<E\n", [], 2),
        ("# check=bad\nFROM a as b\nBADCMD", [], 1),
    ],
)
def test_a_file_that_cannot_be_read_is_checked_up_to_its_mistake(text: str, expected: list[str], line: int) -> None:
    report, source = check_text(text.encode(), "Dockerfile", FACTS)
    assert [finding.rule for finding in report.findings] == expected
    assert report.error is not None
    assert report.error.message.startswith(f"Dockerfile:{line}: ")
    assert source.name == "Dockerfile"


def test_suggestions_are_in_the_message() -> None:
    (finding,) = check(read_dockerfile(b"FROM a\nENV SOURCE=x\nCOPY $SOURCES /"), FACTS).findings
    assert finding.message == "$SOURCES is not defined here (did you mean $SOURCE?)"


@pytest.mark.parametrize("text", ["skip", "foo=1", "error=maybe", "skip=all;;"])
def test_bad_options_are_located(text: str) -> None:
    with pytest.raises(DockerfileError, match="Dockerfile:1: invalid check option"):
        check(read_dockerfile(f"# check={text}\nFROM a".encode()), FACTS)


def test_options() -> None:
    assert parse_options("skip=A,B;experimental=all;error=1") == Options(
        frozenset("AB"), False, frozenset({"all"}), True, True
    )


def test_there_are_22_rules_with_pages() -> None:
    assert len(DESCRIPTIONS) == 22
    page = Finding("JSONArgsRecommended", "", Location(1, 1)).url
    assert page == "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/"
