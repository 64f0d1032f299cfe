"""Instructions, stages and triggers from text."""

import pytest

from moldar.dockerfile.instructions import Arg, Argument, Cmd, Command, Copy, InlineFile, Onbuild, Origin, Run
from moldar.dockerfile.reading import read_dockerfile, read_trigger
from moldar.dockerfile.source import DockerfileError, Location, Source


def only(text: str) -> object:
    (instruction,) = read_dockerfile(b"FROM scratch\n" + text.encode()).stages[0].instructions
    return instruction


def refused(text: str) -> DockerfileError:
    with pytest.raises(DockerfileError) as caught:
        read_dockerfile(text.encode())
    return caught.value


def test_stages_hold_their_instructions() -> None:
    file = read_dockerfile(b"ARG V=1\nfrom a as One\nRUN x\nFROM --platform=$P b\nCMD y\n")
    assert [stage.base for stage in file.stages] == ["a", "b"]
    assert [stage.name for stage in file.stages] == ["one", ""]
    assert file.stages[0].name_written == "One"
    assert file.stages[1].platform == "$P"
    assert isinstance(file.global_args[0], Arg)
    assert [type(instruction).__name__ for stage in file.stages for instruction in stage.instructions] == [
        "Run",
        "Cmd",
    ]
    assert file.find_stage("ONE") == file.stages[0]
    assert file.find_stage("1") == file.stages[1]
    assert file.find_stage("2") is None


def test_origin_tells_text_and_place() -> None:
    file = read_dockerfile(b"FROM a\n# why\nrun echo \\\n  b \n", "docker/App.Dockerfile")
    origin = file.stages[0].instructions[0].origin
    assert origin == Origin("run", "run echo   b", file.source, Location(3, 4), ("why",))
    assert origin.name == "RUN"
    assert origin.error("no").message == "docker/App.Dockerfile:3: no"


def test_copy_with_all_flags() -> None:
    copy = only("COPY --from=base --chown=a:b --chmod=u+x --link --parents --exclude=*.o --exclude=x ./a b* /dst/")
    assert isinstance(copy, Copy)
    assert copy._replace(origin=None) == Copy(
        None,  # type: ignore[arg-type]
        ("./a", "b*"),
        "/dst/",
        from_stage="base",
        chown="a:b",
        chmod="u+x",
        link=True,
        parents=True,
        exclude=("*.o", "x"),
    )


def test_heredocs_of_copy_are_files() -> None:
    copy = only("COPY <<one <<-'two' three /d/\n1 $A\none\n\t2\n\ttwo\n")
    assert isinstance(copy, Copy)
    assert copy.files == (InlineFile("one", "1 $A\n", True), InlineFile("two", "2\n", False))
    assert copy.sources == ("three",)


@pytest.mark.parametrize(
    ("text", "command", "files"),
    [
        ("RUN echo hi", Command(("echo hi",), True), ()),
        ('RUN ["echo", "hi"]', Command(("echo", "hi"), False), ()),
        ("RUN ['echo']", Command(("['echo']",), True), ()),
        ("RUN <<EOF\na\nEOF\n", Command(("a\n",), True), ()),
        ("RUN <<-EOF\n\ta\n\tEOF\n", Command(("a\n",), True), ()),
        ("RUN cat <<A <<-B\na\nA\n\tb\nB\n", Command(("cat <<A <<-B\na\nA\n\tb\nB",), True), ()),
        ("RUN <<EOF\n#!/x\nEOF\n", Command(("/dev/pipes/EOF",), True), (InlineFile("EOF", "#!/x\n", False),)),
        ("RUN", Command(("",), True), ()),
    ],
)
def test_run_knows_what_the_shell_reads(text: str, command: Command, files: tuple[InlineFile, ...]) -> None:
    run = only(text)
    assert isinstance(run, Run)
    assert (run.command, run.files) == (command, files)


def test_cmd_may_be_empty_json() -> None:
    cmd = only("CMD []")
    assert isinstance(cmd, Cmd)
    assert cmd.command == Command((), False)


def test_arg_takes_its_description_from_the_comment() -> None:
    arg = only("# A is the first\n# B is the second\nARG A B=x C=")
    assert isinstance(arg, Arg)
    assert arg.arguments == (
        Argument("A", None, "is the first"),
        Argument("B", "x", "is the second"),
        Argument("C", ""),
    )


