"""Clients that push, mount and delete all at once, and the check that every image that must be there is whole."""

import json
import os
import random
import threading

import httpx

from moldar.hub.services import Hub

from .hubs import Client, code_of, image_manifest, sha256


class Actor(threading.Thread):
    """Pushes, mounts and deletes images of its own repository; remembers those that must be there in the end."""

    def __init__(self, url: str, number: int, sources: list[str], rounds: int = 20) -> None:
        super().__init__()
        self.repository = f"stress/r{number}"
        self.images: dict[str, str] = {}
        self.failures: list[str] = []
        self.deleted = self.retried = self.mounted = 0
        self._client = Client(url)
        self._random = random.Random(number)
        self._sources = sources
        self._rounds = rounds

    def run(self) -> None:
        try:
            for number in range(self._rounds):
                self._push(f"t{number}")
                if self._random.random() < 0.5:
                    self._remove_one()
        except (httpx.TransportError, AssertionError) as error:
            self.failures.append(repr(error))
        finally:
            self._client.close()

    def _push(self, tag: str) -> None:
        shared = b"shared %d" % self._random.randrange(12)
        layers = [shared * 100, os.urandom(5000)]
        for _ in range(200):
            for data in (b"{}", *layers):
                self._give(data)
            document = image_manifest(sha256(b"{}"), 2, [(sha256(data), len(data)) for data in layers])
            answer = self._client.push_manifest(self.repository, tag, document)
            if answer.status_code == 201:
                self.images[tag] = answer.headers["docker-content-digest"]
                return
            assert code_of(answer) == "MANIFEST_BLOB_UNKNOWN", answer.text  # collected; grace is nothing here
            self.retried += 1
        raise AssertionError("no push got through")

    def _give(self, data: bytes) -> None:
        digest = sha256(data)
        if self._random.random() < 0.3 and self._client.head(f"/v2/{self.repository}/blobs/{digest}").is_success:
            return
        query = {"mount": digest}
        if self._random.random() < 0.5:
            query["from"] = self._random.choice(self._sources)
        answer = self._client.post(f"/v2/{self.repository}/blobs/uploads/", params=query)
        if answer.status_code == 201:
            self.mounted += 1
            return
        assert answer.status_code == 202, answer.text
        location = answer.headers["location"]
        assert self._client.patch(location, content=data).status_code == 202
        assert self._client.put(location, params={"digest": digest}).status_code == 201

    def _remove_one(self) -> None:
        if not self.images:
            return
        tag = self._random.choice(list(self.images))
        digest = self.images.pop(tag)
        answer = self._client.delete(f"/v2/{self.repository}/manifests/{digest}")
        assert answer.status_code == 202, answer.text
        self.deleted += 1


def pull_whole(client: Client, repository: str, tag: str, digest: str) -> None:
    manifest = client.get(f"/v2/{repository}/manifests/{tag}")
    assert manifest.headers["docker-content-digest"] == digest == sha256(manifest.content)
    document = manifest.json()
    for entry in (document["config"], *document["layers"]):
        blob = client.get(f"/v2/{repository}/blobs/{entry['digest']}")
        assert (blob.status_code, sha256(blob.content)) == (200, entry["digest"])


def check_survivors(client: Client, hub: Hub, actors: list[Actor]) -> None:
    """Every image that an actor pushed and did not delete is whole, and nothing else is stored."""
    survivors = [(actor.repository, *image) for actor in actors for image in actor.images.items()]
    assert len(survivors) > 5
    for repository, tag, digest in survivors:
        pull_whole(client, repository, tag, digest)
    used = {sha256(b"{}")}.union(*(_layers(hub, repository, digest) for repository, _, digest in survivors))
    assert set(hub.storage.digests()) == used


def _layers(hub: Hub, repository: str, digest: str) -> list[str]:
    stored = hub.manifests.get(repository, digest)
    assert stored is not None
    return [entry["digest"] for entry in json.loads(stored.content)["layers"]]
