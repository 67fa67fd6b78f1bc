"""Arguments and options that several commands share, each spelled once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from fedprep.keys import LARGEST_SEED, MOST

__all__ = [
    "SYSTEM",
    "against_option",
    "by_option",
    "candidates_option",
    "data_option",
    "json_option",
    "metric_options",
    "min_relevance_option",
    "names_of",
    "relevant_option",
    "split_option",
    "table_options",
    "test_options",
]

Command = TypeVar("Command", bound=Callable[..., Any])

SYSTEM = "RUN|RECS|NAME=RECS"
"""How a system is given: a Run's folder, a table, or a table with a name."""

IDS = ("dataset", "source", "source-users", "source-items")

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder of the Dataset: its truth, train rows, clients, items.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _all(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorated(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorated


candidates_option = click.option(
    "--candidates",
    default="full",
    show_default=True,
    metavar="full|uniform:N|popularity:N|FILE",
    help="What is ranked: all items, N drawn for each user, or a file's (NCF's, or Parquet).",
)
against_option = click.option(
    "--against",
    metavar="NAME",
    help="Compare with this system or baseline; else with the first system.",
)
split_option = click.option(
    "--split",
    type=click.Choice(["test", "valid"]),
    default="test",
    show_default=True,
    help="Split of the Dataset that is the truth.",
)
relevant_option = click.option(
    "--relevant",
    type=click.Choice(["all", "liked"]),
    default="all",
    show_default=True,
    help="Rows that are relevant: all, or those whose label is above 0.",
)
min_relevance_option = click.option(
    "--min-relevance",
    type=float,
    metavar="NUMBER",
    help="Rows of truth count from this relevance on (rating, where there is no relevance); else above 0.",
)
by_option = click.option(
    "--by",
    multiple=True,
    metavar="COLUMN",
    help="Slice by this column, client_size or cold_users too; may be repeated.",
)


def table_options(command: Command) -> Command:
    """Options of what is read: Dataset or truth, and the columns of foreign files."""
    return _all(
        data_option,
        click.option(
            "--truth",
            type=click.Path(path_type=Path),
            help="Truth from this table, in place of the Dataset's: Parquet, CSV, Arrow, TREC qrels.",
        ),
        split_option,
        relevant_option,
        min_relevance_option,
        candidates_option,
        click.option(
            "--order",
            type=click.Choice(["auto", "rank", "score"]),
            default="auto",
            show_default=True,
            help="What lists go by: auto is score in runs of TREC, else rank where there is one.",
        ),
        click.option(
            "--ids",
            type=click.Choice(IDS),
            default="dataset",
            show_default=True,
            help="Ids of the tables: the Dataset's own, those of the raw data, or users or items of these.",
        ),
        click.option(
            "--truth-ids", type=click.Choice(IDS), help="Ids of --truth, if not those of --ids."
        ),
        click.option(
            "--negative-pool",
            type=click.Choice(["unknown", "train", "none", "all"]),
            default="unknown",
            show_default=True,
            help="What training negatives left out, where a Run does not say so: all leaks.",
        ),
        click.option(
            "--user", metavar="COLUMN", help="The column of users in every table, if not user_id."
        ),
        click.option(
            "--item", metavar="COLUMN", help="The column of items in every table, if not item_id."
        ),
        click.option("--score", metavar="COLUMN", help="The column of scores, if not score."),
        click.option("--rank", metavar="COLUMN", help="The column of ranks, if not rank."),
        click.option(
            "--relevance",
            metavar="COLUMN",
            help="The truth's column of relevance, if not relevance.",
        ),
        click.option(
            "--columns",
            multiple=True,
            metavar="NAME:user=COLUMN,...",
            help="Columns of one table alone, a system by its name or 'truth', as in"
            " theirs:user=uid,item=iid,score=p; may be repeated.",
        ),
    )(command)


def metric_options(command: Command) -> Command:
    """Options of what is measured."""
    return _all(
        click.option(
            "-k",
            "cuts",
            metavar="K,K",
            help="Cut-offs; else those of the Dataset's recipe, or 5,10,20.",
        ),
        click.option(
            "--metrics",
            "metrics",
            metavar="NAME,NAME",
            help="Metrics, such as ndcg,hr or ndcg@10 (`fedeval metrics`); else those of the recipe.",
        ),
    )(command)


def test_options(command: Command) -> Command:
    """Options of intervals and tests."""
    return _all(
        click.option(
            "--test",
            default="randomisation",
            show_default=True,
            help="Paired test: randomisation, t or wilcoxon.",
        ),
        click.option(
            "--correction",
            default="holm",
            show_default=True,
            help="Correction of p-values for their number: holm, benjamini_hochberg or none.",
        ),
        click.option(
            "--over",
            type=click.Choice(["users", "clients"]),
            default="users",
            show_default=True,
            help="What intervals and tests draw: users, or whole clients.",
        ),
        click.option(
            "--resamples",
            type=click.IntRange(1, MOST),
            default=1000,
            show_default=True,
            help="Resamples of the bootstrap.",
        ),
        click.option(
            "--seed",
            type=click.IntRange(0, LARGEST_SEED),
            default=0,
            show_default=True,
            help="Seed of every draw.",
        ),
    )(command)


def names_of(text: str | None) -> tuple[str, ...]:
    """Returns the names in `"a,b"`, empty for none."""
    return tuple(part for part in (text or "").replace(" ", "").split(",") if part)
