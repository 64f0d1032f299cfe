"""Asking the person at the terminal."""

import sys


def confirmed(warning: str) -> bool:
    """Show `warning` and ask whether to go on; anything but y or yes is a no."""
    print(warning)
    print("Are you sure you want to continue? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def ask(prompt: str) -> str:
    """A line of text."""
    print(prompt, end="", flush=True)
    return sys.stdin.readline().rstrip("\n")


def ask_secret(prompt: str) -> str:
    """A line that is not echoed; read from stdin when that is no terminal."""
    if not sys.stdin.isatty():
        return ask(prompt)
    import getpass

    return getpass.getpass(prompt)
