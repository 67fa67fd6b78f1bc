"""Clipping, noise, and the accountant, whose numbers are the library's own."""

from __future__ import annotations

import math
import sys

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from fedeval.federated import gaussian_delta
from fedprep.errors import MissingExtraError, TrainingError
from fedtrain.privacy import ACCOUNTANTS, clip_updates, epsilon, noise, uncounted
from fedtrain.settings import parse_plan

torch = pytest.importorskip("torch", reason="torch is not installed")
torch.set_num_threads(1)

LAW = settings(deadline=None, max_examples=40)
Chunk = tuple[dict[str, "torch.Tensor"], dict[str, "torch.Tensor"], "torch.Tensor", int]


@st.composite
def chunks(draw: st.DrawFn) -> Chunk:
    """Answers of some clients, some without a row."""
    n = draw(st.integers(1, 6))
    counts = draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = draw(st.sampled_from([1e-6, 1.0, 1e6]))

    def values(*shape: int) -> torch.Tensor:
        return torch.from_numpy((scale * rng.normal(size=shape)).astype(np.float32))

    shared = {"weight": values(n, 3, 4), "bias": values(n)}
    rows = {"factors": values(sum(counts), 5), "item_bias": values(sum(counts))}
    return shared, rows, torch.repeat_interleave(torch.arange(n), torch.tensor(counts)), n


def client_norms(chunk: Chunk) -> list[float]:
    shared, rows, row_client, n = chunk
    return [
        math.sqrt(
            sum(float((value[c].double() ** 2).sum()) for value in shared.values())
            + sum(float((value[row_client == c].double() ** 2).sum()) for value in rows.values())
        )
        for c in range(n)
    ]


# --- clipping -----------------------------------------------------------------------------------------


def test_one_norm_is_over_all_that_a_client_sends() -> None:
    shared = {"w": torch.tensor([[3.0], [0.0]])}
    rows = {"q": torch.tensor([[4.0, 0.0], [0.0, 1.0]])}
    cut_shared, cut_rows, norms, clipped = clip_updates(shared, rows, torch.tensor([0, 1]), 2, 2.5)
    assert norms.tolist() == [5.0, 1.0]
    assert clipped.tolist() == [True, False]
    torch.testing.assert_close(cut_shared["w"], torch.tensor([[1.5], [0.0]]))
    torch.testing.assert_close(cut_rows["q"], torch.tensor([[2.0, 0.0], [0.0, 1.0]]))


@LAW
@given(chunks(), st.floats(1e-7, 1e7))
def test_no_norm_is_above_the_bound_and_small_updates_are_left_alone(
    chunk: Chunk, norm: float
) -> None:
    shared, rows, row_client, n = chunk
    cut_shared, cut_rows, norms, clipped = clip_updates(*chunk, norm)
    np.testing.assert_allclose(norms.numpy(), client_norms(chunk), rtol=1e-12)
    after = client_norms((cut_shared, cut_rows, row_client, n))
    for c in range(n):
        assert after[c] <= norm
        assert bool(clipped[c]) == (float(norms[c]) > norm)
        if clipped[c]:
            assert after[c] >= norm * (1 - 1e-6)
        else:
            assert all(torch.equal(cut_shared[name][c], shared[name][c]) for name in shared)
            mine = row_client == c
            assert all(torch.equal(cut_rows[name][mine], rows[name][mine]) for name in rows)


@LAW
@given(chunks())
def test_a_client_is_clipped_alike_alone_and_among_others(chunk: Chunk) -> None:
    shared, rows, row_client, n = chunk
    together = clip_updates(*chunk, 1.0)
    for c in range(n):
        mine = row_client == c
        alone = clip_updates(
            {name: value[c : c + 1] for name, value in shared.items()},
            {name: value[mine] for name, value in rows.items()},
            torch.zeros(int(mine.sum()), dtype=torch.int64),
            1,
            1.0,
        )
        assert torch.equal(alone[2], together[2][c : c + 1])
        assert all(torch.equal(alone[0][name][0], together[0][name][c]) for name in shared)
        assert all(torch.equal(alone[1][name], together[1][name][mine]) for name in rows)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_clipping_hides_no_value_that_is_not_finite(bad: float) -> None:
    shared = {"w": torch.tensor([[1.0, bad], [30.0, 40.0]])}
    cut, _, norms, _ = clip_updates(shared, {}, torch.zeros(0, dtype=torch.int64), 2, 5.0)
    assert not torch.isfinite(cut["w"][0]).all()
    assert not math.isfinite(norms[0])
    torch.testing.assert_close(cut["w"][1], torch.tensor([3.0, 4.0]))


