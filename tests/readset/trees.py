"""Random copied layers and random edits of them, as models that can be written as a layer's tar."""

import random
from collections.abc import Callable
from typing import NamedTuple

from moldar.image.layer_entry import LayerEntry
from moldar.image.layer_write import LayerWriter

TIME = 1_000_000_000
PAX = "user.note"


class Item(NamedTuple):
    """One entry of a tree: `text` is a file's content or a link's target."""

    kind: str
    text: str = ""
    mode: int = 0o644
    uid: int = 0
    xattrs: tuple[tuple[str, bytes], ...] = ()


Tree = dict[str, Item]
FILES = {
    "app/main.py": "import util\nprint(util.value)\n", "app/util.py": "value = 'one'\n",
    "app/data/x.txt": "one\nthree\n",
    "app/data/y.txt": "two\none\n", "app/pkg/__init__.py": "", "app/pkg/mod.py": "value = 2\n",
    "app/Makefile": "all: out.txt\nout.txt: data/x.txt\n\tcat data/x.txt > out.txt\ncopy:\n\tcp main.py copied.py\n",
    "app/a.c": '#include "b.h"\nint f(void) { return B; }\n', "app/b.h": "#define B 1\n",
    "app/prog.c": '#include <stdio.h>\nint f(void);\nint main(void) { printf("%d\\n", f()); return 0; }\n',
    "app/package.json": '{"name": "p", "version": "1.0.0", "main": "index.js"}\n',
    "app/index.js": "console.log(require('./lib.js').value);\n", "app/lib.js": "exports.value = 'one';\n",
    "app/setup.py": "from setuptools import setup\nsetup(name='p', version='1', py_modules=['util'])\n",
    "app/extra": "value\n", "app/README": "text\n", "base/two": "from the copied layer\n",
}  # fmt: skip
SCRIPT = "#!/bin/sh\necho run\ntest -f extra && cat extra\n"
SPARE = ("app/new.py", "app/data/z.txt", "app/nope", "app/nope.txt", "app/json.py", "app/pkg/more.py",
         "app/empty/f", "app/data/deep/f", "base/three", "app/sub/one", "app/data/\udcff", "etc/extra",
         "app/__pycache__/x")  # fmt: skip
WHITEOUTS = ("base/.wh.one", "base/.wh..wh..opq", "base/.wh.sub", "app/.wh.base.txt", "app/sub/.wh.inner",
             "app/.wh..wh..opq", "app/.wh.main.py", "app/data/.wh.old")  # fmt: skip


def whole_tree() -> Tree:
    """The project with all that the commands work on."""
    tree: Tree = {}
    for path, text in FILES.items():
        put(tree, path, Item("file", text))
    put(tree, "app/empty", Item("dir", mode=0o755))
    put(tree, "app/run.sh", Item("file", SCRIPT, 0o755))
    put(tree, "app/link", Item("symlink", "data/x.txt"))
    put(tree, "app/data/hard", Item("link", "app/data/x.txt"))
    return tree


def random_tree(chance: random.Random) -> Tree:
    """A small project; every other time some of its files are missing."""
    tree = whole_tree()
    if chance.random() < 0.5:
        for path in [path for path in FILES if chance.random() < 0.15]:
            remove(tree, path)
        put(tree, "app/link", Item("symlink", chance.choice(["data/x.txt", "main.py", "nowhere"])))
        if chance.random() < 0.6:
            remove(tree, "app/data/hard")
    for path in chance.sample(SPARE, 2) + chance.sample(WHITEOUTS, chance.choice([0, 0, 1, 2])):
        put(tree, path, Item("file", "" if ".wh." in path else "spare value\n"))
    return tree


def put(tree: Tree, path: str, item: Item) -> None:
    """Put `item` in the place of whatever is there, with directories on the way."""
    parent = path.rpartition("/")[0]
    if parent and tree.get(parent, Item("")).kind != "dir":
        put(tree, parent, Item("dir", mode=0o755))
    remove(tree, path)
    tree[path] = item


def remove(tree: Tree, path: str) -> None:
    """Remove what is at `path` and below; another name of a file that has several keeps the content."""
    for gone in [name for name in tree if name == path or name.startswith(path + "/")]:
        item = tree.pop(gone)
        heirs = [name for name in tree if tree[name] == Item("link", gone)]
        for heir in heirs:
            tree[heir] = item if heir == heirs[0] else Item("link", heirs[0])


