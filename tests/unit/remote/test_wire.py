"""Routes, errors, challenges, scopes, ranges and links."""

import pytest

from moldar.remote import wire
from moldar.remote.wire import ByteRange, Route, RouteKind

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v2/", Route(RouteKind.BASE)),
        ("/v2", Route(RouteKind.BASE)),
        ("/v2/_catalog", Route(RouteKind.CATALOG)),
        ("/v2/a/b/c/tags/list", Route(RouteKind.TAGS, "a/b/c")),
        ("/v2/app/manifests/latest", Route(RouteKind.MANIFEST, "app", "latest")),
        (f"/v2/alice/app/manifests/{DIGEST}", Route(RouteKind.MANIFEST, "alice/app", DIGEST)),
        (f"/v2/alice/app/blobs/{DIGEST}", Route(RouteKind.BLOB, "alice/app", DIGEST)),
        ("/v2/alice/app/blobs/uploads/", Route(RouteKind.UPLOADS, "alice/app")),
        ("/v2/alice/app/blobs/uploads", Route(RouteKind.UPLOADS, "alice/app")),
        ("/v2/alice/app/blobs/uploads/17", Route(RouteKind.UPLOAD, "alice/app", "17")),
        (f"/v2/alice/app/referrers/{DIGEST}", Route(RouteKind.REFERRERS, "alice/app", DIGEST)),
        ("/v2/tags/list/tags/list", Route(RouteKind.TAGS, "tags/list")),
        ("/v2/blobs/uploads/manifests/x", Route(RouteKind.MANIFEST, "blobs/uploads", "x")),
        ("/v2/app/manifests/", None),
        ("/v2/app", None),
        ("/v1/app/manifests/latest", None),
    ],
)
def test_parse_path(path: str, route: Route | None) -> None:
    assert wire.parse_path(path) == route


def test_built_paths_parse_back() -> None:
    assert wire.parse_path(wire.manifest_path("a/b", "v1")) == Route(RouteKind.MANIFEST, "a/b", "v1")
    assert wire.parse_path(wire.blob_path("a/b", DIGEST)) == Route(RouteKind.BLOB, "a/b", DIGEST)
    assert wire.parse_path(wire.upload_path("a/b", "x-1")) == Route(RouteKind.UPLOAD, "a/b", "x-1")
    assert wire.parse_path(wire.base_path()) == Route(RouteKind.BASE)
    assert wire.tags_path("a/b", limit=10, last="v1") == "/v2/a/b/tags/list?n=10&last=v1"
    assert wire.catalog_path(limit=0) == "/v2/_catalog?n=0"
    assert wire.uploads_path("a/b", mount=DIGEST, source="c/d") == f"/v2/a/b/blobs/uploads/?mount={DIGEST}&from=c/d"
    assert wire.referrers_path("a", DIGEST, "x/y+z") == f"/v2/a/referrers/{DIGEST}?artifactType=x%2Fy%2Bz"


def test_repository_names() -> None:
    assert wire.valid_repository("a/b-c/d__e/f.g")
    for name in ("", "A", "a//b", "/a", "a/", "a/../b", "-a", "a_", "x" * 256, "a\n"):
        assert not wire.valid_repository(name)


def test_tags() -> None:
    assert wire.valid_tag("_v1.2-3")
    for tag in ("", ".a", "-a", "a" * 129, "a/b", "a:b", "a\n"):
        assert not wire.valid_tag(tag)


def test_error_bodies() -> None:
    errors = (wire.wire_error("DENIED"), wire.wire_error("UNKNOWN", "boom", {"a": 1}))
    assert wire.parse_errors(wire.format_errors(errors)) == errors
    assert str(errors[0]) == "denied: requested access to the resource is denied"
    assert wire.parse_errors(b"<html>") == ()
    assert wire.parse_errors(b"[]") == ()
    assert wire.parse_errors(b'{"errors": "x"}') == ()
    assert wire.parse_errors(b'{"details": "incorrect username or password"}')[0].message.startswith("incorrect")
    assert wire.parse_errors(b'{"errors": [{"code": "X"}, 3]}') == (wire.WireError("X"),)


def test_challenges() -> None:
    header = (
        'Bearer realm="https://auth.example/token",service="reg",scope="repository:a/b:pull,push registry:catalog:*"'
    )
    (bearer,) = wire.parse_challenges(header)
    assert bearer.scheme == "bearer"
    assert bearer.realm == "https://auth.example/token"
    assert bearer.service == "reg"
    assert bearer.scopes == ("repository:a/b:pull,push", "registry:catalog:*")
    assert wire.format_challenge(bearer) == header


