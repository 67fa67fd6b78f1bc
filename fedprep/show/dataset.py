"""The sheets of a Dataset, of a finished build, and of one client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from fedprep.errors import typed
from fedprep.schema import SPLITS
from fedprep.show.layout import day, heading, moment, number, pairs, shares, size, table_of

__all__ = ["show_built", "show_client", "show_dataset", "show_steps"]


def show_dataset(facts: Mapping[str, Any]) -> RenderableType:
    """Returns the sheet of a Dataset (`inspection.inspect_dataset`)."""
    return Group(
        heading(f"{facts['name']}  {facts['id'][:12]}"),
        pairs(_identity(facts)),
        heading("Rows"),
        pairs(_rows(facts)),
        heading("From raw rows to these"),
        show_steps(facts["steps"]),
        *_embeddings(facts["encoders"]),
        heading("Clients"),
        pairs(_clients(facts)),
        _client_table(facts["clients"]),
    )


def show_built(facts: Mapping[str, Any]) -> RenderableType:
    """Returns what a finished build says: sizes, what was dropped, the clients, where it lies."""
    rows, partition = facts["facts"], facts["partition"]
    losses = [step for step in facts["steps"] if step["rows_in"] != step["rows_out"]]
    seconds = " · ".join(f"{stage} {value:.1f}" for stage, value in facts["seconds"].items())
    lines = [
        (
            "rows",
            f"{rows['n_interactions']:,} of {rows['n_users']:,} users and {rows['n_items']:,} items",
        ),
        ("splits", shares(rows["splits"])),
        ("labels", shares({str(label): count for label, count in rows["labels"]})),
        ("clients", f"{partition['n_clients']:,} ({partition['method']})"),
        *_softened(facts),
        ("seconds", seconds),
        ("id", facts["id"]),
        ("where", f"{facts['path']} ({size(facts['n_bytes'])})"),
    ]
    following = typed("fedprep", "inspect", Path(facts["path"]))
    return Group(
        heading(facts["name"]),
        pairs(lines),
        *([heading("Dropped"), show_steps(losses)] if losses else []),
        *_embeddings(facts["encoders"]),
        Text(f"\n{following}", "dim", no_wrap=True, overflow="ignore"),
    )


def _softened(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields what was asked for and cannot be had of these rows: an order where times are tied, k labels."""
    split, partition = facts["split"], facts["partition"]
    if n_cut := split.get("users_cut_in_a_tie"):
        n_users = facts["facts"]["n_users"]
        yield (
            "ties",
            f"of {n_cut:,} of {n_users:,} users tied rows (one time) are parted, by a hash of ids",
        )
    if n_borders := partition.get("borders_in_a_tie"):
        yield (
            "ties",
            f"{n_borders:,} periods of clients begin among tied rows (one time), parted by ids",
        )
    if n_above := partition.get("clients_above_k"):
        what = "labels" if partition["on"] == "label" else "categories"
        whole = partition["unit"] == "user"
        why = (
            "users are moved whole; partition.unit = 'interaction' moves rows"
            if whole
            else "see min_rows"
        )
        yield (
            "not as asked",
            f"{n_above:,} of {partition['n_clients']:,} clients hold more than k = {partition['k']} "
            f"{what}, up to {partition['most_held']:,}: {why}",
        )
    asked, reached = partition.get("pool_divergence"), _reached(partition)
    if asked is not None and reached is not None and reached < asked / 2 and not n_above:
        yield (
            "not as asked",
            f"clients diverge by {reached:.3f} bits in the median where {asked:.3f} were drawn: "
            "users are moved whole; partition.unit = 'interaction' moves rows",
        )


def _reached(partition: Mapping[str, Any]) -> float | None:
    measure = "label_divergence" if partition.get("on") == "label" else "category_divergence"
    found = (partition.get("heterogeneity") or {}).get(measure) or {}
    median = found.get("median")
    return None if median is None else float(median)


