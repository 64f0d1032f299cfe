"""Who we are to a registry: Docker's config.json, with its credential helpers.

The file is shared with other tools, so unknown keys stay as they are and a write replaces it in one step, readable
by its owner only. Formats: Docker's config.json (`auths`, `credsStore`, `credHelpers`) and the protocol of
`docker-credential-*` programs (`get`, `store`, `erase` with JSON on stdin and stdout).
"""

import base64
import binascii
import contextlib
import fcntl
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from moldar.errors import HostTrouble, UserMistake

DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_DOCKER_HUB_HOSTS = ("docker.io", "index.docker.io", "registry-1.docker.io")
_TOKEN_USER = "<token>"
_HELPER_NOT_FOUND = "credentials not found in native keychain"  # fixed by the helper protocol
_HELPER_SECONDS = 60


class Credential(NamedTuple):
    """What to show a registry: user and password, or an identity token, or a finished registry token."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""


Finder = Callable[[str], Credential | None]
"""From a registry's host (`docker.io`, `127.0.0.1:5050`) to what we know for it."""


class Stored(NamedTuple):
    """Where a login went. `warning` is for the person, empty when the secret is kept safely."""

    place: str
    warning: str = ""


class MalformedCredentials(UserMistake):
    """config.json cannot be read as what it should be."""


class HelperTrouble(HostTrouble):
    """A credential helper is missing or failed. `helper`: its program name."""

    def __init__(self, helper: str, why: str) -> None:
        super().__init__(f"credential helper {helper}: {why}", hint="it is named in Docker's config.json")
        self.helper = helper


def server_key(host: str) -> str:
    """The key of `host` in config.json and for helpers: Docker Hub's is a URL, all others the host itself."""
    return DOCKER_HUB_KEY if host in _DOCKER_HUB_HOSTS else host


