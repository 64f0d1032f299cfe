"""`system df`: how much the store holds, and of what."""

from moldar.app.engine import Engine
from moldar.cli import tables
from moldar.cli.argv import Arguments, Command, Flag
from moldar.cli.container_views import shortened_command
from moldar.cli.engine import engine
from moldar.cli.listings import listing
from moldar.errors import UserMistake

HEADINGS = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}


def disk_usage(arguments: Arguments) -> int:
    from moldar.app import systems

    if arguments.on("verbose"):
        if arguments.text("format"):
            raise UserMistake("the verbose and the format options conflict")
        return _in_detail()
    rows = [
        {
            "Type": row.kind,
            "TotalCount": str(row.total),
            "Active": str(row.active),
            "Size": tables.size(row.size),
            "Reclaimable": _share(row.reclaimable, row.size),
        }
        for row in systems.usage(engine())
    ]
    print(listing(arguments.text("format"), rows, HEADINGS, tuple(HEADINGS)), end="")
    return 0


def _share(part: int, whole: int) -> str:
    return f"{tables.size(part)} ({100 * part // whole}%)" if whole else tables.size(part)


def _in_detail() -> int:
    from moldar.app import systems, volumes

    store = engine()
    _section(
        "Images",
        ("REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"),
        _images(store),
    )
    _section(
        "Containers",
        ("CONTAINER ID", "IMAGE", "COMMAND", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES"),
        _containers(store),
    )
    known = volumes.list_volumes(store, sizes=True)
    _section(
        "Local Volumes",
        ("VOLUME NAME", "LINKS", "SIZE"),
        [(view.volume.name, str(len(view.containers)), tables.size(view.size)) for view in known],
    )
    print(f"Build cache usage: {tables.size(systems.usage(store)[-1].size)}")
    return 0


def _images(store: Engine) -> list[tuple[str, ...]]:
    from moldar.app import systems

    return [
        (
            share.image.repository or "<none>",
            share.image.tag or "<none>",
            tables.short_id(share.image.id),
            tables.ago(tables.timestamp(share.image.created)),
            tables.size(share.image.size),
            tables.size(share.shared),
            tables.size(share.image.size - share.shared),
            str(share.containers),
        )
        for share in systems.image_shares(store)
    ]


def _containers(store: Engine) -> list[tuple[str, ...]]:
    from moldar.app import containers

    return [
        (
            view.id[:12],
            view.definition.image_name,
            shortened_command(view.command),
            str(sum(mount.kind == "volume" for mount in view.definition.mounts)),
            tables.size(containers.sizes(store, view)[0]),
            tables.ago(view.definition.created),
            containers.status_text(view),
            view.name,
        )
        for view in containers.list_containers(store, everything=True)
    ]


def _section(what: str, titles: tuple[str, ...], lines: list[tuple[str, ...]]) -> None:
    print(f"{what} space usage:\n\n{tables.table(titles, lines)}\n")


COMMANDS = (
    Command(
        ("system", "df"),
        "[OPTIONS]",
        "Show disk usage",
        disk_usage,
        (
            Flag("format", "", "string", value="string", help="Print with a Go template, or 'json'"),
            Flag("verbose", "v", "bool", help="Show each image, container and volume"),
        ),
        0,
        0,
    ),
)
