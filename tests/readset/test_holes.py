"""Each way in which a step could know something of a copied layer unnoticed, and the guard against it.

The table in docs/dev/read-sets.md leads from hole to test. Each test fails without its guard.
"""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.readset.laboratory import Laboratory, run, servers
from tests.readset.trees import TIME, Item, Tree, put, remove, whole_tree

PYTHON = "/usr/bin/python3 -c"
OPEN = 'import os; f = os.open("data/x.txt", 0)'
MAPPED = (
    f"{PYTHON} '{OPEN}; import ctypes as c; m = c.CDLL(None).mmap; m.restype = c.c_void_p; "
    "print(c.string_at(m(None, c.c_size_t(8192), 1, 1, f, c.c_long(0)) + 4096, 1))'"
)
LOCKED = (
    f'{PYTHON} \'{OPEN}; g = os.open("data/x.txt", 0); import fcntl, struct; '
    'fcntl.fcntl(g, 37, struct.pack("hhlli", 0, 0, 50, 1, 0)); '
    'print(struct.unpack("hhlli", fcntl.fcntl(f, 36, struct.pack("hhlli", 1, 2, 0, 0, 0)))[0])\''
)


@pytest.fixture
def lab(tmp_path: Path) -> Laboratory:
    return Laboratory(tmp_path)


def edited(*items: tuple[str, Item | None]) -> Tree:
    """The whole tree with other items, or without them."""
    tree = whole_tree()
    for path, item in items:
        if item is None:
            remove(tree, path)
        else:
            put(tree, path, item)
    return tree


def test_what_nobody_looked_at_may_change(lab: Laboratory) -> None:
    looked = lab.look(whole_tree(), "cat data/x.txt")
    assert looked.printed == "one\nthree\n"
    assert lab.reusable(looked, whole_tree())
    assert lab.reusable(looked, edited(("app/main.py", Item("file", "other\n")), ("app/new", Item("file"))))


# A lookup that finds something tells all of its attributes


@pytest.mark.parametrize(
    "command",
    [
        "stat --cached=always -c %s data/x.txt",
        MAPPED,
        f"{PYTHON} '{OPEN}; print(os.sendfile(1, f, 20, 1))'",
        f"{PYTHON} '{OPEN}; print(os.lseek(f, 0, 2))'",
        LOCKED,
    ],
    ids=["statx without synchronising", "end of a mapping", "sendfile", "seek from the end", "lock from the end"],
)
def test_sizes_that_need_no_question(lab: Laboratory, command: str) -> None:
    larger = edited(("app/data/x.txt", Item("file", "x" * 5000)), ("app/data/hard", None))
    before = edited(("app/data/hard", None))
    looked = lab.look(before, command)
    assert ("content", "app/data/x.txt") not in looked.asked
    assert lab.look(larger, command).printed != looked.printed, "the command does not see the size"
    assert not lab.reusable(looked, larger)


@pytest.mark.parametrize("item", [Item("file", "value = 'one'\n", 0o600), Item("file", "value = 'one'\n", uid=7)])
def test_modes_and_owners_of_files(lab: Laboratory, item: Item) -> None:
    looked = lab.look(whole_tree(), "stat --cached=always -c '%a %u' util.py")
    assert not lab.reusable(looked, edited(("app/util.py", item)))


@pytest.mark.parametrize("item", [Item("dir", mode=0o700), Item("dir", mode=0o755, uid=7)])
def test_modes_and_owners_of_directories(lab: Laboratory, item: Item) -> None:
    looked = lab.look(whole_tree(), "stat --cached=always -c '%a %u' empty")
    assert not lab.reusable(looked, edited(("app/empty", item)))


def test_directories_on_the_way_count(lab: Laboratory) -> None:
    """Without a question of their own: whoever is not root may be kept out by their modes."""
    looked = lab.look(whole_tree(), "cat data/y.txt")
    tree = whole_tree()
    tree["app/data"] = Item("dir", mode=0o700)
    assert not lab.reusable(looked, tree)


def test_the_root_directory_that_the_upper_layer_shows(lab: Laboratory) -> None:
    """It takes its attributes from the topmost layer, so that the view is never asked for them."""
    for command, item in (
        ("stat -c %a /", Item("dir", mode=0o711)),
        ("stat -c %u /", Item("dir", mode=0o755, uid=7)),
        (f"{PYTHON} 'import os; print(os.listxattr(\"/\"))'", Item("dir", mode=0o755, xattrs=(("user.note", b"1"),))),
    ):
        looked = lab.look(whole_tree(), command)
        changed = {"": item, **whole_tree()}
        assert lab.look(changed, command).printed != looked.printed
        assert not lab.reusable(looked, changed)
        assert not lab.reusable(lab.look(changed, command), whole_tree())
    noted = {"": Item("dir", mode=0o755, xattrs=(("user.note", b"1"),)), **whole_tree()}
    looked = lab.look(noted, f'{PYTHON} \'import os; print(os.getxattr("/", "user.note"))\'')
    assert looked.printed == "b'1'\n"
    assert not lab.reusable(looked, {**noted, "": Item("dir", mode=0o755, xattrs=(("user.note", b"2"),))})


