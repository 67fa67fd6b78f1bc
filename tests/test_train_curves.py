"""Learning curves: what was measured is drawn, nothing else, and what was not finite cannot be missed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from fedprep.errors import TrainingError
from fedtrain.curves import PANELS, curves, draw_curves, has_curves
from fedtrain.run import CURVES, Run
from fedtrain.run.rounds import SCHEMA

ALL = {
    "loss/train": 0.5, "loss/valid": 0.6, "accuracy/valid": 0.7, "accuracy/majority/valid": 0.575,
    "rmse/valid": 0.9, "ndcg@10/valid": 0.04, "hr@10/valid": 0.08, "mrr@10/valid": 0.03,
    "grad_norm/median": 0.1, "grad_norm/p99": 2.0, "grad_norm/clipped": 0.05, "bytes/up": 100.0,
    "bytes/down": 300.0, "lr": 0.1, "seconds": 1.0,
}  # fmt: skip


def frame(*rounds: Mapping[str, float]) -> pl.DataFrame:
    rows = [(n, metric, value) for n, r in enumerate(rounds, 1) for metric, value in r.items()]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def panels(figure: Any) -> dict[str, Any]:
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_title(loc="left")}


def points(axes: Any) -> dict[str, list[tuple[float, float]]]:
    return {line.get_label(): list(map(tuple, line.get_xydata().tolist())) for line in axes.lines}


def key(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_each_measure_is_drawn_in_its_panel_by_its_rounds() -> None:
    figure = curves(frame(ALL, {name: value / 2 for name, value in ALL.items()}))
    found = panels(figure)
    assert list(found) == [panel.title for panel in PANELS]
    assert points(found["Loss"]) == {"train": [(1, 0.5), (2, 0.25)], "valid": [(1, 0.6), (2, 0.3)]}
    assert points(found["Accuracy on valid"])["majority class"] == [(1, 0.575), (2, 0.2875)]
    assert list(points(found["Ranking on valid"])) == ["NDCG@10", "HR@10", "MRR@10"]
    assert found["Gradient norm"].get_yscale() == "log"
    assert points(found["Clipped gradients"]) == {"share": [(1, 0.05), (2, 0.025)]}


def test_what_never_happened_has_no_panel() -> None:
    never = {**ALL, "grad_norm/clipped": 0.0}
    assert "Clipped gradients" not in panels(curves(frame(never, never)))
    assert "Clipped gradients" in panels(curves(frame(never, ALL)))
    assert not has_curves(frame({"bytes/up": 0.0, "bytes/down": 0.0, "clients": 3.0}))
    assert has_curves(frame({"loss/train": 0.0}))


def test_bytes_are_added_up_over_the_rounds_before() -> None:
    sent = panels(curves(frame(ALL, ALL, ALL)))["Bytes sent, all rounds so far"]
    assert points(sent) == {
        "up": [(1, 100), (2, 200), (3, 300)],
        "down": [(1, 300), (2, 600), (3, 900)],
    }
    assert sent.get_ylim()[0] == 0


def test_a_panel_without_data_is_left_out() -> None:
    assert list(panels(curves(frame({"loss/train": 1.0, "lr": 0.1})))) == ["Loss"]


def test_a_measure_of_every_fifth_round_is_drawn_at_those() -> None:
    rounds = [{"loss/train": 1.0}] * 4 + [{"loss/train": 1.0, "ndcg@5/valid": 0.05}]
    found = panels(curves(frame(*rounds, *rounds)))
    assert points(found["Ranking on valid"]) == {"NDCG@5": [(5, 0.05), (10, 0.05)]}


def test_of_several_cut_offs_the_one_at_ten_is_drawn() -> None:
    values = {f"ndcg@{k}/valid": 0.1 for k in (5, 10, 100, 20)}
    assert list(points(panels(curves(frame(values)))["Ranking on valid"])) == ["NDCG@10"]


def test_a_round_that_was_not_finite_is_marked_even_where_no_other_was_finite() -> None:
    rounds = [{"loss/train/nonfinite": 1.0}, {"loss/train/nonfinite": 1.0}]
    loss = panels(curves(frame(*rounds)))["Loss"]
    (marks,) = loss.collections
    assert [segment[0][0] for segment in marks.get_segments()] == [1, 2]
    assert [text.get_text() for text in loss.texts] == ["not finite"]


def test_runs_on_one_picture_have_a_colour_each_and_a_legend() -> None:
    runs = [("first", frame(ALL, ALL)), ("second", frame(ALL)), ("empty", frame())]
    figure = curves(runs)
    lines = [line for line in panels(figure)["Loss"].lines if len(line.get_xdata())]
    assert len(lines) == 4 and len({line.get_color() for line in lines}) == 2
    assert len({line.get_linestyle() for line in lines}) == 2
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["first", "second", "empty"]
    assert key(panels(figure)["Loss"]) == ["train", "valid"]


def test_nothing_to_draw_is_an_error() -> None:
    with pytest.raises(TrainingError, match="nothing to draw"):
        curves(frame({"lr": 0.1}))


def test_no_text_lies_on_a_curve_or_on_another_text_and_none_is_markup() -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    shapes = {name: value * np.exp(-np.arange(40) / 9) for name, value in ALL.items()}
    rounds = [{name: float(line[n]) for name, line in shapes.items()} for n in range(40)]
    figure = curves([("first", frame(*rounds)), ("second", frame(*rounds[:9]))])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for axes in panels(figure).values():
        box = axes.get_legend().get_window_extent()
        assert box.y0 >= axes.get_window_extent().y1 - 4, "the key stands above the curves"
        title = axes.title if axes.title.get_text() else axes._left_title
        assert not box.overlaps(title.get_window_extent())
        labels = [*axes.get_xticklabels(), *axes.get_yticklabels()]
        assert labels and not any("$" in label.get_text() for label in labels)
    assert figure.get_window_extent().y1 >= figure.legends[0].get_window_extent().y1


def test_a_picture_is_drawn_from_the_files_while_a_run_goes_on(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"dataset_id": "1", "plan": {}, "seed": 0})
    run.log(1, {"loss/train": 1.0})
    with (run.path / "rounds.jsonl").open("a") as file:
        file.write('{"round": 2, "met')
    path = run.path / CURVES
    draw_curves([run.path], path)
    first = path.read_bytes()
    assert first.startswith(b"\x89PNG")
    draw_curves([run.path], path)
    assert path.read_bytes() == first
    run.log(2, {"loss/train": 0.5})
    draw_curves([run.path], path)
    assert path.read_bytes() != first
    assert not list(run.path.glob("*.tmp"))


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "mf" for folder in ("a", "b")]
    for path in paths:
        Run.create(path, {"dataset_id": "1", "plan": {}, "seed": 0}).log(1, {"bytes/up": 1})
    draw_curves(paths, tmp_path / "both.png")
    assert (tmp_path / "both.png").is_file()
