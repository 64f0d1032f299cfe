"""`python -m moldar` is the `moldar` program."""

from moldar.cli import main

main()
