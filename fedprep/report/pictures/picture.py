"""What a picture is: an image with the words that belong to it, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Drawn", "NothingToDraw", "Picture"]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture of a report.

    name: its key, `"rows_per_client"`. title: its heading. image: its bytes, empty where it was left out.
    alt: what it shows, for who cannot see it. measured: the numbers behind it, one line. look_for: how to
    read it. checks: those that judge what it shows; their verdict stands under it. reason: why it was left
    out. wide: needs the whole width of a page.
    """

    name: str
    title: str
    image: bytes = b""
    media_type: str = "image/svg+xml"
    alt: str = ""
    measured: str = ""
    look_for: str = ""
    checks: tuple[str, ...] = ()
    reason: str = ""
    wide: bool = False


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What a kind of picture draws: a figure and its words, as in `Picture`."""

    figure: Figure
    alt: str
    measured: str
    look_for: str


class NothingToDraw(Exception):
    """The data hold nothing for a picture; the text is the reason that the report gives."""
