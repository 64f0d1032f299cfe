"""Where processes run: snapshots, mounts, networks and OCI runtimes."""
