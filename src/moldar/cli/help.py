"""The texts of --help, drawn from the same data that argv is read by."""

from moldar.cli.argv import Command, Flag
from moldar.cli.index import ALIASES, COMMANDS, GROUPS

COMMON = ("run", "exec", "ps", "build", "pull", "push", "images", "login", "logout")


def overview() -> str:
    """What `moldar --help` prints."""
    lines = [
        "",
        "Usage:  moldar [OPTIONS] COMMAND",
        "",
        "Build, keep, run and share container images, with no daemon",
        "",
    ]
    lines += ["Common Commands:", *_rows({name: _summary(name) for name in COMMON}), ""]
    lines += ["Management Commands:", *_rows(GROUPS), ""]
    rest = {name for name in (*COMMANDS, *ALIASES) if " " not in name} - set(COMMON)
    lines += ["Commands:", *_rows({name: _summary(name) for name in sorted(rest)}), ""]
    lines += [
        "Global Options:",
        "      --home DIR   Where images, containers and the cache are kept (MOLDAR_HOME)",
        "  -v, --version    Print the version and quit",
        "",
        "Run 'moldar COMMAND --help' for more information on a command.",
    ]
    return "\n".join(lines)


def group(name: str) -> str:
    """What `moldar image` and the like print."""
    members = {key[len(name) + 1 :]: entry.summary for key, entry in COMMANDS.items() if key.startswith(name + " ")}
    lines = ["", f"Usage:  moldar {name} COMMAND", "", GROUPS.get(name, ""), "", "Commands:", *_rows(members), ""]
    return "\n".join([*lines, f"Run 'moldar {name} COMMAND --help' for more information on a command."])


def usage(command: Command) -> str:
    """What `moldar COMMAND --help` prints."""
    lines = ["", f"Usage:  {command.name} {command.usage}".rstrip(), "", command.summary]
    name = " ".join(command.path)
    others = [name, *sorted(alias for alias, target in ALIASES.items() if target == name)]
    if len(others) > 1:
        lines += ["", "Aliases:", "  " + ", ".join(f"moldar {other}" for other in others)]
    if command.flags:
        rows = {_flag_column(flag): _flag_help(flag) for flag in sorted(command.flags)}
        lines += ["", "Options:", *_rows(rows)]
    return "\n".join(lines)


def _flag_column(flag: Flag) -> str:
    short = f"-{flag.short}, " if flag.short else "    "
    value = {"bool": "", "list": flag.value or "list"}.get(flag.kind, flag.value or flag.kind)
    if flag.kind == "optional":
        value = ""
    return f"{short}--{flag.name} {value}".rstrip()


def _flag_help(flag: Flag) -> str:
    shown = flag.default and flag.kind != "bool"
    return flag.help + (f' (default "{flag.default}")' if shown else "")


def _summary(name: str) -> str:
    return COMMANDS[ALIASES.get(name, name)].summary


def _rows(rows: dict[str, str]) -> list[str]:
    width = max(map(len, rows), default=0) + 3
    return [f"  {name:<{width}}{text}".rstrip() for name, text in rows.items()]
