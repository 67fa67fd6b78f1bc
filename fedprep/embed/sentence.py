"""Texts to vectors through a sentence-transformers model, at speed."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from fedprep.embed.ahead import ahead
from fedprep.embed.hub import ModelFolder
from fedprep.embed.torch_setup import autocast, cpu_threads, import_torch, precision_of
from fedprep.errors import EncoderError, MissingExtraError, RecipeError, install

__all__ = ["SentenceModel", "plan_batches"]

CPU_TOKENS = 1024
"""Tokens in a batch on a processor: its activations stay in the cache of a core."""

USUAL_LENGTH = 256
"""Tokens that a batch of `batch_size` texts is planned for on an accelerator."""


class SentenceModel:
    """A loaded model: texts in, vectors out.

    On a processor each of `threads` workers encodes whole batches with one thread, and the texts of a
    batch have equally many tokens. This is faster than many threads inside one operation and than
    padding, and a text's vector is the same to the bit whatever the number of threads, the batch size
    and the other texts. On an accelerator, where batches are large and padded, the last bits may
    follow the other texts; a second worker prepares the next batch.

    Args:
        model: what sentence-transformers can load.
        device: as `choose_device` gives it.
        threads: workers on a processor; None is torch's own choice.
        batch_size: texts in a batch at most; on an accelerator, texts of 256 tokens.
        max_tokens: longer texts are cut; 0 is the model's own limit, which is never passed.

    Raises:
        EncoderError: the folder's model cannot be loaded.
        MissingExtraError: sentence-transformers or torch are not installed.
        RecipeError: `max_tokens` leaves no room for a word.
    """

    def __init__(
        self,
        model: ModelFolder,
        *,
        device: str,
        threads: int | None,
        batch_size: int,
        max_tokens: int,
    ) -> None:
        self.name = model.name
        self.device = device
        self.threads = threads
        self.batch_size = batch_size
        self._model = _load(model, device)
        if precision_of(device) == "float32":
            self._model.float()  # also weights that are stored in 16 bits
        self._limit = int(getattr(self._model, "max_seq_length", None) or 0)
        if max_tokens:
            self._limit = min(self._limit or max_tokens, max_tokens)
            self._model.max_seq_length = self._limit
        # Its own copy: the model's tokenizer keeps settings, which threads must not change in use.
        self._counter = copy.deepcopy(getattr(self._model, "tokenizer", None))
        self._require_room(max_tokens)
        self.dim = int(self._encode(["a"]).shape[1])

    def __call__(
        self, texts: pl.Series, tick: Callable[[int], None] = lambda n: None
    ) -> NDArray[np.float32]:
        """Returns float32 (n, dim), one vector a text (String, no nulls); `tick` is told each batch's size.

        Raises:
            EncoderError: the model fails, or gives a vector that is not finite.
        """
        values = np.empty((len(texts), self.dim), np.float32)
        on_cpu = self.device == "cpu"
        batches = plan_batches(
            self._token_counts(texts),
            most_texts=self.batch_size if on_cpu else 64 * self.batch_size,
            most_tokens=CPU_TOKENS if on_cpu else USUAL_LENGTH * self.batch_size,
            of_one_length=on_cpu,
        )
        parts = (texts.gather(batch).to_list() for batch in batches)
        with cpu_threads(self.threads) as threads, cpu_threads(1 if on_cpu else None):
            workers = threads if on_cpu else 2
            with ahead(self._encode, parts, threads=workers, depth=2 * workers) as made:
                for batch, vectors in zip(batches, made, strict=True):
                    values[batch] = vectors
                    tick(len(batch))
        _require_finite(values, texts, self.name)
        return values

    def _encode(self, texts: list[str]) -> NDArray[np.float32]:
        try:
            with autocast(self.device):
                made = self._model.encode(texts, batch_size=len(texts), show_progress_bar=False)
        except Exception as error:
            raise EncoderError(
                f"the text encoder {self.name} fails: {_first_line(error)}",
                hint="a smaller embed.text.batch_size needs less memory",
            ) from error
        return np.asarray(made, dtype=np.float32)

    def _token_counts(self, texts: pl.Series) -> NDArray[np.int64]:
        """Returns how long each text is for the model: int64 (n,), 1 at least."""
        if not callable(self._counter):
            return 1 + texts.str.len_bytes().to_numpy().astype(np.int64) // 4
        options = {"truncation": True, "max_length": self._limit} if self._limit else {}
        ids = self._counter(texts.to_list(), verbose=False, **options)["input_ids"]
        return np.fromiter(map(len, ids), np.int64, len(ids))

    def _require_room(self, max_tokens: int) -> None:
        added = getattr(self._counter, "num_special_tokens_to_add", lambda: 0)()
        if 0 < max_tokens <= added:
            raise RecipeError(
                f"embed.text.max_tokens = {max_tokens} leaves no room for a word",
                expected=f"more than {added}, which {self.name} adds to each text; 0 is its own limit",
            )


def plan_batches(
    lengths: NDArray[np.int64], *, most_texts: int, most_tokens: int, of_one_length: bool
) -> list[NDArray[np.int64]]:
    """Returns the positions of each batch: longest first, neighbours of like length.

    A batch holds at most `most_texts` texts and `most_tokens` tokens, padding counted; a text that is
    longer has a batch of its own. With `of_one_length` there is no padding at all.
    """
    order = np.argsort(-lengths, kind="stable")
    sorted_lengths = -lengths[order]  # ascending
    batches = []
    low = 0
    while low < len(order):
        length = -int(sorted_lengths[low])
        high = low + max(1, min(most_texts, most_tokens // max(1, length)))
        if of_one_length:
            high = min(high, int(np.searchsorted(sorted_lengths, -length, side="right")))
        batches.append(order[low:high])
        low = high
    return batches


def _require_finite(values: NDArray[np.float32], texts: pl.Series, name: str) -> None:
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        text = texts[int(bad[0])]
        raise EncoderError(
            f"the text encoder {name} gives {len(bad):,} vectors that are not finite",
            where=f"the first is of the text {text[:80]!r}",
            hint="--device cpu computes in float32; another encoder may be sounder",
        )


def _load(model: ModelFolder, device: str) -> Any:
    import_torch("text")
    try:
        library = importlib.import_module("sentence_transformers")
    except ModuleNotFoundError as error:
        if error.name != "sentence_transformers":
            raise
        raise MissingExtraError(
            "sentence-transformers is not installed",
            hint=f'{install("text")}; or embed.text.encoder = "hashing" needs no model',
        ) from None
    try:
        with _quiet():
            return library.SentenceTransformer(
                str(model.folder), device=device, local_files_only=True
            )
    except Exception as error:
        raise EncoderError(
            f"the text encoder {model.name} cannot be loaded: {_first_line(error)}",
            where=str(model.folder),
            expected="a model that sentence-transformers loads without code of its own",
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps transformers from drawing progress bars."""
    logging = importlib.import_module("transformers.utils.logging")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
