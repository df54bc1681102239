"""Torz, files, checks and links: the values that every store speaks in."""

from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from torz.domain.infohash import InfoHash


class TorzStatus(StrEnum):
    """Where a torz stands. `CACHED` is said by checks alone, and `DOWNLOADED` never by them."""

    CACHED = "cached"
    QUEUED = "queued"
    DOWNLOADING = "downloading"
    PROCESSING = "processing"
    DOWNLOADED = "downloaded"
    UPLOADING = "uploading"
    FAILED = "failed"
    INVALID = "invalid"
    UNKNOWN = "unknown"


class File(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a torrent."""

    index: int | None
    """Its place in the .torrent, from 0; None when the store does not say."""
    path: str
    """Starts with a slash; the folder that a torrent of several files is named after is left out."""
    size: int | None
    """Bytes."""
    link: str = ""
    """The store's handle for `link`; empty in checks and before there is anything to link to."""
    video_hash: str = ""
    """OpenSubtitles' hash, 16 lower-case hex digits; empty when unknown."""
    source: str = ""
    """The code of the store that told us."""

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """How a torz that is not finished gets on, where a store tells."""

    done: int = 0
    """Verified bytes."""
    total: int | None = None
    """Wanted bytes."""
    download_rate: int = 0
    """Bytes per second."""
    upload_rate: int = 0
    """Bytes per second."""
    peers: int = 0
    seeds: int = 0
    message: str = ""
    """What it waits for or why it failed, in a sentence."""

    @property
    def eta(self) -> int | None:
        """Seconds until it is done at the present rate."""
        if self.total is None or not self.download_rate:
            return None
        return max(0, self.total - self.done) // self.download_rate


class Torz(msgspec.Struct, frozen=True, kw_only=True):
    """One torrent as one account holds it in one store."""

    id: str
    hash: InfoHash
    name: str
    size: int | None
    """Bytes of all files, padding left out."""
    status: TorzStatus
    added_at: datetime | None
    private: bool = False
    files: tuple[File, ...] = ()
    transfer: Transfer | None = None


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """What a store knows of one info hash: `CACHED` with its files, or `UNKNOWN` for a known miss."""

    hash: InfoHash
    status: TorzStatus
    name: str = ""
    files: tuple[File, ...] = ()


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A slice of an account's torz, newest first, without files."""

    items: tuple[Torz, ...]
    total: int


class Subscription(StrEnum):
    PREMIUM = "premium"
    TRIAL = "trial"
    EXPIRED = "expired"


class StoreUser(msgspec.Struct, frozen=True, kw_only=True):
    """Who an account belongs to, as the store says."""

    id: str
    email: str = ""
    subscription: Subscription = Subscription.PREMIUM
    has_usenet: bool = False


def from_unix(seconds: int | None) -> datetime | None:
    """Unix seconds, in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
