"""Build checks: the rules over a request's Dockerfile, alone or beside a build."""

from collections.abc import Callable
from typing import Any, NamedTuple

from moldar.app.contexts import Opened, open_request
from moldar.app.engine import Engine
from moldar.app.requests import BuildRequest
from moldar.builder.context import find_ignore_file, read_ignore_patterns
from moldar.builder.plan import ImageRequest, PlanOptions, ResolvedImage
from moldar.builder.plan.environment import automatic_variables
from moldar.builder.progress import Warned
from moldar.dockerfile.checks.checking import Report, check, check_text
from moldar.dockerfile.checks.facts import BaseImage, Facts
from moldar.dockerfile.checks.rules import Finding
from moldar.dockerfile.instructions import Dockerfile
from moldar.dockerfile.source import Source
from moldar.errors import MoldarError, UserMistake
from moldar.image.config import ImageConfig
from moldar.image.model import Platform
from moldar.image.reference import parse_reference

Resolve = Callable[[ImageRequest], ResolvedImage]


class ChecksFailed(UserMistake):
    """The file's own directive (`check=error=true`) makes its warnings errors."""

    def __init__(self, rules: tuple[str, ...]) -> None:
        super().__init__("lint violation found for rules: " + ", ".join(rules), hint="see the warnings above")


class Fixing(NamedTuple):
    """What mending the Dockerfile at `path` would write, the findings that it settles and those that stay."""

    path: str
    before: bytes
    after: bytes
    mended: tuple[Finding, ...]
    left: tuple[Finding, ...]


def check_request(engine: Engine, request: BuildRequest) -> tuple[Report, Source]:
    """The findings of all rules over the Dockerfile of `request`, without building it, and its text."""
    with open_request(request, engine) as opened:
        facts = _request_facts(engine, request, opened)
        return check_text(opened.read_dockerfile(), opened.dockerfile_name, facts)


def mend_request(engine: Engine, request: BuildRequest) -> Fixing:
    """The Dockerfile of `request` with what can be mended mended; nothing is written. UserMistake without a file."""
    from moldar.dockerfile.checks.fixes import mend

    with open_request(request, engine) as opened:
        if not opened.dockerfile_path or opened.temporary:
            raise UserMistake("only a Dockerfile on disk can be mended", hint="name it with -f FILE")
        before = opened.read_dockerfile()
        mended = mend(before, _request_facts(engine, request, opened), opened.dockerfile_name)
        return Fixing(opened.dockerfile_path, before, mended.data, mended.mended, mended.left)


def write_fixed(fixing: Fixing) -> None:
    """Put the mended file in the place of the old one, at once or not at all. UserMistake when that fails."""
    import os
    import tempfile

    path = os.path.realpath(fixing.path)
    try:
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".moldar-fix-")
        try:
            with open(handle, "wb") as file:
                file.write(fixing.after)
            os.chmod(temporary, os.stat(path).st_mode & 0o7777)
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise UserMistake(f"cannot write {fixing.path}: {error.strerror or error}") from error


def run_checks(dockerfile: Dockerfile, options: PlanOptions, opened: Opened, resolve: Resolve) -> Report:
    """The rules over a Dockerfile that was read; base images that cannot be resolved are unknown to them."""
    return check(dockerfile, _facts(options, opened, resolve))


def _request_facts(engine: Engine, request: BuildRequest, opened: Opened) -> Facts:
    from moldar.app.bases import resolve_base

    options = PlanOptions(
        build_args=dict(request.build_args),
        target=request.target,
        platform=_platform(engine, request),
        build_platform=engine.platform,
    )

    def resolve(asked: ImageRequest) -> ResolvedImage:
        return resolve_base(engine, asked, pull=False, any_platform=True)

    return _facts(options, opened, resolve)


def _facts(options: PlanOptions, opened: Opened, resolve: Resolve) -> Facts:
    def base_image(name: str, platform: str) -> BaseImage | None:
        try:
            wanted = Platform(*platform.split("/")) if platform else options.platform
            return _facts_of(resolve(ImageRequest(parse_reference(name), wanted)).config)
        except (MoldarError, TypeError):
            return None

    ignore = read_ignore_patterns(find_ignore_file(opened.directory, opened.dockerfile_path))
    return Facts(options.build_args, automatic_variables(options), ignore, base_image)


def warning_of(finding: Finding) -> Warned:
    """A finding as an event of the build."""
    return Warned(finding.rule, finding.message, finding.line, finding.description, finding.url)


def report_json(report: Report, name: str) -> dict[str, Any]:
    """What `--check --format json` prints."""
    warnings = [
        {
            "ruleName": finding.rule,
            "description": finding.description,
            "url": finding.url,
            "detail": finding.message,
            "location": {
                "source": name,
                "ranges": [{"start": {"line": finding.location.start}, "end": {"line": finding.location.end}}],
            },
        }
        for finding in report.findings
    ]
    document: dict[str, Any] = {"warnings": warnings}
    if report.error is not None:
        document["buildError"] = {"message": report.error.message}
    return document


def _platform(engine: Engine, request: BuildRequest) -> Platform:
    from moldar.builder.plan import parse_platform

    return parse_platform(request.platforms[0]) if request.platforms else engine.platform


def _facts_of(config: ImageConfig) -> BaseImage:
    environment = dict(word.partition("=")[::2] for word in config.config.env)
    has_shell = config.config.shell is not None
    workdir = config.config.working_dir or "/"
    return BaseImage(environment, str(config.platform), has_shell, config.config.on_build, workdir)
