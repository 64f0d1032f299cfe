"""Commands on volumes: create, ls, inspect, rm, prune."""

from moldar.cli import tables
from moldar.cli.argv import Arguments, Command, Flag
from moldar.cli.containers import each
from moldar.cli.engine import engine
from moldar.cli.image_views import inspect_documents
from moldar.cli.listings import listing, name_value_filters
from moldar.cli.questions import confirmed
from moldar.errors import UserMistake

HEADINGS = {
    "Name": "VOLUME NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "Mountpoint": "MOUNTPOINT",
    "Labels": "LABELS",
    "Links": "LINKS",
    "Size": "SIZE",
    "Availability": "AVAILABILITY",
    "Group": "GROUP",
    "Status": "STATUS",
}
COLUMNS = ("Driver", "Name")


def create(arguments: Arguments) -> int:
    from moldar.app import volumes

    if arguments.many("opt"):
        raise UserMistake(
            f"create: the local driver takes no option {arguments.many('opt')[0]!r} here",
            hint="bind a directory with `-v /path:/target`, or use --tmpfs, when the container is run",
        )
    labels = [word.partition("=")[::2] for word in arguments.many("label")]
    name = arguments.positional[0] if arguments.positional else ""
    print(volumes.create(engine(), name, labels, driver=arguments.text("driver")))
    return 0


def list_volumes(arguments: Arguments) -> int:
    from moldar.app import volumes

    template = arguments.text("format")
    found = volumes.list_volumes(
        engine(), name_value_filters(arguments.many("filter")), sizes=".Size" in template or ".Links" in template
    )
    if arguments.on("quiet") and not template:
        print("".join(f"{view.volume.name}\n" for view in found), end="")
        return 0
    rows = [
        {
            "Name": view.volume.name,
            "Driver": volumes.DRIVER,
            "Scope": "local",
            "Mountpoint": view.volume.path,
            "Labels": ",".join(f"{name}={value}" for name, value in view.volume.labels),
            "Links": str(len(view.containers)) if view.size >= 0 else "N/A",
            "Size": tables.size(view.size) if view.size >= 0 else "N/A",
            "Availability": "N/A",
            "Group": "N/A",
            "Status": "N/A",
        }
        for view in found
    ]
    print(listing(template, rows, HEADINGS, COLUMNS, labels=[dict(view.volume.labels) for view in found]), end="")
    return 0


def inspect(arguments: Arguments) -> int:
    from moldar.app import volumes

    store = engine()
    return inspect_documents(arguments, lambda name: volumes.inspect(store, name))


def remove(arguments: Arguments) -> int:
    from moldar.app import volumes

    return each(arguments, lambda store, name: volumes.remove(store, name, force=arguments.on("force")))


def prune(arguments: Arguments) -> int:
    from moldar.app import volumes

    filters = name_value_filters(arguments.many("filter"))
    everything = arguments.on("all")
    if everything and any(name == "all" for name, _ in filters):
        raise UserMistake("conflicting options: cannot specify both --all and --filter all=1")
    what = "all" if everything else "anonymous"
    warning = f"WARNING! This will remove {what} local volumes not used by at least one container."
    if not arguments.on("force") and not confirmed(warning):
        return 0
    pruned = volumes.prune(engine(), everything=everything, filters=filters)
    if pruned.removed:
        print("Deleted Volumes:", *pruned.removed, "", sep="\n")
    print(f"Total reclaimed space: {tables.size(pruned.freed)}")
    return 0


FORMAT = Flag("format", "", "string", value="string", help="Print with a Go template, 'table TEMPLATE' or 'json'")
COMMANDS = (
    Command(
        ("volume", "create"),
        "[OPTIONS] [VOLUME]",
        "Create a volume",
        create,
        (
            Flag("driver", "d", "string", "local", help="Name of the driver; there is local"),
            Flag("label", "", "list", help="Set metadata for the volume"),
            Flag("opt", "o", "list", value="map", help="Driver options; the local driver takes none here"),
        ),
        0,
        1,
    ),
    Command(
        ("volume", "inspect"),
        "[OPTIONS] VOLUME [VOLUME...]",
        "Show the details of volumes",
        inspect,
        (FORMAT._replace(short="f"),),
        1,
    ),
    Command(
        ("volume", "ls"),
        "[OPTIONS]",
        "List volumes",
        list_volumes,
        (
            Flag("filter", "f", "list", value="filter", help="Filter by dangling=, driver=, label= or name="),
            FORMAT,
            Flag("quiet", "q", "bool", help="Only show volume names"),
        ),
        0,
        0,
    ),
    Command(
        ("volume", "prune"),
        "[OPTIONS]",
        "Remove unused volumes",
        prune,
        (
            Flag("all", "a", "bool", help="Remove all unused volumes, not just anonymous ones"),
            Flag("filter", "", "list", value="filter", help="Filter by label= or label!="),
            Flag("force", "f", "bool", help="Do not prompt for confirmation"),
        ),
        0,
        0,
    ),
    Command(
        ("volume", "rm"),
        "[OPTIONS] VOLUME [VOLUME...]",
        "Remove one or more volumes that no container uses",
        remove,
        (Flag("force", "f", "bool", help="Do not mind volumes that are not there"),),
        1,
    ),
)
