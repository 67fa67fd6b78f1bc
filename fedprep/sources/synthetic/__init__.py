"""Raw files made up in their official format, with planted truth and, on request, planted faults.

Latent factors drive ratings; an item's topic decides its words, its picture and who chooses it;
popularity follows rank^-power, activity a Pareto law; tastes drift from the first day to the last. The
readers of the real data read them. Equal arguments give equal bytes, but for what other libraries
decide: gzip by the build of zlib, JPEG by Pillow, the truth's Parquet by polars.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from fedprep import recipe
from fedprep.errors import SourceError
from fedprep.files import Kind, alone, whole_folder
from fedprep.frames import read_parquet
from fedprep.schema import Progress, silent
from fedprep.sources.synthetic import amazon_raw, movielens_raw, yelp_raw
from fedprep.sources.synthetic.faults import FAULTS, chosen_faults
from fedprep.sources.synthetic.job import Job, Tally
from fedprep.sources.synthetic.laws import LAWS, law_of
from fedprep.sources.synthetic.lines import Form
from fedprep.sources.synthetic.pictures import damaged, write_pictures
from fedprep.sources.synthetic.truth import Truth, plant_truth

__all__ = ["DEFAULTS", "FAULTS", "LAWS", "PlantedTruth", "planted_truth", "write_raw"]

TRUTH = "truth/truth.json"


def _owns(folder: Path) -> list[str] | None:
    """Returns the paths of made-up raw files in a folder, None where it holds none."""
    try:
        paths = _facts(folder)["paths"].values()
        return [
            f"{top}{rest}"
            for top in ("truth", *(p.split("/")[0] for p in paths))
            for rest in ("", "/*")
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


MADE_UP = Kind(name="folder of made-up raw files", owns=_owns)

DEFAULTS = {"movielens": ("1m", ""), "amazon": ("2023", "All_Beauty"), "yelp": ("", "")}
"""Family → edition and category where the recipe names none."""

WRITERS: dict[str, Callable[[Job], dict[str, Path]]] = {
    "movielens": movielens_raw.write,
    "amazon": amazon_raw.write,
    "yelp": yelp_raw.write,
}


@dataclass(frozen=True, kw_only=True)
class PlantedTruth:
    """What was planted into a folder of raw files.

    facts: the content of `truth/truth.json`: `made_from`, `counts`, `faults` (name → rows, items,
        pictures or files → count and the first three lines or ids).
    items: `source_id`, `topic`, `popularity`, `bias`, `factors`, `n_rows`, `pictured`.
    users: `source_id`, `first_topic`, `last_topic`, `bias`, `first_factors`, `last_factors`, `n_rows`.
    """

    facts: dict[str, Any]
    items: pl.DataFrame
    users: pl.DataFrame


def write_raw(
    folder: Path,
    *,
    family: str,
    edition: str,
    category: str,
    size: recipe.Synthetic,
    seed: int,
    progress: Progress = silent,
) -> dict[str, Path]:
    """Returns role → path of raw files, as the family's reader takes them, written below a folder.

    Also `pictures`, the store of the items' pictures, where `size.images` is above 0; and, beside
    them, the planted truth (`planted_truth`). What is there already from equal arguments is kept.

    Args:
        folder: made, or replaced where it holds earlier raw files of ours.
        family: movielens | amazon | yelp; in place of `size.family`.
        edition: `""` is the family's default, likewise `category` (amazon).

    Raises:
        RecipeError: unknown edition or fault, or a size that cannot be.
        OutputError: the folder holds something else, or another process writes it.
    """
    default_edition, default_category = DEFAULTS.get(family, ("", ""))
    edition, category = edition or default_edition, category or default_category
    law = law_of(family, edition)
    faults = chosen_faults(size.faults, family, edition)
    made_from = {
        "family": family,
        "edition": edition,
        "category": category if family == "amazon" else "",
        "seed": seed,
        "size": {**msgspec.to_builtins(size), "family": family},
        "version": 1,
    }
    if (made := _made_before(folder, made_from)) is not None:
        return made
    with alone(folder / TRUTH, what=f"the made-up raw files in {folder}", progress=progress):
        if (made := _made_before(folder, made_from)) is not None:
            return made  # another process has just made them
        form = movielens_raw.form_of(edition) if family == "movielens" else Form()
        for fault in faults.values():
            law = fault.law(law) if fault.law else law
            form = fault.form(form) if fault.form else form
        truth = plant_truth(size, law, seed=seed)
        with whole_folder(folder, kind=MADE_UP, force=True) as building:
            users, items = _ids(family, edition, truth)
            job = Job(
                folder=building,
                edition=edition,
                category=category,
                truth=truth,
                form=form,
                faults=faults,
                user_ids=users,
                item_ids=items,
                tally=_empty_tally(truth),
                progress=progress,
            )
            paths = WRITERS[family](job)
            if truth.pictured.any():
                paths["pictures"] = building / "pictures"
                _pictures(job, family)
            _damage_files(job, paths)
            _write_truth(job, made_from, paths)
    return {role: folder / path.relative_to(building) for role, path in paths.items()}


def _made_before(folder: Path, made_from: Mapping[str, Any]) -> dict[str, Path] | None:
    """Returns the paths of raw files that are there already from equal arguments."""
    try:
        facts = _facts(folder)
        if facts["made_from"] == made_from:
            return {role: folder / path for role, path in facts["paths"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        pass  # none, or not whole ones: they are made
    return None


def planted_truth(folder: str | Path) -> PlantedTruth:
    """Returns what was planted into the raw files of a folder.

    Raises:
        SourceError: the folder holds no raw files of ours.
    """
    folder = Path(folder)
    if not (folder / TRUTH).is_file():
        raise SourceError(
            f"{folder} holds no synthetic raw files", expected=f"a file {TRUTH} in it"
        )
    return PlantedTruth(
        facts=_facts(folder),
        items=read_parquet(folder / "truth" / "items.parquet"),
        users=read_parquet(folder / "truth" / "users.parquet"),
    )


def _facts(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / TRUTH).read_text(encoding="utf-8"))
    return facts


def _ids(family: str, edition: str, truth: Truth) -> tuple[pl.Series, pl.Series]:
    n_users, n_items, seed = truth.size.n_users, truth.size.n_items, truth.seed
    if family == "movielens":
        return movielens_raw.ids(edition, n_users, n_items, seed)
    if family == "amazon":
        return amazon_raw.ids(edition, n_users, n_items, seed)
    return yelp_raw.ids(n_users, n_items, seed)


def _empty_tally(truth: Truth) -> Tally:
    n_users, n_items = truth.size.n_users, truth.size.n_items
    return Tally(
        item_rows=np.zeros(n_items, dtype=np.int64),
        item_stars=np.zeros(n_items),
        user_rows=np.zeros(n_users, dtype=np.int64),
        user_stars=np.zeros(n_users),
    )


def _pictures(job: Job, family: str) -> None:
    """Draws the pictures, some of them damaged, under the names by which the readers know them."""
    truth, names, inner = job.truth, job.item_ids, "images"
    if family == "yelp":
        names, inner = yelp_raw.photo_ids(truth.size.n_items, truth.seed), "photos"
    kinds = {name: fault.picture for name, fault in job.faults.items() if fault.picture}
    chosen = damaged(truth, kinds)
    for name, items in chosen.items():
        job.note(name, "pictures", len(items), job.item_ids.gather(items[:3]).to_list())
    damage = {item: kinds[name] for name, items in chosen.items() for item in items}
    n = write_pictures(job.folder / "pictures" / inner, names, truth, damage, job.progress)
    job.tally.n_lines["pictures"] = n


def _damage_files(job: Job, paths: Mapping[str, Path]) -> None:
    for name, fault in job.faults.items():
        if fault.file is not None:
            fault.file(paths["reviews"])
            job.note(name, "files", 1, [paths["reviews"].name])
        if fault.form is not None:
            files = (path for path in job.folder.rglob("*") if path.is_file())
            names = sorted(path.name for path in files if path.suffix != ".jpg")
            job.note(name, "files", len(names), names[:3])
    _note_laws(job)


def _note_laws(job: Job) -> None:
    """Writes down what the faults that change the law have led to."""
    tally = job.tally
    outcomes = {
        "tiny_clients": ("users", tally.user_rows == 1, job.user_ids),
        "one_hit_items": ("items", tally.item_rows == 1, job.item_ids),
    }
    for name in job.faults:
        if name in outcomes:
            unit, found, ids = outcomes[name]
            at = np.flatnonzero(found)
            job.note(name, unit, len(at), ids.gather(at[:3]).to_list())
        elif name == "extreme_imbalance":
            job.note(name, "rows", tally.top_rows, [])


def _write_truth(job: Job, made_from: dict[str, Any], paths: Mapping[str, Path]) -> None:
    truth, tally, folder = job.truth, job.tally, job.folder / "truth"
    facts = {
        "made_from": made_from,
        "law": dataclasses.asdict(truth.law),
        "paths": {role: path.relative_to(job.folder).as_posix() for role, path in paths.items()},
        "counts": {
            "interactions": truth.size.n_interactions,
            "users": truth.size.n_users,
            "items": truth.size.n_items,
            "items_rated": int((tally.item_rows > 0).sum()),
            "pictures": tally.n_lines.pop("pictures", 0),
            "lines": tally.n_lines,
        },
        "faults": {name: tally.places.get(name, {}) for name in job.faults},
    }
    folder.mkdir()
    pl.DataFrame(
        {
            "source_id": job.item_ids,
            "topic": truth.topic,
            "popularity": truth.popularity,
            "bias": truth.item_bias,
            "factors": truth.item_factors,
            "n_rows": tally.item_rows,
            "pictured": truth.pictured,
        }
    ).write_parquet(folder / "items.parquet")
    pl.DataFrame(
        {
            "source_id": job.user_ids,
            "first_topic": truth.favourite[:, 0],
            "last_topic": truth.favourite[:, 1],
            "bias": truth.user_bias,
            "first_factors": truth.user_factors[:, 0],
            "last_factors": truth.user_factors[:, 1],
            "n_rows": tally.user_rows,
        }
    ).write_parquet(folder / "users.parquet")
    text = json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=False)
    (job.folder / TRUTH).write_text(text + "\n", encoding="utf-8")
