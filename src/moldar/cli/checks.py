"""`moldar build --check` and `--call`: what can be said of a Dockerfile without building it."""

import json

from moldar.app.requests import BuildRequest
from moldar.cli.engine import engine
from moldar.dockerfile.instructions import Dockerfile
from moldar.errors import UserMistake

METHODS = ("build", "check", "outline", "targets")


def call(method: str, request: BuildRequest, layout: str) -> int:
    """Print what `method` tells, as text or json; 1 when there are warnings or the file is wrong."""
    if method in ("check", "lint"):
        return _check(request, layout)
    if method == "targets":
        return _targets(request, layout)
    if method == "outline":
        return _outline(request, layout)
    raise UserMistake(f"unsupported method {method!r} for --call", hint="use one of " + ", ".join(METHODS))


def _check(request: BuildRequest, layout: str) -> int:
    from moldar.app.checking import check_request, report_json

    report, source = check_request(engine(), request)
    if layout == "json":
        print(json.dumps(report_json(report, source.name), indent=2))
        return 1 if report.findings or report.error else 0
    for finding in report.findings:
        print(f"WARNING: {finding.rule}" + (f" - {finding.url}" if finding.url else ""))
        print(finding.message)
        print(source.excerpt(finding.location), end="\n\n")
    count = len(report.findings)
    if report.error is not None:
        raise report.error
    if count:
        print(f"Check complete, {count} warning{'s have' if count > 1 else ' has'} been found!")
        return 1
    print("Check complete, no warnings found.")
    return 0


def _targets(request: BuildRequest, layout: str) -> int:
    from moldar.cli.tables import table

    dockerfile = _read(request)
    stages = [
        {
            "name": stage.name or str(stage.number),
            "default": stage is dockerfile.stages[-1],
            "description": stage.description,
            "base": stage.base,
            "platform": stage.platform,
        }
        for stage in dockerfile.stages
    ]
    if layout == "json":
        print(json.dumps({"targets": stages}, indent=2))
    else:
        rows = [
            (str(s["name"]) + (" (default)" if s["default"] else ""), str(s["base"]), str(s["description"]))
            for s in stages
        ]
        print(table(("TARGET", "BASE", "DESCRIPTION"), rows))
    return 0


def _outline(request: BuildRequest, layout: str) -> int:
    from moldar.cli.tables import table
    from moldar.dockerfile.outline import outline

    found = outline(_read(request), request.target, dict(request.build_args))
    if layout == "json":
        document = {
            "name": found.name,
            "description": found.description,
            "args": [argument._asdict() for argument in found.arguments],
            "secrets": [secret._asdict() for secret in found.secrets],
            "ssh": [agent._asdict() for agent in found.agents],
            "cache": [{"id": name} for name in found.caches],
        }
        print(json.dumps(document, indent=2))
        return 0
    print(f"TARGET:        {found.name}")
    if found.description:
        print(f"DESCRIPTION:   {found.description}")
    rows = [(argument.name, argument.value or "", argument.description) for argument in found.arguments]
    tables = [(("BUILD ARG", "VALUE", "DESCRIPTION"), rows)] if rows else []
    for title, needs in (("SECRET", found.secrets), ("SSH", found.agents)):
        if needs:
            tables.append(((title, "REQUIRED", ""), [(n.name, str(n.required).lower(), "") for n in needs]))
    for header, lines in tables:
        print("\n" + table(header, lines))
    return 0


def _read(request: BuildRequest) -> Dockerfile:
    from moldar.app.contexts import open_request
    from moldar.dockerfile.reading import read_dockerfile

    with open_request(request, engine()) as opened:
        return read_dockerfile(opened.read_dockerfile(), opened.dockerfile_name)