def _identity(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    source = facts["source"]
    yield "id", facts["id"]
    yield "where", f"{facts['path']} ({size(facts['n_bytes'])} in {facts['n_files']:,} files)"
    yield "source", source["name"] + (", made up" if source["synthetic"] else "")
    for file in source["files"]:
        extent = size(file["n_bytes"]) if file["n_bytes"] else "a folder"
        yield "", f"{file['name']} ({extent}, {file['how']}, {file['verified']})"
    yield "licence", source["licence"]
    if source["citation"]:
        yield "cite", source["citation"]


def _rows(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    rows = facts["facts"]
    yield "interactions", f"{rows['n_interactions']:,}"
    yield (
        "users × items",
        f"{rows['n_users']:,} × {rows['n_items']:,}, density {rows['density']:.4%}",
    )
    first, last = rows["time_range"]
    if first is not None:
        yield "time", f"{day(first)} to {day(last)}"
    if rows["ratings"]:
        yield "ratings", shares({f"{value:g}": count for value, count in rows["ratings"]})
    yield "labels", shares({str(label): count for label, count in rows["labels"]})
    yield "splits", shares(rows["splits"])
    split = facts["split"]
    yield "split rule", split["rule"]
    if "tie_rule" in split:
        yield "tie rule", split["tie_rule"]
    yield from _softened(facts)
    if leak := split.get("leak"):
        later = leak["train_rows_after_first_test_row"]
        yield "leak", f"{later:.1%} of the train rows are later than the first test row"


def show_steps(steps: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Returns the table of what each step read and dropped."""
    table = table_of("stage", "step", ">in", ">dropped", ">left", "", "why, and the first")
    for step in steps:
        examples = ", ".join(step["examples"])
        why = "; ".join(part for part in (step["why"], examples) if part)
        dropped = step["rows_in"] - step["rows_out"]
        table.add_row(
            step["stage"],
            step["name"],
            f"{step['rows_in']:,}",
            f"{dropped:,}" if dropped else "–",
            f"{step['rows_out']:,}",
            step["unit"],
            why,
        )
    return table


def _embeddings(encoders: Mapping[str, Any]) -> Iterator[RenderableType]:
    if not encoders:
        return
    yield heading("Embeddings")
    table = table_of(
        "of", "encoder", ">dim", "normalised", ">there", ">missing", "norms (min · median · max)"
    )
    for modality, encoder in encoders.items():
        after = encoder.get("statistics", {}).get("after", {})
        norms = " · ".join(
            f"{after[key]:.3g}" for key in ("norm_min", "norm_median", "norm_max") if key in after
        )
        table.add_row(
            modality,
            encoder.get("name", modality),
            str(encoder["dim"]),
            encoder["normalise"],
            f"{encoder['n_present']:,}",
            f"{encoder['n_missing']:,}",
            norms,
        )
    yield table


def _clients(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    partition = facts["partition"]
    yield "partition", f"{partition['method']}, {partition['n_clients']:,} clients"
    yield from _flat({k: v for k, v in partition["heterogeneity"].items() if k != "n_clients"})


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields one line a measure; a measure with several numbers stands on one line."""
    for key, value in tree.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            if all(isinstance(v, int | float | None) for v in value.values()):
                yield name, " · ".join(f"{k} {number(v)}" for k, v in value.items())
            else:
                yield from _flat(value, f"{name} ")
        elif isinstance(value, int | float | str):
            yield name, number(value)


def _client_table(clients: Mapping[str, Any]) -> RenderableType:
    rows = clients["largest"] + clients["smallest"]
    named = any("name" in row for row in rows)
    splits = [f">{split}" for split in SPLITS]
    table = table_of(
        ">client", *(["name"] if named else []), ">rows", *splits, ">users", "rows a\nclass", ">JS\nlabels",
        ">JS\ncategories",
    )  # fmt: skip
    for place, row in enumerate(rows):
        if place == len(clients["largest"]):
            table.add_section()
        table.add_row(
            str(row["client_id"]),
            *([str(row.get("name") or "–")] if named else []),
            *(f"{row[key]:,}" for key in ("n_rows", "n_train", "n_valid", "n_test", "n_users")),
            " · ".join(f"{count:,}" for count in row["label_counts"]),
            _bits(row["divergence"]),
            _bits(row["category_divergence"]),
        )
    return table


def _bits(divergence: float | None) -> str:
    return "–" if divergence is None else f"{divergence:.4f}"


def show_client(facts: Mapping[str, Any]) -> RenderableType:
    """Returns the sheet of one client (`inspection.inspect_client`)."""
    table = table_of(">user", ">item", "title", ">rating", ">label", "time", "split")
    for row in facts["last_rows"]:
        table.add_row(
            str(row["user_id"]),
            str(row["item_id"]),
            row["title"] or "–",
            number(row["rating"]),
            str(row["label"]),
            moment(row["timestamp"]),
            row["split"],
        )
    first, last = facts["time_range"]
    splits = ", ".join(f"{facts[f'n_{split}']:,} {split}" for split in SPLITS)
    users = ", ".join(map(str, facts["users"])) + (
        " …" if facts["n_users"] > len(facts["users"]) else ""
    )
    lines = [
        ("rows", f"{facts['n_rows']:,}: {splits}"),
        ("users", f"{facts['n_users']:,}: {users}"),
        ("rows a class", " · ".join(f"{count:,}" for count in facts["label_counts"])),
        ("JS of labels", number(facts["divergence"])),
        ("JS of categories", number(facts["category_divergence"])),
        ("time", f"{moment(first)} to {moment(last)}"),
    ]
    return Group(
        heading(f"{facts['name']}, client {facts['client_id']}"),
        pairs(lines),
        heading("Last rows"),
        table,
    )
