"""Commands that show containers: ps, port, inspect."""

from moldar.app.containers import ContainerView
from moldar.cli import tables
from moldar.cli.argv import Arguments, Command, Flag
from moldar.cli.engine import engine
from moldar.cli.image_views import inspect_documents
from moldar.cli.listings import listing, name_value_filters
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
    "Size": "SIZE",
    "LocalVolumes": "LOCAL VOLUMES",
    "Mounts": "MOUNTS",
    "Networks": "NETWORKS",
}
COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")
WIDTH_COMMAND = 20
WIDTH_MOUNT = 15


def list_containers(arguments: Arguments) -> int:
    from moldar.app import containers

    store = engine()
    found = containers.list_containers(
        store,
        everything=arguments.on("all") or arguments.on("latest") or "last" in arguments.given,
        filters=name_value_filters(arguments.many("filter")),
    )
    if arguments.on("latest") or "last" in arguments.given:
        found = found[: 1 if arguments.on("latest") else arguments.number("last")]
    full, template = arguments.on("no-trunc"), arguments.text("format")
    rows = [_row(container, full=full) for container in found]
    if (sized := arguments.on("size")) or ".Size" in template:
        for row, container in zip(rows, found, strict=True):
            changed, whole = map(tables.size, containers.sizes(store, container))
            row["Size"] = f"{changed} (virtual {whole})"
    if arguments.on("quiet"):
        print(*(row["ID"] for row in rows), sep="\n", end="\n" if rows else "")
    else:
        labels = [dict(container.definition.labels) for container in found]
        columns = (*COLUMNS, "Size") if sized else COLUMNS
        print(listing(template, rows, HEADINGS, columns, labels=labels), end="")
    return 0


def _row(view: ContainerView, *, full: bool) -> dict[str, str]:
    from moldar.app.containers import ports_text, status_text

    definition = view.definition
    mounts = [mount.name or mount.source for mount in definition.mounts if mount.kind != "tmpfs"]
    return {
        "ID": view.id if full else view.id[:12],
        "Image": definition.image_name,
        "Command": view.command if full else shortened_command(view.command),
        "RunningFor": tables.ago(definition.created),
        "Status": status_text(view),
        "State": view.status.state,
        "Ports": ports_text(view),
        "Names": view.name,
        "Labels": ",".join(f"{name}={value}" for name, value in definition.labels),
        "CreatedAt": tables.local_time(definition.created),
        "Size": "0B",
        "LocalVolumes": str(sum(mount.kind == "volume" for mount in definition.mounts)),
        "Mounts": ",".join(mounts if full else (_shortened(mount) for mount in mounts)),
        "Networks": definition.network,
    }


def shortened_command(command: str) -> str:
    """A quoted command as a table shows it."""
    return command if len(command) <= WIDTH_COMMAND else command[: WIDTH_COMMAND - 2] + '…"'


def _shortened(name: str) -> str:
    return name if len(name) <= WIDTH_MOUNT else name[: WIDTH_MOUNT - 1] + "…"


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
    size = arguments.on("size")
    return inspect_documents(arguments, lambda name: containers.inspect(store, name, size=size))


FORMAT = Flag("format", "f", "string", value="string", help="Print with a Go template, or 'json'")
COMMANDS = (
    Command(
        ("container", "ls"),
        "[OPTIONS]",
        "List containers",
        list_containers,
        (
            Flag("all", "a", "bool", help="Show all containers, not just running ones"),
            Flag("filter", "f", "list", value="filter", help="Filter by id=, name=, status=, ancestor=, label= …"),
            FORMAT._replace(short=""),
            Flag("last", "n", "int", help="Show this many last created containers"),
            Flag("latest", "l", "bool", help="Show the latest created container"),
            Flag("no-trunc", "", "bool", help="Do not shorten the output"),
            Flag("quiet", "q", "bool", help="Only show container IDs"),
            Flag("size", "s", "bool", help="Show sizes: of what it changed, and with its image"),
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
        (FORMAT, Flag("size", "s", "bool", help="Tell sizes too")),
        1,
    ),
)
