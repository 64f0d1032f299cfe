"""Commands on networks: ls, inspect."""

from moldar.cli.argv import Arguments, Command, Flag
from moldar.cli.engine import engine
from moldar.cli.image_views import inspect_documents
from moldar.cli.listings import listing, name_value_filters

HEADINGS = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
}
COLUMNS = ("ID", "Name", "Driver", "Scope")


def list_networks(arguments: Arguments) -> int:
    from moldar.app import networks

    found = networks.list_networks(engine(), name_value_filters(arguments.many("filter")))
    rows = [
        {
            "ID": network.id if arguments.on("no-trunc") else network.id[:12],
            "Name": network.name,
            "Driver": network.driver,
            "Scope": "local",
            "IPv6": "false",
            "Internal": "false",
            "Labels": "",
        }
        for network in found
    ]
    if arguments.on("quiet"):
        print("".join(f"{row['ID']}\n" for row in rows), end="")
        return 0
    print(listing(arguments.text("format"), rows, HEADINGS, COLUMNS), end="")
    return 0


def inspect(arguments: Arguments) -> int:
    from moldar.app import networks

    store = engine()
    return inspect_documents(arguments, lambda name: networks.inspect(store, name))


FORMAT = Flag("format", "", "string", value="string", help="Print with a Go template, 'table TEMPLATE' or 'json'")
COMMANDS = (
    Command(
        ("network", "ls"),
        "[OPTIONS]",
        "List networks",
        list_networks,
        (
            Flag("filter", "f", "list", value="filter", help="Filter by driver=, id=, name= or type="),
            FORMAT,
            Flag("no-trunc", "", "bool", help="Do not shorten the output"),
            Flag("quiet", "q", "bool", help="Only show network IDs"),
        ),
        0,
        0,
    ),
    Command(
        ("network", "inspect"),
        "[OPTIONS] NETWORK [NETWORK...]",
        "Show the details of networks",
        inspect,
        (FORMAT._replace(short="f"), Flag("verbose", "v", "bool", help="Accepted for compatibility")),
        1,
    ),
)