@pytest.mark.parametrize("norm", [0.0, -1.0, math.nan, math.inf])
def test_a_bound_that_bounds_nothing_is_refused(norm: float) -> None:
    with pytest.raises(TrainingError, match="bound"):
        clip_updates({}, {}, torch.zeros(0, dtype=torch.int64), 1, norm)


# --- noise --------------------------------------------------------------------------------------------


def test_noise_is_normal_with_the_deviation_asked_for() -> None:
    found = noise((500, 401), 7, 3, "q", 2.5).numpy().ravel()
    assert found.dtype == np.float64
    assert abs(found.mean()) < 4 * 2.5 / math.sqrt(found.size)
    assert abs(found.std() / 2.5 - 1) < 0.01
    inside = [np.mean(np.abs(found) < z * 2.5) for z in (0.6745, 1.96, 3.0)]
    np.testing.assert_allclose(inside, [0.5, 0.95, 0.9973], atol=0.004)
    assert abs(np.corrcoef(found[:-1:2], found[1::2])[0, 1]) < 0.01


def test_noise_is_another_for_each_seed_round_and_name() -> None:
    addresses = [(1, 2, "q"), (2, 2, "q"), (1, 3, "q"), (1, 2, "p")]
    drawn = [noise((3, 1), *address, 1.0) for address in addresses]
    assert torch.equal(drawn[0], noise((3, 1), 1, 2, "q", 1.0))
    assert len({tuple(each.ravel().tolist()) for each in drawn}) == 4
    assert (noise((4,), 1, 2, "q", 0.0) == 0).all()
    assert noise((), 1, 2, "q", 1.0).shape == ()


def test_noise_is_the_same_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = noise((7, 3), 1, 2, "q", 1.0)
    monkeypatch.setattr("fedtrain.privacy.BLOCK", 2)
    assert torch.equal(noise((7, 3), 1, 2, "q", 1.0), whole)


def test_noise_of_negative_deviation_is_refused() -> None:
    with pytest.raises(TrainingError, match="deviation"):
        noise((1,), 1, 1, "q", -1.0)


# --- accountant ---------------------------------------------------------------------------------------

SETTINGS = [(1000, 0.01, 1.0), (50, 0.1, 2.0), (200, 100 / 6040, 0.8)]


@pytest.mark.parametrize(("name", "kind"), [("rdp", "RDPAccountant"), ("pld", "PRVAccountant")])
@pytest.mark.parametrize(("rounds", "rate", "multiplier"), SETTINGS)
def test_epsilon_is_the_library_s_own_number(
    name: str, kind: str, rounds: int, rate: float, multiplier: float
) -> None:
    library = pytest.importorskip("opacus.accountants", reason="Opacus is not installed")
    theirs = getattr(library, kind)()
    for _ in range(rounds):
        theirs.step(noise_multiplier=multiplier, sample_rate=rate)
    assert epsilon(rounds, rate, multiplier, 1e-5, name) == theirs.get_epsilon(delta=1e-5)


# Google's dp-accounting 0.6.0, RdpAccountant and PLDAccountant, Poisson sampling, delta 1e-5.
@pytest.mark.parametrize(
    ("setting", "rdp", "pld"),
    [
        (SETTINGS[0], 2.101366525420273, 1.8282436455855091),
        (SETTINGS[1], 1.843951861015158, 1.6525022602139507),
        (SETTINGS[2], 3.3986602340055545, 2.764290358187675),
    ],
)
def test_epsilon_agrees_with_a_second_library(
    setting: tuple[int, float, float], rdp: float, pld: float
) -> None:
    pytest.importorskip("opacus", reason="Opacus is not installed")
    assert epsilon(*setting, 1e-5, "rdp") == pytest.approx(rdp, rel=1e-4)
    assert pld <= epsilon(*setting, 1e-5, "pld") <= pld + 0.02


