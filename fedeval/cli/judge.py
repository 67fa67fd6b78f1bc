"""Commands that measure: report, score, compare, baselines."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedeval.cli.columns import columns_of_each, columns_of_truth
from fedeval.cli.options import (
    SYSTEM,
    against_option,
    by_option,
    candidates_option,
    json_option,
    metric_options,
    min_relevance_option,
    names_of,
    relevant_option,
    split_option,
    table_options,
    test_options,
)
from fedprep.terminal import escaped, json_text, print_json, progress_line, say, show

if TYPE_CHECKING:
    from fedeval.setting import Setting
    from fedeval.statistics import Inference

__all__ = ["baselines", "compare", "report", "score"]

FORMS = ("html", "md", "tex", "json")
OURS = ("protocol", "systems", "comparisons")
"""Keys of a report.json by which a folder is known as a report of ours."""


@click.command()
@click.argument("systems", nargs=-1, required=True, metavar=f"{SYSTEM}...")
@table_options
@metric_options
@click.option(
    "--baselines",
    "wanted",
    metavar="NAME,NAME|none",
    help="Baselines beside the systems, such as pop,itemknn,ease; else those of the Dataset's recipe.",
)
@by_option
@against_option
@test_options
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder to write to; else RUN/report, or report."
)
@click.option("--title", help="Heading of the page; else what was measured on.")
@json_option
def report(systems: tuple[str, ...], by: tuple[str, ...], as_json: bool, **given: Any) -> int:
    """Measure systems and write the report: HTML, Markdown, LaTeX, JSON.

    A system is a Run's folder, a table of recommendations, or NAME= one of them. Several make a comparison:
    each with the first one, or with --against. Exit code 1 where a sanity row beats chance: then the protocol
    leaks.

    \b
    Examples:
      fedeval report runs/demo --data datasets/demo
      fedeval report runs/demo theirs=them.csv --data datasets/demo --baselines pop,ease
      fedeval report them.csv --columns them:user=uid,item=iid --truth test.csv --out report
    """
    from fedeval.systems import named_systems

    named = named_systems(systems)
    out = given["out"] or _beside(next(iter(named.values())))
    _refuse_no_folder(out)
    setting = _setting(given, named)
    with progress_line() as progress:
        found = _assessed(named, setting, given, by, given["wanted"], progress)
        progress("pictures", 0, None)
        files = _write(found, setting, out, given["title"])
    _print(found, as_json)
    for file in files:
        say(str(file))
    return int(any(notice["level"] == "red" for notice in found["notices"]))


@click.command()
@click.argument("systems", nargs=-1, required=True, metavar=f"{SYSTEM}...")
@table_options
@metric_options
@json_option
def score(systems: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Print the numbers alone: no baselines, intervals or tests.

    \b
    Examples:
      fedeval score runs/demo --data datasets/demo -k 5,10
      fedeval score run.trec --truth qrels.txt --metrics ndcg@10,map@10 --json
    """
    from fedeval.assessment import score as run
    from fedeval.systems import named_systems

    named = named_systems(systems)
    setting = _setting(given, named)
    with progress_line() as progress:
        found = run(
            named,
            setting,
            metrics=names_of(given["metrics"]) or None,
            k=_cuts(given["cuts"]),
            columns_of=columns_of_each(given, named),
            ids=given["ids"],
            progress=progress,
        )
    _print(found, as_json)


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@table_options
@metric_options
@by_option
@test_options
@json_option
def compare(a: str, b: str, by: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Test two systems against each other, user by user: A − B.

    Differences with intervals, corrected p-values, wins and losses, the smallest difference that could
    have been seen, and where one beats the other.

    \b
    Examples:
      fedeval compare runs/demo runs/avg --data datasets/demo -k 10
      fedeval compare runs/demo them.csv --data datasets/demo --by client_size
    """
    from fedeval.show import show_comparison
    from fedeval.systems import named_systems

    named = named_systems((a, b))
    given["against"] = list(named)[1]
    setting = _setting(given, named)
    with progress_line() as progress:
        found = _assessed(named, setting, given, by, "none", progress, alone=True)
    if as_json:
        _print(found, as_json)
    else:
        show(show_comparison(found))


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option(
    "--only", "wanted", metavar="NAME,NAME", help="These baselines alone; else all that can be had."
)
@metric_options
@split_option
@relevant_option
@min_relevance_option
@candidates_option
@by_option
@against_option
@test_options
@click.option("--out", type=click.Path(path_type=Path), help="Write the report to this folder too.")
@json_option
def baselines(dataset: Path, by: tuple[str, ...], as_json: bool, **given: Any) -> int:
    """Fit cheap and strong baselines on a Dataset, and print what they reach.

    \b
    Examples:
      fedeval baselines datasets/demo -k 10 --metrics ndcg,hr
      fedeval baselines datasets/demo --only popularity,ease --out report
    """
    given |= {"data": dataset}
    if given["out"]:
        _refuse_no_folder(given["out"])
    setting = _setting(given)
    with progress_line() as progress:
        found = _assessed({}, setting, given, by, given["wanted"] or "all", progress)
        files = _write(found, setting, given["out"], None) if given["out"] else []
    _print(found, as_json)
    for file in files:
        say(str(file))
    return int(any(notice["level"] == "red" for notice in found["notices"]))


# --- what they share -----------------------------------------------------------------------------------


def _setting(given: Mapping[str, Any], systems: Collection[str] = ()) -> Setting:
    from fedeval.setting import setting_of

    return setting_of(
        given["data"],
        given.get("truth"),
        split=given["split"],
        relevant=given["relevant"],
        candidates=given["candidates"],
        seed=given.get("seed") or 0,
        columns=columns_of_truth(given, systems),
        order=given.get("order"),
        min_relevance=given.get("min_relevance"),
        ids=given.get("ids", "dataset"),
        truth_ids=given.get("truth_ids"),
    )


def _assessed(
    systems: Mapping[str, Any],
    setting: Setting,
    given: Mapping[str, Any],
    by: tuple[str, ...],
    wanted: str | None,
    progress: Any,
    *,
    alone: bool = False,
) -> dict[str, Any]:
    from fedeval.assessment import assess

    return assess(
        systems,
        setting,
        metrics=names_of(given["metrics"]) or None,
        k=_cuts(given["cuts"]),
        alone=alone,
        baselines=None if wanted is None else () if wanted == "none" else names_of(wanted),
        against=given["against"],
        by=by,
        columns_of=columns_of_each(given, systems),
        ids=given.get("ids", "dataset"),
        negative_pool=given.get("negative_pool", "unknown"),
        over=given["over"],
        inference=_inference(given),
        progress=progress,
    )


def _inference(given: Mapping[str, Any]) -> Inference:
    from fedeval.statistics import Inference

    return Inference(
        test=given["test"],
        correction=given["correction"],
        n_resamples=given["resamples"],
        seed=given["seed"],
    )


def _cuts(text: str | None) -> tuple[int, ...] | None:
    from fedprep.errors import EvaluationError

    cuts = names_of(text)
    if any(not cut.isdigit() or int(cut) < 1 for cut in cuts):
        raise EvaluationError(f"-k is '{text}'", expected="whole numbers from 1, such as 5,10,20")
    return tuple(map(int, cuts)) or None


def _beside(path: str) -> Path:
    place = Path(path)
    return place / "report" if place.is_dir() else Path("report")


def _refuse_no_folder(out: Path) -> None:
    """Refuses a folder that cannot be written to, or has others' files of its names, before all else."""
    from fedprep.decoding import read_json
    from fedprep.errors import DatasetError, OutputError

    place = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not place.is_dir():
        raise OutputError(f"{out} cannot be written: {place} is a file")
    if not os.access(place, os.W_OK):
        raise OutputError(f"{out} cannot be written: no permission to write to {place}")
    names = [f"report.{form}" for form in FORMS]
    there = [name for name in names if os.path.lexists(out / name)]
    try:
        ours = bool(there) and set(OURS) <= set(read_json(out / names[-1], "the report"))
    except DatasetError:
        ours = False
    if there and not ours:
        raise OutputError(
            f"{out} holds {', '.join(there)}, and no report of fedeval: they are not replaced",
            hint="move them away, or choose another --out",
        )


def _print(found: Mapping[str, Any], as_json: bool) -> None:
    from fedeval.report.machine import to_json
    from fedeval.show import show_assessment

    if as_json:
        print_json(to_json(found))
    else:
        show(show_assessment(found))


def _write(found: Mapping[str, Any], setting: Setting, out: Path, title: str | None) -> list[Path]:
    """Writes the report, and beside it the candidates where a sample was ranked; returns the files."""
    from fedeval import report as forms
    from fedeval.candidates import write_candidates
    from fedprep.files import whole_file

    texts = {
        "html": forms.page(found, forms.draw(found), title=title),
        "md": forms.markdown(found),
        "tex": forms.latex(found),
        "json": forms.to_json(found),
    }
    shown = {form: json_text(t) if form == "json" else escaped(t) for form, t in texts.items()}
    files = [out / f"report.{form}" for form in FORMS]
    for form, file in zip(FORMS, files, strict=True):
        with whole_file(file) as beside:
            beside.write_text(shown[form], encoding="utf-8")
    if setting.candidates is not None:
        files.append(out / "candidates.parquet")
        write_candidates(setting.candidates, files[-1])
    return files
