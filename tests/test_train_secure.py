"""Secure sum of updates: the sum to the bit, from uploads that say nothing one by one."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from fedprep.errors import TrainingError
from fedtrain.secure import opened, ring, uploads

torch = pytest.importorskip("torch", reason="torch is not installed")
torch.set_num_threads(1)

LAW = settings(deadline=None, max_examples=40)


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[np.ndarray, torch.Tensor, int]:
    """Client ids, their words over all of 64 bits, and a number of neighbours."""
    n = draw(st.integers(2, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    ids = rng.choice(10_000, size=n, replace=False)
    bound = 2**63 if draw(st.booleans()) else 5
    words = torch.from_numpy(rng.integers(-bound, bound, size=(n, draw(st.integers(1, 5)))))
    return ids, words, draw(st.integers(0, n + 2))


@LAW
@given(cohorts(), st.integers(0, 2**40), st.integers(0, 100))
def test_the_sum_of_the_uploads_is_the_sum_of_the_words_to_the_bit(
    cohort: tuple[np.ndarray, torch.Tensor, int], seed: int, round: int
) -> None:
    ids, words, n_neighbours = cohort
    seen = uploads(words, ids, ring(ids, round, seed, n_neighbours))
    assert torch.equal(seen.sum(0), words.sum(0))
    assert (seen != words).all()


@LAW
@given(cohorts(), st.data())
def test_an_upload_depends_neither_on_chunk_nor_on_the_order_of_clients(
    cohort: tuple[np.ndarray, torch.Tensor, int], data: st.DataObject
) -> None:
    ids, words, n_neighbours = cohort
    whole = uploads(words, ids, ring(ids, 1, 2, n_neighbours))
    order = np.array(data.draw(st.permutations(range(len(ids)))))
    cut = data.draw(st.integers(0, len(ids)))
    other = ring(ids[order], 1, 2, n_neighbours)
    for part in (order[:cut], order[cut:]):
        assert torch.equal(uploads(words[part], ids[part], other), whole[part])


@LAW
@given(cohorts(), st.data())
def test_after_dropouts_the_sum_is_that_of_those_who_stayed(
    cohort: tuple[np.ndarray, torch.Tensor, int], data: st.DataObject
) -> None:
    ids, words, _ = cohort
    n = len(ids)
    gone = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    if n - gone.sum() < 2:
        gone[:] = False
    agreed = ring(ids, 1, 2)  # all of them share masks with all
    seen = uploads(words, ids, agreed)
    total = seen[~gone].sum(0) + opened(ids[gone], agreed, words.shape[1], threshold=0.0)
    assert torch.equal(total, words[~gone].sum(0))


@pytest.mark.parametrize(
    ("n", "n_neighbours", "expected"),
    [(10, 4, 4), (10, 3, 4), (10, 0, 9), (10, 9, 9), (4, 0, 3), (9, 50, 8), (9, 1, 2), (2, 0, 1)],
)
def test_a_client_shares_masks_with_the_number_of_others_asked_for(
    n: int, n_neighbours: int, expected: int
) -> None:
    assert ring(np.arange(n), 1, 2, n_neighbours).n_neighbours == expected


def test_masks_are_shared_with_the_nearest_on_the_ring_alone() -> None:
    ids, words = np.arange(12), torch.arange(12)[:, None]
    agreed = ring(ids, 1, 2, 4)
    around = agreed.clients[[10, 11, 1, 2]]  # the neighbours of the one at place 0
    with pytest.raises(TrainingError, match="no neighbour left"):
        opened(around, agreed, 1, threshold=0.0)
    for spared in around:
        gone = np.isin(ids, around) & (ids != spared)
        seen = uploads(words[~gone], ids[~gone], agreed).sum(0)
        left_behind = opened(ids[gone], agreed, 1, threshold=0.0)
        assert int(left_behind) != 0
        assert torch.equal(seen + left_behind, words[~gone].sum(0))


def test_large_cohorts_share_masks_with_some_alone() -> None:
    assert ring(np.arange(200), 1, 2).n_neighbours == 2 * 8 + 40
    assert ring(np.arange(64), 1, 2).n_neighbours == 63


def test_dropouts_among_few_neighbours_are_opened() -> None:
    ids = np.arange(40)
    words = torch.arange(80).reshape(40, 2)
    agreed = ring(ids, 4, 9, 6)
    gone = np.isin(ids, [3, 17, 18, 30])
    total = uploads(words[~gone], ids[~gone], agreed).sum(0) + opened(ids[gone], agreed, 2)
    assert torch.equal(total, words[~gone].sum(0))


@pytest.mark.parametrize("n_neighbours", [0, 2])
def test_what_the_server_sees_of_one_client_is_uniform(n_neighbours: int) -> None:
    ids = np.arange(5)
    words = torch.full((5, 8_000), 3)
    seen = uploads(words, ids, ring(ids, 1, 2, n_neighbours))[2].numpy()
    for at in range(8):  # each byte of a word by itself
        counts = np.bincount(seen.view(np.uint8)[at::8], minlength=256)
        chi2 = ((counts - 8_000 / 256) ** 2 / (8_000 / 256)).sum()
        assert 170 < chi2 < 350  # 255 ± 4 deviations of √510
    bits = np.unpackbits(seen.view(np.uint8).reshape(-1, 8), axis=1).astype(float)
    correlation = np.corrcoef(bits.T) - np.eye(64)
    assert np.abs(correlation).max() < 5 / np.sqrt(8_000)


def test_masks_are_others_in_each_round_for_each_seed_and_word() -> None:
    ids = np.arange(4)
    words = torch.zeros(4, 50, dtype=torch.int64)
    seen = [uploads(words, ids, ring(ids, *at)) for at in ((1, 2), (2, 2), (1, 3))]
    assert len(torch.cat(seen).unique()) == 3 * 4 * 50


def test_every_pair_has_a_mask_of_its_own() -> None:
    near, far = (ring(np.arange(9), 1, 2, n_neighbours) for n_neighbours in (2, 4))
    one, two = (
        [int(opened(near.clients[at : at + 1], agreed, 1, threshold=0.0)) for at in range(9)]
        for agreed in (near, far)
    )
    # Were a client's masks equal, what it shares at distance 2 would follow from distance 1.
    for at in range(2, 9):
        assert (two[at] - one[at] - one[at] - one[at - 1]) % 2**64 != 0


def test_neighbours_are_others_in_each_round() -> None:
    orders = [ring(np.arange(30), *at).clients.tolist() for at in ((1, 2), (2, 2), (1, 3))]
    assert all(sorted(order) == list(range(30)) for order in orders)
    assert len({tuple(order) for order in [*orders, range(30)]}) == 4


def test_blocks_of_masks_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    ids, words = np.arange(5), torch.arange(35).reshape(5, 7)
    agreed = ring(ids, 1, 2)
    whole = uploads(words, ids, agreed), opened(ids[:1], agreed, 7)
    monkeypatch.setattr("fedtrain.secure.BLOCK", 10)
    assert torch.equal(uploads(words, ids, agreed), whole[0])
    assert torch.equal(opened(ids[:1], agreed, 7), whole[1])


def test_the_words_given_are_not_changed() -> None:
    words = torch.zeros(3, 2, dtype=torch.int64)
    uploads(words, np.arange(3), ring(np.arange(3), 1, 2))
    assert (words == 0).all()


def test_clients_that_cannot_hide_one_another_are_refused() -> None:
    with pytest.raises(TrainingError, match="1 clients take part"):
        ring(np.array([4]), 1, 2)
    with pytest.raises(TrainingError, match="twice"):
        ring(np.array([4, 4, 5]), 1, 2)
    agreed = ring(np.arange(4), 1, 2)
    with pytest.raises(TrainingError, match="agreed on no masks"):
        uploads(torch.zeros(1, 1, dtype=torch.int64), np.array([9]), agreed)
    with pytest.raises(TrainingError, match="1 clients are left"):
        opened(np.arange(3), agreed, 1)
    with pytest.raises(TrainingError, match="cannot be opened"):
        opened(np.arange(2), agreed, 1, threshold=0.9)
    wide = ring(np.arange(9), 1, 2, 2)
    gone = wide.clients[[0, 2, 4, 6]]
    with pytest.raises(TrainingError, match="no neighbour left"):
        opened(gone, wide, 1, threshold=0.0)
