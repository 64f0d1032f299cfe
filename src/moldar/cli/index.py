"""Which module holds which command, and the lines of the top-level help; nothing here imports a command."""

import os
from typing import NamedTuple


class Entry(NamedTuple):
    """Where a command lives: `moldar.cli.<module>`, and its line in the help."""

    module: str
    summary: str


COMMANDS: dict[str, Entry] = {
    "advise": Entry("advise", "Advise on a Dockerfile from its past builds, and rewrite it"),
    "build": Entry("build", "Build an image from a Dockerfile"),
    "build history ls": Entry("build_history", "List past builds"),
    "build history open": Entry(
        "build_history", "Show a past build as a page: its timeline, why steps ran, and their logs"
    ),
    "build history rm": Entry("build_history", "Forget past builds and their logs"),
    "build history show": Entry(
        "build_history", "Show the steps of a past build: how long each took, and what was cached"
    ),
    "build logs": Entry("build_history", "Show what the steps of a build printed (default: the latest build)"),
    "builder prune": Entry("system", "Remove build cache"),
    "check": Entry("check", "Check a Dockerfile, and mend it"),
    "cache export": Entry("cache", "Write the build cache to a directory or registry"),
    "cache import": Entry("cache", "Bring a build cache into the store"),
    "container attach": Entry("containers", "Attach to a running container"),
    "container commit": Entry("container_files", "Create an image from a container's changes"),
    "container cp": Entry("container_files", "Copy files between a container and the host"),
    "container diff": Entry(
        "container_files", "Show what a container changed in its files: A added, C changed, D deleted"
    ),
    "container export": Entry("container_files", "Write a container's file system as a tar archive"),
    "container exec": Entry("containers", "Execute a command in a running container"),
    "container inspect": Entry("container_views", "Show the details of containers"),
    "container kill": Entry("containers", "Kill one or more running containers"),
    "container logs": Entry("containers", "Fetch the logs of a container"),
    "container ls": Entry("container_views", "List containers"),
    "container pause": Entry("supervising", "Pause all processes within containers"),
    "container port": Entry("container_views", "List port mappings of a container"),
    "container prune": Entry("containers", "Remove all stopped containers"),
    "container rename": Entry("containers", "Rename a container"),
    "container restart": Entry("containers", "Restart one or more containers"),
    "container rm": Entry("containers", "Remove one or more containers"),
    "container run": Entry("run", "Create and run a new container from an image"),
    "container create": Entry("run", "Create a new container"),
    "container start": Entry("containers", "Start one or more stopped containers"),
    "container stats": Entry("supervising", "Show what containers use, as it changes"),
    "container stop": Entry("containers", "Stop one or more running containers"),
    "container top": Entry("supervising", "Show the running processes of a container"),
    "container unpause": Entry("supervising", "Unpause all processes within containers"),
    "container update": Entry("supervising", "Change limits and restart policy of containers"),
    "container wait": Entry("containers", "Block until containers stop, then print their exit codes"),
    "hub backup": Entry("hub", "Copy a hub on SQLite and files into a directory, also while it runs"),
    "hub check": Entry("hub", "Verify that everything the hub promises is there, also beside a running hub"),
    "hub gc": Entry("hub", "Free the space of what nothing refers to, also beside a running hub"),
    "hub quota": Entry("hub", "Show or set how much a namespace may hold"),
    "hub restore": Entry("hub", "Make a hub from a backup"),
    "hub retention": Entry("hub", "Let go of what the retention rules do not keep, also beside a running hub"),
    "hub serve": Entry("hub", "Run our registry and hub"),
    "hub token create": Entry("hub", "Make a personal access token"),
    "hub token ls": Entry("hub_accounts", "List a user's personal access tokens"),
    "hub token rm": Entry("hub_accounts", "Revoke a personal access token"),
    "hub user add": Entry("hub", "Add an account to the hub"),
    "hub user admin": Entry("hub_accounts", "Make an account an administrator, or no longer"),
    "hub user disable": Entry("hub_accounts", "Keep an account out; everything of it stays"),
    "hub user enable": Entry("hub_accounts", "Let a disabled account in again"),
    "hub user ls": Entry("hub_accounts", "List the hub's accounts"),
    "hub user passwd": Entry("hub", "Set an account's password"),
    "hub user rm": Entry("hub_accounts", "Delete an account"),
    "image history": Entry("image_views", "Show the history of an image"),
    "image import": Entry("container_files", "Create an image from a tar archive of a file system"),
    "image inspect": Entry("image_views", "Show the details of images"),
    "image load": Entry("images", "Load images from a tar archive or stdin"),
    "image ls": Entry("image_views", "List images"),
    "image prune": Entry("images", "Remove unused images"),
    "image pull": Entry("registry", "Download an image from a registry"),
    "image push": Entry("registry", "Upload an image to a registry"),
    "image rm": Entry("images", "Remove one or more images"),
    "image save": Entry("images", "Save images to a tar archive or stdout"),
    "image tag": Entry("images", "Create a tag that refers to an image"),
    "inspect": Entry("image_views", "Show the details of a container, image, network or volume"),
    "login": Entry("registry", "Log in to a registry"),
    "logout": Entry("registry", "Log out from a registry"),
    "network inspect": Entry("networks", "Show the details of networks"),
    "network ls": Entry("networks", "List networks"),
    "system check": Entry("system", "Verify everything in the store"),
    "system df": Entry("disk_usage", "Show disk usage"),
    "system info": Entry("system", "Show how this host serves Moldar"),
    "system prune": Entry("system", "Remove unused data"),
    "version": Entry("system", "Show the version"),
    "volume create": Entry("volumes", "Create a volume"),
    "volume inspect": Entry("volumes", "Show the details of volumes"),
    "volume ls": Entry("volumes", "List volumes"),
    "volume prune": Entry("volumes", "Remove unused volumes"),
    "volume rm": Entry("volumes", "Remove one or more volumes that no container uses"),
}

