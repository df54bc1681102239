"""Make the status videos: src/torz/http/static/*.mp4, which players show in place of what cannot be played.

Each says in large letters what is the matter and in small ones what to do. They are made of nothing but this file,
so that no font and no encoder's default decides how they look.
"""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av

FOLDER = Path(__file__).parent.parent / "src" / "torz" / "http" / "static"
WIDTH, HEIGHT = 640, 360
SECONDS, RATE = 6, 2
"""Two pictures a second: fewer make some players wait for the first one."""
MAX_SIZE = 12_000

VIDEOS = {
    "200": ("200", "All is well."),
    "401": ("401", "Sign in again: the credentials were refused."),
    "403": ("403", "This is not allowed."),
    "429": ("429", "Too many requests. Try again in a while."),
    "451": ("451", "Not available for legal reasons."),
    "500": ("500", "Something went wrong on the server."),
    "content_proxy_limit_reached": ("LIMIT REACHED", "Too many streams at once. Stop one of them first."),
    "download_failed": ("DOWNLOAD FAILED", "Try another release."),
    "downloading": ("DOWNLOADING", "Not here yet. Come back in a while."),
    "no_matching_file": ("NO MATCHING FILE", "This torrent does not have what was asked for."),
    "payment_required": ("PAYMENT REQUIRED", "The store asks for a paid account."),
    "store_limit_exceeded": ("STORE LIMIT", "The store takes no more for now. Try again later."),
}

# Luma, blue and red of the three colours there are.
Colour = tuple[int, int, int]
NIGHT: Colour = (38, 140, 122)
INK: Colour = (225, 128, 128)
MUTED: Colour = (150, 134, 124)

# 5 x 7 dots a letter; a row is five bits, the highest one on the left.
FONT = {
    "A": (14, 17, 17, 31, 17, 17, 17),
    "B": (30, 17, 17, 30, 17, 17, 30),
    "C": (14, 17, 16, 16, 16, 17, 14),
    "D": (30, 17, 17, 17, 17, 17, 30),
    "E": (31, 16, 16, 30, 16, 16, 31),
    "F": (31, 16, 16, 30, 16, 16, 16),
    "G": (14, 17, 16, 23, 17, 17, 15),
    "H": (17, 17, 17, 31, 17, 17, 17),
    "I": (14, 4, 4, 4, 4, 4, 14),
    "L": (16, 16, 16, 16, 16, 16, 31),
    "M": (17, 27, 21, 21, 17, 17, 17),
    "N": (17, 25, 21, 19, 17, 17, 17),
    "O": (14, 17, 17, 17, 17, 17, 14),
    "P": (30, 17, 17, 30, 16, 16, 16),
    "Q": (14, 17, 17, 17, 21, 18, 13),
    "R": (30, 17, 17, 30, 20, 18, 17),
    "S": (15, 16, 16, 14, 1, 1, 30),
    "T": (31, 4, 4, 4, 4, 4, 4),
    "U": (17, 17, 17, 17, 17, 17, 14),
    "W": (17, 17, 17, 21, 21, 27, 17),
    "Y": (17, 17, 10, 4, 4, 4, 4),
    "a": (0, 0, 14, 1, 15, 17, 15),
    "b": (16, 16, 30, 17, 17, 17, 30),
    "c": (0, 0, 14, 17, 16, 17, 14),
    "d": (1, 1, 15, 17, 17, 17, 15),
    "e": (0, 0, 14, 17, 31, 16, 14),
    "f": (6, 8, 28, 8, 8, 8, 8),
    "g": (0, 0, 15, 17, 15, 1, 14),
    "h": (16, 16, 22, 25, 17, 17, 17),
    "i": (4, 0, 12, 4, 4, 4, 14),
    "k": (16, 16, 18, 20, 24, 20, 18),
    "l": (12, 4, 4, 4, 4, 4, 14),
    "m": (0, 0, 26, 21, 21, 21, 21),
    "n": (0, 0, 22, 25, 17, 17, 17),
    "o": (0, 0, 14, 17, 17, 17, 14),
    "p": (0, 0, 30, 17, 30, 16, 16),
    "q": (0, 0, 15, 17, 15, 1, 1),
    "r": (0, 0, 22, 25, 16, 16, 16),
    "s": (0, 0, 15, 16, 14, 1, 30),
    "t": (8, 8, 28, 8, 8, 9, 6),
    "u": (0, 0, 17, 17, 17, 19, 13),
    "v": (0, 0, 17, 17, 17, 10, 4),
    "w": (0, 0, 17, 17, 21, 21, 10),
    "y": (0, 0, 17, 17, 15, 1, 14),
    "0": (14, 17, 17, 17, 17, 17, 14),
    "1": (4, 12, 4, 4, 4, 4, 14),
    "2": (14, 17, 1, 6, 8, 16, 31),
    "3": (30, 1, 1, 14, 1, 1, 30),
    "4": (2, 6, 10, 18, 31, 2, 2),
    "5": (31, 16, 30, 1, 1, 17, 14),
    "9": (14, 17, 17, 15, 1, 1, 14),
    ".": (0, 0, 0, 0, 0, 12, 12),
    ":": (0, 12, 12, 0, 12, 12, 0),
    " ": (0, 0, 0, 0, 0, 0, 0),
}


class Picture:
    """Three planes of bytes, the coloured ones at half the size."""

    def __init__(self) -> None:
        sizes = ((WIDTH, HEIGHT), (WIDTH // 2, HEIGHT // 2), (WIDTH // 2, HEIGHT // 2))
        self.planes = [bytearray([value]) * (w * h) for value, (w, h) in zip(NIGHT, sizes, strict=True)]

    def fill(self, x: int, y: int, width: int, height: int, colour: Colour) -> None:
        """A rectangle; all four numbers are even."""
        for plane, value, shrink in zip(self.planes, colour, (1, 2, 2), strict=True):
            stride = WIDTH // shrink
            for row in range(y // shrink, (y + height) // shrink):
                begin = row * stride + x // shrink
                plane[begin : begin + width // shrink] = bytes([value]) * (width // shrink)

    def write(self, text: str, y: int, dot: int, colour: Colour) -> None:
        """Text in the middle of the line, its dots so many points wide; an even number."""
        x = (WIDTH - (6 * len(text) - 1) * dot) // 4 * 2
        for place, letter in enumerate(text):
            for row, bits in enumerate(FONT[letter]):
                for column in range(5):
                    if bits & 16 >> column:
                        self.fill(x + (6 * place + column) * dot, y + row * dot, dot, dot, colour)


def draw(title: str, sentence: str, step: int) -> Picture:
    """One picture. The line below the text grows with each, so that a viewer sees that the player has not stopped."""
    picture = Picture()
    dot = 16 if len(title) <= 3 else 6
    picture.write(title, 150 - 7 * dot // 2, dot, INK)
    picture.write(sentence, 236, 2, MUTED)
    picture.fill(0, HEIGHT - 6, WIDTH * (step + 1) // (SECONDS * RATE) // 4 * 4, 6, MUTED)
    return picture


def frames(title: str, sentence: str) -> Iterator[av.VideoFrame]:
    for step in range(SECONDS * RATE):
        frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
        for plane, data in zip(frame.planes, draw(title, sentence, step).planes, strict=True):
            rows = (data[at : at + plane.width] for at in range(0, len(data), plane.width))
            plane.update(b"".join(row + bytes(plane.line_size - plane.width) for row in rows))
        frame.pts, frame.time_base = step, Fraction(1, RATE)
        yield frame


def make(path: Path, title: str, sentence: str) -> int:
    """Write one video. Its size in bytes."""
    with av.open(str(path), "w", options={"movflags": "+faststart", "fflags": "+bitexact"}) as out:
        stream = out.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = Fraction(1, RATE)
        stream.codec_context.thread_count = 1  # the same bytes on every machine
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        stream.options = {
            "preset": "veryslow", "tune": "animation", "crf": "26", "profile": "high", "bf": "0", "g": "12"
        }  # fmt: skip
        for frame in frames(title, sentence):
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path.stat().st_size


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, (title, sentence) in VIDEOS.items():
        size = make(FOLDER / f"{name}.mp4", title, sentence)
        print(f"{name}.mp4: {size} bytes")
        if size > MAX_SIZE:
            raise SystemExit(f"more than {MAX_SIZE} bytes")


if __name__ == "__main__":
    main()
