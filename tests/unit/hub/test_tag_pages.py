"""The pages of images: layers, files, what strangers put into names, and whose layers one may see."""

import gzip
import os
import re
from collections.abc import Iterator
from html import unescape

import httpx
import pytest

from .hubs import CONFIG, MANIFEST, Running, sha256
from .layers import push_layers, tar, zeros

HOSTILE = '"><script>alert(1)</script>'


@pytest.fixture
def browser(server: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


def links(page: str) -> list[str]:
    return [unescape(link) for link in re.findall(r'href="([^"]+)"', page)]


def test_layers_files_and_waste(server: Running, browser: httpx.Client) -> None:
    with server.client("alice") as alice:
        push_layers(
            alice,
            "alice/layered",
            "v1",
            [
                gzip.compress(tar(("etc/motd", b"x" * 5000), ("bin/sh", b"#"), ("bin/bash", "-> sh"))),
                tar(("etc/.wh.motd", b""), ("etc/hosts", b"y" * 10)),
            ],
            {"os": "linux", "history": [{"created_by": "COPY a /"}, {"created_by": "RUN rm /etc/motd"}]},
        )
    page = browser.get("/r/alice/layered:v1").text
    for shown in ("COPY a /", "RUN rm /etc/motd", "+3", "−1", "hides 5.0 kB", "etc/", "bin/"):
        assert shown in page, shown
    whole = browser.get("/r/alice/layered:v1", params={"path": "etc"}).text
    assert "hosts" in whole
    assert ">motd<" not in whole
    second = browser.get("/r/alice/layered:v1", params={"layer": "2", "path": "etc"}).text
    assert re.search(r'class="deleted">\s*<td>.*?motd', second, re.S)
    assert "→ sh" in browser.get("/r/alice/layered:v1", params={"layer": "1", "path": "bin"}).text
    browsed = {link for link in links(page) if "layer=" in link}
    assert len(browsed) >= 5
    for link in browsed:
        assert browser.get(link).status_code == 200, link
    for wrong in ("layer=0", "layer=3", "layer=x", "layer=²", "layer=1&path=nowhere", "layer=1&path=../../etc"):
        assert browser.get(f"/r/alice/layered:v1?{wrong}").status_code == 404, wrong
    for wrong in (":none", ":v1:v1", "@v1", "@sha256:0", ":", "@", f"@{sha256(b'')}", ":v1?platform=plan9"):
        assert browser.get(f"/r/alice/layered{wrong}").status_code == 404, wrong


def test_by_digest_and_referrers(server: Running, browser: httpx.Client) -> None:
    with server.client("alice") as alice:
        digest = push_layers(alice, "alice/signed", "v1", [tar(("a", b"1"))])
        raw = alice.get(f"/v2/alice/signed/manifests/{digest}").content
        signature = alice.push_image(
            "alice/signed",
            "signature",
            artifactType="application/vnd.example.signature",
            subject={"mediaType": MANIFEST, "digest": digest, "size": len(raw)},
        )
    page = browser.get("/r/alice/signed:v1").text
    assert f"/r/alice/signed@{signature}" in page
    assert "application/vnd.example.signature" in page
    assert browser.get(f"/r/alice/signed@{digest}").status_code == 200


def test_names_in_layers_are_only_text(server: Running, browser: httpx.Client) -> None:
    names = [f"{HOSTILE}/{HOSTILE}", os.fsdecode(b"dir\xff/a"), "\u202etxt.exe/x", "a&layer=1#b/c", "%2e%2e/d"]
    with server.client("bob") as bob:
        push_layers(bob, "bob/names", "v1", [tar(*((name, b"1") for name in names), (HOSTILE, f"-> {HOSTILE}"))])
        push_layers(bob, "bob/names", "v2", [tar(*((name, b"1") for name in names[1:]), ("esc\x1b[2J", b""))])
    for tag in ("v1", "v2"):
        page = browser.get(f"/r/bob/names:{tag}").text
        assert "<script>alert" not in page
        assert "\u202e" not in page
        assert "\x1b" not in page
        for link in links(page):
            if "path=" in link:
                answer = browser.get(link)
                assert answer.status_code == 200, link
                assert "<script>alert" not in answer.text
    assert "dir\\xff/" in page


def test_hostile_layers_have_a_page(server: Running, browser: httpx.Client) -> None:
    with server.client("bob") as bob:
        layers = [zeros(64 << 20), b"no tar" * 200, tar(("../../../etc/shadow", b"x")), b"BZh91AY" + bytes(50), b""]
        push_layers(bob, "bob/harm", "v1", layers)
    page = browser.get("/r/bob/harm:v1")
    assert page.status_code == 200
    assert "shadow" not in page.text
    assert page.text.count("damaged: the rest cannot be read") == 2
    assert "compressed in a way that is not read here" in page.text


def test_a_digest_is_no_key_to_another_repository(server: Running, browser: httpx.Client) -> None:
    """A layer that need not be held may be named by anybody; its files are shown to nobody."""
    with server.client("alice") as alice:
        secret = alice.push_blob("alice/secret-layers", tar(("top-secret", b"x")))
    with server.client("bob") as bob:
        config = bob.push_blob("bob/thief-of-layers", b'{"os":"linux"}')
        document = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": config, "size": 14},
            "layers": [
                {
                    "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar",
                    "digest": secret,
                    "size": 10240,
                }
            ],
        }
        assert bob.push_manifest("bob/thief-of-layers", "v1", document).status_code == 201
    page = browser.get("/r/bob/thief-of-layers:v1")
    assert page.status_code == 200
    assert "top-secret" not in page.text
    assert "the hub does not have its bytes" in page.text


def test_comparing_two_tags(server: Running, browser: httpx.Client) -> None:
    base = tar(("a", b"1"), ("var/lib/dpkg/status", b"Package: bash\nVersion: 5.1\n\n"))
    with server.client("alice") as alice:
        one = {"os": "linux", "config": {"Env": ["A=1", "B=1"], "Cmd": ["x"], "Labels": {HOSTILE: HOSTILE}}}
        two = {"os": "linux", "config": {"Env": ["A=2", "B=1"], "User": "app"}}
        push_layers(alice, "alice/compared", "v1", [base, tar(("gone", b"1"))], one)
        status = b"Package: bash\nVersion: 5.2\n\nPackage: curl\nVersion: 8\n\n"
        push_layers(alice, "alice/compared", "v2", [base, tar(("var/lib/dpkg/status", status), (HOSTILE, b""))], two)
    assert "Compare" in browser.get("/r/alice/compared:v1").text
    page = unescape(browser.get("/r/alice/compared:v1?with=v2").text)
    for shown in (
        "ENV A",
        "<del>1</del> <ins>2</ins>",
        "USER",
        "CMD",
        "<del>5.1</del> <ins>5.2</ins>",
        "curl",
        "gone",
    ):
        assert shown in page, shown
    assert "ENV B" not in page
    assert "<script>alert" not in browser.get("/r/alice/compared:v1?with=v2").text
    for wrong in ("with=", "with=none", "with=../x", "with=v2&platform=x"):
        assert browser.get(f"/r/alice/compared:v1?{wrong}").status_code == 404
    same = browser.get("/r/alice/compared:v1?with=v1").text
    assert "No difference" in same
