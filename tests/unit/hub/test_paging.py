"""Referrers in pages, conditions with several validators, and manifests that refer to what is not here."""

import json
from pathlib import Path

import pytest

from .hubs import INDEX, MANIFEST, Client, Running, image_manifest, sha256

ABSENT = "sha256:" + "1" * 64
TYPE = "application/vnd.example.kind"


def push_referrers(client: Client, repository: str, count: int, note: str = "x") -> list[str]:
    config = client.push_blob(repository, b"{}")
    found = []
    for number in range(count):
        document = image_manifest(config, 2, []) | {
            "subject": {"mediaType": MANIFEST, "digest": ABSENT, "size": 7},
            "artifactType": TYPE,
            "annotations": {"number": str(number), "note": note},
        }
        answer = client.push_manifest(repository, f"t{number}", document)
        assert answer.headers["oci-subject"] == ABSENT
        found.append(answer.headers["docker-content-digest"])
    return sorted(found)


@pytest.mark.parametrize("query", ["n=3", f"n=3&artifactType={TYPE}"])
def test_referrers_in_pages(open_server: Running, query: str) -> None:
    with open_server.client() as client:
        repository = "paging/small"
        pushed = push_referrers(client, repository, 7)
        seen: list[str] = []
        url = f"/v2/{repository}/referrers/{ABSENT}?{query}"
        pages = 0
        while url:
            answer = client.get(url)
            assert answer.json()["mediaType"] == INDEX
            assert ("oci-filters-applied" in answer.headers) is ("artifactType" in query)
            seen += [entry["digest"] for entry in answer.json()["manifests"]]
            url = answer.links["next"]["url"] if "next" in answer.links else ""
            pages += 1
        assert (seen, pages) == (pushed, 3)


def test_a_page_of_referrers_is_no_larger_than_a_manifest(open_server: Running) -> None:
    with open_server.client() as client:
        repository = "paging/large"
        pushed = push_referrers(client, repository, 3, "n" * 2_000_000)
        first = client.get(f"/v2/{repository}/referrers/{ABSENT}")
        assert len(first.content) <= 4 * 1024 * 1024
        second = client.get(first.links["next"]["url"])
        assert "link" not in second.headers
        found = [entry["digest"] for answer in (first, second) for entry in answer.json()["manifests"]]
        assert found == pushed


def test_if_none_match(open_server: Running) -> None:
    with open_server.client() as client:
        digest = client.push_image("paging/conditions")
        blob = client.push_blob("paging/conditions", b"bytes")
        for path in (f"/v2/paging/conditions/manifests/{digest}", f"/v2/paging/conditions/blobs/{blob}"):
            etag = client.head(path).headers["etag"]
            for asked, status in (
                (etag, 304),
                (f"W/{etag}", 304),
                (f'"other", {etag}', 304),
                ("*", 304),
                ('"other"', 200),
                ("", 200),
            ):
                answer = client.get(path, headers={"If-None-Match": asked})
                assert (answer.status_code, answer.headers["etag"]) == (status, etag), asked


def test_sparse_manifests_where_they_are_allowed(tmp_path: Path) -> None:
    running = Running(str(tmp_path / "data"), tmp_path / "log", allow_anonymous_push=True, allow_sparse=True)
    with running.client() as client:
        image = json.dumps(image_manifest(ABSENT, 2, [(ABSENT, 3)])).encode()
        index = {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [{"mediaType": MANIFEST, "digest": ABSENT, "size": 4}],
        }
        assert client.push_manifest("a/b", "image", image).status_code == 201
        assert client.push_manifest("a/b", "index", index).status_code == 201
        assert client.get("/v2/a/b/manifests/image").headers["docker-content-digest"] == sha256(image)
        assert client.get(f"/v2/a/b/blobs/{ABSENT}").status_code == 404
    assert running.stop() == 0
