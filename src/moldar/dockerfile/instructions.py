"""The instructions of a Dockerfile as immutable values, and the stages that hold them.

Every instruction has an `origin` (its keyword, text and place) and a method `expand`, which gives the same
instruction with variables substituted in exactly the fields in which BuildKit's frontend substitutes them
(Dockerfile reference, "Environment replacement"). RUN's command, CMD, ENTRYPOINT, HEALTHCHECK, SHELL, ONBUILD and
MAINTAINER are left to the shell or taken as written. ARG is expanded value by value by the planner, which knows
about build arguments: `expander.word(argument.value)`.
"""

from typing import NamedTuple

from moldar.dockerfile.mounts import RunMount, parse_mounts
from moldar.dockerfile.quantities import parse_port, parse_signal
from moldar.dockerfile.source import DockerfileError, Location, Source
from moldar.dockerfile.words import Expander


class Origin(NamedTuple):
    """Where an instruction stands. `keyword` is as written, `text` has continuation lines joined.

    `comments` are the comment lines right above, without their `#`.
    """

    keyword: str
    text: str
    source: Source
    location: Location
    comments: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The keyword in upper case."""
        return self.keyword.upper()

    def error(self, problem: str, *, hint: str = "") -> DockerfileError:
        """A complaint about this instruction, to be raised."""
        return DockerfileError(problem, hint=hint, source=self.source, location=self.location)


class Pair(NamedTuple):
    """A key with its value; `legacy` when written with a blank (`ENV k v`) and not with `=`."""

    key: str
    value: str
    legacy: bool = False


class Argument(NamedTuple):
    """A name that ARG declares; `value` is None without a default. `description` comes from a comment above."""

    key: str
    value: str | None = None
    description: str = ""


class InlineFile(NamedTuple):
    """A heredoc. `content` is ready to be used: tabs are stripped for `<<-`, variables not yet expanded.

    Bytes that are no UTF-8 are lone surrogates: encode with `surrogateescape`.
    """

    name: str
    content: str
    expand: bool


class Command(NamedTuple):
    """What RUN, CMD and ENTRYPOINT run: the words of the JSON form, or (`shell`) exactly one text for the shell."""

    args: tuple[str, ...]
    shell: bool


class Arg(NamedTuple):
    """ARG name[=default] ..."""

    origin: Origin
    arguments: tuple[Argument, ...]

    def expand(self, expander: Expander) -> "Arg":
        """Unchanged: defaults are expanded by the planner, and only when no build argument replaces them."""
        return self


class Env(NamedTuple):
    """ENV key=value ...; all values see the variables from before the instruction."""

    origin: Origin
    pairs: tuple[Pair, ...]

    def expand(self, expander: Expander) -> "Env":
        """With keys and values expanded."""
        return self._replace(pairs=_expand_pairs(self.origin, self.pairs, expander))


class Label(NamedTuple):
    """LABEL key=value ..."""

    origin: Origin
    pairs: tuple[Pair, ...]

    def expand(self, expander: Expander) -> "Label":
        """With keys and values expanded."""
        return self._replace(pairs=_expand_pairs(self.origin, self.pairs, expander))


class Maintainer(NamedTuple):
    """MAINTAINER author (deprecated)."""

    origin: Origin
    author: str

    def expand(self, expander: Expander) -> "Maintainer":
        """Unchanged."""
        return self


class Workdir(NamedTuple):
    """WORKDIR path, absolute or relative to the one before."""

    origin: Origin
    path: str

    def expand(self, expander: Expander) -> "Workdir":
        """With the path expanded."""
        return self._replace(path=_word(self.origin, self.path, expander))


class Copy(NamedTuple):
    """COPY. `from_stage` is as written (stage name, index, image or named context), empty for the build context.

    Paths stand in `sources`, heredocs in `files`; `chown`, `chmod` are as written, empty when absent.
    """

    origin: Origin
    sources: tuple[str, ...]
    destination: str
    files: tuple[InlineFile, ...] = ()
    from_stage: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()

    def expand(self, expander: Expander) -> "Copy":
        """With owner, mode, paths and unquoted heredocs expanded (not `--from` and `--exclude`)."""
        return self._replace(
            chown=_word(self.origin, self.chown, expander),
            chmod=_word(self.origin, self.chmod, expander),
            sources=_each(self.origin, self.sources, expander),
            destination=_word(self.origin, self.destination, expander),
            files=_expand_files(self.origin, self.files, expander),
        )


class Add(NamedTuple):
    """ADD. Sources may be paths, URLs and git references; `keep_git_dir` and `unpack` are None when not given."""

    origin: Origin
    sources: tuple[str, ...]
    destination: str
    files: tuple[InlineFile, ...] = ()
    chown: str = ""
    chmod: str = ""
    link: bool = False
    exclude: tuple[str, ...] = ()
    checksum: str = ""
    keep_git_dir: bool | None = None
    unpack: bool | None = None

    def expand(self, expander: Expander) -> "Add":
        """With owner, mode, checksum, paths and unquoted heredocs expanded."""
        return self._replace(
            chown=_word(self.origin, self.chown, expander),
            chmod=_word(self.origin, self.chmod, expander),
            checksum=_word(self.origin, self.checksum, expander),
            sources=_each(self.origin, self.sources, expander),
            destination=_word(self.origin, self.destination, expander),
            files=_expand_files(self.origin, self.files, expander),
        )


class Run(NamedTuple):
    """RUN. `mount_texts` are the values of --mount as written; `mounts` is filled by `expand`.

    `mount_sources` are the stages, images or contexts that mounts name with `from=`, in order. `network` is
    default, none or host; `security` sandbox or insecure.

    Heredocs are resolved: `command` holds what the shell reads. A heredoc that stands alone and begins with `#!` is
    in `files`, to be provided executable at /dev/pipes, and `command` names it there. `summary` is the beginning of
    a heredoc that stands alone, for display. `max_age` is how old a cached result may be, in seconds (`moldar:ttl`).
    """

    origin: Origin
    command: Command
    files: tuple[InlineFile, ...] = ()
    mount_texts: tuple[str, ...] = ()
    mount_sources: tuple[str, ...] = ()
    network: str = "default"
    security: str = "sandbox"
    devices: tuple[str, ...] = ()
    summary: str = ""
    mounts: tuple[RunMount, ...] = ()
    max_age: float | None = None

    def expand(self, expander: Expander) -> "Run":
        """With `mounts` read from `mount_texts`, variables in their values expanded; the command stays."""
        if not self.mount_texts:
            return self
        try:
            return self._replace(mounts=parse_mounts(self.mount_texts, expander))
        except DockerfileError as error:
            raise error.at(self.origin.source, self.origin.location) from None


class Cmd(NamedTuple):
    """CMD."""

    origin: Origin
    command: Command

    def expand(self, expander: Expander) -> "Cmd":
        """Unchanged."""
        return self


class Entrypoint(NamedTuple):
    """ENTRYPOINT."""

    origin: Origin
    command: Command

    def expand(self, expander: Expander) -> "Entrypoint":
        """Unchanged."""
        return self


class Expose(NamedTuple):
    """EXPOSE. `ports` are the words as written, sorted as BuildKit keeps them."""

    origin: Origin
    ports: tuple[str, ...]

    def expand(self, expander: Expander) -> "Expose":
        """With each word expanded and split again, as one variable may hold several ports."""
        try:
            words = [word for port in self.ports for word in expander.words(port)]
        except DockerfileError as error:
            raise error.at(self.origin.source, self.origin.location) from None
        return self._replace(ports=tuple(words))

    def exposed(self) -> list[str]:
        """The ports of the expanded instruction as `80/tcp`, ranges resolved, in order, repeated ones kept."""
        try:
            return [exposed for port in self.ports for exposed in parse_port(port)]
        except DockerfileError as error:
            raise error.at(self.origin.source, self.origin.location) from None


class User(NamedTuple):
    """USER name[:group]."""

    origin: Origin
    user: str

    def expand(self, expander: Expander) -> "User":
        """With the user expanded."""
        return self._replace(user=_word(self.origin, self.user, expander))


class Volume(NamedTuple):
    """VOLUME path ..."""

    origin: Origin
    paths: tuple[str, ...]

    def expand(self, expander: Expander) -> "Volume":
        """With the paths expanded."""
        paths = _each(self.origin, self.paths, expander)
        if "" in paths:
            raise self.origin.error("a VOLUME may not be an empty path")
        return self._replace(paths=paths)


class StopSignal(NamedTuple):
    """STOPSIGNAL name or number."""

    origin: Origin
    signal: str

    def expand(self, expander: Expander) -> "StopSignal":
        """With the signal expanded; DockerfileError when there is no such signal."""
        signal = _word(self.origin, self.signal, expander)
        try:
            parse_signal(signal)
        except DockerfileError as error:
            raise error.at(self.origin.source, self.origin.location) from None
        return self._replace(signal=signal)


class Healthcheck(NamedTuple):
    """HEALTHCHECK. `test` begins with NONE, CMD or CMD-SHELL; durations are nanoseconds, 0 where not given."""

    origin: Origin
    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0

    def expand(self, expander: Expander) -> "Healthcheck":
        """Unchanged."""
        return self


class Shell(NamedTuple):
    """SHELL ["program", "argument", ...]."""

    origin: Origin
    args: tuple[str, ...]

    def expand(self, expander: Expander) -> "Shell":
        """Unchanged."""
        return self


class Onbuild(NamedTuple):
    """ONBUILD. `trigger` is the instruction's text, heredocs included; `reading.read_trigger` reads it."""

    origin: Origin
    trigger: str

    def expand(self, expander: Expander) -> "Onbuild":
        """Unchanged."""
        return self


