"""Which input is named when it is not finite, or not of the scale that normalised ones have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from built import write_built

torch = pytest.importorskip("torch", reason="torch is not installed")
torch.set_num_threads(1)

from federations import begin, random_federation, work_of  # noqa: E402
from torch.nn.functional import normalize  # noqa: E402

from fedprep.dataset import Dataset  # noqa: E402
from fedtrain.batch import Features  # noqa: E402
from fedtrain.chunks import chunk_of  # noqa: E402
from fedtrain.engine import Work, train_chunk  # noqa: E402
from fedtrain.explain import explain, suspect  # noqa: E402
from fedtrain.guard import norms, sound  # noqa: E402
from fedtrain.settings import parse_plan  # noqa: E402
from fedtrain.train import train  # noqa: E402


def tower(image: float = 1.0, **plan: Any) -> Work:
    """Texts and images of length 1, the images times a factor, every other one missing; z-scored users."""
    federation = random_federation(3)
    make = torch.Generator().manual_seed(3)
    n = federation.n_items
    items = {
        "text": normalize(torch.randn(n, 6, generator=make)),
        "image": normalize(torch.randn(n, 40, generator=make)) * image,
    }
    has = {"text": torch.ones(n, dtype=torch.bool), "image": torch.arange(n) % 2 == 0}
    users = torch.randn(federation.n_users, 16, generator=make)
    keywords = {"dim": 4, "hidden": 5}
    return work_of(
        federation,
        features=Features(items, has, users),
        sizes={"modalities": {"text": 6, "image": 40}, "behavior": 16},
        **{"task": "binary", "model": "two_tower", "two_tower": keywords, "lr": 0.1, **plan},
    )


@pytest.mark.parametrize("scale", [1.0, 40**0.5])
def test_vectors_of_length_1_and_standardised_ones_are_in_scale(scale: float) -> None:
    work = tower(scale)
    assert suspect(work) == ""
    assert {suspect(work, client) for client in range(work.federation.n_clients)} == {""}


@pytest.mark.parametrize(
    ("scale", "length"), [(3.0, "3 long"), (160.0, "160 long"), (0.1, "0.1 long")]
)
def test_a_modality_out_of_scale_is_named_with_its_length_and_key(
    scale: float, length: str
) -> None:
    work = tower(scale)
    assert "image" in suspect(work) and length in suspect(work)
    assert "[embed.image] normalise" in suspect(work) and suspect(work, 0) == suspect(work)


def test_what_stands_where_an_item_has_none_is_not_read() -> None:
    work = tower()
    work.features.items["image"][1] = float("nan")
    assert suspect(work) == ""


def test_a_value_that_is_not_finite_comes_first_and_only_at_its_clients() -> None:
    work = tower(160.0)
    train = work.federation.train
    own = [set(train.item_id[train.of(torch.tensor([c]).numpy())[1]].tolist()) for c in (0, 1)]
    item = min(own[0] - own[1])
    work.features.items["text"][item, 2] = float("inf")
    assert suspect(work) == suspect(work, 0) == f"text, column 2, of item {item} is inf"
    assert suspect(work, 1).startswith("image")


def test_a_modality_out_of_scale_is_told_before_the_first_round_and_once_in_the_events(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = write_built(tmp_path / "data")
    file = data / "embeddings" / "image.parquet"
    rows = pl.read_parquet(file)
    there = rows["embedding"].is_not_null()
    louder = rows["embedding"].drop_nulls().to_numpy() * 160
    column = pl.DataFrame(
        {"at": there.arg_true(), "embedding": pl.Series(louder, dtype=rows["embedding"].dtype)}
    )
    at = rows.drop("embedding").with_row_index("at")
    at.join(column, on="at", how="left", maintain_order="left").drop("at").write_parquet(file)
    plan = parse_plan(
        {"model": "two_tower", "task": "binary", "rounds": 2, "threads": 1, "clients_per_round": 2}
    )
    for go_on in (False, True):
        caplog.clear()
        dataset = Dataset.open(data, allow_changed=True)
        run = train(
            dataset, plan, tmp_path / "run", go_on=go_on, allow_invalid=True, stop=lambda: True
        )
        assert "first input to look at: image" in caplog.text
        told = [event for event in run.events() if event["event"] == "odd input"]
        assert len(told) == 1 and told[0]["round"] == 0
        assert "[embed.image] normalise" in told[0]["what"]


@pytest.mark.parametrize(
    "plan", [{"local_epochs": 4, "batch_size": 2, "lr": 1.2}, {"local_steps": 30, "batch_size": 1}]
)
def test_the_step_that_is_named_is_the_first_after_which_a_client_is_not_sound(
    plan: dict[str, Any],
) -> None:
    federation = random_federation(4, n_clients=2)
    work = work_of(federation, model="mf", mf={"dim": 3, "start": 0.5}, **{"lr": 1.0, **plan})
    server, clients = begin(work)
    chunk = chunk_of(federation, np.array([1]))
    steps = int(train_chunk(work, server.at(1), clients, chunk).steps.max())

    def is_sound(after: int) -> bool:
        short = replace(work, plan=msgspec.structs.replace(work.plan, local_steps=after))
        local = train_chunk(short, server.at(1), clients, chunk)
        answer = work.algorithm.answer(local, work.private)
        return bool(sound(local, answer, norms(answer, local))[0])

    first = next(after for after in range(1, steps + 1) if not is_sound(after))
    assert 2 < first < steps
    told = explain(work, server.at(1), clients, 1, 1.0)
    assert f"not finite, or beyond reason, after local step {first};" in told
    assert "inputs are in order; learning rates: item_bias" in told
