"""What the terminal shows: lists, comparisons, sweeps, recommendations, what was expected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedeval.fitting import FittingTable
from fedtrain.compare import better

__all__ = [
    "show_comparison",
    "show_expectations",
    "show_list",
    "show_recommendations",
    "show_sweep",
]

MOST_USERS = 10
"""Users of a client that are shown."""

SHOWN = ("ndcg@10/valid", "hr@10/valid", "accuracy/valid", "rmse/valid", "loss/valid")
"""Measures that a comparison has room for, where a Run has them."""

ON_TEST = ("ndcg@10/test", "accuracy/test", "rmse/test")


def show_list(title: str, entries: Mapping[str, Mapping[str, str]]) -> RenderableType:
    """Returns the things of a kind: name, what it is, its paper."""
    table = _table("", "", "")
    for name, entry in entries.items():
        table.add_row(Text(name, "bold"), Text(entry["about"]), Text(entry["paper"], "dim"))
    return Group(_heading(title), table)


def show_comparison(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Returns what `compare` found: best and last values, cost, cost to the target."""
    metrics = [m for m in (*SHOWN, *ON_TEST) if any(m in row["final"] for row in rows)]
    heads = [f">{_short(metric)}" for metric in metrics]
    results = FittingTable("Run", "algorithm", ">seed", *heads)
    for row in rows:
        cells = [_best_and_last(row, metric) for metric in metrics]
        results.add_row(row["run"], f"{row['algorithm']} {row['model']}", str(row["seed"]), *cells)
    cost = FittingTable("Run", "status", ">rounds", ">up", ">down", ">seconds")
    for row in rows:
        sent = [_bytes(row[key]) for key in ("bytes_up", "bytes_down")]
        cost.add_row(
            row["run"], row["status"], str(row["rounds"]), *sent, _number(row["seconds"], ".1f")
        )
    parts: list[RenderableType] = [
        results,
        Text("the best value, its round, and the last value; on test the last alone", "dim"),
        cost,
    ]
    for metric in dict.fromkeys(name for row in rows for name in row["to_target"]):
        target = next(row["to_target"][metric]["target"] for row in rows)
        table = _table("Run", "rounds", "bytes", "seconds")
        for row in rows:
            found = row["to_target"][metric]
            reached = found["rounds"] is not None
            table.add_row(
                row["run"],
                str(found["rounds"]) if reached else "not reached",
                _bytes(found["bytes"]),
                _number(found["seconds"], ".1f"),
            )
        parts += [_heading(f"To {metric} of {target:g}"), table]
    return Group(*parts)


def show_sweep(found: Mapping[str, Any]) -> RenderableType:
    """Returns a sweep's settings, the best first and marked, and its runs."""
    settings = _table("", "settings", "runs", found["metric"], "± over seeds")
    for row in found["settings"]:
        style = "bold" if row["is_best"] else ""
        settings.add_row(
            "best" if row["is_best"] else "",
            _settings(row),
            str(row["n"]),
            _number(row["mean"], ".4f"),
            _number(row["deviation"], ".4f"),
            style=style,
        )
    runs = FittingTable("Run", "status", ">rounds", ">last", ">best", ">of round", ">seconds")
    for row in found["trials"]:
        runs.add_row(
            row["name"],
            row["status"],
            str(row["rounds"]),
            _number(row["value"], ".4f"),
            _number(row["best"], ".4f"),
            "" if row["best_round"] is None else str(row["best_round"]),
            _number(row["seconds"], ".1f"),
        )
    why = [
        Text(f"{row['name']}: {row['status']}: {row['why']}", "dim")
        for row in found["trials"]
        if row["why"]
    ]
    done = f"{found['n_done']} of {found['n_trials']} runs done; {found['better']} is better"
    return Group(settings, runs, *why, Text(f"{done}; early stop: {found['rule']}", "dim"))


def show_recommendations(found: Mapping[str, Any]) -> RenderableType:
    """Returns the lists of a client's first users."""
    said = {"binary": "probability", "rating": "rating"}.get(found["task"])
    parts: list[RenderableType] = [
        Text(
            f"{found['run']}, client {found['client']}, {found['state']} of round {found['round']}",
            "bold",
        )
    ]
    users = found["users"]
    for user in users[:MOST_USERS]:
        name = f" ({user['source_id']})" if user["source_id"] else ""
        parts.append(_heading(f"User {user['user']}{name}, {user['seen']:,} items seen"))
        table = _table("", "item", "title", *([said] if said else []), "score")
        for item in user["items"]:
            more = [f"{item[said]:.3f}"] if said else []
            title = item.get("title") or item.get("source_id") or ""
            table.add_row(
                str(item["rank"]), str(item["item"]), Text(title), *more, f"{item['score']:.3f}"
            )
        parts.append(table)
    left = len(users) - MOST_USERS
    if left > 0:
        parts.append(Text(f"and {left:,} more users: --user ID, or --json for all of them", "dim"))
    return Group(*parts)


def show_expectations(rows: Iterable[Mapping[str, Any]]) -> RenderableType:
    """Returns what a recipe expects beside what came out."""
    table = _table("expected", "value", "got", "")
    for row in rows:
        verdict = "within tolerance" if row["within"] else "better" if row["ok"] else "NOT REACHED"
        table.add_row(
            row["metric"],
            f"{row['expected']:.4f} ± {row['tolerance']:g}",
            _number(row["got"], ".4f") or "not measured",
            verdict,
            style="" if row["ok"] else "bold red",
        )
    return table


def _best_and_last(row: Mapping[str, Any], metric: str) -> str:
    if metric not in row["final"]:
        return ""
    last = f"{row['final'][metric]:.4f}"
    if metric.endswith("/test") or better(metric) == "neither":
        return last
    best = row["best"][metric]
    return f"{best['value']:.4f} ({best['round']}) {last}"


def _short(metric: str) -> str:
    return metric.removesuffix("/valid")


def _settings(row: Mapping[str, Any]) -> str:
    name = f"{row['config']}: " if row.get("config") else ""
    return name + (" ".join(row["settings"]) or "as the recipe says")


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _bytes(value: int | None) -> str:
    if value is None:
        return ""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value} B"


def _heading(text: str) -> Text:
    return Text(f"\n{text}", "bold")


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD if any(columns) else None, pad_edge=False)
    words = {"", "Run", "algorithm", "status", "settings", "title", "expected"}
    for column in columns:
        table.add_column(column, justify="left" if column in words else "right", overflow="fold")
    return table