# What is not there, and what lists it


@pytest.mark.parametrize("command", ["test -e nope", "cat nope", "mkdir nope", "ln -s x nope"])
def test_absence(lab: Laboratory, command: str) -> None:
    looked = lab.look(whole_tree(), command)
    assert not lab.reusable(looked, edited(("app/nope", Item("file"))))
    assert lab.reusable(looked, edited(("app/other", Item("file"))))


@pytest.mark.parametrize(
    "change",
    [
        ("app/data/new", Item("file")),
        ("app/data/y.txt", None),
        ("app/data/y.txt", Item("dir", mode=0o755)),
        ("app/data/y.txt", Item("symlink", "x.txt")),
    ],
)
def test_names_and_kinds_in_a_listing(lab: Laboratory, change: tuple[str, Item | None]) -> None:
    looked = lab.look(
        whole_tree(), f"{PYTHON} 'import os; print([(e.name, e.is_dir()) for e in os.scandir(\"data\")])'"
    )
    assert ("entry", "app/data/y.txt") not in looked.asked
    assert not lab.reusable(looked, edited(change))


def test_a_listing_does_not_look_its_names_up(lab: Laboratory) -> None:
    """READDIRPLUS would, and hide the lookups that follow."""
    looked = lab.look(whole_tree(), "ls data > /dev/null; test -f data/y.txt")
    assert {("names", "app/data"), ("entry", "app/data/y.txt")} <= looked.asked
    assert ("entry", "app/data/x.txt") not in looked.asked


# Contents, targets, attributes


def test_a_same_size_edit(lab: Laboratory) -> None:
    for command in ("cat data/y.txt", "echo more >> data/y.txt", "chmod 600 data/y.txt", "mv data/y.txt data/moved"):
        looked = lab.look(whole_tree(), command)
        assert not lab.reusable(looked, edited(("app/data/y.txt", Item("file", "owt\none\n")))), command


def test_a_change_behind_the_part_that_was_read(lab: Laboratory) -> None:
    """Read-ahead makes the part that was read unknowable, so that all of a file counts."""
    before = edited(("app/large", Item("file", "a" * 2_000_000)))
    looked = lab.look(before, "head -c 1 large")
    assert not lab.reusable(looked, edited(("app/large", Item("file", "a" * 1_999_999 + "b"))))


def test_holes_of_sparse_files_are_content(lab: Laboratory) -> None:
    command = f"{PYTHON} '{OPEN}; print(os.lseek(f, 0, os.SEEK_HOLE))'"
    assert ("content", "app/data/x.txt") in lab.look(whole_tree(), command).asked


def test_truncating_reads_nothing(lab: Laboratory) -> None:
    looked = lab.look(whole_tree(), ": > data/y.txt")
    assert ("content", "app/data/y.txt") not in looked.asked
    assert lab.reusable(looked, edited(("app/data/y.txt", Item("file", "owt\none\n"))))


def test_a_link_target_of_the_same_length(lab: Laboratory) -> None:
    for command in ("readlink link", "cat link"):
        looked = lab.look(whole_tree(), command)
        assert not lab.reusable(looked, edited(("app/link", Item("symlink", "data/y.txt")))), command


@pytest.mark.parametrize("before", [(), (("user.note", b"1"),)], ids=["absent", "present"])
def test_extended_attributes(lab: Laboratory, before: tuple[tuple[str, bytes], ...]) -> None:
    marked = edited(("app/extra", Item("file", "value\n", xattrs=before)))
    for command in (
        f'{PYTHON} \'import os; print(os.getxattr("extra", "user.note"))\'',
        f"{PYTHON} 'import os; print(os.listxattr(\"extra\"))'",
    ):
        looked = lab.look(marked, command)
        assert lab.reusable(looked, marked)
        other = (("user.note", b"2"),) if "get" in command or not before else (("user.other", b"1"),)
        assert not lab.reusable(looked, edited(("app/extra", Item("file", "value\n", xattrs=other)))), command


@pytest.mark.parametrize("mark", ["app/.wh..wh..opq", "app/.wh.base.txt"], ids=["opaque directory", "whiteout"])
@pytest.mark.parametrize("command", ["cat base.txt 2>/dev/null", "ls"])
def test_marks_that_hide_what_is_below(lab: Laboratory, mark: str, command: str) -> None:
    hiding = edited((mark, Item("file")))
    for before, after in ((whole_tree(), hiding), (hiding, whole_tree())):
        looked = lab.look(before, command)
        assert ("of the base" in looked.printed or "base.txt\n" in looked.printed) == (before is not hiding)
        assert not lab.reusable(looked, after)


# Hard links


