"""The scale of modalities: to each other, and to what the manifest says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from fedprep.checks.check import Check, NotAsked
from fedprep.checks.limits import Limits
from fedprep.checks.modalities import MODALITY, method_of
from fedprep.checks.tables import Tables
from fedprep.checks.vectors import Bools

__all__ = ["CHECKS"]

STATISTICS = ("norm_min", "norm_median", "norm_max", "rms", "mean_abs")


def modalities_share_a_scale(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Modalities, the users' behaviour among them, that are out of scale with the others.

    The scale of a modality is the root mean square of the lengths of its finite vectors over what its
    normalisation promises: 1 for `l2`, the root of the number of dimensions that vary for `standardize` and
    `whiten`; where nothing is promised (`none`, or tables without a manifest), 1 for items and that root for
    users. Good data have 1 everywhere. Where the largest scale is more than `max_scale_ratio` times the
    smallest, the modality farthest from 1 is out of scale, and so on for those that are left.
    """
    rows = []
    for modality in tables.modalities:
        vectors = tables.vectors(modality)
        if len(vectors.norms):
            method = method_of(tables, modality)
            promised = _promised(modality, method, int(vectors.alive.sum()))
            rows.append((modality, method, vectors.rms_norm, promised, vectors.rms_norm / promised))
    if len(rows) < 2:
        raise NotAsked("a scale takes two modalities to share it")
    schema = {
        MODALITY: pl.String,
        "normalise": pl.String,
        "norm": pl.Float64,
        "promised": pl.Float64,
        "scale": pl.Float64,
    }
    table = pl.DataFrame(rows, schema=schema, orient="row")
    out = _out_of_scale(table["scale"].to_numpy(), limits.max_scale_ratio)
    return table.filter(pl.Series(out, dtype=pl.Boolean)).lazy()


def _promised(modality: str, method: str, n_alive: int) -> float:
    """Returns the length that vectors of a modality have on the whole, by their normalisation."""
    by_dimension = method in ("standardize", "whiten") or (
        modality == "behavior" and method != "l2"
    )
    return float(np.sqrt(max(n_alive, 1))) if by_dimension else 1.0


def _out_of_scale(scales: Any, ratio: float) -> Bools:
    """Returns bool (n,): the fewest, farthest from 1 first, without which no two differ by the ratio."""
    tiny = np.finfo(np.float64).tiny
    distance = np.log(np.maximum(scales, tiny))
    out = np.zeros(len(distance), dtype=bool)
    while (~out).any() and np.ptp(distance[~out]) > np.log(ratio):
        out[np.argmax(np.where(out, -1.0, np.abs(distance)))] = True
    return out


def scale_matches_manifest(tables: Tables, limits: Limits) -> pl.LazyFrame:
    """Modalities that are not as many or not as large as the manifest says; `differs` names in what.

    Counted and measured are the finite vectors: one that is not finite is missing here.
    """
    assert tables.manifest is not None
    encoders = tables.manifest.get("encoders", {})
    there = [modality for modality in tables.modalities if modality in encoders]
    if not there:
        raise NotAsked("the manifest tells of no encoder whose vectors are there")
    found = []
    for modality in there:
        said, measured = _said(modality, encoders[modality]), _measured(tables, modality)
        errors = {name: 0.0 if name == "n" else limits.max_scale_error for name in said}
        differs = [
            name
            for name, value in said.items()
            if value is not None and not _close(measured[name], value, errors[name])
        ]
        if differs:
            first = differs[0]
            found.append((modality, ", ".join(differs), measured[first], float(said[first])))
    schema = {MODALITY: pl.String, "differs": pl.String, "found": pl.Float64, "said": pl.Float64}
    return pl.LazyFrame(found, schema=schema, orient="row")


def _said(modality: str, encoder: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the manifest says of the vectors on disk, None for what it cannot say."""
    if modality == "behavior":
        present, missing, rms = (encoder.get(key) for key in ("n_present", "n_missing", "rms"))
        if present is None or rms is None:
            return {}
        # Users without train rows are 0 once standardised; otherwise theirs is a length that is not told.
        told = not missing or encoder.get("normalise") == "standardize"
        n = present + (missing or 0)
        return {"n": n, "rms": rms * (present / n) ** 0.5 if told and n else None}
    after = encoder.get("statistics", {}).get("after", {})
    # Zero vectors have become null after they were measured: with any, no mean is that of the rest.
    measured = STATISTICS if not after.get("n_zero") else ("norm_max",)
    return {"n": encoder.get("n_present"), **{name: after.get(name) for name in measured}}


def _measured(tables: Tables, modality: str) -> dict[str, float]:
    vectors = tables.vectors(modality)
    norms = vectors.norms
    if not len(norms):
        return dict.fromkeys((*STATISTICS, "n"), 0.0)
    return {
        "n": float(len(norms)),
        "norm_min": float(norms.min()),
        "norm_median": float(np.median(norms)),
        "norm_max": float(norms.max()),
        "rms": float(np.sqrt(np.mean(norms**2) / vectors.dim)),
        "mean_abs": vectors.sum_abs / (len(norms) * vectors.dim),
    }


def _close(found: float, said: float, error: float) -> bool:
    return bool(abs(found - said) <= error * abs(said))


CHECKS = (
    Check(
        name="modalities_share_a_scale",
        group="embeddings",
        unit="modalities",
        of="modalities",
        function=modalities_share_a_scale,
        needs=("embeddings",),
        limits=("max_scale_ratio",),
        means="One modality is many times as large as another: put side by side, gradients explode.",
        todo="Set embed.text.normalise and embed.image.normalise to l2 or standardize, and build again.",
    ),
    Check(
        name="scale_matches_manifest",
        group="embeddings",
        unit="modalities",
        of="modalities",
        function=scale_matches_manifest,
        needs=("manifest",),
        limits=("max_scale_error",),
        means="Vectors are not as many or as large as when they were written: they were changed afterwards.",
        todo="Build again, or copy the Dataset again from where it is whole.",
    ),
)  # fmt: skip
