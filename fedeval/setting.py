"""What systems are measured against: the truth, and what a Dataset knows besides it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from fedeval.candidates import (
    METHODS,
    Candidates,
    candidates_of,
    read_candidates,
    read_ncf_candidates,
    sample_candidates,
)
from fedeval.hits import relevance_column
from fedeval.interactions import Interactions, interactions_from, interactions_of
from fedeval.per_user import same_ids
from fedeval.policy import Policy
from fedeval.spaces import in_dense_ids
from fedeval.tables import RELEVANCE, Table, read_table
from fedprep.dataset import Dataset
from fedprep.errors import EvaluationError, nearest
from fedprep.schema import CLIENT_ID, ITEM_ID, LABEL, RATING, USER_ID

__all__ = ["RELEVANT", "Setting", "setting_of"]

RELEVANT = ("all", "liked")
"""Truth rows of a Dataset that are relevant: all, or those whose label is above 0."""

SEEN = {"test": ("train", "valid"), "valid": ("train",)}
"""Splits that a user has seen when the truth is test, or valid."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Setting:
    """The truth, and where it is a Dataset's, the Dataset.

    truth: user_id, item_id, and relevance, rating, label where there are such ·
    name: of the Dataset or file ·
    split: the rows that are the truth, "" for a file of truth · relevant: a name in `RELEVANT` ·
    candidates: what is ranked for each user, None for all items ·
    policy: how lists and truth are read · warnings: what a reader must know of their ids.
    """

    truth: pl.DataFrame
    name: str
    dataset: Dataset | None = None
    split: str = ""
    relevant: str = "all"
    candidates: Candidates | None = None
    policy: Policy = field(default_factory=Policy)
    warnings: tuple[str, ...] = ()

    @functools.cached_property
    def relevant_rows(self) -> pl.DataFrame:
        """`user_id`, `item_id` of the truth's rows that are relevant, each once."""
        rows = self.truth
        column = relevance_column(rows.columns, self.policy)
        if column is not None:
            least = self.policy.min_relevance
            rows = rows.filter(pl.col(column) > 0 if least is None else pl.col(column) >= least)
        return rows.select(USER_ID, ITEM_ID).unique(maintain_order=True)

    @functools.cached_property
    def no_candidates(self) -> tuple[int, int]:
        """Users with a relevant item that is none of their candidates, and how many have relevant items."""
        rows = self.relevant_rows
        users = int(rows[USER_ID].n_unique())
        if self.candidates is None:
            return 0, users
        pairs = self.candidates.frame().select(USER_ID, ITEM_ID)
        pairs = same_ids(same_ids(pairs, rows, USER_ID), rows, ITEM_ID)
        left = rows.join(pairs, on=[USER_ID, ITEM_ID], how="anti")
        return int(left[USER_ID].n_unique()), users

    @functools.cached_property
    def train(self) -> Interactions:
        """The rows that systems may learn from."""
        assert self.dataset is not None
        return interactions_of(self.dataset, "train")

    @functools.cached_property
    def train_frame(self) -> pl.DataFrame:
        """`user_id`, `item_id` of train."""
        return pl.DataFrame({USER_ID: self.train.user_id, ITEM_ID: self.train.item_id})

    @functools.cached_property
    def valid(self) -> Interactions:
        """The rows held out for tuning."""
        assert self.dataset is not None
        return interactions_of(self.dataset, "valid")

    @functools.cached_property
    def seen(self) -> Interactions:
        """The rows whose items are no longer recommended."""
        assert self.dataset is not None
        return interactions_of(self.dataset, *SEEN[self.split or "test"])

    @functools.cached_property
    def clients(self) -> pl.DataFrame | None:
        """`user_id`, `client_id`; None without a Dataset, or where a user's rows lie at several clients."""
        if self.dataset is None:
            return None
        clients = self.dataset.users().select(USER_ID, CLIENT_ID).collect()
        return None if clients[CLIENT_ID].null_count() else clients

    @property
    def manifest(self) -> Mapping[str, Any]:
        return {} if self.dataset is None else self.dataset.manifest


