"""Isolation of our own, by system calls: a runtime where neither crun nor runc is installed.

`builtin` is the caller's side; it starts a fresh interpreter that runs `entry`, and everything that `entry` imports
runs there, in the container-to-be, and must stay quick to import.
"""
