"""Docker's token protocol: the endpoint, what tokens are good for, and how they are attacked."""

import base64
import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from moldar.hub import administration
from moldar.hub.access.decisions import ANONYMOUS, Grant, Principal
from moldar.hub.services import Hub
from moldar.hub.settings import SERVICE
from moldar.remote.wire import parse_challenges

from .hubs import PASSWORD, Client, Running, Tick, code_of

ALICE = Principal("alice", 1)
GRANTS = (Grant("alice/app", ("pull", "push")),)


def ask(client: Client, *scopes: str) -> str:
    answer = client.get("/auth/token", params={"service": SERVICE, "scope": list(scopes)})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["token"])


def granted(token: str) -> dict[str, list[str]]:
    claims = jwt.decode(token, options={"verify_signature": False})
    return {entry["name"]: entry["actions"] for entry in claims["access"]}


def test_the_way_a_client_goes(server: Running) -> None:
    with server.client() as client:
        refused = client.post("/v2/alice/way/blobs/uploads/")
        assert refused.status_code == 401
        (challenge,) = parse_challenges(refused.headers["www-authenticate"])
        assert (challenge.scheme, challenge.service) == ("bearer", SERVICE)
        assert challenge.realm == f"{server.url}/auth/token"
        answer = client.get(
            challenge.realm,
            params={"service": challenge.service, "scope": challenge.scopes[0]},
            auth=("alice", PASSWORD),
        )
        document = answer.json()
        assert document["token"] == document["access_token"]
        assert document["expires_in"] == 300
        assert answer.headers["cache-control"] == "no-store"
    with Client(server.url, token=document["token"]) as allowed:
        assert allowed.post("/v2/alice/way/blobs/uploads/").status_code == 202
        assert allowed.get("/v2/").status_code == 200


def test_scopes(server: Running) -> None:
    with server.client("alice") as alice:
        token = ask(
            alice,
            "repository:alice/app:pull,push repository:alice/other:*",
            "repository:bob/app:pull,push",
            "registry:catalog:*",
            "nonsense",
            "repository:../x:pull",
        )
    assert granted(token) == {"alice/app": ["pull", "push"], "alice/other": ["pull", "push", "delete"]}
    with server.client() as anonymous:
        assert granted(ask(anonymous, "repository:alice/app:pull,push")) == {}


def test_the_oauth_form(server: Running) -> None:
    _, secret = administration.create_token(server.where, "alice", "oauth")
    form = {"grant_type": "password", "username": "alice", "password": PASSWORD, "service": SERVICE}
    refresh = {"grant_type": "refresh_token", "refresh_token": secret, "service": SERVICE}
    with server.client() as client:
        for data in (form, refresh):
            answer = client.post("/auth/token", data={**data, "scope": "repository:alice/app:pull"})
            assert granted(answer.json()["access_token"]) == {"alice/app": ["pull"]}
        assert client.post("/auth/token", data={**form, "password": "wrong password"}).status_code == 401
        assert client.post("/auth/token", data={**refresh, "refresh_token": "mdl_no"}).status_code == 401
        assert client.post("/auth/token", data={"grant_type": "magic"}).status_code == 400
        assert client.post("/auth/token", content=b"\xff\xfe").status_code == 400
        assert client.put("/auth/token").status_code == 405


def test_a_token_for_one_repository_is_none_for_another(server: Running) -> None:
    with server.client("alice") as alice:
        alice.push_image("alice/first")
        token = ask(alice, "repository:alice/first:pull,push")
    with Client(server.url, token=token) as client:
        assert client.get("/v2/alice/first/manifests/latest").status_code == 200
        for name in ("alice/second", "alice/first/below", "alice/firs"):
            answer = client.post(f"/v2/{name}/blobs/uploads/")
            assert answer.status_code == 401
            assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
        assert client.delete("/v2/alice/first/manifests/latest").status_code == 401
        assert client.post("/v2/bob/x/blobs/uploads/").status_code == 403


