"""Commands that show containers: ps, port, inspect."""

import json
from collections.abc import Sequence
from typing import Any

from moldar.app.containers import ContainerView
from moldar.cli import tables
from moldar.cli.argv import Arguments, Command, Flag
from moldar.cli.engine import engine
from moldar.cli.image_views import inspect_documents
from moldar.errors import UserMistake

HEADINGS = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "Ports": "PORTS",
    "Names": "NAMES",
    "State": "STATE",
    "Labels": "LABELS",
    "CreatedAt": "CREATED AT",
}
COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")
WIDTH_COMMAND = 20


def list_containers(arguments: Arguments) -> int:
    from moldar.app import containers

    found = containers.list_containers(
        engine(),
        everything=arguments.on("all") or arguments.on("latest") or "last" in arguments.given,
        filters=name_value_filters(arguments.many("filter")),
    )
    if arguments.on("latest") or "last" in arguments.given:
        found = found[: 1 if arguments.on("latest") else arguments.number("last")]
    full = arguments.on("no-trunc")
    rows = [_row(container, full=full) for container in found]
    if arguments.on("quiet"):
        print(*(row["ID"] for row in rows), sep="\n", end="\n" if rows else "")
    else:
        labels = [dict(container.definition.labels) for container in found]
        print(listing(arguments.text("format"), rows, HEADINGS, COLUMNS, labels=labels), end="")
    return 0


def _row(view: ContainerView, *, full: bool) -> dict[str, str]:
    from moldar.app.containers import ports_text, status_text

    definition = view.definition
    command = view.command
    if not full and len(command) > WIDTH_COMMAND:
        command = command[: WIDTH_COMMAND - 2] + '…"'
    return {
        "ID": view.id if full else view.id[:12],
        "Image": definition.image_name,
        "Command": command,
        "RunningFor": tables.ago(definition.created),
        "Status": status_text(view),
        "State": view.status.state,
        "Ports": ports_text(view),
        "Names": view.name,
        "Labels": ",".join(f"{name}={value}" for name, value in definition.labels),
        "CreatedAt": str(definition.created),
    }


def ports(arguments: Arguments) -> int:
    from moldar.app import containers

    lines = containers.ports(engine(), arguments.positional[0])
    if len(arguments.positional) > 1:
        wanted = arguments.positional[1]
        wanted = wanted if "/" in wanted else f"{wanted}/tcp"
        chosen = [host for port, host in lines if port == wanted]
        if not chosen:
            raise UserMistake(f"no public port {wanted!r} published for {arguments.positional[0]}")
        print(*chosen, sep="\n")
        return 0
    for port, host in lines:
        print(f"{port} -> {host}")
    return 0


def inspect(arguments: Arguments) -> int:
    from moldar.app import containers

    store = engine()
    return inspect_documents(arguments, lambda name: containers.inspect(store, name))


def name_value_filters(words: list[str]) -> list[tuple[str, str]]:
    """The words of --filter; `label!=x` keeps its mark in the name. UserMistake."""
    filters = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise UserMistake(f"invalid filter {word!r}", hint="expected name=value, such as status=exited")
        filters.append((name.strip().lower(), value.strip()))
    return filters


def listing(
    template: str,
    rows: list[dict[str, str]],
    headings: dict[str, str],
    columns: Sequence[str],
    *,
    labels: Sequence[dict[str, str]] = (),
) -> str:
    """The text of a listing, its last line ended: a table of `columns`, or what --format wants of the rows.

    `labels` are those of each row, for `{{.Label "key"}}`.
    """
    if template in ("", "table"):
        cells = ([row[name] for name in columns] for row in rows)
        text = tables.table([headings[name] for name in columns], cells)
    elif template == "json":
        text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    else:
        from moldar.cli.templates import rows as render_rows

        own = labels or [{} for _ in rows]
        given: list[dict[str, Any]] = [
            {**row, "Label": lambda key, known=known: known.get(key, "")}
            for row, known in zip(rows, own, strict=True)
        ]
        text = render_rows(template, given, {**headings, "Label": lambda key: key})
    return text + "\n" if text else ""


FORMAT = Flag("format", "f", "string", value="string", help="Print with a Go template, or 'json'")
COMMANDS = (
    Command(
        ("container", "ls"),
        "[OPTIONS]",
        "List containers",
        list_containers,
        (
            Flag("all", "a", "bool", help="Show all containers, not just running ones"),
            Flag("filter", "f", "list", value="filter", help="Filter by id=, name=, status=, ancestor= or label="),
            FORMAT._replace(short=""),
            Flag("last", "n", "int", help="Show this many last created containers"),
            Flag("latest", "l", "bool", help="Show the latest created container"),
            Flag("no-trunc", "", "bool", help="Do not shorten the output"),
            Flag("quiet", "q", "bool", help="Only show container IDs"),
        ),
        0,
        0,
    ),
    Command(
        ("container", "port"),
        "CONTAINER [PRIVATE_PORT[/PROTO]]",
        "List port mappings of a container",
        ports,
        (),
        1,
        2,
    ),
    Command(
        ("container", "inspect"),
        "[OPTIONS] CONTAINER [CONTAINER...]",
        "Show the details of containers",
        inspect,
        (FORMAT,),
        1,
    ),
)
