"""Commands that show images: ls, history, inspect."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from moldar.cli import tables
from moldar.cli.argv import Arguments, Command, Flag
from moldar.cli.engine import engine
from moldar.cli.listings import listing, name_value_filters
from moldar.errors import NotFound, UserMistake

NONE = "<none>"
WIDTH_CREATED_BY = 45
HISTORY_HEADINGS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}
IMAGE_HEADINGS = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "ID": "IMAGE ID",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "VirtualSize": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "Containers": "CONTAINERS",
}


def list_images(arguments: Arguments) -> int:
    from moldar.app import images

    pattern = arguments.positional[0] if arguments.positional else ""
    filters = name_value_filters(arguments.many("filter"))
    found = images.list_images(engine(), pattern=pattern, filters=filters)
    full = arguments.on("no-trunc")
    rows = [_image_row(image, full=full) for image in found]
    if arguments.on("quiet"):
        return _print("\n".join(dict.fromkeys(row["ID"] for row in rows)))
    columns = ["Repository", "Tag", *(["Digest"] if arguments.on("digests") else []), "ID", "CreatedSince", "Size"]
    print(listing(arguments.text("format"), rows, IMAGE_HEADINGS, columns), end="")
    return 0


def _image_row(image: Any, *, full: bool) -> dict[str, str]:
    return {
        "Repository": image.repository or NONE,
        "Tag": image.tag or NONE,
        "ID": image.id if full else tables.short_id(image.id),
        "Digest": image.digest or NONE,
        "CreatedSince": tables.ago(tables.timestamp(image.created)),
        "CreatedAt": tables.local_time(tables.timestamp(image.created)),
        "Size": tables.size(image.size),
        "VirtualSize": tables.size(image.size),
        "SharedSize": "N/A",
        "UniqueSize": "N/A",
        "Containers": "N/A",
    }


def history(arguments: Arguments) -> int:
    from moldar.app import images

    full, human = arguments.on("no-trunc"), arguments.on("human")
    rows = []
    for entry in images.history(engine(), arguments.positional[0]):
        by = entry.created_by.replace("\t", " ")
        image = entry.image_id or "<missing>"
        rows.append(
            {
                "ID": image if full else tables.short_id(image),
                "CreatedSince": tables.ago(tables.timestamp(entry.created)) if human else entry.created,
                "CreatedAt": entry.created,
                "CreatedBy": by if full or len(by) <= WIDTH_CREATED_BY else by[: WIDTH_CREATED_BY - 1] + "…",
                "Size": tables.size(entry.size) if human else str(entry.size),
                "Comment": entry.comment,
            }
        )
    if arguments.on("quiet"):
        return _print("\n".join(row["ID"] for row in rows))
    columns = ["ID", "CreatedSince", "CreatedBy", "Size", "Comment"]
    print(listing(arguments.text("format"), rows, HISTORY_HEADINGS, columns), end="")
    return 0


def inspect_images(arguments: Arguments) -> int:
    from moldar.app import images

    store = engine()
    return inspect_documents(arguments, lambda name: images.inspect(store, name))


def inspect_anything(arguments: Arguments) -> int:
    """A container when there is one of that name, else an image, a network, a volume, as Docker does."""
    from moldar.app import containers, images, networks, volumes

    store = engine()
    kinds: dict[str, Callable[[str], dict[str, Any]]] = {
        "container": lambda name: containers.inspect(store, name, size=arguments.on("size")),
        "image": lambda name: images.inspect(store, name),
        "network": lambda name: networks.inspect(store, name),
        "volume": lambda name: volumes.inspect(store, name),
    }

    def any_of_them(name: str) -> dict[str, Any]:
        for find in kinds.values():
            with suppress(NotFound):
                return find(name)
        raise NotFound(f"no such object: {name}")

    kind = arguments.text("type")
    if kind and kind not in kinds:
        raise UserMistake(f'"{kind}" is not a valid value for --type', hint=f"use {', '.join(kinds)}")
    return inspect_documents(arguments, kinds.get(kind, any_of_them))


def inspect_documents(arguments: Arguments, find: Any) -> int:
    """Print what is found even when another name is not, and then fail, as Docker does."""
    found, missing = [], None
    for name in arguments.positional:
        try:
            found.append(find(name))
        except NotFound as error:
            missing = missing or error
    if template := arguments.text("format"):
        from moldar.cli.templates import render

        _print("\n".join(render(template, document) for document in found))
    elif found or missing:
        print(json.dumps(found, indent=4, ensure_ascii=False))
    if missing:
        raise missing
    return 0


def _print(text: str) -> int:
    if text:
        print(text)
    return 0


FORMAT = Flag("format", "", "string", value="string", help="Print with a Go template, or 'json'")
QUIET = Flag("quiet", "q", "bool", help="Only show image IDs")
NO_TRUNC = Flag("no-trunc", "", "bool", help="Do not shorten the output")
COMMANDS = (
    Command(
        ("image", "ls"),
        "[OPTIONS] [REPOSITORY[:TAG]]",
        "List images",
        list_images,
        (
            Flag("all", "a", "bool", help="Show all images (there are no hidden ones)"),
            Flag("digests", "", "bool", help="Show digests"),
            Flag(
                "filter",
                "f",
                "list",
                value="filter",
                help="Filter by dangling=, reference=, label=, before=, since= or until=",
            ),
            FORMAT,
            NO_TRUNC,
            QUIET,
        ),
        0,
        1,
    ),
    Command(
        ("image", "history"),
        "[OPTIONS] IMAGE",
        "Show the history of an image",
        history,
        (
            FORMAT,
            Flag("human", "H", "bool", default=True, help="Print sizes and dates for people"),
            NO_TRUNC,
            QUIET,
        ),
        1,
        1,
    ),
    Command(
        ("image", "inspect"),
        "[OPTIONS] IMAGE [IMAGE...]",
        "Show the details of images",
        inspect_images,
        (FORMAT._replace(short="f"),),
        1,
    ),
    Command(
        ("inspect",),
        "[OPTIONS] NAME|ID [NAME|ID...]",
        "Show the details of a container, image, network or volume",
        inspect_anything,
        (
            FORMAT._replace(short="f"),
            Flag("size", "s", "bool", help="Tell a container's sizes too"),
            Flag("type", "", "string", help="Only look for this type: container, image, network or volume"),
        ),
        1,
    ),
)
