"""`moldar cache`: the store's build cache to and from other places, without a build."""

import sys

from moldar.cli import tables
from moldar.cli.argv import Arguments, Command, Flag
from moldar.cli.engine import engine


def export(arguments: Arguments) -> int:
    from moldar.app import caches
    from moldar.cli import cache_options
    from moldar.cli.progress.plain import Plain

    word, *names = arguments.positional
    place = cache_options.target(word, "moldar cache export", ("local", "registry"))
    mounts = arguments.on("mounts") or place.get("mounts") == "true"
    written = caches.export_cache(engine(), place, names, Plain(), mounts=mounts)
    mounted = f", {written.mounts} cache mounts" if mounts else ""
    print(f"Exported {written.records} records, {written.layers} layers{mounted} to {place}")
    print(f"Sent: {tables.size(written.sent)}")
    print(f"Digest: {written.digest}")
    sys.stdout.flush()
    return 0


def import_(arguments: Arguments) -> int:
    from moldar.app import caches
    from moldar.cli import cache_options

    place = cache_options.source(arguments.positional[0], "moldar cache import")
    brought = caches.import_cache(engine(), place, mounts=arguments.on("mounts"))
    print(f"Imported {brought.records} records, {brought.layers} layers, {brought.mounts} cache mounts from {place}")
    return 0


COMMANDS = (
    Command(
        ("cache", "export"),
        "[OPTIONS] DEST [IMAGE...]",
        "Write the build cache to a directory or registry",
        export,
        (Flag("mounts", "", "bool", help="Export the contents of cache mounts too"),),
        1,
        -1,
    ),
    Command(
        ("cache", "import"),
        "[OPTIONS] SOURCE",
        "Bring a build cache into the store",
        import_,
        (Flag("mounts", "", "bool", default=True, help="Fill cache mounts that are not here (default true)"),),
        1,
        1,
    ),
)
