"""Pictures of items to vectors: each distinct picture is decoded and embedded once, and then kept."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fedprep.embed.ahead import ahead
from fedprep.embed.cache import EmbeddingCache, embed_contents, encoder_folder
from fedprep.embed.decode import DAMAGED, UnusablePicture, decode, import_pillow, quiet_pillow
from fedprep.embed.downloads import UrlStore
from fedprep.embed.embedded import Embedded
from fedprep.embed.pictures import PictureStore, match_pictures, open_store
from fedprep.embed.ticks import Ticks
from fedprep.embed.timm_encoder import Pixels, TimmEncoder, TimmModel, timm_encoder
from fedprep.embed.torch_setup import choose_device, cpu_threads
from fedprep.errors import EmptyDataError, EncoderError, SourceError
from fedprep.recipe import EmbedImage
from fedprep.schema import SOURCE_ID, Progress, Step, silent

__all__ = ["CHUNK", "embed_images"]

CHUNK = 512
"""Pictures that a killed run has to embed again, or two batches a thread where that is more."""

Values = NDArray[np.float32]
Positions = NDArray[np.int64]


def embed_images(
    items: pl.DataFrame,
    options: EmbedImage,
    *,
    store: Path | None,
    cache: Path,
    device: str = "auto",
    threads: int | None = None,
    progress: Progress = silent,
) -> Embedded:
    """Returns an embedding of each item's picture, in the order of the items.

    Pictures of equal bytes are embedded once, and kept below `cache` by encoder and content: a killed
    run resumes, and a second one hashes the pictures and neither decodes them nor loads the encoder.
    A picture that cannot be used costs its item the embedding; the steps count them by reason. Neither
    threads nor what the cache holds change a bit; a processor of another kind may change the last ones.

    Args:
        items: `source_id` and `image` (a path in the store, a URL, or null), a row an item.
        options: `encoder` as `fedprep.embed.timm_encoder` says, `size`, `batch_size`, `max_bytes`,
            `per_second`.
        store: folder or zip of pictures; None takes `image` as URLs to fetch.
        cache: folder of embeddings and fetched pictures.
        device: `"auto"`, `"cpu"` or `"cuda"`.
        threads: of the CPU; None for all cores.

    Raises:
        EmptyDataError: no item has a picture, or none of them can be used.
        EncoderError: the encoder cannot be had, or gives values that are not finite.
        MissingExtraError: Pillow, timm or torch is not installed.
        OutputError: the cache cannot be written.
        SourceError: the store is missing or cannot be read.
    """
    import_pillow()
    encoder = timm_encoder(options, device=choose_device(device))
    workers = threads or os.cpu_count() or 1
    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet_pillow())
        pictures, names, steps = _find(items, options, store, cache, progress)
        stack.callback(pictures.close)
        distinct = names.drop_nulls().unique().sort()
        read = _hash(pictures, distinct.to_list(), workers, progress)
        ticks = Ticks(progress)
        values = embed_contents(
            read.keys,
            read.sizes,
            _Encoding(
                pictures=pictures,
                names=read.names,
                encoder=encoder,
                threads=threads,
                tick=ticks.tick,
            ),
            cache=EmbeddingCache(encoder_folder(cache / "image", encoder.facts)),
            chunk=max(CHUNK, 2 * workers * options.batch_size),
            task="image embeddings",
            progress=ticks,
        )
        reasons = read.reasons | _undecodable(pictures, read.names, values)
    steps += _failures(items, names, reasons)
    row = _rows(names, read.names, reasons)
    present = row.is_not_null().to_numpy()
    if not present.any():
        raise EmptyDataError(
            f"none of {len(names) - names.null_count():,} pictures can be used: "
            + "; ".join(f"{s.why}: {s.dropped:,}" for s in steps if s.unit == "images"),
            where=str(store or "the URLs in the column image"),
            hint='embed.image.images may be a folder or a zip; embed.image.encoder = "none" leaves them out',
        )
    spread = np.zeros((len(items), values.shape[1]), np.float32)
    spread[present] = values[row.drop_nulls().to_numpy()]
    facts = encoder.facts | {"dim": int(values.shape[1])}
    return Embedded(values=spread, present=present, encoder=facts, steps=steps)


def _rows(names: pl.Series, embedded: list[str], failed: Container[str]) -> pl.Series:
    """Returns the row of each item's picture among the embedded ones; null where it cannot be used."""
    usable = [(name, row) for row, name in enumerate(embedded) if name not in failed]
    known = pl.DataFrame(usable, schema={"name": pl.String, "row": pl.Int64}, orient="row")
    return names.to_frame("name").join(known, on="name", how="left", maintain_order="left")["row"]


