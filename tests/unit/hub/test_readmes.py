"""READMEs: what Markdown becomes, attacks in it, and who may set one."""

import time
from collections.abc import Iterator
from html import unescape

import httpx
import pytest

from moldar.hub.administration import create_token
from moldar.hub.registry.readmes import README_LIMIT, render

from .hubs import PASSWORD, Client, Running
from .test_pages import form_token, sign_in, submit

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)><svg/onload=alert(1)>\"'><iframe src=//evil>"


@pytest.fixture
def browser(server: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


def test_markdown() -> None:
    made = render(
        "# Title\n\nA *word*, `code` and [a link](https://example.org/x).\n\n| a | b |\n|---|---|\n| 1 | ~~2~~ |\n"
    )
    for part in ("<h2>Title</h2>", "<em>word</em>", "<code>code</code>", "<td>1</td>", "<s>2</s>"):
        assert part in made
    assert 'href="https://example.org/x"' in made
    assert 'rel="noopener noreferrer nofollow ugc"' in made
    assert render("```sh\nmoldar pull x\n```") == "<pre><code>moldar pull x\n</code></pre>\n"


def test_images_become_links() -> None:
    made = render('![a "picture" <b>](https://example.org/x.png) ![](https://example.org/y.png)')
    assert "<img" not in made
    assert "<b>" not in made
    assert 'href="https://example.org/x.png"' in made
    assert ">https://example.org/y.png</a>" in made


@pytest.mark.parametrize(
    "markdown",
    [
        HOSTILE,
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt&#58;alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "[x](vbscript:x) [y](file:///etc/passwd) [z](//evil.example) [w](/sign-out)",
        "<javascript:alert(1)>",
        '![x](https://a/"onerror="alert(1))',
        "![x](javascript:alert(1))",
        '[x](https://a "title\\" onmouseover=\\"alert(1)")',
        f"```{HOSTILE}\n{HOSTILE}\n```",
        f"`{HOSTILE}`",
        f"# {HOSTILE}",
        f"[{HOSTILE}](https://example.org)",
        f"| {HOSTILE} |\n|---|\n| {HOSTILE} |",
        "<style>*{display:none}</style><form action=/sign-out><input name=form_token>",
        "&lt;script&gt;alert(1)&lt;/script&gt; &#60;script&#62;",
        '<a id="content" name="x" class="problem" style="position:fixed" href="https://x">x</a>',
    ],
)
def test_attacks_in_markdown(markdown: str) -> None:
    made = render(markdown)
    for element in ("<script", "<img", "<svg", "<iframe", "<style", "<form", "<input"):
        assert element not in made.lower()
    for tag in made.split("<")[1:]:
        inside = unescape(tag.partition(">")[0]).lower()
        for bad in ("javascript:", "data:", "vbscript:", "file:", "style=", "class=", "id=", 'href="/'):
            assert bad not in inside.split('title="')[0], made
        assert not inside.partition("title=")[0].count(" on"), made


@pytest.mark.parametrize(
    "piece", ["[", "*", "_a ", "`", ">", "![", "<", "- ", "[a](", "| ", "&", "\\", "#", "~~a", "**a "]
)
def test_no_markdown_takes_long(piece: str) -> None:
    text = (piece * README_LIMIT)[:README_LIMIT]
    started = time.monotonic()
    render(text)
    assert time.monotonic() - started < 10


def test_put_and_get_with_a_token(server: Running, browser: httpx.Client) -> None:
    with server.client("alice") as alice:
        alice.push_image("alice/readme")
        alice.push_image("alice/other-readme")
    secret = create_token(server.where, "alice", "ci", repositories=("alice/readme",))[1]
    path = "/api/v1/repositories/alice/readme/readme"
    with Client(server.url, ("alice", secret)) as ci:
        assert ci.get(path).status_code == 404
        assert ci.put(path, content="# Hello\n\n" + HOSTILE).status_code == 204
        assert ci.get(path).text == "# Hello\n\n" + HOSTILE
        assert ci.put("/api/v1/repositories/alice/other-readme/readme", content="x").status_code in (401, 403)
        assert ci.put("/api/v1/repositories/bob/nothing/readme", content="x").status_code == 403
        assert ci.put(path, content=b"\xff\xfe").status_code == 400
        assert ci.put(path, content=b"x" * (README_LIMIT + 1)).status_code == 413
    reader = create_token(server.where, "alice", "reader", actions=("pull",))[1]
    with Client(server.url, ("alice", reader)) as pulls_only:
        assert pulls_only.get(path).status_code == 200
        assert pulls_only.put(path, content="x").status_code in (401, 403)
    page = browser.get("/r/alice/readme").text
    assert "<h2>Hello</h2>" in page
    for element in ("<script>alert", "<img src=x", "<svg/", "<iframe"):
        assert element not in page
    with Client(server.url, ("alice", secret)) as ci:
        assert ci.put(path, content=" \n").status_code == 204
        assert ci.get(path).status_code == 404


def test_a_session_is_no_credential_for_the_api(server: Running, browser: httpx.Client) -> None:
    with server.client("alice") as alice:
        alice.push_image("alice/session-readme")
    sign_in(browser, "alice")
    path = "/api/v1/repositories/alice/session-readme/readme"
    answer = browser.put(path, content="x")
    assert answer.status_code == 401
    assert "www-authenticate" in answer.headers


def test_private_readmes_cannot_be_told_from_missing_ones(server: Running, browser: httpx.Client) -> None:
    with server.client("alice") as alice:
        alice.push_image("alice/hidden-readme")
        alice.put("/api/v1/repositories/alice/hidden-readme/readme", content="a secret")
    sign_in(browser, "alice")
    submit(browser, "/r/alice/hidden-readme", action="private")
    for user in ("", "bob"):
        with server.client(user) as other:
            for method in ("GET", "PUT"):
                answers = [
                    other.request(
                        method, f"/api/v1/repositories/alice/{name}/readme", content=b"x" * (method == "PUT")
                    )
                    for name in ("hidden-readme", "absent-readme")
                ]
                assert answers[0].status_code == answers[1].status_code
                assert answers[0].content == answers[1].content
                assert "secret" not in answers[0].text


def test_on_the_page(server: Running, browser: httpx.Client) -> None:
    with server.client("alice") as alice:
        alice.push_image("alice/page-readme")
    sign_in(browser, "alice")
    path = "/r/alice/page-readme"
    assert submit(browser, path, action="readme", content="Some *words*\r\n</textarea>").status_code == 303
    page = browser.get(path).text
    assert "<em>words</em>" in page
    assert page.count("</textarea>") == 1
    assert submit(browser, path, action="readme", content="x" * (README_LIMIT + 1)).status_code == 413
    with httpx.Client(base_url=server.url) as bob:
        bob.post("/sign-in", data={"form_token": form_token(bob, "/sign-in"), "name": "bob", "password": PASSWORD})
        token = form_token(bob, "/settings/tokens")
        assert bob.post(path, data={"form_token": token, "action": "readme", "content": "x"}).status_code == 404
