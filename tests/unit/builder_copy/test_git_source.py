"""Git repositories: which commit, which part of it, and nothing more than its files."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from moldar.builder.git_source import (
    BadGitAddress,
    GitAddress,
    GitFailed,
    check_out,
    is_git_address,
    parse_git_address,
)

DATE = 1_650_000_000


def git(directory: Path, *arguments: str) -> str:
    names = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in (
        ("NAME", "A"), ("EMAIL", "a@example.org"), ("DATE", f"{DATE} +0000"),
    )}  # fmt: skip
    command = ["git", "-c", "protocol.file.allow=always", "-C", str(directory), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | names).stdout.strip()


class Repository:
    """Two commits on `main`, the first tagged `v1`, and a branch `side` with a link and a program."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        git(path, "init", "-q", "-b", "main")
        git(path, "config", "uploadpack.allowAnySHA1InWant", "true")
        self.first = self.commit({"file": "one", "sub/in": "in one"})
        git(path, "tag", "v1")
        self.second = self.commit({"file": "two"})
        git(path, "checkout", "-q", "-b", "side")
        (path / "link").symlink_to("../outside")
        (path / "tool").write_text("#!/bin/sh\n")
        (path / "tool").chmod(0o755)
        self.side = self.commit({"file": "side"})
        git(path, "checkout", "-q", "main")

    def commit(self, files: dict[str, str]) -> str:
        for name, content in files.items():
            (self.path / name).parent.mkdir(exist_ok=True)
            (self.path / name).write_text(content)
        git(self.path, "add", "-A")
        git(self.path, "commit", "-q", "-m", "x")
        return git(self.path, "rev-parse", "HEAD")

    @property
    def url(self) -> str:
        return f"file://{self.path}"


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    path.mkdir()
    return path


def contents(root: str) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in sorted(Path(root).rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("https://h/r.git", GitAddress("https://h/r.git")),
        ("https://h/r.git#v1", GitAddress("https://h/r.git", "v1")),
        ("https://h/r.git#v1:a/b", GitAddress("https://h/r.git", "v1", "a/b")),
        ("https://h/r.git#:a/../../b", GitAddress("https://h/r.git", "", "b")),
        ("git@h:u/r.git#main", GitAddress("git@h:u/r.git", "main")),
        ("github.com/u/r", GitAddress("https://github.com/u/r")),
        ("https://h/r.git?branch=b&subdir=s", GitAddress("https://h/r.git", "refs/heads/b", "s")),
        ("https://h/r.git?tag=t&commit=abc", GitAddress("https://h/r.git", "refs/tags/t", "", "abc")),
        ("https://h/r.git?commit=abc", GitAddress("https://h/r.git", "abc", "", "abc")),
    ],
)
def test_addresses(text: str, address: GitAddress) -> None:
    assert parse_git_address(text) == address
    assert is_git_address(text)


@pytest.mark.parametrize("text", ["https://h/r.git?what=x", "https://h/r.git?ref=a&ref=b", "https://h/r.git?ref=a#b"])
def test_addresses_that_mean_nothing(text: str) -> None:
    with pytest.raises(BadGitAddress):
        parse_git_address(text)


def test_what_is_no_repository() -> None:
    assert not any(
        map(is_git_address, (".", "https://h/x.tar.gz", "https://h/r.git/file", "dir.git", "http://h/?x=.git"))
    )


@pytest.mark.parametrize("ref", ["", "main", "refs/heads/main"])
def test_a_branch_without_its_history(repository: Repository, out: Path, ref: str) -> None:
    tree = check_out(GitAddress(repository.url, ref), str(out))
    assert contents(tree.root) == {"file": "two", "sub/in": "in one"}
    assert {os.lstat(path).st_mtime for path in (out, out / "file", out / "sub", out / "sub/in")} == {DATE}


def test_tags_and_commits(repository: Repository, tmp_path: Path) -> None:
    for number, ref in enumerate(("v1", "refs/tags/v1", repository.first, repository.first[:10])):
        directory = tmp_path / str(number)
        directory.mkdir()
        assert contents(check_out(GitAddress(repository.url, ref), str(directory)).root)["file"] == "one"


def test_modes_and_links_come_as_committed(repository: Repository, out: Path) -> None:
    old = os.umask(0o077)
    try:
        tree = check_out(GitAddress(repository.url, "side"), str(out))
    finally:
        os.umask(old)
    assert {entry.path: (entry.kind, oct(entry.mode)) for entry in tree.walk("") if entry.path != "link"} == {
        "file": ("file", "0o644"),
        "sub": ("dir", "0o755"),
        "sub/in": ("file", "0o644"),
        "tool": ("file", "0o755"),
    }
    assert os.readlink(out / "link") == "../outside"


def test_a_part_of_it(repository: Repository, out: Path) -> None:
    tree = check_out(GitAddress(repository.url, "main", "sub"), str(out))
    assert contents(tree.root) == {"in": "in one"}
    for part in ("none", "file"):
        shutil.rmtree(out)
        out.mkdir()
        with pytest.raises(BadGitAddress, match=part):
            check_out(GitAddress(repository.url, "main", part), str(out))


def test_the_git_directory_stays_only_when_asked(repository: Repository, out: Path) -> None:
    check_out(GitAddress(repository.url), str(out), keep_git_dir=True)
    assert git(out, "rev-parse", "HEAD") == repository.second
    assert git(out, "status", "--porcelain") == ""


def test_commits_that_must_be_are_checked(repository: Repository, out: Path) -> None:
    with pytest.raises(GitFailed, match=repository.second):
        check_out(GitAddress(repository.url, "main", "", repository.first), str(out))


def test_failures_say_why_and_hide_credentials(out: Path) -> None:
    with pytest.raises(GitFailed, match="cannot load") as caught:
        check_out(GitAddress("http://user:secret@127.0.0.1:1/r.git", "main"), str(out))
    assert "secret" not in str(caught.value)
    assert caught.value.remote == "http://127.0.0.1:1/r.git"


def test_the_same_commit_gives_the_same_layer(repository: Repository, bench: Any, tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made.append(
            bench.copy("/", "/app", tree=check_out(GitAddress(repository.url), str(tmp_path / name)), is_add=True)
        )
    assert made[0].raw == made[1].raw and made[0].files["app/file"] == b"two"
