"""Commands that judge: validate, diff, card, demo-faults."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedprep.cli.options import dataset_argument, json_option, verify_option
from fedprep.terminal import echo, escaped, json_text, print_json, progress_bars, say, show

if TYPE_CHECKING:
    from fedprep.dataset import Dataset

__all__ = ["card", "demo_faults", "diff", "validate"]

file_type = click.Path(path_type=Path, dir_okay=False)


@click.command(short_help="Check a Dataset, Parquet files, or recommendations.")
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--recs", type=file_type, help="Check this table of recommendations against the Dataset PATH."
)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set a limit of a check, which makes it a gate; may be repeated.",
)
@click.option(
    "--only", multiple=True, metavar="CHECK", help="Run this check alone; may be repeated."
)
@click.option(
    "--require",
    multiple=True,
    metavar="PATTERN",
    help="Checks, or a group, that have to run: where one is skipped it fails; may be repeated.",
)
@click.option(
    "--client-from",
    default="",
    metavar="WHERE",
    help="Take the client of client files that others wrote from the filename, the folder, or a column.",
)
@click.option(
    "--split-from",
    default="",
    metavar="WHERE",
    help="Take the split likewise: filename or folder (with the word train, valid or test), or a column.",
)
@click.option("--strict", is_flag=True, help="Warnings fail as well.")
@click.option(
    "--verify", is_flag=True, help="Compare the SHA-256 of all files, whatever --only names."
)
@click.option("--quiet", is_flag=True, help="Print nothing where all checks pass.")
@click.option("--html", type=file_type, help="Write the page with pictures there.")
@click.option("--junit", type=file_type, help="Write JUnit XML there.")
@click.option("--markdown", type=file_type, help="Write Markdown there.")
@click.option("--json-file", type=file_type, help="Write the JSON there.")
@json_option
def validate(
    path: Path,
    recs: Path | None,
    limits: tuple[str, ...],
    only: tuple[str, ...],
    require: tuple[str, ...],
    client_from: str,
    split_from: str,
    strict: bool,
    verify: bool,
    quiet: bool,
    html: Path | None,
    junit: Path | None,
    markdown: Path | None,
    json_file: Path | None,
    as_json: bool,
) -> int:
    """Check a Dataset, a folder of Parquet files, or recommendations.

    PATH is a Dataset, a folder of Parquet files, or one such file. Exit code 0 for pass or warn,
    1 where a check fails, 2 where it could not run.

    \b
    Examples:
      fedprep validate datasets/demo --html report.html
      fedprep validate datasets/demo --limit max_class_share=0.9 --junit junit.xml
      fedprep validate datasets/demo --recs runs/demo/recommendations.parquet
      fedprep validate tables/ --require splits --require 'embeddings_*'
      fedprep validate nodes/ --client-from filename --split-from folder
    """
    from fedprep import report
    from fedprep.gate import exit_code, judge
    from fedprep.show import show_validation

    if verify and only:
        only = (*only, "files_match_hashes")
    with progress_bars() as progress:
        verdict, dataset = judge(
            path,
            recs=recs,
            limits=limits,
            only=only,
            require=require,
            client_from=client_from,
            split_from=split_from,
            strict=strict,
            progress=progress,
        )
        page = _page(verdict, dataset) if html else ""
    texts = {
        html: page,
        junit: report.junit(verdict) if junit else "",
        markdown: report.markdown(verdict) if markdown else "",
        json_file: report.to_json(verdict) if json_file else "",
    }
    for file, text in texts.items():
        if file is not None:
            _write(file, json_text(text) if file == json_file else escaped(text))
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as out:
            out.write(report.markdown(verdict) + "\n")
    if os.environ.get("GITHUB_ACTIONS"):
        say(report.annotations(verdict))
    if as_json:
        print_json(report.to_json(verdict))
    elif not quiet or verdict["verdict"] != "pass":
        show(show_validation(verdict))
    return exit_code(verdict, dataset)


def _page(verdict: Mapping[str, Any], dataset: Dataset | None) -> str:
    from fedprep import report

    if dataset is None:
        return report.page(verdict, {}, {})
    return report.page(verdict, report.draw(report.aggregates(dataset)), dataset.manifest)


def _write(path: Path, text: str) -> None:
    from fedprep.files import whole_file

    with whole_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option(
    "--fail-on",
    multiple=True,
    type=click.Choice(["recipe", "facts", "drift", "any"]),
    help="Exit 1 where this differs; may be repeated.",
)
@click.option(
    "--max-psi",
    type=click.FloatRange(min=0.0),
    default=0.1,
    show_default=True,
    help="Drift: the population stability index up to which the two count as alike.",
)
@verify_option(True)
@json_option
def diff(
    a: Path, b: Path, fail_on: tuple[str, ...], max_psi: float, verify: bool, as_json: bool
) -> int:
    """Show two Datasets side by side.

    Recipe keys, facts, drift (Jensen–Shannon, PSI), new and gone items and users. With --fail-on it is a
    gate: exit code 1 where they differ in that. Drift that chance alone gives never fails, nor does time.

    \b
    Examples:
      fedprep diff datasets/demo datasets/demo-skewed
      fedprep diff datasets/last-week datasets/today --fail-on drift
    """
    from fedprep.dataset import Dataset
    from fedprep.diff import diff as compare
    from fedprep.diff import failures
    from fedprep.show import show_diff

    found = compare(Dataset.open(a, verify=verify), Dataset.open(b, verify=verify))
    failed = failures(found, fail_on, max_psi=max_psi)
    if as_json:
        print_json({**found, "failures": failed})
    else:
        show(show_diff(found))
    for text in failed:
        say(f"failed: {text}")
    return int(bool(failed))


@click.command()
@dataset_argument
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder to write to; else the Dataset's own.",
)
@click.option(
    "--prose", type=file_type, help="Markdown with your own words under the card's headings."
)
@verify_option(True)
def card(dataset: Path, out: Path | None, prose: Path | None, verify: bool) -> None:
    """Write the data card: README.md and croissant.json.

    \b
    Examples:
      fedprep card datasets/demo --out card --prose words.md
    """
    from fedprep.build import terms_of_manifest
    from fedprep.card import write_card
    from fedprep.dataset import Dataset

    opened = Dataset.open(dataset, verify=verify)
    licence_text = terms_of_manifest(opened.manifest)
    for path in write_card(opened, out or dataset, prose=prose, licence_text=licence_text):
        echo(str(path))


@click.command("demo-faults")
@click.argument("dataset", type=click.Path(path_type=Path), required=False)
@click.option("--fault", "faults", multiple=True, help="Plant this fault alone; may be repeated.")
@json_option
def demo_faults(dataset: Path | None, faults: tuple[str, ...], as_json: bool) -> int:
    """Plant each known fault and see its check find it.

    Each fault goes into a copy of DATASET, of a small one that is made where none is given. Exit code 1 where
    one is not found.

    \b
    Examples:
      fedprep demo-faults
      fedprep demo-faults datasets/demo --fault nan_embeddings
    """
    from fedprep.gate import find_faults
    from fedprep.show import show_faults

    with tempfile.TemporaryDirectory() as folder, progress_bars() as progress:
        found = find_faults(dataset, Path(folder), faults, progress=progress)
    if as_json:
        print_json(found)
    else:
        show(show_faults(found))
    return int(any(not line["found"] for line in found if line["planted"] is not None))
