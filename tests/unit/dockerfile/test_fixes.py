"""What `check --fix` mends, and what it leaves alone."""

import pytest

from moldar.dockerfile.checks.facts import BaseImage, Facts
from moldar.dockerfile.checks.fixes import mend
from moldar.dockerfile.source import DockerfileError

FACTS = Facts(
    platform_args={"TARGETPLATFORM": "linux/amd64"},
    base_image=lambda name, platform: None if name == "unknown" else BaseImage({}, workdir="/base"),
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("FROM a\nrun x\nCOPY b c\n", "FROM a\nRUN x\nCOPY b c\n"),
        ("from a\nrun x\n  Copy \\\n b c\n", "from a\nrun x\n  copy \\\n b c\n"),
        ("FROM a as b\r\nRUN x\r\n", "FROM a AS b\r\nRUN x\r\n"),
        ("FROM a as Upper", "FROM a AS upper"),
        ("FROM a\nENV k v\n", "FROM a\nENV k=v\n"),
        ("FROM a\nENV k two  words $X\n# c\n".replace("$X", "x"), 'FROM a\nENV k="two  words x"\n# c\n'),
        ('FROM a\nLABEL k say "it\'s me" \\$x\n', 'FROM a\nLABEL k=say\\ "it\'s me"\\ \\$x\n'),
        ("FROM a\nCMD top -b\n", 'FROM a\nCMD ["top", "-b"]\n'),
        ("FROM a\nENTRYPOINT /bin/x --y=1\n", 'FROM a\nENTRYPOINT ["/bin/x", "--y=1"]\n'),
        (
            'FROM a\nMAINTAINER Jo "J" <jo@example.org>\n',
            'FROM a\nLABEL org.opencontainers.image.authors="Jo \\"J\\" <jo@example.org>"\n',
        ),
        ("from a\nmaintainer x\n", 'from a\nlabel org.opencontainers.image.authors="x"\n'),
        ("FROM a\nRUN x \\\n\n", "FROM a\nRUN x \\\n"),
        ("FROM a\nRUN x \\\n\n  \n # c\n  y\n", "FROM a\nRUN x \\\n # c\n  y\n"),
        ("FROM a\nRUN <<E \\\n\n x\n\nE\n", "FROM a\nRUN <<E \\\n x\n\nE\n"),
        ("FROM a\nEXPOSE 80/TCP 81/udp\n", "FROM a\nEXPOSE 80/tcp 81/udp\n"),
        ("FROM --platform=$TARGETPLATFORM a\n", "FROM a\n"),
        ('FROM a\nCMD ["1"]\nRUN x\nCMD ["2"]\n', 'FROM a\nRUN x\nCMD ["2"]\n'),
        ("FROM a\nWORKDIR x\nWORKDIR y\n", "FROM a\nWORKDIR /base/x\nWORKDIR y\n"),
        ("FROM scratch\nWORKDIR ../x/.\n", "FROM scratch\nWORKDIR /x\n"),
        ("FROM a\nmaintainer x\nCMD y\n", 'FROM a\nLABEL org.opencontainers.image.authors="x"\nCMD ["y"]\n'),
        ("\ufefffrom a\nRUN x\nRUN y\n", "\ufeffFROM a\nRUN x\nRUN y\n"),
    ],
)
def test_mended(before: str, after: str) -> None:
    result = mend(before.encode(), FACTS)
    assert result.data.decode() == after
    assert result.mended
    assert not result.left


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("FROM a\nCMD top | tee\n", "JSONArgsRecommended"),
        ("FROM a\nCMD X=1 top\n", "JSONArgsRecommended"),
        ("FROM a\nCMD exec top\n", "JSONArgsRecommended"),
        ('FROM a\nENTRYPOINT ["x"]\nCMD y\n', "JSONArgsRecommended"),
        ("FROM a\nCMD top \\\n -b\n", "JSONArgsRecommended"),
        ("FROM a\nENV k \\\n v\n", "LegacyKeyValueFormat"),
        ("FROM a\nLABEL /k\x85x\\\\ v\n", "LegacyKeyValueFormat"),
        ("FROM a\nENV k 'a' ${PATH#a b}\n", "LegacyKeyValueFormat"),
        ("FROM unknown\nWORKDIR x\n", "WorkdirRelativePath"),
        ("FROM a\nENV D=x\nWORKDIR $D\n", "WorkdirRelativePath"),
        ("FROM a AS scratch\n", "ReservedStageName"),
        ("FROM a\nARG TOKEN\n", "SecretsUsedInArgOrEnv"),
        ("FROM a\nONBUILD x\nEXPOSE 1.2.3.4:80:80\n", "ExposeInvalidFormat"),
        ('FROM a AS s\nONBUILD CMD ["x"]\nFROM s\nCMD ["y"]\n', "MultipleInstructionsDisallowed"),
    ],
)
def test_left_alone(text: str, rule: str) -> None:
    result = mend(text.encode(), FACTS)
    assert result.data == text.encode()
    assert [finding.rule for finding in result.left] == [rule]


def test_bytes_that_are_no_text_stay() -> None:
    data = b"FROM a\nCOPY <<E /x\n\xff\nE\nrun x\n"
    assert mend(data, FACTS).data == data.replace(b"run", b"RUN")


def test_a_wrong_file_is_refused() -> None:
    with pytest.raises(DockerfileError, match="Dockerfile:2"):
        mend(b"FROM a\nUSER ${\n", FACTS)