Instruction = (
    Arg
    | Env
    | Label
    | Maintainer
    | Workdir
    | Copy
    | Add
    | Run
    | Cmd
    | Entrypoint
    | Expose
    | User
    | Volume
    | StopSignal
    | Healthcheck
    | Shell
    | Onbuild
)


class Stage(NamedTuple):
    """A build stage, `number` counting from 0. `base` and `platform` are as written, variables unexpanded.

    `name` is in lower case, empty when the stage has none; `name_written` and `as_written` keep the case of the
    name and of AS. `origin` is FROM's; `description` comes from a comment above.
    """

    origin: Origin
    number: int
    base: str
    name: str = ""
    platform: str = ""
    instructions: tuple[Instruction, ...] = ()
    description: str = ""
    name_written: str = ""
    as_written: str = ""


class Dockerfile(NamedTuple):
    """A whole file. `global_args` stand before the first FROM; `escape` is the escape character.

    `syntax` and `check` are the values of the directives of these names, empty when absent;
    `empty_continuations` are the last lines of instructions with an empty continuation line.
    """

    source: Source
    stages: tuple[Stage, ...]
    global_args: tuple[Arg, ...] = ()
    escape: str = "\\"
    syntax: str = ""
    check: str = ""
    empty_continuations: tuple[int, ...] = ()

    def find_stage(self, name: str) -> Stage | None:
        """The last stage called `name` (case aside) or numbered so; None when there is none."""
        for stage in reversed(self.stages):
            if stage.name and stage.name == name.lower():
                return stage
        if name.isdecimal() and name.isascii() and len(name) < 9 and int(name) < len(self.stages):
            return self.stages[int(name)]
        return None


def _word(origin: Origin, text: str, expander: Expander) -> str:
    if not text:
        return text
    try:
        return expander.word(text)
    except DockerfileError as error:
        raise error.at(origin.source, origin.location) from None


def _each(origin: Origin, texts: tuple[str, ...], expander: Expander) -> tuple[str, ...]:
    return tuple(_word(origin, text, expander) for text in texts)


def _expand_pairs(origin: Origin, pairs: tuple[Pair, ...], expander: Expander) -> tuple[Pair, ...]:
    return tuple(
        Pair(_word(origin, pair.key, expander), _word(origin, pair.value, expander), pair.legacy) for pair in pairs
    )


def _expand_files(origin: Origin, files: tuple[InlineFile, ...], expander: Expander) -> tuple[InlineFile, ...]:
    try:
        return tuple(file._replace(content=expander.heredoc(file.content)) if file.expand else file for file in files)
    except DockerfileError as error:
        raise error.at(origin.source, origin.location) from None
