"""The endpoints of distribution-spec 1.1 (and what its main branch adds), one test class for each end-NN.

Written from the text of the specification. The comments quote nothing; MUST and SHOULD are named where it matters.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator

import httpx
import pytest

from .hubs import CONFIG, INDEX, LAYER, MANIFEST, Client, Running, code_of, image_manifest, sha256

REPOSITORY = "conformance/one"
OCTETS = {"Content-Type": "application/octet-stream"}
UNKNOWN_DIGEST = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def http(open_server: Running) -> Iterator[Client]:
    with open_server.client() as client:
        yield client


def start(http: Client, repository: str = REPOSITORY, **parameters: str) -> str:
    answer = http.post(f"/v2/{repository}/blobs/uploads/", params=parameters, headers={"Content-Length": "0"})
    assert answer.status_code == 202
    assert re.search(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", answer.headers["location"])
    return answer.headers["location"]


def patch(http: Client, location: str, data: bytes, content_range: str = "") -> httpx.Response:
    headers = OCTETS | ({"Content-Range": content_range} if content_range else {})
    return http.patch(location, content=data, headers=headers)


class TestDeterminingSupport:
    """end-1"""

    def test_base(self, http: Client) -> None:
        answer = http.get("/v2/")
        assert answer.status_code == 200
        assert answer.headers["docker-distribution-api-version"] == "registry/2.0"
        assert http.get("/v2").status_code == 200

    def test_methods(self, http: Client) -> None:
        assert http.put("/v2/").status_code == 405
        assert http.get("/v2/a/b/unknown/c").status_code == 404
        answer = http.post(f"/v2/{REPOSITORY}/tags/list")
        assert (answer.status_code, answer.headers["allow"], code_of(answer)) == (405, "GET", "UNSUPPORTED")


class TestPullingBlobs:
    """end-2"""

    @pytest.fixture(scope="class")
    @classmethod
    def blob(cls, http: Client) -> tuple[str, bytes]:
        data = os.urandom(5000)
        return http.push_blob(REPOSITORY, data), data

    def test_get(self, http: Client, blob: tuple[str, bytes]) -> None:
        digest, data = blob
        answer = http.get(f"/v2/{REPOSITORY}/blobs/{digest}")
        assert (answer.status_code, answer.content) == (200, data)
        assert answer.headers["docker-content-digest"] == digest
        assert answer.headers["content-length"] == "5000"
        assert answer.headers["x-content-type-options"] == "nosniff"

    def test_head(self, http: Client, blob: tuple[str, bytes]) -> None:
        answer = http.head(f"/v2/{REPOSITORY}/blobs/{blob[0]}")
        assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, "5000", b"")
        assert answer.headers["docker-content-digest"] == blob[0]

    @pytest.mark.parametrize(
        ("asked", "start", "end"),
        [
            ("bytes=0-0", 0, 1),
            ("bytes=10-19", 10, 20),
            ("bytes=4990-", 4990, 5000),
            ("bytes=-7", 4993, 5000),
            ("bytes=4999-9999", 4999, 5000),
            ("bytes=-99999", 0, 5000),
        ],
    )
    def test_ranges(self, http: Client, blob: tuple[str, bytes], asked: str, start: int, end: int) -> None:
        answer = http.get(f"/v2/{REPOSITORY}/blobs/{blob[0]}", headers={"Range": asked})
        assert (answer.status_code, answer.content) == (206, blob[1][start:end])
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/5000"

    @pytest.mark.parametrize("asked", ["bytes=5000-", "bytes=7000-8000", "bytes=-0", "bytes=500-0"])
    def test_unsatisfiable_ranges(self, http: Client, blob: tuple[str, bytes], asked: str) -> None:
        answer = http.get(f"/v2/{REPOSITORY}/blobs/{blob[0]}", headers={"Range": asked})
        assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */5000")

    @pytest.mark.parametrize("asked", ["lines=1-2", "bytes=x-y", "bytes=0-1,5-6"])
    def test_ranges_to_ignore(self, http: Client, blob: tuple[str, bytes], asked: str) -> None:
        answer = http.get(f"/v2/{REPOSITORY}/blobs/{blob[0]}", headers={"Range": asked})
        assert (answer.status_code, answer.content) == (200, blob[1])

    def test_conditions(self, http: Client, blob: tuple[str, bytes]) -> None:
        path = f"/v2/{REPOSITORY}/blobs/{blob[0]}"
        etag = http.head(path).headers["etag"]
        assert http.get(path, headers={"If-None-Match": etag}).status_code == 304
        other = http.get(path, headers={"Range": "bytes=0-1", "If-Range": '"other"'})
        assert (other.status_code, other.content) == (200, blob[1])

    def test_not_found(self, http: Client, blob: tuple[str, bytes]) -> None:
        answer = http.get(f"/v2/{REPOSITORY}/blobs/{UNKNOWN_DIGEST}")
        assert (answer.status_code, code_of(answer)) == (404, "BLOB_UNKNOWN")
        assert http.head(f"/v2/{REPOSITORY}/blobs/{UNKNOWN_DIGEST}").status_code == 404
        elsewhere = http.get(f"/v2/conformance/nowhere/blobs/{blob[0]}")
        assert (elsewhere.status_code, code_of(elsewhere)) == (404, "NAME_UNKNOWN")
        malformed = http.get(f"/v2/{REPOSITORY}/blobs/sha256:short")
        assert (malformed.status_code, code_of(malformed)) == (400, "DIGEST_INVALID")

    def test_the_empty_blob(self, http: Client) -> None:
        digest = http.push_blob(REPOSITORY, b"")
        answer = http.get(f"/v2/{REPOSITORY}/blobs/{digest}")
        assert (answer.status_code, answer.content) == (200, b"")

    def test_a_large_blob(self, http: Client) -> None:
        data = os.urandom(1024 * 1024) * 12 + b"end"
        digest = http.push_blob(REPOSITORY, data)
        assert http.get(f"/v2/{REPOSITORY}/blobs/{digest}").content == data
        for last in (4_000_000, 12_000_000):
            part = http.get(f"/v2/{REPOSITORY}/blobs/{digest}", headers={"Range": f"bytes=1000-{last}"})
            assert part.content == data[1000 : last + 1]
        bodied = http.request("GET", f"/v2/{REPOSITORY}/blobs/{digest}", content=b"a body that GET need not have")
        assert bodied.content == data


class TestUploads:
    """end-4a, 5, 6, 13, 14"""

    def test_post_then_put(self, http: Client) -> None:
        data = os.urandom(300)
        answer = http.put(start(http), params={"digest": sha256(data)}, content=data, headers=OCTETS)
        assert answer.status_code == 201
        assert http.get(answer.headers["location"]).content == data
        assert answer.headers["docker-content-digest"] == sha256(data)

    def test_chunks(self, http: Client) -> None:
        data = os.urandom(900)
        location = start(http)
        for begin in (0, 300, 600):
            answer = patch(http, location, data[begin : begin + 300], f"{begin}-{begin + 299}")
            assert (answer.status_code, answer.headers["range"]) == (202, f"0-{begin + 299}")
            location = answer.headers["location"]
        answer = http.put(location, params={"digest": sha256(data)})
        assert answer.status_code == 201
        assert http.get(answer.headers["location"]).content == data

    def test_the_last_chunk_with_put(self, http: Client) -> None:
        data = os.urandom(500)
        location = patch(http, start(http), data[:200], "0-199").headers["location"]
        headers = OCTETS | {"Content-Range": "200-499"}
        answer = http.put(location, params={"digest": sha256(data)}, content=data[200:], headers=headers)
        assert answer.status_code == 201
        assert http.get(answer.headers["location"]).content == data

    def test_the_last_chunk_with_put_out_of_order(self, http: Client) -> None:
        data = os.urandom(500)
        location = patch(http, start(http), data[:200], "0-199").headers["location"]
        headers = OCTETS | {"Content-Range": "300-499"}
        answer = http.put(location, params={"digest": sha256(data)}, content=data[300:], headers=headers)
        assert (answer.status_code, answer.headers["range"]) == (416, "0-199")

    @pytest.mark.parametrize("content_range", ["0-99", "50-149", "101-200", "9-1", "words"])
    def test_a_chunk_out_of_order(self, http: Client, content_range: str) -> None:
        location = patch(http, start(http), b"a" * 100, "0-99").headers["location"]
        answer = patch(http, location, b"b" * 100, content_range)
        assert (answer.status_code, answer.headers["range"]) == (416, "0-99")
        status = http.get(answer.headers["location"])
        assert (status.status_code, status.headers["range"]) == (204, "0-99")
        assert patch(http, status.headers["location"], b"c", "100-100").status_code == 202

    def test_the_first_chunk_must_begin_at_0(self, http: Client) -> None:
        assert patch(http, start(http), b"a" * 10, "1-10").status_code == 416

    def test_a_chunk_whose_length_is_not_its_range(self, http: Client) -> None:
        answer = patch(http, start(http), b"a" * 10, "0-19")
        assert (answer.status_code, code_of(answer)) == (400, "SIZE_INVALID")

    def test_a_stream_without_a_range(self, http: Client) -> None:
        parts = [os.urandom(1000) for _ in range(5)]
        answer = http.patch(start(http), content=iter(parts), headers=OCTETS)
        assert (answer.status_code, answer.headers["range"]) == (202, "0-4999")
        data = b"".join(parts)
        done = http.put(answer.headers["location"], params={"digest": sha256(data)})
        assert done.status_code == 201

    def test_a_wrong_digest(self, http: Client) -> None:
        location = start(http)
        answer = http.put(location, params={"digest": UNKNOWN_DIGEST}, content=b"something", headers=OCTETS)
        assert (answer.status_code, code_of(answer)) == (400, "DIGEST_INVALID")
        assert http.get(f"/v2/{REPOSITORY}/blobs/{UNKNOWN_DIGEST}").status_code == 404
        assert http.get(location).status_code == 404

    @pytest.mark.parametrize("digest", ["md5:" + "0" * 32, "sha256:xyz", "", "sha256:" + "A" * 64])
    def test_an_invalid_digest(self, http: Client, digest: str) -> None:
        answer = http.put(start(http), params={"digest": digest}, content=b"x", headers=OCTETS)
        assert (answer.status_code, code_of(answer)) == (400, "DIGEST_INVALID")

    def test_put_without_a_digest(self, http: Client) -> None:
        assert http.put(start(http), content=b"x", headers=OCTETS).status_code == 400

    def test_cancel(self, http: Client) -> None:
        location = start(http)
        assert http.delete(location).status_code == 204
        for answer in (http.get(location), http.delete(location), patch(http, location, b"x")):
            assert (answer.status_code, code_of(answer)) == (404, "BLOB_UPLOAD_UNKNOWN")

    def test_a_session_belongs_to_its_repository(self, http: Client) -> None:
        location = start(http).replace(REPOSITORY, "conformance/two")
        assert http.get(location).status_code == 404

    def test_a_fresh_session(self, http: Client) -> None:
        answer = http.get(start(http))
        assert (answer.status_code, answer.headers["range"]) == (204, "0-0")


class TestSinglePost:
    """end-4b"""

    def test_post(self, http: Client) -> None:
        data = os.urandom(100)
        answer = http.post(
            f"/v2/{REPOSITORY}/blobs/uploads/", params={"digest": sha256(data)}, content=data, headers=OCTETS
        )
        assert answer.status_code == 201
        assert http.get(answer.headers["location"]).content == data

    def test_a_wrong_digest_leaves_nothing(self, http: Client, open_server: Running) -> None:
        before = open_server.uploads()
        answer = http.post(f"/v2/{REPOSITORY}/blobs/uploads/", params={"digest": UNKNOWN_DIGEST}, content=b"x")
        assert (answer.status_code, code_of(answer)) == (400, "DIGEST_INVALID")
        assert open_server.uploads() == before


class TestOtherAlgorithms:
    """end-4c, and sha512 wherever a digest may stand"""

    def test_a_blob(self, http: Client) -> None:
        data = os.urandom(100)
        digest = "sha512:" + hashlib.sha512(data).hexdigest()
        location = patch(http, start(http, **{"digest-algorithm": "sha512"}), data[:40]).headers["location"]
        answer = http.put(location, params={"digest": digest}, content=data[40:])
        assert answer.status_code == 201
        assert http.get(f"/v2/{REPOSITORY}/blobs/{digest}").content == data
        late = http.put(start(http), params={"digest": digest}, content=data)  # not announced
        assert late.status_code == 201

    def test_a_manifest(self, http: Client) -> None:
        config = b"{}"
        digest = "sha512:" + hashlib.sha512(config).hexdigest()
        http.push_blob(REPOSITORY, config, digest)
        raw = json.dumps(image_manifest(digest, 2, [])).encode()
        name = "sha512:" + hashlib.sha512(raw).hexdigest()
        answer = http.put(
            f"/v2/{REPOSITORY}/manifests/{name}",
            content=raw,
            headers={"Content-Type": MANIFEST},
            params={"tag": "s5"},
        )
        assert (answer.status_code, answer.headers["docker-content-digest"]) == (201, name)
        assert http.get(f"/v2/{REPOSITORY}/manifests/s5").headers["docker-content-digest"] == name
        assert http.get(f"/v2/{REPOSITORY}/referrers/{name}").status_code == 200

    def test_an_unknown_algorithm(self, http: Client) -> None:
        answer = http.post(f"/v2/{REPOSITORY}/blobs/uploads/", params={"digest-algorithm": "md5"})
        assert answer.status_code == 400


class TestMounting:
    """end-11"""

    def test_mount(self, http: Client) -> None:
        data = os.urandom(100)
        digest = http.push_blob(REPOSITORY, data)
        target = "conformance/mounted"
        answer = http.post(f"/v2/{target}/blobs/uploads/", params={"mount": digest, "from": REPOSITORY})
        assert answer.status_code == 201
        assert answer.headers["location"] == f"/v2/{target}/blobs/{digest}"
        assert http.get(answer.headers["location"]).content == data

    def test_mount_without_from(self, http: Client) -> None:
        digest = http.push_blob(REPOSITORY, os.urandom(100))
        assert http.post("/v2/conformance/found/blobs/uploads/", params={"mount": digest}).status_code == 201

    def test_what_cannot_be_mounted_becomes_a_session(self, http: Client) -> None:
        for source in ("conformance/nowhere", REPOSITORY, "../../etc"):
            answer = http.post(
                "/v2/conformance/mounted/blobs/uploads/", params={"mount": UNKNOWN_DIGEST, "from": source}
            )
            assert answer.status_code == 202
            assert http.get(answer.headers["location"]).status_code == 204


class TestManifests:
    """end-3, 7a, 7b"""

    @pytest.fixture(scope="class")
    @classmethod
    def raw(cls, http: Client) -> bytes:
        config, layer = b'{"os": "linux", "architecture": "amd64"}', os.urandom(50)
        document = image_manifest(
            http.push_blob(REPOSITORY, config), len(config), [(http.push_blob(REPOSITORY, layer), 50)]
        )
        return json.dumps(document, indent=3).encode() + b"\n"  # bytes must come back as they went in

    def test_push_and_pull_by_tag(self, http: Client, raw: bytes) -> None:
        answer = http.push_manifest(REPOSITORY, "v1", raw)
        assert answer.status_code == 201
        assert answer.headers["docker-content-digest"] == sha256(raw)
        for path in (answer.headers["location"], f"/v2/{REPOSITORY}/manifests/v1"):
            got = http.get(path)
            assert (got.status_code, got.content, got.headers["content-type"]) == (200, raw, MANIFEST)
            assert got.headers["docker-content-digest"] == sha256(raw)

    def test_head(self, http: Client, raw: bytes) -> None:
        http.push_manifest(REPOSITORY, "v1", raw)
        answer = http.head(f"/v2/{REPOSITORY}/manifests/v1")
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == str(len(raw))
        assert answer.headers["docker-content-digest"] == sha256(raw)

    def test_condition(self, http: Client, raw: bytes) -> None:
        etag = http.get(http.push_manifest(REPOSITORY, "v1", raw).headers["location"]).headers["etag"]
        answer = http.get(f"/v2/{REPOSITORY}/manifests/v1", headers={"If-None-Match": etag})
        assert (answer.status_code, answer.content) == (304, b"")

    def test_a_tag_moves(self, http: Client, raw: bytes) -> None:
        http.push_manifest(REPOSITORY, "moving", raw)
        second = raw + b"\n"
        http.push_manifest(REPOSITORY, "moving", second)
        assert http.get(f"/v2/{REPOSITORY}/manifests/moving").content == second
        assert http.get(f"/v2/{REPOSITORY}/manifests/{sha256(raw)}").content == raw

    def test_by_digest(self, http: Client, raw: bytes) -> None:
        other = raw + b"\n\n"
        assert http.push_manifest(REPOSITORY, sha256(other), other).status_code == 201
        answer = http.push_manifest(REPOSITORY, UNKNOWN_DIGEST, other)
        assert (answer.status_code, code_of(answer)) == (400, "DIGEST_INVALID")

    def test_by_digest_with_tags(self, http: Client, raw: bytes) -> None:
        tags = [f"t{number}" for number in range(12)]
        answer = http.put(
            f"/v2/{REPOSITORY}/manifests/{sha256(raw)}",
            params={"tag": tags},
            content=raw,
            headers={"Content-Type": MANIFEST},
        )
        assert answer.status_code == 201
        assert answer.headers.get_list("oci-tag", split_commas=True) == tags
        assert all(http.head(f"/v2/{REPOSITORY}/manifests/{tag}").status_code == 200 for tag in tags)

    def test_not_found(self, http: Client) -> None:
        for reference in ("none", ".not-a-tag", UNKNOWN_DIGEST):
            answer = http.get(f"/v2/{REPOSITORY}/manifests/{reference}")
            assert (answer.status_code, code_of(answer)) == (404, "MANIFEST_UNKNOWN")
        answer = http.get("/v2/conformance/nowhere/manifests/latest")
        assert (answer.status_code, code_of(answer)) == (404, "NAME_UNKNOWN")

    def test_missing_blobs(self, http: Client) -> None:
        answer = http.push_manifest(REPOSITORY, "v1", image_manifest(UNKNOWN_DIGEST, 2, [(UNKNOWN_DIGEST, 2)]))
        assert (answer.status_code, code_of(answer)) == (400, "MANIFEST_BLOB_UNKNOWN")

    def test_layers_that_live_elsewhere_need_not_be_here(self, http: Client, raw: bytes) -> None:
        document = json.loads(raw)
        document["layers"] = [
            {
                "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar",
                "digest": UNKNOWN_DIGEST,
                "size": 9,
            }
        ]
        assert http.push_manifest(REPOSITORY, "elsewhere", document).status_code == 201

    def test_no_layers(self, http: Client, raw: bytes) -> None:
        assert http.push_manifest(REPOSITORY, "bare", {**json.loads(raw), "layers": []}).status_code == 201

    def test_an_index(self, http: Client, raw: bytes) -> None:
        http.push_manifest(REPOSITORY, sha256(raw), raw)
        entry = {"mediaType": MANIFEST, "digest": sha256(raw), "size": len(raw)}
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
        answer = http.push_manifest(REPOSITORY, "index", document)
        assert answer.status_code == 201
        assert http.get(f"/v2/{REPOSITORY}/manifests/index").headers["content-type"] == INDEX
        document["manifests"] = [{**entry, "digest": UNKNOWN_DIGEST}]
        missing = http.push_manifest(REPOSITORY, "index", document)
        assert (missing.status_code, code_of(missing)) == (400, "MANIFEST_BLOB_UNKNOWN")

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"{",
            b"[]",
            b"{}",
            b'{"schemaVersion": 2}',
            b'{"schemaVersion": 1, "config": {}}',
            b'{"config": {"digest": "sha256:short", "size": 1}}',
            b'{"config": {"digest": 5, "size": "x"}, "layers": 7}',
            b'{"manifests": [1, 2]}',
            b"\xff\xfe",
            b"[" * 100_000,
        ],
    )
    def test_malformed(self, http: Client, raw: bytes) -> None:
        answer = http.put(f"/v2/{REPOSITORY}/manifests/bad", content=raw, headers={"Content-Type": MANIFEST})
        assert (answer.status_code, code_of(answer)) == (400, "MANIFEST_INVALID")

    @pytest.mark.parametrize("media_type", ["", "text/plain", INDEX, CONFIG])
    def test_content_types(self, http: Client, raw: bytes, media_type: str) -> None:
        headers = {"Content-Type": media_type} if media_type else {}
        answer = http.put(f"/v2/{REPOSITORY}/manifests/typed", content=raw, headers=headers)
        assert (answer.status_code, code_of(answer)) == (400, "MANIFEST_INVALID")
        again = http.put(
            f"/v2/{REPOSITORY}/manifests/typed", content=raw, headers={"Content-Type": MANIFEST + "; charset=utf-8"}
        )
        assert again.status_code == 201  # parameters are to be ignored

    def test_invalid_tags(self, http: Client, raw: bytes) -> None:
        for tag in (".hidden", "a" * 129, "-x", "a b", "é"):
            assert http.push_manifest(REPOSITORY, tag, raw).status_code == 400

    def test_size_limit(self, http: Client, raw: bytes) -> None:
        fits = raw + b" " * (4 * 1024 * 1024 - len(raw))
        assert http.push_manifest(REPOSITORY, "large", fits).status_code == 201
        assert http.get(f"/v2/{REPOSITORY}/manifests/large").content == fits
        assert http.push_manifest(REPOSITORY, "large", fits + b" ").status_code == 413
        streamed = http.put(
            f"/v2/{REPOSITORY}/manifests/large",
            content=(b" " * 65536 for _ in range(100)),
            headers={"Content-Type": MANIFEST},
        )
        assert streamed.status_code == 413


class TestTags:
    """end-8a, 8b"""

    TAGS = ("A", "Z", "a", "b", "v1", "v10", "v2")

    @pytest.fixture(scope="class")
    @classmethod
    def repository(cls, http: Client) -> str:
        name = "conformance/tags"
        config = http.push_blob(name, b"{}")
        for tag in reversed(cls.TAGS):
            http.push_manifest(name, tag, image_manifest(config, 2, []))
        return name

    def test_all(self, http: Client, repository: str) -> None:
        answer = http.get(f"/v2/{repository}/tags/list")
        assert answer.json() == {"name": repository, "tags": list(self.TAGS)}
        assert "link" not in answer.headers

    def test_pages(self, http: Client, repository: str) -> None:
        seen: list[str] = []
        url = f"/v2/{repository}/tags/list?n=3"
        while url:
            answer = http.get(url)
            seen += answer.json()["tags"]
            url = answer.links["next"]["url"] if "next" in answer.links else ""
        assert tuple(seen) == self.TAGS

    def test_parameters(self, http: Client, repository: str) -> None:
        def tags(**parameters: str | int) -> list[str]:
            answer = http.get(f"/v2/{repository}/tags/list", params=parameters)
            assert answer.status_code == 200
            return list(answer.json()["tags"])

        assert tags(n=2) == ["A", "Z"]
        assert tags(last="b") == ["v1", "v10", "v2"]
        assert tags(n=1, last="aa") == ["b"]
        assert tags(n=100) == list(self.TAGS)
        zero = http.get(f"/v2/{repository}/tags/list", params={"n": 0})
        assert zero.json()["tags"] == []
        assert "link" not in zero.headers
        assert http.get(f"/v2/{repository}/tags/list", params={"n": "x"}).status_code == 400

    def test_unknown(self, http: Client) -> None:
        answer = http.get("/v2/conformance/nowhere/tags/list")
        assert (answer.status_code, code_of(answer)) == (404, "NAME_UNKNOWN")


class TestDeleting:
    """end-9, 10"""

    def test_a_tag(self, http: Client) -> None:
        digest = http.push_image(REPOSITORY, "gone")
        assert http.delete(f"/v2/{REPOSITORY}/manifests/gone").status_code == 202
        assert http.get(f"/v2/{REPOSITORY}/manifests/gone").status_code == 404
        assert http.get(f"/v2/{REPOSITORY}/manifests/{digest}").status_code == 200
        again = http.delete(f"/v2/{REPOSITORY}/manifests/gone")
        assert (again.status_code, code_of(again)) == (404, "MANIFEST_UNKNOWN")

    def test_a_manifest(self, http: Client) -> None:
        digest = http.push_image(REPOSITORY, "gone")
        assert http.delete(f"/v2/{REPOSITORY}/manifests/{digest}").status_code == 202
        for reference in (digest, "gone"):
            assert http.get(f"/v2/{REPOSITORY}/manifests/{reference}").status_code == 404
        assert "gone" not in http.get(f"/v2/{REPOSITORY}/tags/list").json()["tags"]
        assert http.delete(f"/v2/{REPOSITORY}/manifests/{digest}").status_code == 404
        assert http.delete(f"/v2/conformance/nowhere/manifests/{digest}").status_code == 404

    def test_a_blob(self, http: Client) -> None:
        data = os.urandom(60)
        digest = http.push_blob(REPOSITORY, data)
        http.push_blob("conformance/keeps", data)
        assert http.delete(f"/v2/{REPOSITORY}/blobs/{digest}").status_code == 202
        assert http.get(f"/v2/{REPOSITORY}/blobs/{digest}").status_code == 404
        assert http.delete(f"/v2/{REPOSITORY}/blobs/{digest}").status_code == 404
        assert http.get(f"/v2/conformance/keeps/blobs/{digest}").content == data


class TestReferrers:
    """end-12a, 12b"""

    def test_the_life_of_referrers(self, http: Client) -> None:
        repository = "conformance/referrers"
        empty = http.push_blob(repository, b"{}")
        subject = image_manifest(empty, 2, [])
        raw = json.dumps(subject).encode()
        digest = sha256(raw)
        about = {"mediaType": MANIFEST, "digest": digest, "size": len(raw)}
        signature = image_manifest(empty, 2, []) | {
            "subject": about,
            "artifactType": "application/vnd.example.signature",
            "annotations": {"who": "alice"},
        }
        pushed = http.push_manifest(repository, sha256(json.dumps(signature).encode()), signature)
        assert pushed.status_code == 201  # the subject may come later
        assert pushed.headers["oci-subject"] == digest
        plain = image_manifest(empty, 2, []) | {"subject": about}
        http.push_manifest(repository, "plain", plain)
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "subject": about}
        assert http.push_manifest(repository, "index", index).headers["oci-subject"] == digest
        assert http.push_manifest(repository, "subject", subject).status_code == 201

        answer = http.get(f"/v2/{repository}/referrers/{digest}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, INDEX)
        document = answer.json()
        assert (document["schemaVersion"], document["mediaType"]) == (2, INDEX)
        found = {entry["digest"]: entry for entry in document["manifests"]}
        assert found[pushed.headers["docker-content-digest"]] == {
            "mediaType": MANIFEST,
            "digest": pushed.headers["docker-content-digest"],
            "size": len(json.dumps(signature).encode()),
            "artifactType": "application/vnd.example.signature",
            "annotations": {"who": "alice"},
        }
        assert found[sha256(json.dumps(plain).encode())]["artifactType"] == CONFIG
        assert "artifactType" not in found[sha256(json.dumps(index).encode())]

        filtered = http.get(
            f"/v2/{repository}/referrers/{digest}", params={"artifactType": "application/vnd.example.signature"}
        )
        assert filtered.headers["oci-filters-applied"] == "artifactType"
        assert len(filtered.json()["manifests"]) == 1
        untyped = http.get(f"/v2/{repository}/referrers/{digest}", params={"artifactType": ""})
        assert untyped.headers["oci-filters-applied"] == "artifactType"
        assert [entry["mediaType"] for entry in untyped.json()["manifests"]] == [INDEX]

        http.delete(f"/v2/{repository}/manifests/{pushed.headers['docker-content-digest']}")
        assert len(http.get(f"/v2/{repository}/referrers/{digest}").json()["manifests"]) == 2

    def test_none(self, http: Client) -> None:
        for name in (REPOSITORY, "conformance/nowhere"):
            answer = http.get(f"/v2/{name}/referrers/{UNKNOWN_DIGEST}")
            assert (answer.status_code, answer.json()["manifests"]) == (200, [])
        assert http.get(f"/v2/{REPOSITORY}/referrers/sha256:short").status_code == 400


class TestCatalog:
    def test_pages(self, http: Client) -> None:
        for name in ("catalog/a", "catalog/b", "catalog/c"):
            http.push_image(name)
        answer = http.get("/v2/_catalog", params={"n": 2, "last": "catalog/"})
        assert answer.json() == {"repositories": ["catalog/a", "catalog/b"]}
        following = http.get(answer.links["next"]["url"])
        assert following.json()["repositories"][0] == "catalog/c"


def test_names(http: Client) -> None:
    for good in ("a", "a/b/c/d", "a-b.c_d__e/f", "tags/list/manifests"):
        assert http.get(f"/v2/{good}/tags/list").status_code == 404
        assert code_of(http.get(f"/v2/{good}/tags/list")) == "NAME_UNKNOWN"
    for bad in ("A/b", "a//b", "-a", "a..b", "a/.b", "a" * 256):
        assert code_of(http.get(f"/v2/{bad}/tags/list")) == "NAME_INVALID"


def test_layer_media_type_is_only_data(http: Client) -> None:
    config = http.push_blob(REPOSITORY, b"{}")
    document = image_manifest(config, 2, [(config, 2)])
    document["layers"][0]["mediaType"] = LAYER + "+something"
    assert http.push_manifest(REPOSITORY, "odd", document).status_code == 201
