"""What the manifest measured, in sentences that the card and its machine-readable twin share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedprep.recipe import date_of

__all__ = [
    "biases",
    "collection",
    "day",
    "labels",
    "leaks",
    "limitations",
    "missing",
    "partition",
    "percent",
    "personal",
    "steps",
    "summary",
    "users_columns",
]

FIXED_OF_USERS = ("user_id", "source_id", "client_id", "behavior")


def summary(manifest: Mapping[str, Any]) -> str:
    """Returns one sentence of sizes."""
    facts = manifest["facts"]
    return (
        f"{facts['n_interactions']:,} interactions of {facts['n_users']:,} users and "
        f"{facts['n_items']:,} items, held by {_count(facts['n_clients'], 'client')}."
    )


def labels(manifest: Mapping[str, Any]) -> str:
    """Returns what `label` means."""
    clean = manifest["recipe"]["clean"]
    if clean["label"] == "implicit":
        return "`label` is 1 for every row: that the interaction took place is all that is said."
    if clean["label"] == "binary":
        return f"`label` is 1 where the rating is {clean['threshold']:g} or more, else 0."
    classes = ", ".join(f"{value:g}" for value in manifest["classes"])
    return f"`label` is the place of the rating among {classes}, from 0."


def collection(manifest: Mapping[str, Any]) -> str:
    """Returns where the raw data come from."""
    source, when = manifest["source"], _period(manifest["facts"]["time_range"])
    last = f" Interactions are{when}." if when else ""
    if source["synthetic"]:
        return (
            "Nothing was collected: fedprep made the raw files up, in the official format of their "
            f"family, with planted tastes, topics and popularity.{last} No person or product is real."
        )
    where = f" ({source['homepage']})" if source["homepage"] else ""
    return (
        f"Collected by the owner of the source `{source['name']}`{where}, not by fedprep, which reads the "
        f"files named here.{last}"
    )


def _period(time_range: Sequence[int | None]) -> str:
    first, last = time_range
    return "" if first is None or last is None else f" from {day(first)} to {day(last)}"


def steps(manifest: Mapping[str, Any]) -> list[str]:
    """Returns what each step that dropped something dropped."""
    return [
        f"{step['stage']}, {step['name']}: {step['dropped']:,} of {step['rows_in']:,} {step['unit']} "
        "dropped" + (f" ({step['why']})" if step["why"] else "")
        for step in manifest["steps"]
        if step["dropped"]
    ]


def partition(manifest: Mapping[str, Any]) -> str:
    """Returns by what rule rows came to clients."""
    of = manifest["partition"]
    if of["method"] == "by_user":
        return "A client per user."
    kept = "together" if of["unit"] == "user" else "apart where the draw says so"
    settings = {
        k: of[k] for k in ("alpha", "on", "law", "exponent", "k", "column", "dim") if k in of
    }
    given = ", ".join(f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
                      for key, value in settings.items())  # fmt: skip
    return (
        f"{_count(of['n_clients'], 'client')} by `{of['method']}`{f' ({given})' if given else ''}, seed "
        f"{of['seed']}; the rows of a user stay {kept}."
    )


def missing(manifest: Mapping[str, Any]) -> str:
    """Returns what is missing, counted."""
    lacking = [
        f"{encoder['n_missing']:,} of {encoder['n_missing'] + encoder['n_present']:,} items have no "
        f"{modality} embedding"
        for modality, encoder in manifest["encoders"].items()
        if modality != "behavior" and encoder["n_missing"]
    ]
    if manifest["facts"]["time_range"][0] is None:
        lacking.append("no row has a timestamp")
    if not manifest["facts"]["ratings"]:
        lacking.append("no row has a rating")
    start = "; ".join(lacking) + ". " if lacking else ""
    return f"{start}What an item lacks is null, never a zero."


def users_columns(manifest: Mapping[str, Any]) -> list[str]:
    """Returns the columns that the source has on users."""
    columns = manifest["tables"]["users.parquet"]["columns"]
    return [column for column in columns if column not in FIXED_OF_USERS]


def personal(manifest: Mapping[str, Any]) -> str:
    """Returns what could say something about a person."""
    if manifest["source"]["synthetic"]:
        return "None: no user is a person."
    columns = users_columns(manifest)
    more = f" The source says of them: {', '.join(columns)}." if columns else ""
    return (
        "Users are numbered anew, and `source_id` keeps the id that the source gave them; what a user "
        f"rated, and when, may identify a person.{more}"
    )


def biases(manifest: Mapping[str, Any]) -> list[str]:
    """Returns measured imbalances, a sentence each."""
    of = manifest["partition"]["heterogeneity"]
    label = of["label_divergence"]
    said = [
        f"The largest class has {percent(of['largest_class_share'])} of all rows, the smallest "
        f"{percent(of['smallest_class_share'])}.",
        f"Rows per client: median {of['rows_per_client']['median']:,g}, from "
        f"{of['rows_per_client']['min']:,g} to {of['rows_per_client']['max']:,g}; Gini coefficient "
        f"{of['size_gini']:.3f}.",
    ]
    if label:
        said.append(
            "Jensen–Shannon divergence (0 to 1) of a client's labels from all: median "
            f"{label['median']:.3f}, 99th percentile {label['p99']:.3f}."
        )
    if category := of["category_divergence"]:
        said.append(
            f"The same of item categories: median {category['median']:.3f}, 99th percentile "
            f"{category['p99']:.3f}."
        )
    return said


def leaks(manifest: Mapping[str, Any]) -> list[str]:
    """Returns how far the future leaks into train, a sentence each."""
    leak = manifest["split"].get("leak")
    if not leak:
        return []
    later, alone = leak["train_rows_after_first_test_row"], leak["users_with_train_after_test"]
    return [
        f"{percent(later)} of the train rows are later than the first test row, and of all pairs of a "
        f"train and a test row {percent(leak['pairs_out_of_order'])} are out of order.",
        f"{_count(alone, 'user') if alone else 'No user'} {'have' if alone > 1 else 'has'} train rows later "
        "than an own test row.",
    ]


def limitations(manifest: Mapping[str, Any]) -> list[str]:
    """Returns what the data cannot show, a sentence each."""
    share = manifest["partition"]["heterogeneity"]["largest_class_share"]
    said = [
        *leaks(manifest)[:1],
        "An interaction that is not there is unknown, not disliked.",
    ]
    if len(manifest["classes"]) > 1:
        said.append(
            f"Always answering the largest class is right for {percent(share)} of all rows: an accuracy "
            "says little without that number."
        )
    if manifest["source"]["synthetic"]:
        said.append("Made-up data show that a program works, and nothing about people.")
    return said


def percent(share: float) -> str:
    """Returns a share as a percentage; what is nearly all or nothing gets more digits."""
    return f"{share:.1%}" if share in (0, 1) or 0.0005 <= share < 0.9995 else f"{share:.3%}"


def day(seconds: int) -> str:
    """Returns the date of a moment, UTC."""
    return date_of(seconds).partition("T")[0]


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
