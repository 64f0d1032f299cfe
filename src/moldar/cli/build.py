"""`moldar build`: flags to a request, events to a picture, the result to files and words."""

import sys

from moldar.app.requests import BuildRequest
from moldar.cli import environment
from moldar.cli.argv import Arguments, Command, Flag, UsageError
from moldar.cli.engine import engine
from moldar.cli.progress import choose
from moldar.errors import MoldarError

NOTED = {
    "attest": "attestations are not made yet",
    "provenance": "attestations are not made yet",
    "sbom": "attestations are not made yet",
    "builder": "there are no builder instances: Moldar builds in this process",
    "memory": "steps are not limited",
    "memory-swap": "steps are not limited",
    "cpu-shares": "steps are not limited",
    "cpu-period": "steps are not limited",
    "cpu-quota": "steps are not limited",
    "cpuset-cpus": "steps are not limited",
    "cpuset-mems": "steps are not limited",
    "compress": "the context is read where it lies, not sent",
    "disable-content-trust": "content trust is not used",
    "isolation": "there is one kind of isolation on Linux",
    "policy": "there are no source policies",
    "security-opt": "steps run in the runtime's own confinement",
    "squash": "layers are kept apart; a last stage FROM scratch with one COPY makes one layer",
}
CACHE_MODES = ("reads", "exact")


def build(arguments: Arguments) -> int:
    from moldar.app.building import build as run

    request = _request(arguments)
    called = "check" if arguments.on("check") else arguments.text("call") or "build"
    if called != "build":
        from moldar.cli.checks import call

        return call(called.partition(",")[0], request, arguments.text("format") or _format_in(called))
    for name in sorted(arguments.given & NOTED.keys()):
        print(f"note: --{name} has no effect: {NOTED[name]}", file=sys.stderr)
    quiet = arguments.on("quiet")
    renderer = choose("quiet" if quiet else _progress(arguments), terminal=environment.stderr_is_terminal())
    if arguments.on("explain"):
        from moldar.cli.progress.explained import Explained

        renderer = Explained(renderer)
    try:
        built = run(engine(), request, renderer)
    except MoldarError as error:
        renderer.close(error.message)
        error.exit_code = 1  # whatever a step's process ended with, as docker build
        raise
    except BaseException as error:
        renderer.close(str(error) or type(error).__name__)
        raise
    renderer.close()
    if path := arguments.text("iidfile"):
        _write(path, built.image_id)
    if path := arguments.text("metadata-file"):
        import json

        _write(path, json.dumps(built.metadata, indent=2))
    if quiet:
        print(built.image_id)
    return 0


def _format_in(called: str) -> str:
    return "json" if "format=json" in called else ""


def _progress(arguments: Arguments) -> str:
    if arguments.on("debug-shell") and not arguments.text("progress"):
        return "plain"  # a picture that is redrawn leaves no room for a shell
    return arguments.text("progress") or environment.variable("BUILDKIT_PROGRESS") or "auto"


def _request(arguments: Arguments) -> BuildRequest:
    """The plain flags here; those with a grammar of their own are read in `build_options`, imported when used."""
    fields: dict[str, object] = {
        "context": arguments.positional[0],
        "file": arguments.text("file"),
        "tags": tuple(arguments.many("tag")),
        "target": arguments.text("target"),
        "no_cache": arguments.on("no-cache"),
        "no_cache_filter": tuple(part for word in arguments.many("no-cache-filter") for part in word.split(",")),
        "pull": arguments.on("pull"),
        "network": arguments.text("network"),
        "reproducible": arguments.on("reproducible"),
        "exact_cache": _cache_mode(arguments) == "exact",
    }
    if epoch := environment.variable("SOURCE_DATE_EPOCH"):
        from moldar.cli.build_options import epoch_seconds

        fields["source_date_epoch"] = epoch_seconds(epoch)
    if arguments.given - {
        "explain",
        "file",
        "tag",
        "target",
        "no-cache",
        "no-cache-filter",
        "pull",
        "network",
        "progress",
        "quiet",
        "reproducible",
        "cache-mode",
    }:
        from moldar.cli.build_options import read

        fields |= read(arguments)
    return BuildRequest(**fields)  # type: ignore[arg-type]


def _cache_mode(arguments: Arguments) -> str:
    mode = arguments.text("cache-mode")
    if mode not in CACHE_MODES:
        raise UsageError(f"--cache-mode is {' or '.join(CACHE_MODES)}, not {mode!r}", "moldar build")
    return mode


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