@pytest.mark.parametrize(("rounds", "multiplier"), [(1, 4.0), (10, 4.0), (100, 40.0)])
def test_epsilon_without_sampling_bounds_the_exact_one_from_above(
    rounds: int, multiplier: float
) -> None:
    pytest.importorskip("opacus", reason="Opacus is not installed")
    found = epsilon(rounds, 1.0, multiplier, 1e-5)
    # Rounds of noise σ are one round of noise σ / √rounds.
    sigma = multiplier / math.sqrt(rounds)
    assert gaussian_delta(sigma, found) <= 1e-5
    assert gaussian_delta(sigma, 0.85 * found) > 1e-5


def test_epsilon_grows_with_rounds_and_rate_and_falls_with_noise() -> None:
    pytest.importorskip("opacus", reason="Opacus is not installed")
    base = epsilon(100, 0.02, 1.0, 1e-5)
    assert epsilon(200, 0.02, 1.0, 1e-5) > base
    assert epsilon(100, 0.04, 1.0, 1e-5) > base
    assert epsilon(100, 0.02, 2.0, 1e-5) < base
    assert epsilon(100, 0.02, 1.0, 1e-7) > base


def test_much_noise_is_counted_by_large_orders() -> None:
    library = pytest.importorskip("opacus.accountants", reason="Opacus is not installed")
    assert (
        max(library.RDPAccountant.DEFAULT_ALPHAS) == 63
    )  # (1, 1/63) costs log(1/delta) / 62 alone
    assert epsilon(1, 0.001, 1e4, 1e-5) < math.log(1e5) / 1000


def test_what_the_library_warns_of_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("opacus", reason="Opacus is not installed")
    with caplog.at_level("INFO"):
        assert epsilon(100, 1.0, 0.01, 1e-5) > 1e5  # best at the smallest order there is
        assert "accountant rdp" in caplog.text
        epsilon(500, 100 / 6040, 5.0, 1e-5, "pld")
        assert "accountant pld" in caplog.text


def test_no_noise_costs_everything_and_no_round_nothing() -> None:
    assert epsilon(10, 0.1, 0.0, 1e-5) == math.inf
    assert epsilon(0, 0.1, 1.0, 1e-5) == 0.0


@pytest.mark.parametrize(
    "numbers",
    [(-1, 0.1, 1.0, 1e-5), (1, 0.0, 1.0, 1e-5), (1, 1.1, 1.0, 1e-5), (1, 0.1, -1.0, 1e-5),
     (1, 0.1, math.nan, 1e-5), (1, 0.1, 1.0, 0.0), (1, 0.1, 1.0, 1.0)],
)  # fmt: skip
def test_numbers_outside_their_range_are_refused(numbers: tuple[int, float, float, float]) -> None:
    with pytest.raises(TrainingError, match="epsilon is asked for"):
        epsilon(*numbers)


def test_an_accountant_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(TrainingError, match="pld, rdp"):
        epsilon(1, 0.1, 1.0, 1e-5, "moments")
    assert set(ACCOUNTANTS) == {"pld", "rdp"}


def test_pld_says_that_it_cannot_do_without_sampling() -> None:
    with pytest.raises(TrainingError, match="'rdp'"):
        epsilon(1, 1.0, 1.0, 1e-5, "pld")


def test_without_the_library_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "opacus", None)
    with pytest.raises(MissingExtraError, match=r"\[privacy\]"):
        epsilon(1, 0.1, 1.0, 1e-5)


def test_what_epsilon_does_not_count_is_said() -> None:
    noisy = {"privacy": {"clip": 1.0, "noise_multiplier": 1.0}}
    assert uncounted(parse_plan({})) == []
    assert uncounted(parse_plan({**noisy, "sampler": "poisson"})) == []
    (fixed,) = uncounted(parse_plan(noisy))
    assert "estimate" in fixed and "poisson" in fixed
    steered = {"schedule": "plateau", "stop": {"metric": "ndcg@10/valid"}, "sampler": "poisson"}
    (looks,) = uncounted(parse_plan({**noisy, **steered}))
    assert "loss/valid and ndcg@10/valid" in looks