ALIASES: dict[str, str] = {
    "attach": "container attach",
    "build history": "build history ls",
    "build history inspect": "build history show",
    "build history list": "build history ls",
    "build history logs": "build logs",
    "container list": "container ls",
    "container ps": "container ls",
    "container remove": "container rm",
    "commit": "container commit",
    "cp": "container cp",
    "diff": "container diff",
    "exec": "container exec",
    "export": "container export",
    "history": "image history",
    "image build": "build",
    "image list": "image ls",
    "image remove": "image rm",
    "images": "image ls",
    "import": "image import",
    "info": "system info",
    "kill": "container kill",
    "load": "image load",
    "logs": "container logs",
    "pause": "container pause",
    "port": "container port",
    "ps": "container ls",
    "pull": "image pull",
    "push": "image push",
    "rename": "container rename",
    "create": "container create",
    "restart": "container restart",
    "rm": "container rm",
    "rmi": "image rm",
    "run": "container run",
    "save": "image save",
    "start": "container start",
    "stats": "container stats",
    "stop": "container stop",
    "tag": "image tag",
    "top": "container top",
    "unpause": "container unpause",
    "update": "container update",
    "wait": "container wait",
    "hub token list": "hub token ls",
    "hub token revoke": "hub token rm",
    "hub user list": "hub user ls",
    "hub user remove": "hub user rm",
    "builder build": "build",
    "buildx build": "build",
    "system diskusage": "system df",
    "network list": "network ls",
    "volume list": "volume ls",
    "volume remove": "volume rm",
}

GROUPS: dict[str, str] = {
    "builder": "Manage the build cache",
    "cache": "Export and import the build cache",
    "container": "Manage containers",
    "hub": "Run and manage the hub",
    "image": "Manage images",
    "network": "Show networks",
    "system": "Manage Moldar's store",
    "volume": "Manage volumes",
}


def find(words: list[str]) -> tuple[str, int] | None:
    """The command that `words` begin with, and how many of them name it; None when there is none."""
    for count in range(min(3, len(words)), 0, -1):
        name = " ".join(words[:count])
        if count == 2 and words[0] == "build" and os.path.isdir(words[1]):
            continue  # a context that is called like a command
        name = ALIASES.get(name, name)
        if name in COMMANDS:
            return name, count
    return None
