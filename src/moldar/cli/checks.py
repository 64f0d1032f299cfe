"""`moldar build --check` and `--call`: what can be said of a Dockerfile without building it."""

import json

from moldar.app.requests import BuildRequest
from moldar.cli.engine import engine
from moldar.errors import UserMistake

METHODS = ("build", "check", "targets")


def call(method: str, request: BuildRequest, layout: str) -> int:
    """Print what `method` tells, as text or json; 1 when there are warnings or the file is wrong."""
    if method in ("check", "lint"):
        return _check(request, layout)
    if method == "targets":
        return _targets(request, layout)
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
    from moldar.app.contexts import open_request
    from moldar.cli.tables import table
    from moldar.dockerfile.reading import read_dockerfile

    with open_request(request) as opened:
        dockerfile = read_dockerfile(opened.read_dockerfile(), opened.dockerfile_name)
    stages = [
        {"name": stage.name or str(stage.number), "default": stage is dockerfile.stages[-1], "base": stage.base}
        for stage in dockerfile.stages
    ]
    if layout == "json":
        print(json.dumps({"targets": stages}, indent=2))
    else:
        rows = [(str(s["name"]) + (" (default)" if s["default"] else ""), str(s["base"])) for s in stages]
        print(table(("TARGET", "BASE"), rows))
    return 0