def _find(
    items: pl.DataFrame, options: EmbedImage, store: Path | None, cache: Path, progress: Progress
) -> tuple[PictureStore, pl.Series, list[Step]]:
    """Returns the store, the name of each item's picture in it (null for none), and the steps."""
    pictures: PictureStore
    if store is None:
        names, steps = items["image"].cast(pl.String), list[Step]()
        pictures = UrlStore(
            cache / "pictures",
            max_bytes=options.max_bytes,
            per_second=options.per_second,
            allow_hosts=options.allow_hosts,
        )
        pictures.fetch(names.drop_nulls().unique().sort().to_list(), progress=progress)
        why = "the item has no URL"
    else:
        pictures = open_store(store, max_bytes=options.max_bytes)
        names, steps = match_pictures(items, pictures.names())
        why = "the store has no file at the item's path, and none named like its id"
    lacking = items[SOURCE_ID].filter(names.is_null())
    absent = Step(
        stage="embed",
        name="items without a picture",
        rows_in=len(items),
        rows_out=len(items) - len(lacking),
        unit="items",
        why=why,
        examples=_examples(lacking),
    )
    if len(lacking) == len(items):
        pictures.close()
        raise EmptyDataError(
            f"none of {len(items):,} items has a picture: {why}",
            where=str(store or "the column image"),
            expected=f"names such as {items[SOURCE_ID][0]}.jpg" if store and len(items) else "",
            hint='embed.image.images is a folder, a zip, or "urls"; embed.image.encoder = "none" leaves it',
        )
    return pictures, names, [absent, *steps]


@dataclass(frozen=True, kw_only=True)
class _Read:
    """Distinct pictures that could be read, and why the others could not.

    names: (n,) · keys: S32 (n,), SHA-256 of the bytes · sizes: int64 (n,), bytes.
    """

    names: list[str]
    keys: NDArray[np.bytes_]
    sizes: NDArray[np.int64]
    reasons: dict[str, str]


def _hash(pictures: PictureStore, names: list[str], workers: int, progress: Progress) -> _Read:
    def digest(name: str) -> tuple[bytes, int] | UnusablePicture:
        try:
            data = pictures.read(name)
        except UnusablePicture as failure:
            return failure
        return hashlib.sha256(data).digest(), len(data)

    found: list[tuple[str, bytes, int]] = []
    reasons: dict[str, str] = {}
    with ahead(digest, names, threads=workers, depth=4 * workers) as results:
        for done, (name, result) in enumerate(zip(names, results, strict=True), start=1):
            if isinstance(result, UnusablePicture):
                reasons[name] = result.reason
            else:
                found.append((name, *result))
            if done % 256 == 0 or done == len(names):
                progress("pictures read", done, len(names))
    return _Read(
        names=[name for name, _, _ in found],
        keys=np.array([key for _, key, _ in found], dtype="S32"),
        sizes=np.array([size for _, _, size in found], dtype=np.int64),
        reasons=reasons,
    )