def test_trigger_gets_the_place_of_its_user() -> None:
    onbuild = only("ONBUILD   COPY <<E /x\ntext\nE\n")
    assert isinstance(onbuild, Onbuild)
    assert onbuild.trigger == "COPY <<E /x\ntext\nE"
    origin = Origin("FROM", "FROM child", Source("Dockerfile", ("FROM child",)), Location(1, 1))
    copy = read_trigger(onbuild.trigger, origin)
    assert isinstance(copy, Copy)
    assert copy.files == (InlineFile("E", "text\n", True),)
    assert copy.origin.location == Location(1, 1)
    with pytest.raises(DockerfileError, match=r"Dockerfile:1: .*FROM isn't allowed"):
        read_trigger("FROM x", origin)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("FROM a\nCOPPY a b", 2, ["unknown instruction: COPPY", "did you mean COPY?"]),
        ("FROM a\n\nCOPY --chowm=1 a b", 3, ["unknown flag: --chowm", "did you mean --chown?"]),
        ("RUN x", 1, ["before the first build stage"]),
        ("FROM a AS 1x", 1, ['invalid name for build stage: "1x"']),
        ("FROM a b", 1, ["either one or three"]),
        ("FROM a\nCOPY x", 2, ["COPY requires at least two arguments"]),
        ("FROM a\nCOPY a <<E\nE", 2, ["COPY cannot accept a heredoc as a destination"]),
        ("FROM a\nCOPY --from=$x a b", 2, ["variable expansion is not supported"]),
        ("FROM a\nCOPY --link=maybe a b", 2, ["boolean value for flag --link"]),
        ("FROM a\nCOPY --chown a b", 2, ["missing a value on flag: --chown"]),
        ("FROM a\nCOPY --chown=a --chown=b a b", 2, ["duplicate flag"]),
        ("FROM a\nRUN --network=hosts x", 2, ['invalid network mode "hosts"', "did you mean host?"]),
        ("FROM a\nRUN --mount=from=$x,target=/a x", 2, ["doesn't support variable expansion"]),
        ("FROM a\nRUN []", 2, ["nothing to run"]),
        ('FROM a\nCMD ["a", {"b": 1}]', 2, ['only strings here, not {"b": 1}']),
        ("FROM a\nSHELL sh", 2, ["SHELL requires", "JSON"]),
        ("FROM a\nENV A", 2, ["ENV must have two arguments"]),
        ("FROM a\nENV A=1 B", 2, ['"B"']),
        ("FROM a\nENV =1", 2, ["ENV names can not be blank"]),
        ("FROM a\nARG", 2, ["ARG requires at least one"]),
        ("FROM a\nWORKDIR", 2, ["WORKDIR requires exactly one"]),
        ("FROM a\nEXPOSE", 2, ["EXPOSE requires at least one"]),
        ('FROM a\nVOLUME ["/a", " "]', 2, ["empty string"]),
        ("FROM a\nHEALTHCHECK", 2, ["HEALTHCHECK requires"]),
        ("FROM a\nHEALTHCHECK NONE x", 2, ["takes no arguments"]),
        ("FROM a\nHEALTHCHECK CMDD x", 2, ["unknown type", "did you mean CMD?"]),
        ("FROM a\nHEALTHCHECK CMD", 2, ["missing command"]),
        ("FROM a\nHEALTHCHECK --interval=1x CMD x", 2, ['invalid duration "1x"']),
        ("FROM a\nHEALTHCHECK --retries=-1 CMD x", 2, ["cannot be negative"]),
        ("FROM a\nONBUILD ONBUILD RUN x", 2, ["ONBUILD ONBUILD"]),
        ("FROM a\nONBUILD from x", 2, ["FROM isn't allowed"]),
        ("FROM a\nRUN <<E\nx\n", 2, ["unterminated heredoc"]),
        ("FROM a\nRUN a\0b", 2, ["NUL"]),
        ("FROM a\nRUN <<E\n\0\nE\n", 2, ["NUL"]),
        ("ARG A=1", 1, ["no stages"]),
        ("# escape=x\nFROM a", 1, ["escape character"]),
        ("# check=a=b\n# Check=c\nFROM a", 2, ["only one check"]),
        ("FROM a\n\\\n", 2, ["an instruction is missing"]),
    ],
)
def test_mistakes_are_located_and_named(text: str, line: int, words: list[str]) -> None:
    error = refused(text)
    assert error.message.startswith(f"Dockerfile:{line}: ")
    assert f"{line:4} | >>>" in error.excerpt
    for word in words:
        assert word in f"{error.message}\n{error.hint}"


def test_an_empty_file_is_refused() -> None:
    assert refused("# only words\n\n").message == "Dockerfile: file with no instructions"