def setting_of(
    data: str | Path | Dataset | None = None,
    truth: Any = None,
    *,
    split: str = "test",
    relevant: str = "all",
    candidates: str = "full",
    seed: int = 0,
    columns: Mapping[str, str] | None = None,
    order: str | None = None,
    min_relevance: float | None = None,
    ids: str = "dataset",
    truth_ids: str | None = None,
) -> Setting:
    """Returns what systems are measured against.

    Args:
        data: a Dataset or its folder; needed where there is no `truth`.
        truth: a table of truth (a path or a frame); None: the Dataset's `split`.
        split: `test` or `valid`.
        relevant: which rows of the split are relevant, a name in `RELEVANT`. Both are for a Dataset's rows.
        candidates: `full`; `uniform:99` or `popularity:99`: so many drawn for each user; or a file of
            candidates (Parquet as `write_candidates` makes it, or NCF's `*.test.negative`), which is the
            truth where there is no other.
        seed: of the draw.
        columns: our name to the table of truth's own.
        order: lists go by `rank` or `score`; None: as `Policy.order` says.
        min_relevance: relevance, or else rating, from which on a row of truth counts.
        ids: how a file of candidates and a table of truth are read, a name in `spaces.READINGS`.
        truth_ids: how the table of truth is read, where it is otherwise.

    Raises:
        EvaluationError: neither is given, there is no relevant row, or no such candidates.
        DatasetError: no Dataset is there, or its files are not those that it was written with.
    """
    dataset = Dataset.open(data) if isinstance(data, str | Path) else data
    if dataset is not None:
        dataset.verify()
    ranked, warnings = _read_candidates(candidates, dataset, ids)
    policy = Policy().with_choices(order, min_relevance)
    if truth is not None:
        _refuse_of_table(split, relevant)
        table, told = in_dense_ids(
            read_table(truth, "truth", columns),
            dataset,
            truth_ids or ids,
            "the truth",
            "--truth-ids",
        )
        warnings += tuple(f"The truth: {text}." for text in told)
        kept = [c for c in (USER_ID, ITEM_ID, RELEVANCE, RATING, LABEL) if c in table]
        found = Setting(
            truth=table.whole(*kept),
            name=dataset.name if dataset else Path(table.where or "truth").name,
            dataset=dataset,
            candidates=ranked,
            policy=policy,
        )
    elif dataset is not None:
        found = replace(_of_split(dataset, split, relevant, ranked), policy=policy)
    elif ranked is not None:
        found = Setting(
            truth=ranked.truth(), name=Path(candidates).name, candidates=ranked, policy=policy
        )
    else:
        raise EvaluationError(
            "nothing says what is relevant",
            hint="give a Dataset with --data, or a table with --truth",
        )
    if not found.relevant_rows.height:
        raise EvaluationError(
            "no row of truth is relevant",
            where=f"{found.truth.height:,} rows of {found.name}",
            expected="a relevance above 0"
            if min_relevance is None
            else f"a relevance of {min_relevance:g} or more in some row",
        )
    found = replace(found, warnings=warnings)
    return found if candidates == "full" or ranked else _with_sample(found, candidates, seed)


def _refuse_of_table(split: str, relevant: str) -> None:
    """Refuses what can be chosen of a Dataset's rows alone."""
    for word, usual, hint in (
        (split, "test", "give no --truth to have the Dataset's rows"),
        (relevant, "all", "give the rows that are not liked relevance 0"),
    ):
        if word != usual:
            raise EvaluationError(
                f"a table of truth has no rows that are called '{word}'", hint=hint
            )


def _of_split(
    dataset: Dataset, split: str, relevant: str, candidates: Candidates | None
) -> Setting:
    for word, known in ((split, tuple(SEEN)), (relevant, RELEVANT)):
        if word not in known:
            raise EvaluationError(
                f"no rows of truth are called '{word}'", hint=nearest(word, known)
            )
    wanted = dataset.interactions(split)
    if relevant == "liked":
        wanted = wanted.filter(pl.col(LABEL) > 0)
    rows = wanted.select(USER_ID, ITEM_ID, RATING, LABEL).collect()
    if rows[RATING].null_count() or rows[RATING].is_nan().any():
        rows = rows.drop(RATING)
    if not rows.height:
        raise EvaluationError(
            f"the split '{split}' of {dataset.name} has no relevant row", where=str(dataset.path)
        )
    return Setting(
        truth=rows, name=dataset.name, dataset=dataset, split=split, relevant=relevant,
        candidates=candidates,
    )  # fmt: skip


def _read_candidates(
    candidates: str, dataset: Dataset | None, ids: str
) -> tuple[Candidates | None, tuple[str, ...]]:
    """Returns the candidates of a file, None for words that are no file's name; and what is to be told."""
    if candidates == "full" or candidates.partition(":")[0] in METHODS:
        return None, ()
    path = Path(candidates)
    if not path.is_file():
        raise EvaluationError(
            f"no candidates are called '{candidates}'",
            expected="full, uniform:99, popularity:99, or a file",
            hint=nearest(candidates.partition(":")[0], ("full", *METHODS)),
        )
    with path.open("rb") as file:
        parquet = file.read(4) == b"PAR1"
    found = read_candidates(path) if parquet else read_ncf_candidates(path)
    if dataset is None:
        return found, ()
    table = Table(found.frame(), found.frame().schema, "candidates", str(path))
    dense, told = in_dense_ids(table, dataset, ids, "the candidates")
    if dense is not table:
        found = candidates_of(dense.whole(), found.facts, str(path))
    return found, tuple(f"The candidates: {text}." for text in told)


def _with_sample(setting: Setting, candidates: str, seed: int) -> Setting:
    method, _, number = candidates.partition(":")
    if setting.dataset is None:
        raise EvaluationError(
            "candidates are drawn from the items of a Dataset",
            hint="give it with --data, or name a file of candidates",
        )
    if not number.isdigit():
        raise EvaluationError(f"candidates are '{candidates}'", expected=f"{method}:99, a number")
    truth = interactions_from(
        setting.relevant_rows,
        n_users=setting.seen.n_users,
        n_items=setting.seen.n_items,
    )
    drawn = sample_candidates(
        truth,
        setting.seen,
        n_negatives=int(number),
        method="uniform" if method == "uniform" else "popularity",
        seed=seed,
        items=setting.train.item_counts > 0,
        excluded=" and ".join(SEEN[setting.split or "test"]),
    )
    return replace(setting, candidates=drawn)
