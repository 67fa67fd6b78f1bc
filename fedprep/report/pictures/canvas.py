"""Paper and ink: figures without pyplot, colours that everyone can tell apart, SVG with the same bytes
for the same data.

Reference: Okabe, Ito, Color Universal Design, 2008 (the palette); viridis for anything ordered.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "BLUE",
    "GREY",
    "INK",
    "MARKERS",
    "NARROW",
    "ORANGE",
    "PALETTE",
    "VERMILLION",
    "WIDE",
    "amounts",
    "drawing",
    "log_ticks",
    "name_clients",
    "ordered_colours",
    "outlined",
    "percent",
    "plain_numbers",
    "short",
    "svg",
]

INK, GREY = "#1c1f23", "#8a9097"
BLUE, ORANGE, VERMILLION = "#0072B2", "#E69F00", "#D55E00"
PALETTE = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", VERMILLION, "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""A shape for each colour of the palette, so that nothing hangs on the colour alone."""

NARROW = (5.0, 3.1)
WIDE = (10.4, 3.5)
"""Inches. Two narrow ones stand side by side in a page."""

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
    "svg.hashsalt": "fedprep",
    "text.color": INK,
    "text.parse_math": False,  # a category may hold a dollar sign
    "xtick.color": GREY,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.color": GREY,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 8.5,
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


def plain_numbers(axis: Any) -> None:
    """Writes the ticks of an axis as 1,000 and 0.05, never as powers."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: _plain(value)))
    axis.set_minor_formatter(NullFormatter())


def _plain(value: float) -> str:
    if abs(value) >= 1e6:
        return f"{value / 1e6:,.4g} M"
    return f"{value:,.0f}" if abs(value) >= 1 and value == round(value) else f"{value:.4g}"


def log_ticks(axes: Axes, which: str, low: float, high: float) -> None:
    """Makes an axis logarithmic, with round numbers as ticks however short its span is."""
    from matplotlib.ticker import FixedLocator, NullLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    axis.set_major_locator(FixedLocator(_round_numbers(low, high)))
    axis.set_minor_locator(NullLocator())
    plain_numbers(axis)


def _round_numbers(low: float, high: float) -> list[float]:
    """Returns three to eight round numbers between two, of the sparsest kind that gives three."""
    from matplotlib.ticker import MaxNLocator

    decades = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5)):
        ticks = np.array([step * 10.0**decade for decade in decades for step in steps])
        ticks = ticks[(ticks >= low) & (ticks <= high)]
        if len(ticks) >= 3:
            return [float(tick) for tick in ticks[:: -(-len(ticks) // 8)]]
    even = MaxNLocator(4, steps=[1, 2, 5, 10]).tick_values(low, high)
    return [float(tick) for tick in even if low <= tick <= high]


def ordered_colours(count: int) -> list[Any]:
    """Returns colours for classes in order, light to dark."""
    return [amounts()(x) for x in np.linspace(0.2, 0.66 if count <= 3 else 0.92, count)]


def amounts(*, faint: bool = True) -> Any:
    """Returns a colour map from white to dark blue: more is darker, also in print and in grey.

    Args:
        faint: begin at white; else at a blue that stands out on white.
    """
    from matplotlib.colors import LinearSegmentedColormap

    colours = ["#f4f9fd", "#56B4E9", BLUE, "#00233a"]
    return LinearSegmentedColormap.from_list(
        "amounts", colours if faint else ["#b5dcf4", *colours[1:]]
    )


def outlined(line: Any) -> None:
    """Gives a line a white rim, so that it stands out on any ground."""
    from matplotlib.patheffects import withStroke

    line.set_path_effects([withStroke(linewidth=line.get_linewidth() + 2, foreground="white")])


def percent(share: float) -> str:
    """Returns `"0.04 %"`, `"4.2 %"`, `"42 %"`."""
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def name_clients(axes: Axes, places: Any, names: Sequence[str]) -> None:
    """Writes the names of clients under their places; without names, the axis keeps whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.grid(axis="x", visible=False)
    if not names:
        axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
        return
    long = max(map(len, names)) > 3 and len(names) > 8
    axes.set_xticks(places, [short(name, 12) for name in names], rotation=45 if long else 0)
    axes.set_xlim(places[0] - 0.5, places[-1] + 0.5)


def short(text: str, longest: int = 24) -> str:
    """Returns a name that fits beside an axis, without what XML or a line of text cannot hold."""
    text = "".join(c if c.isprintable() else " " for c in text[: longest + 1]).strip() or "(blank)"
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"
