"""NCF's candidate-file protocol: `NAME.train.rating`, `NAME.test.rating`, `NAME.test.negative`.

Each user's latest row is the test; it is ranked among 99 items that NCF drew once. The files repeat a few
things that a careful reader has to settle: in 156 lines of its ml-1m the relevant item is also among the
negatives. NCF's own code collects scores in a dict by item, so such a user has 99 candidates and not 100;
`read_ncf` does the same, and counts them.

Reference: He, Liao, Zhang, Nie, Hu, Chua, "Neural collaborative filtering", WWW 2017, section 4.1; the
files are in Data/ of hexiangnan/neural_collaborative_filtering.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from fedeval.candidates import Candidates, read_ncf_candidates
from fedprep.errors import EvaluationError
from fedprep.frames import read_csv
from fedprep.schema import ITEM_ID, RATING, TIMESTAMP, USER_ID

__all__ = ["NCF", "read_ncf"]

COLUMNS: dict[str, pl.DataType] = {
    USER_ID: pl.Int32(),
    ITEM_ID: pl.Int32(),
    RATING: pl.Float32(),
    TIMESTAMP: pl.Int64(),
}


@dataclass(frozen=True, eq=False, kw_only=True)
class NCF:
    """The three files.

    train, test: `user_id`, `item_id`, `rating`, `timestamp` · candidates: what is ranked for each user.
    counts: `lines`, `written`: candidates that the lines name; `relevant_among_negatives`, `repeated`:
    of them left out, as the item is the line's relevant one, or named before; `test_elsewhere`: test rows
    that the negative file does not have as relevant; `negatives_in_train`: candidates that the user has
    in train.
    """

    train: pl.DataFrame
    test: pl.DataFrame
    candidates: Candidates
    counts: dict[str, int] = field(default_factory=dict)


def read_ncf(name: str | Path) -> NCF:
    """Returns the split and the candidates of NCF.

    Args:
        name: the files' common part, such as `Data/ml-1m`.

    Raises:
        EvaluationError: a file is missing, or holds something else.

    Example:
        >>> found = read_ncf("Data/ml-1m")  # doctest: +SKIP
        >>> evaluate(lists_of(found.candidates), found.candidates.truth(), ["hr@10"])  # doctest: +SKIP
    """
    train, test = (_ratings(Path(f"{name}.{part}.rating")) for part in ("train", "test"))
    path = Path(f"{name}.test.negative")
    candidates = read_ncf_candidates(path)
    keys = [USER_ID, ITEM_ID]
    told = candidates.frame()
    others = told.filter(~pl.col("relevant"))
    counts = _lines(path) | {
        "test_elsewhere": test.join(candidates.truth(), on=keys, how="anti").height,
        "negatives_in_train": others.join(train, on=keys, how="semi").height,
    }
    counts["repeated"] = counts["written"] - counts["relevant_among_negatives"] - len(candidates)
    return NCF(train=train, test=test, candidates=candidates, counts=counts)


def _ratings(path: Path) -> pl.DataFrame:
    try:
        return read_csv(path, separator="\t", has_header=False, schema=COLUMNS)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise EvaluationError(
            f"no rows of NCF can be read: {error}",
            where=str(path),
            expected="user, item, rating and timestamp, separated by tabs",
        ) from None


def _lines(path: Path) -> dict[str, int]:
    """Counts what the lines name, the relevant item of each included."""
    lines = pl.Series("line", path.read_text("utf-8").splitlines(), dtype=pl.String)
    parts = pl.DataFrame(lines.filter(lines != "")).select(
        pl.col("line").str.extract(r",(\d+)\)", 1).alias("positive"),
        pl.col("line").str.strip_chars("\t").str.split("\t").list.slice(1).alias("others"),
    )
    named = parts.explode("others").drop_nulls("others")
    return {
        "lines": parts.height,
        "written": parts.height + named.height,
        "relevant_among_negatives": int((named["others"] == named["positive"]).sum()),
    }