def test_hard_links_that_part(lab: Laboratory) -> None:
    separate = edited(("app/data/hard", Item("file", "one\nthree\n")))
    for command in ("stat --cached=always -c %h data/x.txt", "test data/x.txt -ef data/hard && echo one"):
        looked = lab.look(whole_tree(), command)
        assert not lab.reusable(looked, separate), command
        assert not lab.reusable(lab.look(separate, command), whole_tree()), command


def test_a_name_that_goes_over_to_another_group(lab: Laboratory) -> None:
    """With as many names in each group as before."""
    names = [("app/a", Item("file", "x")), ("app/b", Item("link", "app/a")), ("app/c", Item("file", "x"))]
    before = edited(*names, ("app/d", Item("link", "app/c")))
    after = edited(names[0], names[2], ("app/d", Item("link", "app/a")), ("app/b", Item("link", "app/c")))
    looked = lab.look(before, "test a -ef b && echo one")
    assert looked.printed == "one\n"
    assert not lab.reusable(looked, after)
    assert not lab.reusable(lab.look(after, "test a -ef b && echo one"), before)


def test_reading_one_name_does_not_hide_reading_the_other(lab: Laboratory) -> None:
    looked = lab.look(whole_tree(), "cat data/hard data/x.txt")
    assert {("content", "app/data/hard"), ("content", "app/data/x.txt")} <= looked.asked


def test_another_name_is_looked_at_without_its_content(lab: Laboratory) -> None:
    looked = lab.look(whole_tree(), "test data/x.txt -ef data/hard && echo one")
    same_size = Item("file", "two\nthree\n")
    assert lab.reusable(
        looked, edited(("app/data/x.txt", same_size), ("app/data/hard", Item("link", "app/data/x.txt")))
    )


# What a view keeps constant, because it is no part of a layer's identity


@pytest.mark.parametrize(
    "command",
    [
        "stat --cached=always -c '%s %h %Y %b' data",
        "stat -c '%s %h %Y %b' data",
        "stat -c %i data/x.txt main.py",
        f"{PYTHON} 'import os; print([e.inode() for e in os.scandir(\"pkg\")])'",
        "stat -c %b main.py",
    ],
    ids=["directories", "directories, asked", "inode numbers", "inode numbers in listings", "blocks"],
)
def test_numbers_are_the_same_for_the_same_names(lab: Laboratory, command: str) -> None:
    more = [(f"app/data/dir{number}", Item("dir", mode=0o755)) for number in range(300)]
    first = lab.look(whole_tree(), command)
    second = lab.look({"app": Item("dir", mode=0o755), **edited(*more)}, command)
    assert first.status == 0
    assert first.printed == second.printed


def test_listings_are_sorted(lab: Laboratory) -> None:
    names = [f"app/many/{name}" for name in ("b", "a", "Z", "é", "ab", "0")]
    looked = lab.look(edited(*((name, Item("file")) for name in names)), "ls -U many")
    assert looked.printed.split() == sorted(os.path.basename(name) for name in names)


def test_times_of_files_are_no_observation(lab: Laboratory) -> None:
    looked = lab.look(whole_tree(), "stat -c %Y main.py; make -n")
    assert lab.reusable(looked, whole_tree(), TIME + 1000)


# The server


def test_a_program_started_inside_the_view(lab: Laboratory) -> None:
    """By the process that also serves it this would be a deadlock; the server is a process of its own."""
    layer, tar = lab.layer(whole_tree())
    lab.unpack(layer, tar)
    with lab.workspace(layer, viewed=True) as workspace:
        done = subprocess.run(
            ["cat", "util.py"], cwd=f"{workspace.path}/app", capture_output=True, timeout=30, check=True
        )
        assert done.stdout == b"value = 'one'\n"
        questions = workspace.questions()
    assert questions is not None
    assert ("content", "app/util.py") in questions[1]


def test_interrupted_requests(lab: Laboratory, tmp_path: Path) -> None:
    """A reader is killed while the server is about to answer: it is told, and goes on."""
    tree = whole_tree()
    for directory in range(12):
        tree[f"app/d{directory}"] = Item("dir", mode=0o755)
        tree |= {f"app/d{directory}/{number}": Item("file") for number in range(300)}
    layer, tar = lab.layer(tree)
    lab.unpack(layer, tar)
    with lab.workspace(layer, viewed=True) as workspace:
        (server,) = servers(tmp_path)
        for directory in range(12):
            reader = subprocess.Popen(["find", f"app/d{directory}", "-size", "+1"], cwd=workspace.path)
            time.sleep(0.004)
            os.kill(server, signal.SIGSTOP)
            reader.kill()
            time.sleep(0.002)
            os.kill(server, signal.SIGCONT)
            reader.wait()
        assert run(workspace, "cat util.py") == 0
        questions = workspace.questions()
    assert questions is not None
    assert ("content", "app/util.py") in questions[1]
