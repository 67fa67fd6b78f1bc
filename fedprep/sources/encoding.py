"""UTF-8 or Latin-1: told by the bytes, as old files do not say."""

from __future__ import annotations

from typing import Literal

__all__ = ["encoding_of"]


def encoding_of(data: bytes) -> Literal["utf-8", "latin-1"]:
    """Returns `"latin-1"` where most bytes beyond ASCII make no UTF-8, else `"utf-8"`.

    Latin-1 text is hardly ever valid UTF-8, while a damaged UTF-8 text is valid for the most part.
    """
    if data.isascii():
        return "utf-8"
    beyond_ascii = len(data) - len(data.decode("ascii", "ignore"))
    no_utf8 = len(data) - len(data.decode("utf-8", "ignore").encode())
    return "latin-1" if 2 * no_utf8 > beyond_ascii else "utf-8"
