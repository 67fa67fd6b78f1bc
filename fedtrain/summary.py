"""A Run in a few lines: what it was, how it ended, what it measured last."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from fedprep.errors import typed
from fedtrain.figures import n_without_clients

if TYPE_CHECKING:
    from rich.console import RenderableType

    from fedtrain.run import Run

__all__ = ["hardly_moved", "summary", "told"]

ENDED = ("test", "valid")

STOOD_STILL = "the loss did not move"
"""The event of a Run whose training changed nothing; see `measures.standstill`."""

LITTLE, LONG = 0.05, 5
"""A train loss that fell by less than this share, in this many rounds or more, hardly moved."""


def summary(run: Run) -> dict[str, Any]:
    """Returns what a Run came to, ready for JSON: its last value of each measure, and how it ended."""
    rounds = run.rounds()
    last = rounds.group_by("metric", maintain_order=True).agg(
        pl.col("round").last(), pl.col("value").last()
    )
    times = ("seconds", "cpu_seconds")
    measures = {
        metric: {"round": number, "value": value}
        for metric, number, value in last.iter_rows()
        if not metric.startswith(times)
    }
    total = {
        name: float(rounds.filter(pl.col("metric") == name)["value"].sum())
        for name in ("bytes/up", "bytes/down", "seconds/train", "cpu_seconds")
    }
    manifest = run.manifest
    plan = manifest.get("plan") or {}
    return {
        "run": str(run.path),
        "status": manifest.get("status"),
        "rounds": manifest.get("rounds_done"),
        "algorithm": plan.get("algorithm"),
        "model": plan.get("model"),
        "task": plan.get("task"),
        "seed": manifest.get("seed"),
        "dataset": manifest.get("dataset"),
        "seconds": manifest.get("seconds"),
        "total": total,
        "measures": measures,
        "events": run.events()[-20:],
        "ranked": manifest.get("ranked"),
        "personal": manifest.get("personal", []),
        "rounds_without_clients": n_without_clients(rounds),
        "note": hardly_moved(rounds),
        "stood_still": stood_still(run),
    }


def stood_still(run: Run) -> str:
    """Returns what a Run was told of a loss that training has not changed, "" where it has."""
    last = [event for event in run.events() if event["event"] == STOOD_STILL]
    return (
        str(last[-1]["what"]) if last and last[-1]["round"] == run.manifest["rounds_done"] else ""
    )


def seldom_fell(rounds: pl.DataFrame) -> bool:
    """Returns whether a train loss has not fallen by a tenth: it is worth asking if anything moved."""
    ends = _ends(rounds)
    return ends is not None and not ends[1] < 0.9 * ends[0]


def _ends(rounds: pl.DataFrame) -> tuple[float, float] | None:
    """Returns the first train loss and the mean of the last tenth; None of fewer than `LONG` rounds."""
    loss = rounds.filter(metric="loss/train").sort("round")["value"].to_numpy()
    if len(loss) < LONG:
        return None
    return float(loss[0]), float(loss[-max(1, len(loss) // 10) :].mean())


def hardly_moved(rounds: pl.DataFrame) -> str:
    """Returns what to say of a train loss that stays where it began, "" of one that fell.

    Args:
        rounds: `round`, `metric`, `value`, as `Run.rounds` returns them.
    """
    ends = _ends(rounds)
    if ends is None:
        return ""
    begun, end = ends
    if not abs(begun - end) < LITTLE * abs(begun):
        return ""
    return (
        f"the train loss hardly moved: {begun:.4f} in round 1, {end:.4f} in the end. The usual reason is a "
        "rate that is too small; rows of users and items want an lr_user and lr_item far above lr (fedtrain "
        "sweep tries several)"
    )


def told(found: Mapping[str, Any]) -> RenderableType:
    """Returns the summary for a terminal."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    head = Text(
        f"{found['run']}: {found['algorithm']} of {found['model']} ({found['task']}), seed {found['seed']}, "
        f"{found['rounds']} rounds in {found['seconds'] or 0.0:.1f} s, {found['status']}"
    )
    table = Table(box=None, pad_edge=False)
    for column in ("", "valid", "test"):
        table.add_column(column, justify="left" if not column else "right")
    measures = found["measures"]
    names = dict.fromkeys(
        metric.rpartition("/")[0] for metric in measures if metric.rpartition("/")[2] in ENDED
    )
    for name in names:
        values = [measures.get(f"{name}/{split}") for split in ("valid", "test")]
        table.add_row(name, *["" if v is None else f"{v['value']:.4f}" for v in values])
    total = found["total"]
    best = next((e.get("best_round") for e in found["events"] if e["event"] == "best"), None)
    kept = "" if best is None else f"test is of round {best}, the best one, and valid of the last; "
    foot = f"{kept}up {total['bytes/up'] / 1e6:,.1f} MB, down {total['bytes/down'] / 1e6:,.1f} MB"
    data = (found["dataset"] or {}).get("path")
    following = ""
    if found["status"] == "finished" and data:  # else there is nothing to report on yet
        following = typed("fedeval", "report", Path(found["run"]), "--data", Path(data))
    note = [Text(f"note: {found['note']}")] if found["note"] else []
    if following:  # whole, on a line of its own: it is copied
        note.append(Text(f"next: {following}", no_wrap=True, overflow="ignore"))
    own = next((e for e in reversed(found["events"]) if e["event"] == "own best"), None)
    if own is not None:
        said = f"test is of each client's own best round: {own['first']} to {own['last']}, median "
        said += f"{own['median']:g}, by its own valid rows"
        more = f"; {own['without_valid']} clients without any have the last" * bool(
            own["without_valid"]
        )
        note.insert(0, Text(f"note: {said}{more}"))
    if found["personal"]:
        some = ", ".join(found["personal"][:3]) + ", …" * (len(found["personal"]) > 3)
        said = f"personal and not in model.safetensors: {some}; the clients' own are in checkpoint/"
        note.insert(0, Text(f"note: {said}"))
    part = found["ranked"]
    if part:
        told = f"test is a sample: {part['users']:,} of {part['of']:,} users, drawn by seed {part['seed']}"
        note.insert(0, Text(f"note: {told}"))
    empty = found["rounds_without_clients"]
    if empty:
        told = f"{empty} of {found['rounds']} rounds had no client that counts: they moved nothing"
        note.insert(0, Text(f"note: {told}"))
    return Group(head, table, Text(foot), *note)
