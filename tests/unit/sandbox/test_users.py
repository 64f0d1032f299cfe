from pathlib import Path

import pytest

from moldar.errors import UserMistake
from moldar.sandbox.spec import User
from moldar.sandbox.users import UnknownUser, resolve_user

PASSWD = "# a comment\nroot:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/www:/bin/sh\nbroken\n1000:x:5:6::/num:\n"
GROUP = "root:x:0:\nweb:x:34:\nextra:x:44:other,web\nmore:x:45:web\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "user", "home"),
    [
        ("", User(0, 0), "/root"),
        ("root", User(0, 0), "/root"),
        ("web", User(33, 34, (44, 45)), "/www"),
        ("33", User(33, 34, (44, 45)), "/www"),
        ("web:extra", User(33, 44), "/www"),
        ("web:7", User(33, 7), "/www"),
        ("777", User(777, 0), "/"),
        ("777:778", User(777, 778), "/"),
        ("1000", User(5, 6), "/num"),  # a name wins over a number
        (":web", User(0, 34), "/root"),
    ],
)
def test_resolution(root: Path, text: str, user: User, home: str) -> None:
    assert resolve_user(str(root), text) == (user, home)


def test_more_groups(root: Path) -> None:
    assert resolve_user(str(root), "777", ("extra", "9", "9")).user.groups == (44, 9)


@pytest.mark.parametrize(("text", "what"), [("nobody", "user nobody"), ("web:none", "group none")])
def test_unknown_names(root: Path, text: str, what: str) -> None:
    with pytest.raises(UnknownUser, match=what) as caught:
        resolve_user(str(root), text)
    assert caught.value.exit_code == 126


def test_numbers_have_a_range(root: Path) -> None:
    with pytest.raises(UserMistake, match="range"):
        resolve_user(str(root), "4294967295")


def test_a_root_without_files(tmp_path: Path) -> None:
    assert resolve_user(str(tmp_path), "5:6") == (User(5, 6), "/")
    with pytest.raises(UnknownUser):
        resolve_user(str(tmp_path), "name")


def test_links_cannot_lead_out(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("spy:x:1:1::/:\n")
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").symlink_to("../../secret")
    with pytest.raises(UnknownUser):
        resolve_user(str(root), "spy")
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").symlink_to(secret)
    with pytest.raises(UnknownUser):
        resolve_user(str(root), "spy")
