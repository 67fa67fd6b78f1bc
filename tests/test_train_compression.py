"""Compressed answers: what the server decodes, and bytes that are counted in full."""

from __future__ import annotations

import math
from dataclasses import dataclass

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from fedprep.errors import TrainingError
from fedtrain.compression import COMPRESSIONS, Draws

torch = pytest.importorskip("torch", reason="torch is not installed")
torch.set_num_threads(1)

LAW = settings(deadline=None, max_examples=40)
Chunk = tuple[dict[str, "torch.Tensor"], dict[str, "torch.Tensor"], "torch.Tensor", int]


@dataclass(frozen=True)
class Share:
    share: float = 0.5


@st.composite
def chunks(draw: st.DrawFn) -> Chunk:
    """Answers of some clients, some without a row, with equal and zero magnitudes among their values."""
    n = draw(st.integers(1, 6))
    counts = draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    coarse = draw(st.booleans())

    def values(*shape: int) -> torch.Tensor:
        drawn = rng.integers(-2, 3, size=shape) if coarse else rng.normal(size=shape)
        return torch.from_numpy(np.asarray(drawn, np.float32))

    shared = {"weight": values(n, 3, 2), "bias": values(n)}
    rows = {"factors": values(sum(counts), 3), "item_bias": values(sum(counts))}
    return shared, rows, torch.repeat_interleave(torch.arange(n), torch.tensor(counts)), n


def draws(n: int, seed: int = 1) -> Draws:
    return Draws(seed, 3, np.arange(n) * 10 + 4)


def of_client(chunk: Chunk, c: int) -> Chunk:
    shared, rows, row_client, _ = chunk
    mine = row_client == c
    return (
        {name: value[c : c + 1] for name, value in shared.items()},
        {name: value[mine] for name, value in rows.items()},
        torch.zeros(int(mine.sum()), dtype=torch.int64),
        1,
    )


def flat(shared: dict[str, torch.Tensor], rows: dict[str, torch.Tensor]) -> torch.Tensor:
    """All of one client's values, in the order that `topk` names."""
    parts = [each[name].reshape(-1) for each in (shared, rows) for name in sorted(each)]
    return torch.cat(parts)


@pytest.mark.parametrize("method", COMPRESSIONS)
@LAW
@given(chunks())
def test_a_client_s_answer_is_the_same_alone_and_among_others(method: str, chunk: Chunk) -> None:
    numbers = draws(chunk[3])
    shared, rows, sent = COMPRESSIONS[method](*chunk, Share(), numbers)
    for c in range(chunk[3]):
        alone = COMPRESSIONS[method](
            *of_client(chunk, c), Share(), Draws(1, 3, numbers.clients[c : c + 1])
        )
        mine = of_client((shared, rows, chunk[2], chunk[3]), c)
        assert all(torch.equal(alone[0][name], mine[0][name]) for name in shared)
        assert all(torch.equal(alone[1][name], mine[1][name]) for name in rows)
        assert alone[2].tolist() == sent[c : c + 1].tolist()


@pytest.mark.parametrize("method", COMPRESSIONS)
def test_names_shapes_and_types_stay_and_the_input_is_not_changed(method: str) -> None:
    shared = {"z": torch.randn(2, 3), "a": torch.randn(2)}
    rows = {"q": torch.randn(3, 2), "b": torch.randn(3)}
    before = [value.clone() for value in (*shared.values(), *rows.values())]
    found = COMPRESSIONS[method](shared, rows, torch.tensor([0, 0, 1]), 2, Share(), draws(2))
    for given_, decoded in ((shared, found[0]), (rows, found[1])):
        assert set(given_) == set(decoded)
        for name, value in given_.items():
            assert decoded[name].shape == value.shape
            assert decoded[name].dtype == torch.float32
    assert found[2].dtype == torch.int64
    after = (*shared.values(), *rows.values())
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


# Three clients with two shared values each, and with two rows, one row, no row of two values.
@pytest.mark.parametrize(
    ("method", "bytes_up"),
    [
        ("none", [4 * 6 + 4 * 2, 4 * 4 + 4 * 1, 4 * 2]),
        ("topk", [8 * 3 + 4 * 2, 8 * 2 + 4 * 1, 8 * 1]),  # half of 6, 4 and 2 values
        ("int8", [6 + 4 * 3 + 4 * 2, 4 + 4 * 3 + 4 * 1, 2 + 4 * 1]),  # three scales, three, one
    ],
)
def test_bytes_are_values_places_scales_and_row_ids(method: str, bytes_up: list[int]) -> None:
    shared = {"w": torch.tensor([[9.0, 8.0], [7.0, 6.0], [5.0, 4.0]])}
    rows = {"q": torch.tensor([[1.0], [2.0], [3.0]]), "b": torch.tensor([1.0, 2.0, 3.0])}
    found = COMPRESSIONS[method](shared, rows, torch.tensor([0, 0, 1]), 3, Share(), draws(3))
    assert found[2].tolist() == bytes_up


def test_none_changes_nothing() -> None:
    shared, rows = {"w": torch.randn(2, 3)}, {"q": torch.randn(1, 2)}
    found = COMPRESSIONS["none"](shared, rows, torch.tensor([1]), 2, Share(), draws(2))
    assert torch.equal(found[0]["w"], shared["w"])
    assert torch.equal(found[1]["q"], rows["q"])