COMMANDS = (
    Command(
        ("build",),
        "[OPTIONS] PATH | URL | -",
        "Build an image from a Dockerfile",
        build,
        (
            Flag("add-host", "", "list", value="host:ip", help="Add a line to /etc/hosts of the steps"),
            Flag("annotation", "", "list", value="key=value", help="Add an annotation to the manifest"),
            Flag("attest", "", "list", help="Accepted for compatibility"),
            Flag("allow", "", "list", help="Allow an entitlement: security.insecure, network.host"),
            Flag("build-arg", "", "list", value="name=value", help="Set a build argument"),
            Flag("build-context", "", "list", value="name=path", help="Add a named build context"),
            Flag("builder", "", "string", help="Accepted for compatibility"),
            Flag("cache-from", "", "list", value="place", help="Read a build cache: NAME or type=local,src=DIR"),
            Flag(
                "cache-mode",
                "",
                "string",
                "reads",
                "mode",
                "reads: reuse a step when nothing that it read changed; exact: only when nothing below it changed",
            ),
            Flag("cache-to", "", "list", value="place", help="Write the build cache, such as type=local,dest=DIR"),
            Flag("call", "", "string", value="method", help="build, check, outline or targets"),
            Flag("check", "", "bool", help="Check the Dockerfile and do not build"),
            Flag("cgroup-parent", "", "string", value="cgroup", help="Make the cgroups of the steps below this one"),
            Flag("compress", "", "bool", help="Accepted for compatibility"),
            Flag("cpu-period", "", "string", help="Accepted for compatibility"),
            Flag("cpu-quota", "", "string", help="Accepted for compatibility"),
            Flag("cpu-shares", "c", "string", help="Accepted for compatibility"),
            Flag("debug-shell", "", "bool", help="Open a shell in a step that fails: its files, environment, mounts"),
            Flag("explain", "", "bool", help="Say of every step why it ran or was reused, with all that differs"),
            Flag("cpuset-cpus", "", "string", help="Accepted for compatibility"),
            Flag("cpuset-mems", "", "string", help="Accepted for compatibility"),
            Flag("disable-content-trust", "", "bool", default=True, help="Accepted for compatibility"),
            Flag("file", "f", "string", value="file", help="Name of the Dockerfile (default: PATH/Dockerfile)"),
            Flag("force-rm", "", "bool", help="Accepted for compatibility"),
            Flag("format", "", "string", help="text or json, with --check and --call"),
            Flag("iidfile", "", "string", value="file", help="Write the image ID to a file"),
            Flag("isolation", "", "string", help="Accepted for compatibility"),
            Flag("label", "", "list", value="key=value", help="Set a label of the image"),
            Flag("load", "", "bool", help="Keep the image in the store (this is the default)"),
            Flag("memory", "m", "string", help="Accepted for compatibility"),
            Flag("memory-swap", "", "string", help="Accepted for compatibility"),
            Flag("metadata-file", "", "string", value="file", help="Write the result's metadata to a file"),
            Flag("network", "", "string", "default", "mode", "Network of RUN: default, none or host"),
            Flag("no-cache", "", "bool", help="Do not use the cache"),
            Flag("no-cache-filter", "", "list", value="stage", help="Do not cache the named stages"),
            Flag("output", "o", "list", value="dest", help="Where the result goes, such as type=oci,dest=x.tar"),
            Flag("platform", "", "list", value="platform", help="Target platform, such as linux/arm64"),
            Flag("policy", "", "list", help="Accepted for compatibility"),
            Flag("progress", "", "string", value="kind", help="auto, plain, tty, quiet or rawjson"),
            Flag("provenance", "", "string", help="Accepted for compatibility"),
            Flag("pull", "", "bool", help="Always look for newer base images"),
            Flag("push", "", "bool", help="Push the result to its registry"),
            Flag("quiet", "q", "bool", help="Only print the image ID"),
            Flag(
                "reproducible", "", "bool", help="Same digest on any machine: no dates, plain modes of copied files"
            ),
            Flag("rm", "", "bool", default=True, help="Accepted for compatibility"),
            Flag("sbom", "", "string", help="Accepted for compatibility"),
            Flag("secret", "", "list", value="id=x,src=f", help="A secret for RUN --mount=type=secret"),
            Flag("security-opt", "", "list", help="Accepted for compatibility"),
            Flag("squash", "", "bool", help="Accepted for compatibility"),
            Flag("shm-size", "", "string", value="bytes", help="Size of /dev/shm of the steps"),
            Flag("ssh", "", "list", value="id=socket", help="An agent for RUN --mount=type=ssh"),
            Flag("tag", "t", "list", value="name:tag", help="Name and tag of the image"),
            Flag("target", "", "string", value="stage", help="Build up to this stage"),
            Flag("unset-env", "", "list", value="name", help="Drop a variable that the image would have"),
            Flag("unset-expose", "", "list", value="port", help="Drop a port that the image would expose"),
            Flag("unset-label", "", "list", value="name", help="Drop a label that the image would have"),
            Flag("unset-volume", "", "list", value="path", help="Drop a volume that the image would declare"),
            Flag("ulimit", "", "list", value="type=soft[:hard]", help="Resource limits of the steps"),
        ),
        1,
        1,
    ),
)
