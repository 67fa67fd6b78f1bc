"""Paper and ink: figures without pyplot, a colour and a shape for each system, SVG with the same bytes
for the same numbers.

Reference: Okabe, Ito, Color Universal Design, 2008 (the palette).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedeval.report.wording import systems_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "GREY",
    "INK",
    "NARROW",
    "WIDE",
    "Drawn",
    "Look",
    "NothingToDraw",
    "Picture",
    "drawing",
    "legend_above",
    "looks_of",
    "short",
    "svg",
]

INK, GREY = "#1c1f23", "#8a9097"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#1c1f23")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (3, 2)), (0, (1, 1)))

NARROW = (5.0, 3.3)
WIDE = (10.4, 3.6)
"""Inches. Two narrow ones stand side by side in a page."""

LEGEND_LINE = 0.19
"""Inches that a line of a legend takes."""

STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "font.size": 9,
    "font.family": ["sans-serif"],
    "grid.color": "#e3e5e8",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: small, and in any script that the reader has a font for
    "svg.hashsalt": "fedeval",
    "text.color": INK,
    "text.parse_math": False,  # a name may hold a dollar sign
    "xtick.color": GREY,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.color": GREY,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 8.5,
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture of a report.

    name: its key · title: its heading · image: SVG, empty where it was left out · alt: what it shows, for
    who cannot see it · look_for: how to read it · reason: why it was left out · wide: needs the whole
    width of a page.
    """

    name: str
    title: str
    image: bytes = b""
    alt: str = ""
    look_for: str = ""
    reason: str = ""
    wide: bool = False


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """What a kind of picture draws: a figure and its words, as in `Picture`."""

    figure: Figure
    title: str
    alt: str
    look_for: str


class NothingToDraw(Exception):
    """The assessment holds nothing for a picture; the text is the reason that the report gives."""


@dataclass(frozen=True)
class Look:
    """Colour, marker and dashes of a system, the same in every picture."""

    colour: str
    marker: str
    dashes: Any
    label: str


def looks_of(assessment: Mapping[str, Any]) -> dict[str, Look]:
    """Returns the look of each system and baseline; nothing hangs on the colour alone."""
    rivals = systems_of(assessment, "system", "baseline")
    return {
        system["name"]: Look(
            PALETTE[place % len(PALETTE)],
            MARKERS[(place + place // len(PALETTE)) % len(MARKERS)],
            DASHES[(place + place // len(PALETTE)) % len(DASHES)],
            short(system["name"]),
        )
        for place, system in enumerate(rivals)
    }


@contextmanager
def drawing() -> Iterator[None]:
    """Figures made inside have the report's style, whatever the user's settings are."""
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        # The reader's browser has fonts that this machine need not have.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        matplotlib.rcdefaults()
        settings: dict[str, Any] = matplotlib.rcParams  # type: ignore[assignment]
        settings.update(STYLE)
        yield


def svg(figure: Figure) -> bytes:
    """Returns a figure as SVG, the same bytes for the same figure."""
    out = io.BytesIO()
    figure.savefig(out, format="svg", dpi=180, metadata={"Date": None, "Creator": None})
    return out.getvalue()


def legend_above(axes: Axes, handles: Sequence[Any] | None = None) -> None:
    """Writes the legend above the picture, where it can hide nothing, and makes the room that it takes."""
    own, _ = axes.get_legend_handles_labels()
    handles = own if handles is None else handles
    labels = [str(handle.get_label()) for handle in handles]
    figure: Any = axes.figure
    most = 5 if len(labels) % 5 == 0 or len(labels) > 8 else 4
    for columns in range(max(1, min(most, len(labels))), 0, -1):
        legend = figure.legend(
            handles,
            labels,
            loc="outside upper left",
            ncols=columns,
            handlelength=2.4,
            columnspacing=1.2,
        )
        if columns == 1 or legend.get_window_extent().width <= 0.98 * figure.bbox.width:
            break
        legend.remove()
    lines = -(-len(labels) // columns) if labels else 0
    figure.set_figheight(figure.get_figheight() + LEGEND_LINE * max(0, lines - 2))


def short(text: str, longest: int = 22) -> str:
    """Returns a name that fits beside an axis, without what XML or a line of text cannot hold."""
    text = "".join(c if c.isprintable() else " " for c in text[: longest + 1]).strip() or "(blank)"
    # matplotlib leaves out of a legend what begins with an underscore.
    text = "\u200a" + text if text.startswith("_") else text
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"
