"""Why a step ran, told by real builds: on the terminal, with --explain, in the history and on its page."""

import base64
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

from tests.e2e.program import Moldar

Project = Callable[..., Path]
PIP = "FROM busybox\nWORKDIR /app\nCOPY requirements.txt .\nRUN cat requirements.txt > installed\nCOPY . .\n"
REQUIREMENTS = "flask\nrequests\nrich\n"


def reasons(output: str) -> dict[str, str]:
    """The reason of each step in plain output that ran."""
    names: dict[str, str] = {}
    found: dict[str, str] = {}
    for line in output.splitlines():
        number, _, rest = line.partition(" ")
        if rest.startswith("["):
            names[number] = rest.partition("] ")[2]
        if rest.startswith(("ran because", "follows from")):
            found[names[number]] = rest
    return found


def test_the_file_and_the_line_and_what_follows(with_busybox: Moldar, project: Project) -> None:
    context = project(Dockerfile=PIP, **{"requirements.txt": REQUIREMENTS, "app.py": "1\n2\n"})
    first = reasons(with_busybox.run("build", "-t", "app", context).stderr)
    assert set(first.values()) == {"ran because it was not built before"}
    (context / "requirements.txt").write_text(REQUIREMENTS.replace("rich", "rich==2"))
    (context / "app.py").write_text("1\n3\n")
    told = reasons(with_busybox.run("build", "-t", "app", context).stderr)
    follows = "follows from: COPY requirements.txt . ran because requirements.txt changed (line 3)"
    assert told == {
        "COPY requirements.txt .": "ran because requirements.txt changed (line 3)",
        "RUN cat requirements.txt > installed": follows,
        "COPY . .": follows,
    }
    explained = with_busybox.run("build", "--explain", "--no-cache", context).stderr
    assert "COPY . .: ran because --no-cache was given" in explained
    (context / "app.py").unlink()
    (context / "new.py").write_text("")
    explained = with_busybox.run("build", "--explain", context).stderr
    tail = explained[explained.index("writing image") :]
    assert "[2/5] WORKDIR /app: cached: nothing changed\n" in tail
    said = tail[tail.index("[5/5] COPY . .") :].splitlines()
    assert said[1:] == ["    new.py was added", "    app.py was removed"]
    assert "ran because new.py was added, and 1 more file changed" in said[0]
    assert said[0] in explained[: explained.index("writing image")] or "COPY . ." in said[0]


def test_arguments_commands_modes_and_users(with_busybox: Moldar, project: Project) -> None:
    text = "FROM busybox\nARG VERSION=1\nUSER root\nRUN echo one $VERSION > /a\n"
    context = project(Dockerfile=text)
    with_busybox("build", context)

    def told(text: str, *words: str) -> list[str]:
        (context / "Dockerfile").write_text(text)
        return list(reasons(with_busybox.run("build", *words, context).stderr).values())

    assert told(text, "--build-arg", "VERSION=2") == ["ran because VERSION changed: 1 -> 2"]
    changed = text.replace("echo one", "echo two")
    assert told(changed) == ["ran because the command changed: echo one $VERSION > /a -> echo two $VERSION > /a"]
    assert told(text.replace("USER root", "USER 0:0")) == ["ran because the user changed: root -> 0:0"]
    assert told(text, "--network", "none") == ["ran because the network changed: default -> none"]
    assert told(text) == []


def test_a_bind_mount_and_a_base_that_moved(with_busybox: Moldar, project: Project) -> None:
    base = project("base", Dockerfile="FROM busybox\nRUN echo 1 > /version\n")
    with_busybox("build", "-t", "base:1", base)
    text = "FROM base:1\nRUN --mount=type=bind,source=list.txt,target=/list cp /list /copy\nRUN true\n"
    context = project(Dockerfile=text, **{"list.txt": "a\nb\n"})
    with_busybox("build", context)
    (context / "list.txt").write_text("a\nc\n")
    told = list(reasons(with_busybox.run("build", context).stderr).values())
    assert told[0] == "ran because list.txt changed (line 2) in the bind mount /list"
    (base / "Dockerfile").write_text("FROM busybox\nRUN echo 2 > /version\n")
    with_busybox("build", "-t", "base:1", base)
    told = list(reasons(with_busybox.run("build", context).stderr).values())
    assert re.fullmatch(r"ran because base:1 is now sha256:\w{12}… \(was sha256:\w{12}…\)", told[0])
    assert told[1].startswith("follows from: RUN --mount=type=bind,source=list.txt,target=/list cp /list /copy ran")