def test_several_challenges_and_odd_spellings() -> None:
    first, second = wire.parse_challenges('BASIC Realm="a \\"b\\", c" , bearer realm=x , service = "s"')
    assert (first.scheme, first.realm) == ("basic", 'a "b", c')
    assert (second.scheme, second.realm, second.service) == ("bearer", "x", "s")
    assert wire.parse_challenges("") == ()
    assert wire.parse_challenges('"""') == ()
    assert wire.parse_challenges("Negotiate")[0].scheme == "negotiate"


def test_bearer_challenge() -> None:
    scope = wire.repository_scope("a/b", "pull", "push")
    text = wire.bearer_challenge("http://h/token", "h", [scope], "invalid_token")
    assert text == 'Bearer realm="http://h/token",service="h",scope="repository:a/b:pull,push",error="invalid_token"'
    assert wire.basic_challenge("h") == 'Basic realm="h"'


def test_authorization() -> None:
    assert wire.parse_basic(wire.format_basic("maria", "pá:ss")) == ("maria", "pá:ss")
    assert wire.parse_basic("Basic ?") is None
    assert wire.parse_basic("Bearer x") is None
    assert wire.parse_basic("Basic YQ==") is None
    assert wire.parse_bearer("bearer abc") == "abc"
    assert wire.parse_bearer("Basic abc") is None
    assert wire.parse_bearer("Bearer ") is None


def test_scopes() -> None:
    assert wire.parse_scope("repository:host:5000/a:pull,push") == wire.Scope(
        "repository", "host:5000/a", ("pull", "push")
    )
    assert wire.parse_scope("repository:a:") == wire.Scope("repository", "a", ())
    assert wire.parse_scope("repository:a") is None
    assert wire.parse_scopes("repository:a:pull bad registry:catalog:*") == (
        wire.repository_scope("a", "pull"),
        wire.CATALOG_SCOPE,
    )


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-99", ByteRange(0, 100)),
        ("bytes=10-", ByteRange(10, 1000)),
        ("bytes=-10", ByteRange(990, 1000)),
        ("bytes=-2000", ByteRange(0, 1000)),
        ("bytes=990-2000", ByteRange(990, 1000)),
        ("bytes=5-4", None),
        ("bytes=0-1,5-6", None),
        ("items=0-1", None),
        ("bytes=-", None),
        ("", None),
    ],
)
def test_byte_ranges(header: str, expected: ByteRange | None) -> None:
    assert wire.parse_byte_range(header, 1000) == expected


@pytest.mark.parametrize(("header", "size"), [("bytes=1000-", 1000), ("bytes=-0", 1000), ("bytes=0-", 0)])
def test_unsatisfiable_ranges(header: str, size: int) -> None:
    with pytest.raises(wire.RangeNotSatisfiable) as caught:
        wire.parse_byte_range(header, size)
    assert caught.value.size == size


def test_upload_ranges() -> None:
    assert wire.parse_upload_range("0-99") == ByteRange(0, 100)
    assert wire.parse_upload_range("bytes=0-99") == ByteRange(0, 100)
    assert wire.parse_upload_range("bytes 5-9/*") == ByteRange(5, 10)
    assert wire.parse_upload_range("9-5") is None
    assert wire.parse_upload_range("x") is None
    assert wire.format_upload_range(0, 100) == "0-99"
    assert wire.format_upload_range(0, 0) == "0-0"


def test_content_ranges() -> None:
    text = wire.format_content_range(ByteRange(5, 10), 20)
    assert text == "bytes 5-9/20"
    assert wire.parse_content_range(text) == (ByteRange(5, 10), 20)
    assert wire.parse_content_range("bytes 5-9/*") == (ByteRange(5, 10), None)
    assert wire.parse_content_range("bytes */20") is None
    assert wire.format_unsatisfied_range(20) == "bytes */20"
    assert wire.format_byte_range(5) == "bytes=5-"
    assert wire.format_byte_range(5, 10) == "bytes=5-9"


def test_links() -> None:
    text = wire.format_next_link("/v2/_catalog?n=2&last=b")
    assert wire.parse_links(text) == {"next": "/v2/_catalog?n=2&last=b"}
    assert wire.parse_links('<a>; rel=prev, <b>; title="x"; rel="next last"') == {
        "prev": "a",
        "next": "b",
        "last": "b",
    }
    assert wire.parse_links("nonsense") == {}
