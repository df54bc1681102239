"""Requests and answers of the HTTP API, for server and client alike. Source: the Torz API, sections 3 to 8.

Members that the contract leaves out when they are empty are optional here, and `UNSET` keeps them off the wire.
"""

from datetime import UTC, datetime
from typing import Annotated, Generic, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from torz.domain.magnet import Magnet
from torz.domain.torz import Check, File, Page, StoreUser, Torz, TorzStatus, Transfer

T = TypeVar("T")
MAX_CHECK = 500
"""How many hashes one check may ask for."""


class Answer(msgspec.Struct, Generic[T]):
    """Every success."""

    data: T


class FileShape(msgspec.Struct):
    index: Annotated[int, Meta(description="Place in the .torrent, from 0; -1 when unknown.")]
    path: Annotated[str, Meta(description="Path inside the torrent, starting with a slash.")]
    name: str
    size: Annotated[int, Meta(description="Bytes; -1 when unknown.")]
    link: Annotated[str | UnsetType, Meta(description="The input of link/generate; never in checks.")] = UNSET
    video_hash: Annotated[str | UnsetType, Meta(description="OpenSubtitles hash, 16 hex digits.")] = UNSET
    source: Annotated[str | UnsetType, Meta(description="Code of the store that knew the file.")] = UNSET

    @classmethod
    def of(cls, file: File) -> "FileShape":
        return cls(
            index=-1 if file.index is None else file.index,
            path=file.path,
            name=file.name,
            size=-1 if file.size is None else file.size,
            link=file.link or UNSET,
            video_hash=file.video_hash or UNSET,
            source=file.source or UNSET,
        )


class TransferShape(msgspec.Struct):
    """How an unfinished torz gets on. An addition of Torz to the contract; absent once it is finished."""

    done: Annotated[int, Meta(description="Verified bytes.")]
    total: Annotated[int, Meta(description="Wanted bytes; -1 until metadata is known.")]
    download_rate: Annotated[int, Meta(description="Bytes per second.")]
    upload_rate: Annotated[int, Meta(description="Bytes per second.")]
    peers: int
    seeds: int
    eta: Annotated[int, Meta(description="Seconds left at the present rate; -1 when unknown.")]
    message: Annotated[str, Meta(description="What it waits for or why it failed, in a sentence.")]

    @classmethod
    def of(cls, transfer: Transfer) -> "TransferShape":
        eta = transfer.eta
        return cls(
            done=transfer.done,
            total=-1 if transfer.total is None else transfer.total,
            download_rate=transfer.download_rate,
            upload_rate=transfer.upload_rate,
            peers=transfer.peers,
            seeds=transfer.seeds,
            eta=-1 if eta is None else eta,
            message=transfer.message,
        )


EPOCH = "1970-01-01T00:00:00Z"


def print_time(at: datetime | None) -> str:
    """RFC 3339 in UTC, whole seconds; the epoch when unknown."""
    return EPOCH if at is None else at.astimezone(UTC).isoformat()[:19] + "Z"


class ListItem(msgspec.Struct):
    id: str
    hash: Annotated[str, Meta(pattern="^[0-9a-f]{40}$")]
    name: str
    size: Annotated[int, Meta(description="Bytes; -1 when unknown.")]
    status: TorzStatus
    added_at: Annotated[str, Meta(description="RFC 3339, UTC; the epoch when unknown.")]
    private: Annotated[bool | UnsetType, Meta(description="Only present when true.")] = UNSET
    transfer: TransferShape | UnsetType = UNSET

    @classmethod
    def of(cls, torz: Torz) -> "ListItem":
        return cls(
            id=torz.id,
            hash=str(torz.hash.short),
            name=torz.name,
            size=-1 if torz.size is None else torz.size,
            status=torz.status,
            added_at=print_time(torz.added_at),
            private=torz.private or UNSET,
            transfer=TransferShape.of(torz.transfer) if torz.transfer else UNSET,
        )


class TorzShape(ListItem, kw_only=True):
    files: list[FileShape]

    @classmethod
    def of(cls, torz: Torz) -> "TorzShape":
        item = ListItem.of(torz)
        return cls(
            **{name: getattr(item, name) for name in ListItem.__struct_fields__},
            files=[FileShape.of(file) for file in torz.files],
        )


