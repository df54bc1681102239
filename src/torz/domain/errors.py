"""Every failure that Torz names, by meaning. Codes and statuses belong to `wire/errors.py` alone."""

from collections.abc import Iterator
from typing import Self

import msgspec


class ErrorItem(msgspec.Struct, frozen=True):
    """One wrong thing in a request: what, and where it stands."""

    message: str
    location: str = ""
    location_type: str = ""
    """`body`, `query`, `path`, `header` or `cookie`; empty when the place does not matter."""
    domain: str = ""


class TorzError(Exception):
    """Something went wrong inside Torz."""

    def __init__(
        self,
        message: str = "",
        *,
        items: tuple[ErrorItem, ...] = (),
        hint: str = "",
        retry_after: int | None = None,
    ) -> None:
        """`message` is fixed by the wire contract; `hint` is the sentence that tells a person what to do.

        `retry_after` is in seconds.
        """
        self.message = message or (type(self).__doc__ or "").strip().splitlines()[0].rstrip(".")
        super().__init__(self.message)
        self.items = items
        self.hint = hint
        self.retry_after = retry_after

    @classmethod
    def saying(cls, message: str, *, hint: str = "") -> Self:
        """An error of an endpoint's own check, repeated as its only item."""
        return cls(message, items=(ErrorItem(message),), hint=hint)


class BadRequest(TorzError):
    """Bad Request."""

    @classmethod
    def at(cls, location: str, location_type: str, message: str, *, hint: str = "") -> Self:
        """Name the parameter or member that is wrong; the outer message stays the general one."""
        return cls("Bad Request", items=(ErrorItem(message, location, location_type),), hint=hint)


class InvalidInfoHash(BadRequest):
    """not an info hash."""


class InvalidMagnet(BadRequest):
    """not a magnet."""


class InvalidBencode(BadRequest):
    """not bencoded."""


class InvalidTorrent(BadRequest):
    """invalid torrent file."""


class InvalidLink(BadRequest):
    """invalid link."""


class RangeNotSatisfiable(TorzError):
    """the file ends before the range begins."""


class FetchRefused(BadRequest):
    """unable to fetch torrent file."""


class StoreNameInvalid(BadRequest):
    """invalid store name."""


class MediaTypeUnsupported(TorzError):
    """Unsupported Media Type."""


class TooLarge(TorzError):
    """the body is too large."""


class Unauthorized(TorzError):
    """Unauthorized."""


class StoreTokenMissing(Unauthorized):
    """Unauthorized."""


class CredentialsInvalid(Unauthorized):
    """invalid credentials."""


class Forbidden(TorzError):
    """forbidden."""


class RouteNotFound(TorzError):
    """not found."""


class MethodNotAllowed(TorzError):
    """Method Not Allowed."""

    def __init__(self, message: str = "", *, allow: tuple[str, ...] = (), **more: object) -> None:
        super().__init__(message or "Method Not Allowed", items=(ErrorItem("Method Not Allowed"),))
        self.allow = allow


class Unavailable(TorzError):
    """the server is not ready."""


class StoreError(TorzError):
    """The store could not do it."""


class TorzNotFound(StoreError):
    """torz not found."""


class LinkGone(StoreError):
    """the link has expired or its torz was removed."""


class StoreAuthFailed(StoreError):
    """the store refuses the token."""


class PaymentRequired(StoreError):
    """the store asks for a paid account."""


class StoreForbids(StoreError):
    """the store does not allow this."""


class StoreConflict(StoreError):
    """the store already has this."""


class StoreRefuses(StoreError):
    """the store cannot process this."""


class LegalBlock(StoreError):
    """not available for legal reasons."""


class StoreLimited(StoreError):
    """a limit of the store is reached."""


class TooManyRequests(StoreError):
    """the store asks to slow down."""


class StoreUnavailable(StoreError):
    """the store cannot be reached."""


class StoreBroken(StoreError):
    """the store gave an answer that cannot be read."""


class Unsupported(StoreError):
    """not supported."""


def leaves(root: type[TorzError]) -> Iterator[type[TorzError]]:
    """Every class of the tree below `root`, itself included."""
    yield root
    for child in root.__subclasses__():
        yield from leaves(child)
