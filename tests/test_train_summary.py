"""What a Run says of itself at its end: of a loss that stayed where it was, too."""

from __future__ import annotations

import polars as pl
import pytest

from fedtrain.summary import hardly_moved


def rounds(*losses: float) -> pl.DataFrame:
    return pl.DataFrame(
        {"round": range(1, len(losses) + 1), "metric": "loss/train", "value": losses},
        schema={"round": pl.Int32, "metric": pl.String, "value": pl.Float64},
    )


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        ((0.6931, 0.69, 0.689, 0.687, 0.6765), True),
        ((0.6931, 0.7, 0.7, 0.7, 0.71), True),
        ((0.6931, 0.6, 0.5, 0.4, 0.3), False),
        ((0.6931, 0.75, 0.8, 0.9, 1.2), False),  # it went up: another trouble
        ((0.6931, 0.69, 0.689, 0.687), False),  # too few rounds to say
        ((), False),
    ],
)
def test_a_loss_that_stays_where_it_began_is_said(losses: tuple[float, ...], said: bool) -> None:
    note = hardly_moved(rounds(*losses))
    assert bool(note) == said
    assert not said or ("0.6931 in round 1" in note and "lr_item" in note)


def test_the_end_is_the_mean_of_the_last_tenth_of_the_rounds() -> None:
    falling = [1.0, *[0.5] * 17, 0.99, 0.99]
    assert "0.9900 in the end" in hardly_moved(rounds(*falling))
    assert not hardly_moved(rounds(*falling[:-2], 0.5, 0.99))  # 0.745