class AddedTorz(TorzShape, kw_only=True):
    magnet: str

    @classmethod
    def of(cls, torz: Torz, magnet: Magnet | None = None) -> "AddedTorz":
        shape = TorzShape.of(torz)
        shown = (magnet or Magnet(hash=torz.hash)).public
        return cls(**{name: getattr(shape, name) for name in TorzShape.__struct_fields__}, magnet=shown)


class TorzPage(msgspec.Struct):
    items: list[ListItem]
    total_items: int

    @classmethod
    def of(cls, page: Page) -> "TorzPage":
        return cls(items=[ListItem.of(torz) for torz in page.items], total_items=page.total)


class CheckItem(msgspec.Struct, omit_defaults=True):
    hash: str
    magnet: str
    status: TorzStatus
    files: list[FileShape]
    name: str | UnsetType = UNSET

    @classmethod
    def of(cls, check: Check) -> "CheckItem":
        return cls(
            hash=str(check.hash.short),
            magnet=Magnet(hash=check.hash).public,
            name=check.name or UNSET,
            status=check.status,
            files=[FileShape.of(file) for file in check.files],
        )


class CheckAnswer(msgspec.Struct):
    items: list[CheckItem]


class Removed(msgspec.Struct):
    id: str


class Link(msgspec.Struct):
    link: str


class UserShape(msgspec.Struct):
    id: str
    email: str
    subscription_status: Annotated[str, Meta(description="premium, trial or expired.")]
    has_usenet: bool

    @classmethod
    def of(cls, user: StoreUser) -> "UserShape":
        return cls(user.id, user.email, user.subscription.value, user.has_usenet)


class Health(msgspec.Struct):
    status: str


class DebugUser(msgspec.Struct):
    name: str
    store: dict[str, str | list[str]]


class DebugEngine(msgspec.Struct):
    """The node as it last reported; an addition of Torz."""

    alive: bool
    name: str
    port: int
    problem: str
    torrents: int
    peers: int
    dht_nodes: int
    download_rate: int
    upload_rate: int
    disk_free: int


class Debug(msgspec.Struct):
    time: str
    version: str
    user: DebugUser | UnsetType = UNSET
    ip: dict[str, str | dict[str, str]] | UnsetType = UNSET
    engine: DebugEngine | UnsetType = UNSET


class AddLink(msgspec.Struct):
    """Body of an add."""

    link: Annotated[
        str, Meta(description="A magnet, an info hash (40 hex or 32 base32), or the URL of a .torrent.")
    ] = ""


class AddMagnet(msgspec.Struct):
    """Body of an add of the older generation; `magnet` wins."""

    magnet: str = ""
    torrent: Annotated[str, Meta(description="The URL of a .torrent.")] = ""


class GenerateLink(msgspec.Struct):
    link: Annotated[str, Meta(description="The `link` of a file.")] = ""


class ErrorDetail(msgspec.Struct, omit_defaults=True, kw_only=True):
    domain: str = ""
    location: str = ""
    locationType: str = ""  # noqa: N815 - the contract's word
    message: str


class ErrorShape(msgspec.Struct):
    code: str
    message: str
    errors: list[ErrorDetail]
    type: str | UnsetType = UNSET
    request_id: str | UnsetType = UNSET
    status_code: int | UnsetType = UNSET
    hint: Annotated[str | UnsetType, Meta(description="What to do about it.")] = UNSET


class ErrorAnswer(msgspec.Struct):
    """Every failure of the torz endpoints."""

    error: ErrorShape


class LegacyErrorShape(msgspec.Struct):
    request_id: str
    type: str
    code: str | UnsetType
    message: str
    method: str | UnsetType
    path: str | UnsetType
    status_code: int
    store_name: str | UnsetType = UNSET
    hint: str | UnsetType = UNSET


class LegacyErrorAnswer(msgspec.Struct):
    """Every failure of the older generation and of the routes beside the stores."""

    error: LegacyErrorShape