class DockerCredentials:
    """The credentials of one config.json, read anew each time. `path`: the file, which may not exist yet."""

    def __init__(self, path: str) -> None:
        self._path = os.path.realpath(path)

    def find(self, host: str) -> Credential | None:
        """What is known for `host`; MalformedCredentials or HelperTrouble when it cannot be told."""
        document = self._read()
        helper = _helper_for(document, host)
        if helper:
            found = _ask_helper(helper, server_key(host))
            if found:
                return found
        return _find_in_auths(self._path, document, host)

    def store(self, host: str, credential: Credential) -> Stored:
        """Remember `credential` for `host`, in its helper if one is configured, else in the file."""
        with self._locked():
            document = self._read()
            helper = _helper_for(document, host)
            auths = document.setdefault("auths", {})
            if helper:
                _tell_helper(helper, server_key(host), credential)
                auths[server_key(host)] = {}
            else:
                auths[server_key(host)] = _auth_entry(credential)
            self._write(document)
        if helper:
            return Stored(_program(helper))
        return Stored(
            self._path,
            f"the password is stored unencrypted in {self._path}; "
            "a credential helper (credsStore in that file) would keep it safe",
        )

    def erase(self, host: str) -> bool:
        """Forget `host`; False when nothing was known for it."""
        with self._locked():
            document = self._read()
            auths = document.get("auths", {})
            keys = [key for key in auths if _same_server(key, host)]
            helper = _helper_for(document, host)
            erased = _erase_in_helper(helper, server_key(host)) if helper else False
            for key in keys:
                del auths[key]
            if keys:
                self._write(document)
        return erased or bool(keys)

    def _read(self) -> dict[str, Any]:
        try:
            with open(self._path, "rb") as file:
                raw = file.read()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise HostTrouble(f"cannot read {self._path}: {error.strerror}") from error
        try:
            document = json.loads(raw) if raw.strip() else {}
        except ValueError as error:
            raise MalformedCredentials(f"{self._path} is not JSON: {error}") from error
        if not isinstance(document, dict):
            raise MalformedCredentials(f"{self._path} is not a JSON object")
        for key in ("auths", "credHelpers"):
            if document.get(key, {}) is None:
                del document[key]
            elif not isinstance(document.get(key, {}), dict):
                raise MalformedCredentials(f"{self._path}: {key} is not an object of hosts")
        return document

    def _write(self, document: dict[str, Any]) -> None:
        directory = os.path.dirname(self._path)
        try:
            descriptor, temporary = tempfile.mkstemp(prefix=".config-", dir=directory)  # mode 0600
            try:
                with open(descriptor, "w", encoding="utf-8") as file:
                    json.dump(document, file, indent="\t", ensure_ascii=False)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, self._path)
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as error:
            raise HostTrouble(f"cannot write {self._path}: {error.strerror}") from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One writer at a time; the lock is the directory's, as the file itself is replaced."""
        directory = os.path.dirname(self._path)
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise HostTrouble(f"cannot use {directory}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _helper_for(document: dict[str, Any], host: str) -> str:
    helpers = document.get("credHelpers") or {}
    named = next((helpers[key] for key in helpers if _same_server(key, host)), None)
    return str(named or document.get("credsStore") or "")


def _find_in_auths(path: str, document: dict[str, Any], host: str) -> Credential | None:
    auths = document.get("auths") or {}
    keys = sorted((key for key in auths if _same_server(key, host)), key=lambda key: key != server_key(host))
    for key in keys:
        found = _credential_of(path, key, auths[key])
        if found:
            return found
    return None


def _credential_of(path: str, key: str, entry: Any) -> Credential | None:
    if not isinstance(entry, dict):
        raise MalformedCredentials(f"{path}: auths[{key!r}] is not an object")
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        try:
            decoded = base64.b64decode(entry["auth"]).decode()
        except (binascii.Error, UnicodeDecodeError, TypeError, ValueError) as error:
            raise MalformedCredentials(f"{path}: auths[{key!r}].auth is not base64 of user:password") from error
        username, _, password = decoded.partition(":")
        password = password.strip("\0")
    identity, registry = str(entry.get("identitytoken") or ""), str(entry.get("registrytoken") or "")
    if not (username or identity or registry):
        return None
    return Credential(username, password, identity, registry)


def _auth_entry(credential: Credential) -> dict[str, str]:
    encoded = base64.b64encode(f"{credential.username}:{credential.password}".encode()).decode()
    entry = {"auth": encoded}
    if credential.identity_token:
        entry["identitytoken"] = credential.identity_token
    return entry


def _same_server(key: str, host: str) -> bool:
    """Whether a key of config.json, maybe a URL, names `host`."""
    bare = key.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return bare == host or (bare in _DOCKER_HUB_HOSTS and host in _DOCKER_HUB_HOSTS)


def _program(helper: str) -> str:
    return f"docker-credential-{helper}"


def _run_helper(helper: str, verb: str, request: str) -> subprocess.CompletedProcess[str]:
    if "/" in helper:
        raise HelperTrouble(helper, "its name may not hold a slash")
    program = _program(helper)
    try:
        return subprocess.run(
            [program, verb], input=request, capture_output=True, text=True, timeout=_HELPER_SECONDS, check=False
        )
    except FileNotFoundError as error:
        raise HelperTrouble(program, "not installed") from error
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError) as error:
        raise HelperTrouble(program, str(error)) from error


def _ask_helper(helper: str, key: str) -> Credential | None:
    done = _run_helper(helper, "get", key)
    if done.returncode != 0:
        if done.stdout.strip() == _HELPER_NOT_FOUND:
            return None
        raise HelperTrouble(_program(helper), (done.stdout or done.stderr).strip() or f"exit {done.returncode}")
    try:
        answer = json.loads(done.stdout)
        username, secret = str(answer.get("Username") or ""), str(answer.get("Secret") or "")
    except (ValueError, AttributeError) as error:
        raise HelperTrouble(_program(helper), "its answer is not a JSON object") from error
    return Credential(identity_token=secret) if username == _TOKEN_USER else Credential(username, secret)


def _tell_helper(helper: str, key: str, credential: Credential) -> None:
    token = credential.identity_token
    username, secret = (_TOKEN_USER, token) if token else (credential.username, credential.password)
    done = _run_helper(helper, "store", json.dumps({"ServerURL": key, "Username": username, "Secret": secret}))
    if done.returncode != 0:
        raise HelperTrouble(_program(helper), (done.stdout or done.stderr).strip() or f"exit {done.returncode}")


def _erase_in_helper(helper: str, key: str) -> bool:
    """Helpers differ in what `erase` of an unknown server does, so ask first."""
    if _ask_helper(helper, key) is None:
        return False
    done = _run_helper(helper, "erase", key)
    if done.returncode != 0:
        raise HelperTrouble(_program(helper), (done.stdout or done.stderr).strip() or f"exit {done.returncode}")
    return True
