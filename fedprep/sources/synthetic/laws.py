"""What ratings of each family and edition look like: their scale, their days, their users' diligence."""

from __future__ import annotations

from dataclasses import dataclass

from fedprep.errors import RecipeError, nearest

__all__ = ["LAWS", "Law", "law_of"]


@dataclass(frozen=True, kw_only=True)
class Law:
    """How the ratings of one edition are drawn.

    `first` and `last` are Unix seconds; `grain` is the unit of its clock in seconds (86,400: midnight
    only, 0: milliseconds). `mean` and `spread` are in stars. The last three are 0 unless a fault sets
    them: the share of users with a single row, of items with a single row, and of rows that carry the
    highest rating.
    """

    first: int
    last: int
    grain: int = 1
    lowest: float = 1.0
    step: float = 1.0
    mean: float = 3.3
    spread: float = 0.9
    least: int = 1  # rows of every user, where the mean leaves room for it
    sessions: bool = False  # many ratings within minutes, with equal seconds
    lonely_users: float = 0.0
    one_hit_items: float = 0.0
    top_share: float = 0.0


def _movielens(first: int, last: int, step: float = 0.5) -> Law:
    return Law(first=first, last=last, step=step, lowest=step, least=20, sessions=True)


def _amazon(last: int, grain: int, least: int) -> Law:
    return Law(first=868_838_400, last=last, grain=grain, mean=4.0, spread=1.1, least=least)


LAWS: dict[str, dict[str, Law]] = {
    "movielens": {
        "100k": _movielens(874_724_710, 893_286_638, 1.0),
        "1m": _movielens(956_703_932, 1_046_454_590, 1.0),
        "10m": _movielens(789_652_004, 1_231_131_736),
        "20m": _movielens(789_652_004, 1_427_784_002),
        "25m": _movielens(789_652_004, 1_574_327_703),
        "32m": _movielens(789_652_004, 1_697_164_147),
        "latest-small": _movielens(828_124_615, 1_537_799_250),
    },
    "amazon": {
        "2014": _amazon(1_406_073_600, 86_400, 5),
        "2018": _amazon(1_538_352_000, 86_400, 5),
        "2023": _amazon(1_694_476_800, 0, 1),
    },
    "yelp": {"": Law(first=1_108_512_000, last=1_642_550_400, mean=3.1, spread=1.5)},
}
"""Family, then edition. The first and last second are those of the official files, or near them."""


def law_of(family: str, edition: str) -> Law:
    """Returns the law of an edition.

    Raises:
        RecipeError: the family or the edition is unknown.
    """
    for word, known, key in ((family, LAWS, "family"), (edition, LAWS.get(family, {}), "edition")):
        if word not in known:
            raise RecipeError(
                f"no {key} of synthetic raw files is called '{word}'",
                where=f"source.synthetic.{key}" if key == "family" else f"source.{key}",
                hint=nearest(word, known),
            )
    return LAWS[family][edition]