def test_what_was_pruned(with_busybox: Moldar, project: Project) -> None:
    context = project(Dockerfile="FROM busybox\nRUN date +%N > /a\nRUN echo b > /b\n")
    with_busybox("build", context)
    with_busybox("builder", "prune", "-f")
    told = list(reasons(with_busybox.run("build", context).stderr).values())
    assert re.fullmatch(
        r"ran because its result was evicted from the cache on [\d: -]{16}: the whole cache was pruned", told[0]
    )
    assert "was evicted" in told[1]


def test_a_stage_that_was_to_ignore_the_cache(with_busybox: Moldar, project: Project) -> None:
    text = "FROM busybox AS a\nRUN echo a > /a\nFROM busybox AS b\nRUN echo b > /b\nCOPY --from=a /a /\n"
    context = project(Dockerfile=text)
    with_busybox("build", context)
    told = reasons(with_busybox.run("build", "--no-cache-filter", "a", context).stderr)
    assert told == {"RUN echo a > /a": "ran because --no-cache-filter was given"}
    shown = with_busybox("build", "history", "show")
    assert "ran because --no-cache-filter was given" in shown


def test_a_step_that_fails_says_why_it_ran(with_busybox: Moldar, project: Project) -> None:
    context = project(Dockerfile="FROM busybox\nCOPY a.txt /\nRUN grep 1 /a.txt\nRUN echo 1\n", **{"a.txt": "1\n"})
    with_busybox("build", context)
    (context / "a.txt").write_text("2\n")
    told = reasons(with_busybox.fails("build", context))
    follows = "follows from: COPY a.txt / ran because a.txt changed (line 1)"
    assert told == {"COPY a.txt /": "ran because a.txt changed (line 1)", "RUN grep 1 /a.txt": follows}
    shown = with_busybox("build", "history", "show")
    assert follows in shown
    (context / "a.txt").write_text("1\n")
    (context / "Dockerfile").write_text("FROM busybox\nCOPY a.txt /\nRUN grep 3 /a.txt\n")
    sentence = "ran because the command changed: grep 1 /a.txt -> grep 3 /a.txt"
    assert reasons(with_busybox.fails("build", context))["RUN grep 3 /a.txt"] == sentence
    assert sentence in with_busybox("build", "history", "show")
    page = with_busybox.home / "page.html"
    with_busybox("build", "history", "open", "-o", page)
    assert "the command changed: grep 1 /a.txt" in page.read_text()


def test_files_that_come_from_another_stage_are_named(with_busybox: Moldar, project: Project) -> None:
    text = (
        "FROM busybox AS made\nCOPY src /src\nRUN mkdir /out && cp /src/* /out && echo x > /out/same\n"
        "FROM busybox\nCOPY --from=made /out /app\nRUN --mount=from=made,source=/out,target=/out cat /out/a > /a\n"
    )
    context = project(Dockerfile=text, **{"src/a": "1\n2\n", "src/b": "1\n", "src/c": "1\n"})
    with_busybox("build", context)
    (context / "src/a").write_text("1\n3\n")
    (context / "src/b").unlink()
    told = reasons(with_busybox.run("build", context).stderr)
    assert told["COPY --from=made /out /app"] == "ran because /out/a changed (line 2), and 1 more file changed"
    assert told["RUN --mount=from=made,source=/out,target=/out cat /out/a > /a"] == (
        "follows from: COPY --from=made /out /app ran because /out/a changed (line 2), and 1 more file changed"
    )
    explained = with_busybox("build", "history", "show")
    assert "/out/a changed (line 2)" in explained
    (context / "Dockerfile").write_text(text.replace("COPY --from=made /out /app\n", ""))
    with_busybox("build", context)
    (context / "src/a").write_text("1\n4\n")
    told = reasons(with_busybox.run("build", context).stderr)
    mounted = told["RUN --mount=from=made,source=/out,target=/out cat /out/a > /a"]
    assert mounted == "ran because /out/a changed (line 2) in the bind mount /out"


