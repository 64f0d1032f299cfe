"""Git repositories as contexts and as sources of ADD: one commit, checked out by the host's `git`.

Files are dated by their commit, so that the same commit always gives the same layer.
"""

import os
import shutil
import subprocess
from typing import NamedTuple

from moldar.builder.selection import clean
from moldar.builder.tree import LocalTree, resolve
from moldar.errors import HostTrouble, Unsupported, UserMistake

_REF_KEYS = {"ref": "", "tag": "refs/tags/", "branch": "refs/heads/"}
_HEX = frozenset("0123456789abcdef")


class GitAddress(NamedTuple):
    """Which part of which commit. `ref` is empty for the default branch; `commit` is what it must turn out to be."""

    remote: str
    ref: str = ""
    subdirectory: str = ""
    commit: str = ""


class BadGitAddress(UserMistake):
    """An address with parts that mean nothing. `address` as written."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(f"invalid git address {address!r}: {why}")
        self.address = address


class GitFailed(UserMistake):
    """Git could not fetch or check out. `remote` without credentials."""

    def __init__(self, remote: str, why: str) -> None:
        super().__init__(f"cannot load the git repository {remote}: {why}")
        self.remote = remote


def is_git_address(text: str) -> bool:
    """Whether a build context's `text` means a git repository, as Docker decides it."""
    if text.startswith(("git://", "git@", "ssh://", "github.com/")):
        return True
    path = text.partition("#")[0].partition("?")[0]
    return text.startswith(("http://", "https://")) and path.endswith(".git")


def parse_git_address(text: str) -> GitAddress:
    """`REMOTE#REF:SUBDIRECTORY` or `REMOTE?ref=…&branch=…&tag=…&commit=…&subdir=…`. Raises BadGitAddress."""
    remote, _, fragment = text.partition("#")
    remote, _, query = remote.partition("?")
    ref, _, subdirectory = fragment.partition(":")
    commit = ""
    for pair in query.split("&") if query else ():
        key, _, value = pair.partition("=")
        if key in _REF_KEYS and not ref:
            ref = _REF_KEYS[key] + value
        elif key == "subdir" and not subdirectory:
            subdirectory = value
        elif key in {"commit", "checksum"}:
            commit = value
        else:
            raise BadGitAddress(text, f"{pair!r} is unknown or said twice")
    if remote.startswith("github.com/"):
        remote = "https://" + remote
    return GitAddress(remote, ref or commit, clean(subdirectory), commit)


def check_out(address: GitAddress, directory: str, *, keep_git_dir: bool = False) -> LocalTree:
    """The files of the commit, checked out below `directory`, which must be empty.

    Raises GitFailed, BadGitAddress for a subdirectory that is not there, Unsupported without git.
    """
    if shutil.which("git") is None:
        raise Unsupported("git repositories need the program git", hint="apt install git")
    shown = _without_credentials(address.remote)
    git = _Git(directory, address.remote)
    git.run("init", "-q")
    _fetch(git, address)
    git.run("checkout", "-q", "--detach", "FETCH_HEAD")
    commit, date = git.run("show", "-s", "--format=%H %ct", "HEAD").split()
    if address.commit and not commit.startswith(address.commit):
        raise GitFailed(shown, f"the commit is {commit}, and not {address.commit}")
    if os.path.exists(f"{directory}/.gitmodules"):
        git.run("submodule", "update", "-q", "--init", "--recursive", "--depth=1")
    if not keep_git_dir:
        shutil.rmtree(f"{directory}/.git")
    tree = LocalTree(directory)
    _date(tree, int(date))
    return _below(tree, address)


class _Git:
    """Runs git in one working tree. Nothing of the repository is executed, nobody is asked for a password."""

    def __init__(self, directory: str, remote: str) -> None:
        self._directory = directory
        self._remote = remote
        self._shown = _without_credentials(remote)

    def run(self, *arguments: str) -> str:
        """The command's output; GitFailed with the last line that it said."""
        settings = ["core.hooksPath=/dev/null", "core.askPass=", "protocol.ext.allow=never", "core.symlinks=true"]
        command = ["git", "-C", self._directory, *(part for setting in settings for part in ("-c", setting))]
        try:
            done = subprocess.run(
                [*command, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                umask=0o022,
                start_new_session=True,  # no terminal to ask for passwords on
            )
        except OSError as error:
            raise HostTrouble(f"cannot run git: {error.strerror}") from error
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"git ended with {done.returncode}"]
            raise GitFailed(self._shown, "; ".join(said[-2:]).replace(self._remote, self._shown))
        return done.stdout


def _fetch(git: _Git, address: GitAddress) -> None:
    """The commit alone where the server can do that, else all its history."""
    ref = address.ref or "HEAD"
    try:
        git.run("fetch", "-q", "--depth=1", "--no-tags", "--", address.remote, ref)
    except GitFailed:
        if _HEX.issuperset(ref):  # an abbreviated commit, or a server that does not give out commits by name
            git.run(
                "fetch", "-q", "--", address.remote, "+refs/heads/*:refs/fetched/heads/*", "+refs/tags/*:refs/tags/*"
            )
            commit = git.run("rev-parse", "--verify", "-q", ref + "^{commit}").strip()
            git.run("update-ref", "FETCH_HEAD", commit)
        else:
            git.run("fetch", "-q", "--no-tags", "--", address.remote, ref)


def _below(tree: LocalTree, address: GitAddress) -> LocalTree:
    path = resolve(tree, address.subdirectory)
    entry = tree.lookup(path)
    if entry is None or entry.kind != "dir":
        raise BadGitAddress(
            _without_credentials(address.remote), f"there is no directory {address.subdirectory!r} in it"
        )
    return LocalTree(f"{tree.root}/{path}") if path else tree


def _date(tree: LocalTree, seconds: int) -> None:
    for entry in reversed(tree.walk("", lambda directory: directory == ".git")):
        os.utime(f"{tree.root}/{entry.path}", (seconds, seconds), follow_symlinks=False)
    os.utime(tree.root, (seconds, seconds))


def _without_credentials(remote: str) -> str:
    scheme, separator, rest = remote.partition("://")
    if not separator:
        return remote
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
