"""From a hub's settings to its storage."""

import os

from moldar.hub.data.database import Database
from moldar.hub.settings import HubSettings
from moldar.hub.storage.contract import BlobStorage
from moldar.hub.storage.files import FileStorage
from moldar.hub.storage.place import parse_s3
from moldar.hub.storage.s3 import S3Storage


def open_storage(settings: HubSettings, database: Database) -> BlobStorage:
    """The storage of the settings. UserMistake, HostTrouble, Unavailable when it cannot be used."""
    if not settings.storage.startswith("s3:"):
        return FileStorage(os.path.abspath(settings.storage) if settings.storage else settings.data)
    place = parse_s3(settings.storage)._replace(
        endpoint=settings.s3_endpoint,
        region=settings.s3_region,
        key_id=settings.s3_key_id,
        secret=settings.s3_secret,
        session_token=settings.s3_session_token,
    )
    return S3Storage(place, database)
