"""Picture bytes of unknown hands, decoded: a bounded RGB picture, or the reason why there is none."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from fedprep.errors import MissingExtraError, install

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "DAMAGED",
    "MAX_PIXELS",
    "MAX_RATIO",
    "MAX_SIDE",
    "MIN_SIDE",
    "NO_PICTURE",
    "TOO_MANY_PIXELS",
    "TOO_NARROW",
    "TOO_SMALL",
    "UnusablePicture",
    "decode",
    "import_pillow",
    "looks_like_a_picture",
    "quiet_pillow",
]

MAX_PIXELS = 64_000_000
MAX_SIDE = 30_000
MAX_RATIO = 50  # longer to shorter side: an encoder's resizing makes the shorter its own size
MIN_SIDE = 4  # shops answer with a picture of one pixel where they have none
"""Pictures that claim to be beyond are refused before a pixel is decoded."""

NO_PICTURE = "no picture (another kind of content)"
TOO_MANY_PIXELS = f"more than {MAX_PIXELS // 1_000_000} million pixels, or {MAX_SIDE:,} a side"
TOO_SMALL = f"fewer than {MIN_SIDE} pixels a side"
TOO_NARROW = f"more than {MAX_RATIO} times as long as wide"
DAMAGED = "truncated or damaged"

# Raster formats that pictures of items come in; none that runs a program or reads another file.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")

_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*")

_ORIENTATION = 0x0112  # the EXIF tag


class UnusablePicture(Exception):
    """One picture cannot be used; `reason` is one of a few classes, for counting.

    Never leaves this package: the item gets no embedding, and the reason is counted.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def import_pillow() -> Any:
    """Returns the module `PIL.Image` with its formats registered.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtraError(
            "Pillow is not installed, which pictures need",
            hint=f'{install("image")}; or embed.image.encoder = "none" leaves the pictures out',
        ) from None
    Image.init()
    return Image


def looks_like_a_picture(data: bytes) -> bool:
    """Returns whether the first bytes are those of a format that `decode` reads."""
    riff = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    avif = data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis", b"mif1")
    return data.startswith(_STARTS) or riff or avif


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keeps Pillow's warnings about odd pictures off the screen: such pictures are counted.

    Enter it in the main thread, around the threads that decode: filters belong to the process.
    """
    Image = import_pillow()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def decode(data: bytes) -> Image:
    """Returns the picture as RGB, upright by its EXIF orientation, on white where it is transparent.

    An animation gives its first frame. 16-bit grey is brought to 8 bits. At most `MAX_PIXELS`.

    Raises:
        UnusablePicture: the bytes are no picture, too large a one, or damaged.
    """
    if not looks_like_a_picture(data):
        raise UnusablePicture(NO_PICTURE)
    Image = import_pillow()
    known = tuple(name for name in FORMATS if name in Image.OPEN)
    try:
        with Image.open(io.BytesIO(data), formats=known) as picture:
            _refuse_by_size(*picture.size)
            picture.load()
            return _on_white(_upright(picture))
    except (UnusablePicture, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnusablePicture(TOO_MANY_PIXELS) from None
    except Exception as error:  # on hostile bytes decoders raise anything
        raise UnusablePicture(DAMAGED) from error


def _refuse_by_size(width: int, height: int) -> None:
    short, long = sorted((width, height))
    if short * long > MAX_PIXELS or long > MAX_SIDE:
        raise UnusablePicture(TOO_MANY_PIXELS)
    if short < MIN_SIDE:
        raise UnusablePicture(TOO_SMALL)
    if long > MAX_RATIO * short:
        raise UnusablePicture(TOO_NARROW)


def _upright(picture: Image) -> Image:
    from PIL import ImageOps

    try:
        turned = picture.getexif().get(_ORIENTATION, 1) in range(2, 9)
    except Exception:  # unreadable EXIF says nothing of the orientation; the pixels are fine
        return picture
    return ImageOps.exif_transpose(picture) if turned else picture


def _on_white(picture: Image) -> Image:
    """Returns the picture in mode RGB."""
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        picture = _eight_bits(picture)
    transparent = (
        picture.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in picture.info
    )
    if not transparent:
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    from PIL import Image

    layer = picture.convert("RGBA")
    white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, layer).convert("RGB")


def _eight_bits(picture: Image) -> Image:
    """Returns grey as 8 bits: of integers white is 65,535, of floats 1, or 255 where some exceed 1."""
    from PIL import Image

    grey = np.nan_to_num(np.asarray(picture).astype(np.float64))
    white = 65_535.0 if picture.mode != "F" else 1.0 if grey.max() <= 1 else 255.0
    return Image.fromarray(np.rint(np.clip(grey / white, 0, 1) * 255).astype(np.uint8))
