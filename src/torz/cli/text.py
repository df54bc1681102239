"""Text of strangers on our terminal: nothing in it may move the cursor or turn the direction of writing."""

import re

_LINE = re.compile(r"\s+")


def plain(text: str) -> str:
    """What cannot be printed becomes visible as such, and every blank or line break a plain blank."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in _LINE.sub(" ", text))
