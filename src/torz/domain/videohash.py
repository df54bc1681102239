"""The hash by which OpenSubtitles knows a video, and which files are videos."""

from struct import Struct

EDGE = 65536
"""Bytes at either end that the hash is made of; a shorter file has none."""

VIDEO_EXTENSIONS = frozenset(
    (
        "3g2", "3gp", "amv", "asf", "avi", "divx", "dv", "evo", "f4v", "flv", "h264", "h265", "hevc", "ivf", "m1v",
        "m2p", "m2t", "m2ts", "m2v", "m4v", "mk3d", "mkv", "mod", "mov", "mp4", "mp4v", "mpe", "mpeg", "mpg", "mpv",
        "mts", "mxf", "nsv", "nut", "ogm", "ogv", "ogx", "qt", "rm", "rmvb", "tod", "tp", "trp", "ts", "vob", "vro",
        "webm", "wm", "wmv", "wtv", "xvid", "y4m", "yuv",
    )
)  # fmt: skip

_WORDS = Struct(f"<{EDGE // 8}Q")


def video_hash(size: int, head: bytes, tail: bytes) -> str:
    """16 lower-case hex digits of a file's size and its first and last 64 KiB, which may overlap.

    Raises ValueError for a file under 64 KiB, and when `head` or `tail` is not 64 KiB long.
    Source: OpenSubtitles' "HashSourceCodes": the sum of all little-endian 64-bit words and the size, modulo 2^64.
    """
    if size < EDGE or len(head) != EDGE or len(tail) != EDGE:
        raise ValueError(f"a video hash needs {EDGE} bytes of either end")
    return f"{(size + sum(_WORDS.unpack(head)) + sum(_WORDS.unpack(tail))) % 2**64:016x}"


def is_video(path: str) -> bool:
    """Whether a path ends like a video's, in either case."""
    name = path.rpartition("/")[2]
    stem, _, extension = name.rpartition(".")
    return bool(stem) and extension.lower() in VIDEO_EXTENSIONS