def test_access_tokens_are_limited_and_can_be_revoked(server: Running) -> None:
    token, secret = administration.create_token(
        server.where, "alice", "limited", actions=("pull", "push"), repositories=("alice/limited", "alice/ci/*")
    )
    with Client(server.url, ("alice", secret)) as client:
        client.push_image("alice/limited")
        client.push_image("alice/ci/one")
        assert client.post("/v2/alice/other/blobs/uploads/").status_code == 403
        assert client.delete("/v2/alice/limited/manifests/latest").status_code == 403
        bearer = ask(client, "repository:alice/limited:*", "repository:alice/other:push")
        assert granted(bearer) == {"alice/limited": ["pull", "push"]}
    with Client(server.url, ("bob", secret)) as other:
        assert other.get("/v2/").status_code == 401
    administration.revoke_token(server.where, "alice", token.id)
    for client in (Client(server.url, ("alice", secret)), Client(server.url, token=bearer)):
        with client:
            assert client.post("/v2/alice/limited/blobs/uploads/").status_code == 401


def test_a_disabled_account_is_out_at_once(server: Running) -> None:
    administration.add_user(server.where, "carol", PASSWORD)
    with server.client("carol") as carol:
        bearer = ask(carol, "repository:carol/app:pull,push")
        carol.push_image("carol/app")
        administration.set_disabled(server.where, "carol", True)
        assert carol.post("/v2/carol/app/blobs/uploads/").status_code == 401
    with Client(server.url, token=bearer) as client:
        assert client.post("/v2/carol/app/blobs/uploads/").status_code == 401
    administration.set_disabled(server.where, "carol", False)
    with Client(server.url, token=bearer) as client:
        assert client.post("/v2/carol/app/blobs/uploads/").status_code == 202


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer x", "Bearer a.b.c", "Basic !!!", "Basic " + base64.b64encode(b"nocolon").decode(), "Q r"],
)
def test_malformed_credentials(server: Running, header: str) -> None:
    with server.client() as client:
        answer = client.get("/v2/", headers={"Authorization": header})
        assert (answer.status_code, code_of(answer)) == (401, "UNAUTHORIZED")


def test_tokens_say_what_they_were_made_for(hub: Hub) -> None:
    token, _ = hub.bearer.issue(ALICE._replace(token_id=7), (*GRANTS, Grant("alice/none", ())))
    claims = hub.bearer.read(token)
    assert claims is not None
    assert (claims.name, claims.grants, claims.token_id) == ("alice", GRANTS, 7)
    anonymous = hub.bearer.read(hub.bearer.issue(ANONYMOUS, ())[0])
    assert anonymous is not None
    assert anonymous.name == ""


def test_tokens_expire(hub: Hub, clock: Tick) -> None:
    token, _ = hub.bearer.issue(ALICE, GRANTS)
    clock.now += 299
    assert hub.bearer.read(token)
    clock.now += 1
    assert hub.bearer.read(token) is None


def test_forged_tokens(hub: Hub) -> None:
    token, _ = hub.bearer.issue(ALICE, GRANTS)
    claims = jwt.decode(token, options={"verify_signature": False})
    foreign = ec.generate_private_key(ec.SECP256R1())
    head, body, signature = token.split(".")
    admin = base64.urlsafe_b64encode(json.dumps({**claims, "sub": "boss"}).encode()).decode().rstrip("=")
    nobody = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    for forged in (
        jwt.encode(claims, foreign, algorithm="ES256"),
        jwt.encode(claims, "a secret that is long enough for HS256", algorithm="HS256"),
        f"{head}.{admin}.{signature}",
        f"{nobody}.{body}.",
        f"{head}.{body}.",
        jwt.encode({**claims, "aud": "another"}, hub.bearer._key, algorithm="ES256"),
        jwt.encode({k: v for k, v in claims.items() if k != "exp"}, hub.bearer._key, algorithm="ES256"),
        jwt.encode({**claims, "exp": "soon"}, hub.bearer._key, algorithm="ES256"),
        jwt.encode({**claims, "access": "everything"}, hub.bearer._key, algorithm="ES256"),
    ):
        assert hub.bearer.read(forged) is None


def test_the_key_stays(hub: Hub, clock: Tick) -> None:
    token, _ = hub.bearer.issue(ALICE, GRANTS)
    again = Hub(hub.settings, clock)
    assert again.bearer.read(token)
    again.close()
