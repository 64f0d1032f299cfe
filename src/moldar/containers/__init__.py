"""The life of containers: create, start, logs, exec, stop, ports."""
