"""Where the bytes of blobs are kept: from the words of a setting to a storage."""

from typing import NamedTuple
from urllib.parse import urlsplit

from moldar.errors import UserMistake


class S3Place(NamedTuple):
    """A bucket, the names below `prefix` in it, and how to reach it. Empty: as the machine's own role says."""

    bucket: str
    prefix: str = ""
    endpoint: str = ""
    region: str = ""
    key_id: str = ""
    secret: str = ""
    session_token: str = ""


def parse_s3(text: str) -> S3Place:
    """The bucket and prefix of `s3://BUCKET/PREFIX`. UserMistake."""
    parts = urlsplit(text)
    prefix = parts.path.strip("/")
    names = prefix.split("/") if prefix else []
    if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment or {"", ".", ".."} & set(names):
        raise UserMistake(f"invalid storage {text!r}", hint="s3://BUCKET/PREFIX")
    return S3Place(parts.netloc, prefix)
