"""One vector a text: encoded once, kept, and found again by its bytes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fedprep.embed.cache import EmbeddingCache, content_keys, embed_contents, encoder_folder
from fedprep.embed.embedded import Embedded
from fedprep.embed.hashing import REVISION, hash_texts
from fedprep.embed.hub import ModelFolder, find_model
from fedprep.embed.on_ray import encode_on_ray
from fedprep.embed.sentence import SentenceModel
from fedprep.embed.ticks import Ticks
from fedprep.embed.torch_setup import choose_device, cpu_threads, precision_of
from fedprep.errors import EmptyDataError, EncoderError
from fedprep.recipe import EmbedText
from fedprep.schema import Progress, Step, silent

__all__ = ["TEXT_ENCODERS", "embed_text"]

CHUNK_BYTES = 1 << 19
"""Text in a chunk of the cache: what a killed run encodes again, some 20 seconds of two cores."""

TASK = "text embeddings"

Engine = Literal["local", "ray"]
Values = NDArray[np.float32]
Positions = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Means:
    """Where embeddings are kept, and what computes them."""

    cache: Path
    device: str
    threads: int | None
    engine: Engine
    progress: Progress


def embed_text(
    texts: pl.Series,
    options: EmbedText,
    *,
    cache: Path,
    device: str = "auto",
    threads: int | None = None,
    engine: Engine = "local",
    progress: Progress = silent,
) -> Embedded:
    """Returns one embedding a text, not normalised.

    Equal texts are embedded once. Finished chunks are kept in the cache, so a killed run resumes, and
    a second run with equal texts embeds nothing and does not load the model. Null and blank texts get
    none, nor do texts without a visible character under `hashing`.

    Args:
        texts: String (n,); null where there is none.
        options: the recipe's `[embed.text]`; `template` and `normalise` are not used here.
        cache: the folder of all cached embeddings.
        device: `auto | cpu | cuda | mps`; an accelerator computes in bfloat16 or float16, which is
            part of `encoder`.
        threads: of the processor; None is all its cores. They do not change the result, nor does on a
            processor what other texts there are or were.
        engine: `ray` has Ray Data encode chunks on the workers of a cluster, which must have the same
            model and kind of device as this machine.

    Raises:
        EmptyDataError: no item has a text, or under `hashing` a visible character in it.
        EncoderError: the encoder cannot be had or loaded, or gives what is not finite.
        MissingExtraError: a package is not installed; the message names the extra.
        OutputError: the cache cannot be written.
        RecipeError: no such device, or `max_tokens` leaves no room for a word.
    """
    has_text = (texts.is_not_null() & (texts.str.strip_chars() != "")).fill_null(False)
    _refuse_nothing(has_text.to_numpy(), options, "a text")
    kind = "hashing" if options.encoder == "hashing" else "sentence-transformers"
    given = texts.filter(has_text).rechunk()
    means = Means(cache=cache, device=device, threads=threads, engine=engine, progress=progress)
    made, encoder = TEXT_ENCODERS[kind](given, options, means)
    present = has_text.to_numpy(writable=True)
    steps = [_step("texts", present, "null or blank")]
    if present.all():
        values = made
    else:
        values = np.zeros((len(texts), made.shape[1]), np.float32)
        values[present] = made
    if kind == "hashing":
        has_word: NDArray[np.bool_] = (values != 0).any(axis=1)
        _refuse_nothing(has_word, options, "a text with a visible character")
        steps.append(_step("visible texts", has_word, "no visible character", among=present))
        present = has_word
    return Embedded(values=values, present=present, encoder=encoder, steps=steps)


def _refuse_nothing(there: NDArray[np.bool_], options: EmbedText, what: str) -> None:
    if not there.any():
        raise EmptyDataError(
            f"none of {len(there):,} items has {what} to embed",
            where=f"embed.text.template = {options.template!r}",
            expected="columns of the items in braces, of which one item at least has one",
            hint='name a table of items in source.items, or set embed.text.encoder = "none"',
        )


def _step(
    name: str, kept: NDArray[np.bool_], why: str, among: NDArray[np.bool_] | None = None
) -> Step:
    before = np.ones(len(kept), bool) if among is None else among
    gone = np.flatnonzero(before & ~kept)
    return Step(
        stage="embed",
        name=name,
        rows_in=int(before.sum()),
        rows_out=int(kept.sum()),
        unit="items",
        why=why if len(gone) else "",
        examples=tuple(f"item {i}" for i in gone[:3]),
    )


def _by_hashing(
    texts: pl.Series, options: EmbedText, means: Means
) -> tuple[Values, dict[str, Any]]:
    """Returns the features of `fedprep.embed.hashing`: as quick to make as to find again."""
    encoder = {"name": "hashing", "library": "fedprep", "revision": REVISION, "dim": options.dim}
    return hash_texts(texts, options.dim, task=TASK, progress=means.progress), encoder


def _by_sentence_transformers(
    texts: pl.Series, options: EmbedText, means: Means
) -> tuple[Values, dict[str, Any]]:
    """Returns the embeddings of a sentence-transformers model, from the cache as far as they are there."""
    device = choose_device(means.device)
    model = find_model(options.encoder)
    decides = {
        "library": "sentence-transformers",
        "revision": model.revision,
        "max_tokens": options.max_tokens,
        "precision": precision_of(device),
    }

    @functools.cache
    def loaded() -> SentenceModel:
        return _load(model, options, device, means.threads)

    def on_ray(_: object, chunks: Iterable[Positions]) -> Iterator[Values]:
        with cpu_threads(means.threads) as threads:
            load = functools.partial(_load_in_worker, model.revision, options, device, threads)
        parts = [texts.gather(chunk).to_list() for chunk in chunks]
        return encode_on_ray(load, parts, threads=threads, on_gpu=device.startswith("cuda"))

    ticks = Ticks(means.progress)
    values = embed_contents(
        content_keys(text.encode() for text in texts),
        texts.str.len_bytes().to_numpy(),
        lambda positions: loaded()(texts.gather(positions), ticks.tick),
        cache=EmbeddingCache(encoder_folder(means.cache / "text", decides)),
        chunk_size=CHUNK_BYTES,
        each=on_ray if means.engine == "ray" else map,
        task=TASK,
        progress=ticks,
    )
    return values, {"name": model.name, **decides, "dim": values.shape[1]}


def _load(
    model: ModelFolder, options: EmbedText, device: str, threads: int | None
) -> SentenceModel:
    return SentenceModel(
        model,
        device=device,
        threads=threads,
        batch_size=options.batch_size,
        max_tokens=options.max_tokens,
    )


def _load_in_worker(
    revision: str, options: EmbedText, device: str, threads: int
) -> Callable[[list[str]], Values]:
    """Returns the encoder on another machine, where the model must be the same to the byte."""
    model = find_model(options.encoder)
    if model.revision != revision:
        raise EncoderError(
            f"the text encoder {model.name} is another one on a worker",
            where=f"revision {model.revision} instead of {revision}",
        )
    encoder = _load(model, options, device, threads)
    return lambda texts: encoder(pl.Series(texts, dtype=pl.String))


TEXT_ENCODERS: dict[str, Callable[[pl.Series, EmbedText, Means], tuple[Values, dict[str, Any]]]] = {
    "hashing": _by_hashing,
    "sentence-transformers": _by_sentence_transformers,
}
"""Kinds of text encoders. `hashing` is chosen by that name only; any other name is a model's."""