@dataclass(kw_only=True)
class _Encoding:
    """Positions of pictures to their features, with NaN for what cannot be decoded.

    Each worker decodes a batch and runs the model on it with one thread of its own. Every batch has
    the same shape, the last filled up with black. So the same pixels give the same bits in any
    company and with any number of threads: neither a resumed run nor a cache that another data set
    filled shows.
    """

    pictures: PictureStore
    names: list[str]
    encoder: TimmEncoder
    threads: int | None
    tick: Callable[[int], None]

    @functools.cached_property
    def model(self) -> TimmModel:
        return self.encoder.load()

    def __call__(self, positions: Positions) -> Values:
        names = [self.names[i] for i in positions]
        n = self.encoder.facts["batch_size"]
        batches = [names[low : low + n] for low in range(0, len(names), n)]
        _ = self.model  # loaded before the threads begin
        with (
            cpu_threads(self.threads) as workers,
            cpu_threads(1),
            ahead(self._features, batches, threads=workers, depth=2 * workers) as results,
        ):
            return np.concatenate(list(self._ticked(batches, results)))

    def _ticked(self, batches: list[list[str]], results: Iterable[Values]) -> Iterator[Values]:
        for batch, made in zip(batches, results, strict=True):
            self.tick(len(batch))
            yield made

    def _features(self, names: list[str]) -> Values:
        """Returns float32 (len(names), dim)."""
        n, size = self.encoder.facts["batch_size"], self.encoder.facts["size"]
        batch: Pixels = np.zeros((n, size, size, 3), np.uint8)
        rows: list[int] = []
        for row, name in enumerate(names):
            pixels = self._pixels(name)
            if pixels is not None:
                batch[len(rows)] = pixels
                rows.append(row)
        features = self.model.features(batch)[: len(rows)]
        wrong = ~np.isfinite(features).all(axis=1)
        if wrong.any():
            raise EncoderError(
                f"the image encoder {self.encoder.facts['name']} gives values that are not finite "
                f"for {int(wrong.sum())} of {len(rows)} pictures",
                where=names[rows[int(wrong.argmax())]],
                hint="the weights may be damaged, or too large for half precision: --device cpu",
            )
        made = np.full((len(names), features.shape[1]), np.nan, np.float32)
        made[rows] = features
        return made

    def _pixels(self, name: str) -> Pixels | None:
        try:
            data = self.pictures.read(name)
        except UnusablePicture as failure:  # it was there a moment ago
            raise SourceError("a picture changed while it was embedded", where=name) from failure
        try:
            return self.model.pixels(data)
        except UnusablePicture:
            return None


def _undecodable(pictures: PictureStore, names: list[str], values: Values) -> dict[str, str]:
    """Returns the reason for each picture whose embedding is NaN, now or in the cache."""
    reasons = {}
    for row in np.flatnonzero(np.isnan(values[:, :1]).any(axis=1)):
        try:
            decode(pictures.read(names[row]))
            reasons[names[row]] = DAMAGED  # for the Pillow that filled the cache
        except UnusablePicture as failure:
            reasons[names[row]] = failure.reason
    return reasons


def _failures(items: pl.DataFrame, names: pl.Series, reasons: dict[str, str]) -> list[Step]:
    """Returns a step for each reason, of the items whose picture cannot be used."""
    why = pl.DataFrame(
        {"name": list(reasons), "why": list(reasons.values())}, schema_overrides=_WHY
    )
    failed = (
        items.select(SOURCE_ID)
        .with_columns(name=names)
        .join(why, on="name", maintain_order="left")
        .group_by("why")
        .agg(pl.col(SOURCE_ID).head(3), n=pl.len())
        .sort("why")
    )
    steps = []
    left = len(names) - names.null_count()
    for reason, ids, n in failed.iter_rows():
        steps.append(
            Step(
                stage="embed",
                name="unusable pictures",
                rows_in=left,
                rows_out=left - n,
                unit="images",
                why=reason,
                examples=_examples(ids),
            )
        )
        left -= n
    return steps


_WHY = {"name": pl.String(), "why": pl.String()}


def _examples(ids: pl.Series | list[str]) -> tuple[str, ...]:
    return tuple(f"item {source_id}" for source_id in ids[:3])