def test_what_follows_a_reused_step_names_the_file(with_busybox: Moldar, project: Project) -> None:
    text = "FROM busybox\nCOPY a /a\nRUN cat /a/read > /one\nCOPY b /b\n"
    context = project(Dockerfile=text, **{"a/read": "1", "a/unread": "1\n", "b/x": "1"})
    with_busybox("build", context)
    (context / "a/unread").write_text("2\n")
    told = reasons(with_busybox.run("build", context).stderr)
    assert told == {
        "COPY a /a": "ran because a/unread changed (line 1)",
        "COPY b /b": "follows from: COPY a /a ran because a/unread changed (line 1)",
    }


def test_contents_are_not_kept_and_a_cached_build_keeps_nothing(with_busybox: Moldar, project: Project) -> None:
    context = project(Dockerfile="FROM busybox\nCOPY . /app\n", **{"a.txt": "a very private line\n"})
    with_busybox("build", context)
    home = with_busybox.home / "home"
    kept = b"".join(path.read_bytes() for path in home.glob("moldar.db*"))
    assert b"very private" not in kept
    assert base64.b64encode(b"a very private") not in kept


def test_rawjson_and_history_have_reasons_inputs_and_outputs(with_busybox: Moldar, project: Project) -> None:
    context = project(
        Dockerfile="FROM busybox\nCOPY . /app\nRUN cat /app/a.txt > /hi\n", **{"a.txt": "1\n", "b.txt": "1\n"}
    )
    with_busybox("build", context)
    (context / "a.txt").write_text("2\n")
    (context / "b.txt").write_text("2\n")
    output = with_busybox.run("build", "--progress=rawjson", context).stderr.splitlines()
    events = [json.loads(line) for line in output]
    copied = next(event for event in events if event.get("reason", "").startswith("ran because"))
    assert copied["reason"] == "ran because a.txt changed (line 1), and 1 more file changed"
    assert copied["details"] == ["a.txt changed (line 1)", "b.txt changed (line 1)"]
    shown = with_busybox("build", "history", "show")
    assert "ran because a.txt changed (line 1), and 1 more file changed" in shown
    assert "follows from: COPY . /app ran because a.txt changed" in shown
    page = with_busybox.home / "page.html"
    with_busybox("build", "history", "open", "-o", page)
    text = page.read_text()
    assert "<li>b.txt changed (line 1)</li>" in text
    assert re.search(r"<h2>made</h2><code>sha256:[0-9a-f]{64}</code> \([\d.]+ kB\)", text)
    assert "<h2>read</h2><ul><li><code>[1/3] FROM docker.io/library/busybox:latest" in text


def test_the_page_is_escaped_and_needs_nothing_else(with_busybox: Moldar, project: Project) -> None:
    evil = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>"
    context = project(
        "<b>name", Dockerfile=f"FROM busybox\nRUN echo '{evil}'; printf '\\033[31mred\\033[0m\\n'\nRUN exit 3\n"
    )
    with_busybox.fails("build", context)
    path = Path(with_busybox("build", "history", "open").strip())
    assert path.parent.parent == with_busybox.home / "home" / "builds"
    text = path.read_text()
    assert "<script" not in text and "<img" not in text and "<b>name" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "\x1b" not in text and "red</pre>" in text
    assert "exit code: 3" in text and 'class="failed" open' in text
    assert not re.search(r"https?://|url\(|@import|<link|src=[\"']|href=", text)
    (build,) = with_busybox("build", "history", "ls", "-q").split()
    with_busybox("build", "history", "rm", build)
    assert os.listdir(path.parent.parent) == []


def test_the_page_of_a_build_that_is_not_there(with_busybox: Moldar, project: Project) -> None:
    assert "there are no builds yet" in with_busybox.fails("build", "history", "open")
    with_busybox("build", project(Dockerfile="FROM busybox\nRUN true\n"))
    assert "cannot write /none/x.html" in with_busybox.fails("build", "history", "open", "-o", "/none/x.html")