def write(tree: Tree, sink: Callable[[bytes | memoryview], object], time: int = TIME) -> None:
    """The layer's tar: directories before what is in them, hard links last."""
    writer = LayerWriter(sink)
    for path in sorted(tree, key=lambda path: (tree[path].kind == "link", path)):
        kind, text, mode, uid, xattrs = tree[path]
        content = text.encode() if kind == "file" else b""
        target = "" if kind == "file" else text
        entry = LayerEntry(path, kind, mode, uid, uid, time, len(content), target, xattrs=xattrs)
        writer.add(entry, content)
    writer.close()


def edit(tree: Tree, chance: random.Random) -> tuple[Tree, str]:
    """A copy of `tree` with one or two random changes, and what they are."""
    tree = dict(tree)
    done = []
    for _ in range(chance.choice([1, 1, 1, 2])):
        change = chance.choice(EDITS)
        files = [path for path in tree if tree[path].kind == "file" and ".wh." not in path]
        path = chance.choice(files) if files else "app/extra"
        done.append(f"{change.__name__.strip('_')} {path!r}")
        change(tree, path, chance)
    return tree, ", ".join(done)


def _content(tree: Tree, path: str, chance: random.Random) -> None:
    put(tree, path, Item("file", f"value = {chance.randrange(1000)}\n"))


def _append(tree: Tree, path: str, chance: random.Random) -> None:
    if path in tree:
        tree[path] = tree[path]._replace(text=tree[path].text + "\n")


def _same_size(tree: Tree, path: str, chance: random.Random) -> None:
    if path in tree and tree[path].text:
        text = tree[path].text
        tree[path] = tree[path]._replace(text=text[:-2] + ("#" if text[-2:-1] != "#" else "%") + text[-1:])


def _add(tree: Tree, path: str, chance: random.Random) -> None:
    put(tree, chance.choice(SPARE), Item("file", "added value\n"))


def _delete(tree: Tree, path: str, chance: random.Random) -> None:
    remove(tree, path)


def _rename(tree: Tree, path: str, chance: random.Random) -> None:
    item = tree.get(path, Item("file"))
    remove(tree, path)
    put(tree, chance.choice([path + "2", *SPARE]), item)


def _mode(tree: Tree, path: str, chance: random.Random) -> None:
    path = chance.choice([*[path, path.rpartition("/")[0]] * 4, ""])
    if not path:
        tree[""] = Item("dir", mode=chance.choice([0o711, 0o1777]))
    elif path in tree:
        tree[path] = tree[path]._replace(mode=chance.choice([0o600, 0o755, 0o777, 0o4755, 0o1777]))


def _owner(tree: Tree, path: str, chance: random.Random) -> None:
    path = chance.choice([path, path.rpartition("/")[0]])
    if path in tree:
        tree[path] = tree[path]._replace(uid=chance.choice([1, 1000]))


def _link_target(tree: Tree, path: str, chance: random.Random) -> None:
    put(tree, "app/link", Item("symlink", chance.choice(["data/x.txt", "data/y.txt", "main.py", "nowhere", "data"])))


def _hard_link(tree: Tree, path: str, chance: random.Random) -> None:
    name = chance.choice(["app/data/hard", "app/hard"])
    if tree.get(path, Item("")).kind == "file" and name != path:
        put(tree, name, Item("link", path))


def _part_links(tree: Tree, path: str, chance: random.Random) -> None:
    for name in [name for name in tree if tree[name].kind == "link"]:
        tree[name] = tree.get(tree[name].text, Item("file"))


def _swap(tree: Tree, path: str, chance: random.Random) -> None:
    """A directory in place of a file, or the other way round."""
    if chance.random() < 0.5:
        put(tree, path + "/inner", Item("file", "inner value\n"))
    else:
        put(tree, chance.choice(["app/data", "app/pkg", "app/empty"]), Item("file", "value\n"))


def _to_link(tree: Tree, path: str, chance: random.Random) -> None:
    put(tree, chance.choice([path, "app/data"]), Item("symlink", chance.choice(["pkg", "main.py", "/base"])))


def _xattr(tree: Tree, path: str, chance: random.Random) -> None:
    if path in tree:
        tree[path] = tree[path]._replace(xattrs=((PAX, b"%d" % chance.randrange(9)),))


def _whiteout(tree: Tree, path: str, chance: random.Random) -> None:
    name = chance.choice(WHITEOUTS)
    if name in tree:
        remove(tree, name)
    else:
        put(tree, name, Item("file"))


EDITS = (
    _content, _append, _same_size, _add, _delete, _rename, _mode, _owner, _link_target, _hard_link,
    _part_links, _swap, _to_link, _xattr, _whiteout, _content, _same_size, _add, _delete,
)  # fmt: skip
