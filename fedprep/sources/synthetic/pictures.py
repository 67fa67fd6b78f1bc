"""Pictures of items: the topic decides colours and shapes, the item's number the details.

One picture is drawn at a time (a third of a millisecond at 96 pixels): this is the one loop over items.
Equal items give equal pixels; the bytes of a JPEG depend on the version of Pillow.
"""

from __future__ import annotations

import colorsys
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from fedprep.errors import MissingExtraError, install
from fedprep.schema import Progress
from fedprep.sources.synthetic.truth import Truth, generator

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

__all__ = ["damaged", "draw", "write_pictures"]

Colour = tuple[int, int, int]

DAMAGED_SHARE = 0.05  # of the pictures, two at least
HUGE = (50_000, 4_000)  # pixels: more than any decoder should unpack, 25 kB of PNG
ERROR_PAGE = b"<html><head><title>400 Bad Request</title></head><body>Bad Request</body></html>\n"
N_SHAPES = 6


def write_pictures(
    folder: Path, names: pl.Series, truth: Truth, damage: Mapping[int, str], progress: Progress
) -> int:
    """Writes `<folder>/<name>.jpg` of each pictured item; returns how many files there are.

    Args:
        names: String, one for each item.
        damage: item → `"missing"`, `"corrupt"`, `"huge"` or `"text"`.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    shown = np.flatnonzero(truth.pictured)
    folder.mkdir(parents=True, exist_ok=True)
    for done, item in enumerate(shown.tolist()):
        kind = damage.get(item, "")
        if kind != "missing":
            _write_one(folder / f"{names[item]}.jpg", truth, item, kind)
        if done % 256 == 0:
            progress("synthetic pictures", done, len(shown))
    progress("synthetic pictures", len(shown), len(shown))
    return len(shown) - sum(kind == "missing" for kind in damage.values())


def damaged(truth: Truth, kinds: Mapping[str, str]) -> dict[str, list[int]]:
    """Returns fault → the items whose pictures it damages; no picture is damaged twice.

    Args:
        kinds: fault → kind of damage; a huge picture comes once, the others by share.
    """
    rng = generator(truth.seed, "damaged pictures")
    left = rng.permutation(np.flatnonzero(truth.pictured)).tolist()
    chosen = {}
    for fault, kind in kinds.items():
        n = 1 if kind == "huge" else max(2, round(DAMAGED_SHARE * int(truth.pictured.sum())))
        chosen[fault], left = sorted(left[:n]), left[n:]
    return chosen


def _write_one(path: Path, truth: Truth, item: int, kind: str) -> None:
    if kind == "text":
        path.write_bytes(ERROR_PAGE)
    elif kind == "huge":
        path.write_bytes(_huge_png())
    else:
        topic, size = int(truth.topic[item]), truth.size
        picture = draw(
            topic,
            generator(truth.seed, "picture", item),
            size=size.image_size,
            n_topics=size.n_topics,
        )
        picture.save(path, format="JPEG", quality=85)
        if kind == "corrupt":
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) // 2])


def draw(topic: int, rng: np.random.Generator, *, size: int, n_topics: int) -> Image:
    """Returns an RGB picture of `size` pixels a side.

    The background has the topic's hue; three to six shapes of the topic's kind and second hue lie on
    it, at places, sizes and shades of the item's own.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError:
        raise MissingExtraError(
            "synthetic pictures are drawn with Pillow, which is not installed",
            hint=f"{install('image')}, or set source.synthetic.images = 0",
        ) from None
    hue = topic / n_topics
    picture = Image.new("RGB", (size, size), _colour(hue, 0.75, 0.55 + 0.25 * rng.random()))
    canvas = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(3, 7))):
        shade = _colour((hue + 0.12) % 1.0, 0.6, 0.4 + 0.6 * rng.random())
        x, y = (rng.random(2) * size).tolist()
        _shape(canvas, topic % N_SHAPES, x, y, (0.06 + 0.12 * rng.random()) * size, shade)
    return picture


def _shape(canvas: ImageDraw, kind: int, x: float, y: float, r: float, colour: Colour) -> None:
    box = (x - r, y - r, x + r, y + r)
    width = max(1, round(r / 3))
    if kind == 0:
        canvas.ellipse(box, fill=colour)
    elif kind == 1:
        canvas.rectangle(box, fill=colour)
    elif kind == 2:
        canvas.polygon([(x, y - r), (x + r, y + r), (x - r, y + r)], fill=colour)
    elif kind == 3:
        canvas.ellipse(box, outline=colour, width=width)
    elif kind == 4:
        canvas.line([(x - r, y - r), (x + r, y + r)], fill=colour, width=width)
        canvas.line([(x - r, y + r), (x + r, y - r)], fill=colour, width=width)
    else:
        canvas.polygon([(x, y - r), (x + r, y), (x, y + r), (x - r, y)], fill=colour)


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _huge_png() -> bytes:
    """Returns a black-and-white PNG of 200 million pixels, small on disk."""
    width, height = HUGE

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    line = bytes(1 + width // 8)
    data = zlib.compress(line * height, 1)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )
