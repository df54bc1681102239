"""Error ↔ code ↔ status: the one table. The server writes by it and the client raises by it."""

from typing import Final, NamedTuple

import msgspec
from msgspec import UNSET

from torz.domain import errors as e
from torz.wire.shapes import ErrorAnswer, ErrorDetail, ErrorShape, LegacyErrorAnswer, LegacyErrorShape


class Row(NamedTuple):
    error: type[e.TorzError]
    code: str
    status: int
    legacy_code: str = ""
    """Where the older generation says it differently."""


ROWS: Final = (
    Row(e.BadRequest, "BAD_REQUEST", 400),
    Row(e.InvalidInfoHash, "BAD_REQUEST", 400),
    Row(e.InvalidMagnet, "BAD_REQUEST", 400),
    Row(e.InvalidBencode, "BAD_REQUEST", 400),
    Row(e.InvalidTorrent, "BAD_REQUEST", 400),
    Row(e.InvalidLink, "BAD_REQUEST", 400),
    Row(e.FetchRefused, "BAD_REQUEST", 400),
    Row(e.StoreNameInvalid, "BAD_REQUEST", 400, "STORE_NAME_INVALID"),
    Row(e.MediaTypeUnsupported, "UNSUPPORTED_MEDIA_TYPE", 415),
    Row(e.TooLarge, "BAD_REQUEST", 413),  # the SDKs' lists know no code of its own
    Row(e.RangeNotSatisfiable, "BAD_REQUEST", 416),
    Row(e.Unauthorized, "UNAUTHORIZED", 401),
    Row(e.StoreTokenMissing, "UNAUTHORIZED", 401),
    Row(e.CredentialsInvalid, "UNAUTHORIZED", 401),
    Row(e.Forbidden, "FORBIDDEN", 403),
    Row(e.RouteNotFound, "NOT_FOUND", 404),
    Row(e.MethodNotAllowed, "METHOD_NOT_ALLOWED", 405),
    Row(e.Unavailable, "SERVICE_UNAVAILABLE", 503),
    Row(e.TorzNotFound, "NOT_FOUND", 404),
    Row(e.LinkGone, "GONE", 410),
    Row(e.StoreAuthFailed, "UNAUTHORIZED", 401),
    Row(e.PaymentRequired, "PAYMENT_REQUIRED", 402),
    Row(e.StoreForbids, "FORBIDDEN", 403),
    Row(e.StoreConflict, "CONFLICT", 409),
    Row(e.StoreRefuses, "UNPROCESSABLE_ENTITY", 422),
    Row(e.LegalBlock, "UNAVAILABLE_FOR_LEGAL_REASONS", 451),
    Row(e.StoreLimited, "STORE_LIMIT_EXCEEDED", 422),
    Row(e.TooManyRequests, "TOO_MANY_REQUESTS", 429),
    Row(e.StoreUnavailable, "SERVICE_UNAVAILABLE", 503),
    Row(e.StoreBroken, "BAD_GATEWAY", 502),
    Row(e.Unsupported, "NOT_IMPLEMENTED", 501),
    Row(e.StoreError, "INTERNAL_SERVER_ERROR", 500),
    Row(e.TorzError, "INTERNAL_SERVER_ERROR", 500),
)
_ROW: Final = {row.error: row for row in ROWS}
_BY_WIRE: Final = {(row.code, row.status, issubclass(row.error, e.StoreError)): row.error for row in reversed(ROWS)}
_BY_STATUS: Final = {row.status: row.error for row in reversed(ROWS)}


def row_of(error: e.TorzError) -> Row:
    """The row of an error's class, or of the nearest one above it."""
    for cls in type(error).__mro__:
        if cls in _ROW:
            return _ROW[cls]
    raise AssertionError(cls)


def type_of(error: e.TorzError) -> str:
    return "store_error" if isinstance(error, e.StoreError) else "api_error"


def headers_of(error: e.TorzError, store_name: str = "") -> dict[str, str]:
    """What an error says in headers."""
    headers: dict[str, str] = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, e.MethodNotAllowed) and error.allow:
        headers["Allow"] = ", ".join(error.allow)
    if isinstance(error, e.TooLarge):
        headers["Connection"] = "close"  # what is left of the body is not read
    if isinstance(error, e.StoreTokenMissing):
        headers["WWW-Authenticate"] = f'Bearer realm="store:{store_name}"'
    if isinstance(error, e.CredentialsInvalid):
        headers["X-StremThru-Authenticate"] = "Basic"
    return headers


def encode(error: e.TorzError, request_id: str) -> bytes:
    """The envelope of the torz endpoints; what Torz adds to the contract stands behind it."""
    row = row_of(error)
    items = [
        ErrorDetail(domain=i.domain, location=i.location, locationType=i.location_type, message=i.message)
        for i in error.items
    ]
    shape = ErrorShape(row.code, error.message, items, type_of(error), request_id, row.status, error.hint or UNSET)
    return msgspec.json.encode(ErrorAnswer(shape)) + b"\n"


def encode_legacy(error: e.TorzError, request_id: str, method: str, path: str, store_name: str) -> bytes:
    """The envelope of everything else."""
    row = row_of(error)
    specific = error.items[0].message if error.items else error.message
    shape = LegacyErrorShape(
        request_id=request_id,
        type=type_of(error),
        code=row.legacy_code or row.code,
        message=specific[:1].lower() + specific[1:] if row.status in (401, 403) else specific,
        method=method or UNSET,
        path=path or UNSET,
        status_code=row.status,
        store_name=store_name or UNSET,
        hint=error.hint or UNSET,
    )
    return msgspec.json.encode(LegacyErrorAnswer(shape)) + b"\n"


class _AnyError(msgspec.Struct):
    message: str = ""
    type: str = ""
    code: str = ""
    hint: str = ""
    errors: list[ErrorDetail] = []


class _AnyErrorAnswer(msgspec.Struct):
    error: _AnyError


def decode(status: int, body: bytes, retry_after: int | None = None) -> e.TorzError:
    """The error that an answer of either envelope stands for; a StoreBroken when it is neither."""
    try:
        shape = msgspec.json.decode(body, type=_AnyErrorAnswer).error
    except msgspec.MsgspecError:
        return e.StoreBroken(f"The server answered {status} with something that is not the Torz API.")
    is_store = shape.type != "api_error"
    cls = (
        _BY_WIRE.get((shape.code, status, is_store))
        or _BY_WIRE.get((shape.code, status, not is_store))
        or _BY_STATUS.get(status, e.StoreError)
    )
    items = tuple(e.ErrorItem(d.message, d.location, d.locationType, d.domain) for d in shape.errors)
    error = cls(shape.message)
    error.items, error.hint, error.retry_after = items, shape.hint, retry_after
    return error