@LAW
@given(chunks(), st.floats(0.01, 1.0))
def test_topk_keeps_each_client_s_largest_and_the_first_of_equals(
    chunk: Chunk, share: float
) -> None:
    shared, rows, _ = COMPRESSIONS["topk"](*chunk, Share(share), draws(chunk[3]))
    for c in range(chunk[3]):
        values = flat(*of_client(chunk, c)[:2]).tolist()
        decoded = flat(*of_client((shared, rows, chunk[2], chunk[3]), c)[:2]).tolist()
        most = max(1, round(share * len(values)))
        largest = sorted(range(len(values)), key=lambda at: (-abs(values[at]), at))[:most]
        expected = [value if at in largest else 0.0 for at, value in enumerate(values)]
        assert decoded == expected


def test_topk_of_everything_is_everything_and_zeros_cost_nothing() -> None:
    shared = {"w": torch.tensor([[0.0, 1.0, -2.0, 0.0]])}
    found = COMPRESSIONS["topk"](
        shared, {}, torch.zeros(0, dtype=torch.int64), 1, Share(1.0), draws(1)
    )
    assert torch.equal(found[0]["w"], shared["w"])
    assert found[2].tolist() == [16]


@pytest.mark.parametrize("share", [0.0, -1.0, 1.1, math.nan])
def test_topk_refuses_a_share_that_is_none(share: float) -> None:
    with pytest.raises(TrainingError, match="share"):
        COMPRESSIONS["topk"](
            {"w": torch.ones(1, 1)},
            {},
            torch.zeros(0, dtype=torch.int64),
            1,
            Share(share),
            draws(1),
        )


@LAW
@given(chunks())
def test_int8_is_less_than_a_step_away_on_at_most_255_levels(chunk: Chunk) -> None:
    shared, rows, _ = COMPRESSIONS["int8"](*chunk, Share(), draws(chunk[3]))
    for c in range(chunk[3]):
        before, after = of_client(chunk, c), of_client((shared, rows, chunk[2], chunk[3]), c)
        for kind in (0, 1):
            for name, value in before[kind].items():
                if not value.numel():
                    continue
                step = float(value.abs().max()) / 127
                error = (after[kind][name] - value).abs().max()
                assert float(error) <= step * (1 + 1e-5)
                levels = after[kind][name].double() / (step or 1.0)
                assert float((levels - levels.round()).abs().max()) < 1e-4
                assert float(levels.abs().max()) <= 127.001


def test_int8_is_right_on_average() -> None:
    value = torch.linspace(-1, 1, 41).repeat(4000, 1)
    numbers = Draws(5, 2, np.arange(4000))
    found = COMPRESSIONS["int8"](
        {"w": value}, {}, torch.zeros(0, dtype=torch.int64), 4000, Share(), numbers
    )[0]["w"]
    assert len(found[:, 7].unique()) == 2
    # A step of 1/127 rounded by chance deviates by half a step at most, over √4000.
    assert float((found.mean(0) - value[0]).abs().max()) < 4 * 0.5 / 127 / math.sqrt(4000)


def test_int8_rounds_each_value_by_a_number_of_its_own() -> None:
    shared = {"w": torch.full((50, 41), 0.5), "v": torch.full((50, 41), 0.5)}
    rows = {"q": torch.full((100, 41), 0.5)}
    for tensors in (shared, rows):
        for value in tensors.values():
            value[..., 0] = 1.0
    row_client = torch.arange(50).repeat_interleave(2)

    def decoded(round: int) -> list[np.ndarray]:
        found = COMPRESSIONS["int8"](
            shared, rows, row_client, 50, Share(), Draws(1, round, np.arange(50))
        )
        return [
            (each[..., 1:] > 0.5).numpy()
            for each in (found[0]["w"], found[0]["v"], found[1]["q"][::2], found[1]["q"][1::2])
        ]

    first, second = decoded(1), decoded(2)
    for one in range(4):
        assert abs(first[one].mean() - 0.5) < 0.05
        assert abs((first[one] == second[one]).mean() - 0.5) < 0.05
        for other in range(one):
            assert abs((first[one] == first[other]).mean() - 0.5) < 0.05


@pytest.mark.parametrize("method", COMPRESSIONS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_no_method_hides_a_value_that_is_not_finite(method: str, bad: float) -> None:
    shared = {"w": torch.tensor([[1.0, bad, 2.0], [1.0, 2.0, 3.0]])}
    rows = {"q": torch.tensor([[1.0], [bad]])}
    found = COMPRESSIONS[method](shared, rows, torch.tensor([0, 1]), 2, Share(), draws(2))
    assert not torch.isfinite(found[0]["w"][0]).all()
    assert torch.isfinite(found[0]["w"][1]).all()
    assert torch.isfinite(found[1]["q"][0]).all()
    assert not torch.isfinite(found[1]["q"][1]).all()


@pytest.mark.parametrize("method", COMPRESSIONS)
def test_an_answer_of_nothing_is_nothing(method: str) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    shared, rows, sent = COMPRESSIONS[method]({}, {}, none, 2, Share(), draws(2))
    assert (shared, rows, sent.tolist()) == ({}, {}, [0, 0])
    zeros = COMPRESSIONS[method]({"w": torch.zeros(2, 3)}, {}, none, 2, Share(), draws(2))
    assert torch.equal(zeros[0]["w"], torch.zeros(2, 3))


@pytest.mark.parametrize(("method", "bytes_up"), [("none", 12), ("topk", 8), ("int8", 7)])
def test_rows_that_are_not_sent_cost_no_ids(method: str, bytes_up: int) -> None:
    """The chunk has rows of items, which are private: three values of each client are all that goes up."""
    shared = {"weight": torch.tensor([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]])}
    row_client = torch.tensor([0, 0, 1])
    options = Share(1 / 3)
    *_, found = COMPRESSIONS[method](shared, {}, row_client, 2, options, draws(2))
    assert found.tolist() == [bytes_up] * 2
