"""The status videos, which addons show in place of what cannot be played."""

from functools import cache
from importlib import resources

from torz.domain.byterange import parse_range
from torz.domain.errors import RangeNotSatisfiable, RouteNotFound
from torz.http.typed import Reply, Request


@cache
def videos() -> dict[str, bytes]:
    """Every status video by its name."""
    folder = resources.files("torz.http") / "static"
    return {
        file.name.removesuffix(".mp4"): file.read_bytes() for file in folder.iterdir() if file.name.endswith(".mp4")
    }


async def send_video(request: Request) -> Reply:
    """The whole clip or its first asked-for range, with or without `.mp4` behind the name."""
    video = videos().get(request.params["name"].removesuffix(".mp4"))
    if video is None:
        raise RouteNotFound.saying("not found", hint="There is no status video of this name.")
    headers = {"Accept-Ranges": "bytes", "Cache-Control": "public, max-age=86400"}
    try:
        ranges = parse_range(request.headers.get("range", ""), len(video))
    except RangeNotSatisfiable:
        return Reply(status=416, headers={**headers, "Content-Range": f"bytes */{len(video)}"})
    if not ranges:
        return Reply(video, media_type="video/mp4", headers=headers)
    part = ranges[0]
    headers["Content-Range"] = f"bytes {part.start}-{part.end - 1}/{len(video)}"
    return Reply(video[part.start : part.end], status=206, media_type="video/mp4", headers=headers)
