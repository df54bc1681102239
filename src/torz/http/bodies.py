"""Request bodies: bounded in size, and the one file of a multipart upload."""

from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from torz.domain.errors import BadRequest, TooLarge

if TYPE_CHECKING:
    from torz.http.typed import Request

_OVERHEAD = 16 << 10
"""Bytes that a multipart form may take around its file."""


async def stream_body(request: "Request", limit: int) -> AsyncGenerator[bytes, None]:
    """The body in pieces. Raises TooLarge above `limit` bytes, BadRequest when the client goes away."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    read = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("the body was cut off")
        read += len(message.get("body", b""))
        if read > limit:
            raise _too_large(limit)
        yield message.get("body", b"")
        if not message.get("more_body"):
            return


async def read_body(request: "Request", limit: int) -> bytes:
    """The whole body."""
    return b"".join([part async for part in stream_body(request, limit)])


async def read_upload(request: "Request", part: str, limit: int, headers: Mapping[str, str]) -> bytes:
    """The bytes of the one file of a multipart form.

    Raises BadRequest at the part when there is none or more than one, or when the form cannot be parsed, and TooLarge.
    """
    form_headers = Headers({"content-type": headers.get("content-type", "")})
    parser = MultiPartParser(form_headers, stream_body(request, limit + _OVERHEAD), max_files=8, max_fields=64)
    parser.spool_max_size = limit + _OVERHEAD + 1  # it is bounded, so it need not touch the disk
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, UnicodeDecodeError) as exc:
        raise BadRequest("invalid payload", hint="The multipart form cannot be read.") from exc
    async with form_closing(form):
        files = [file for file in form.getlist(part) if isinstance(file, UploadFile) and file.filename]
        if not files:
            raise BadRequest.at(part, "body", "missing torrent file", hint=f"Send it as the part {part!r} of the form.")
        if len(files) > 1:
            message = "multiple torrent files provided"
            raise BadRequest.at(part, "body", message + (", only one allowed" if part == "file" else ""))
        data = await files[0].read()
    if len(data) > limit:
        raise _too_large(limit)
    return data


class form_closing:  # noqa: N801 - reads as a verb
    """Close the files of a form at the end."""

    def __init__(self, form: object) -> None:
        self._form = form

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *_: object) -> None:
        await self._form.close()  # type: ignore[attr-defined]


def _too_large(limit: int) -> TooLarge:
    hint = f"At most {limit} bytes are taken; an operator can raise TORZ_TORRENT_FILE_MAX_SIZE."
    return TooLarge.saying("the body is too large", hint=hint)
