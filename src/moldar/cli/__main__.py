"""`python -m moldar.cli` is the `moldar` program."""

from moldar.cli import main

main()
