"""Faults in the embeddings of items."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl

from fedprep.errors import DatasetError
from fedprep.faults.copy import Copy, Planted

__all__ = ["FAULTS"]

SCALE = ("scale_matches_manifest",)
"""Where few items have embeddings, those of three are seen in what is measured of all."""

Values = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]


def nan_embeddings(copy: Copy) -> Planted:
    """Three embeddings have a NaN."""
    return _changed(copy, "embeddings_are_finite", _one_value(float("nan")), also=SCALE)


def infinite_embeddings(copy: Copy) -> Planted:
    """Three embeddings have an infinite value."""
    return _changed(copy, "embeddings_are_finite", _one_value(float("inf")), also=SCALE)


def zero_embeddings(copy: Copy) -> Planted:
    """Three embeddings are all zeros: a silent stand-in for a missing one."""

    def zeros(values: Values, chosen: Numbers) -> None:
        values[chosen] = 0.0

    also = ("missing_modalities_are_null", *SCALE)
    return _changed(copy, "embeddings_have_norm", zeros, also=also)


def constant_embeddings(copy: Copy) -> Planted:
    """Three embeddings have one value in all dimensions, each another, of length near 1."""

    def constants(values: Values, chosen: Numbers) -> None:
        near = 1.0 + 1e-5 * np.arange(len(chosen))
        values[chosen] = (near / np.sqrt(values.shape[1]))[:, None]

    also = ("near_duplicates", *SCALE)
    return _changed(copy, "embeddings_are_not_constant", constants, also=also)


def duplicate_embeddings(copy: Copy) -> Planted:
    """Three items have one and the same embedding."""

    def copies(values: Values, chosen: Numbers) -> None:
        values[chosen] = values[chosen[0]]

    return _changed(copy, "embeddings_are_distinct", copies, also=SCALE)


def near_duplicate_embeddings(copy: Copy) -> Planted:
    """Three items have embeddings that differ in the fifth decimal."""

    def copies(values: Values, chosen: Numbers) -> None:
        step = np.float32(1e-5) * np.arange(len(chosen), dtype=np.float32)
        values[chosen] = values[chosen[0]] * (1 + step)[:, None]

    return _changed(copy, "near_duplicates", copies, also=SCALE)


def dead_dimensions(copy: Copy) -> Planted:
    """Three dimensions are zero for every item."""
    modality, frame, values, present = _embeddings(copy)
    dims = copy.some(np.flatnonzero(values[present].any(axis=0)))
    values[:, dims] = 0.0
    _write(copy, modality, frame, values, present)
    also = ("embeddings_have_norm", *SCALE)
    return _planted("dimensions_are_alive", "dimensions", dims, also)


def modality_ten_times_too_large(copy: Copy) -> Planted:
    """One modality is ten times as large as the manifest says and as the other is."""
    modality, frame, values, present = _embeddings(copy, last=True)
    _write(copy, modality, frame, values * np.float32(10.0), present)
    return Planted(
        check="modalities_share_a_scale",
        unit="modalities",
        count=1,
        first=(modality,),
        also=("embeddings_have_norm", *SCALE),
    )


def zeros_for_missing(copy: Copy) -> Planted:
    """Every item without a picture (or text) has zeros in place of null."""
    for modality in _modalities(copy):
        frame, values, present = _arrays(copy, modality)
        missing = np.flatnonzero(~present)
        if len(missing):
            _write(copy, modality, frame, values, np.ones_like(present))
            also = ("embeddings_have_norm", *SCALE)
            return _planted("missing_modalities_are_null", "embeddings", missing, also)
    raise DatasetError("every item has every embedding: none can be zero in place of null")


def embeddings_without_rows(copy: Copy) -> Planted:
    """Three items have no row in the table of embeddings."""
    modality, frame, _, _ = _embeddings(copy)
    chosen = copy.some(frame["item_id"])
    kept = ~pl.col("item_id").is_in(chosen.tolist())
    copy.write(f"embeddings/{modality}.parquet", frame.filter(kept))
    return Planted(
        check="embeddings_match_items",
        unit="items",
        count=len(chosen),
        first=tuple(chosen.tolist()),
        also=SCALE,
    )


def _one_value(value: float) -> Callable[[Values, Numbers], None]:
    def set_one(values: Values, chosen: Numbers) -> None:
        values[chosen, chosen % values.shape[1]] = value

    return set_one


def _modalities(copy: Copy) -> list[str]:
    """Returns the modalities, text first."""
    names = [n for n in copy.manifest["tables"] if n.startswith("embeddings/")]
    found = sorted(name.removeprefix("embeddings/").removesuffix(".parquet") for name in names)
    if not found:
        raise DatasetError("the Dataset has no embeddings")
    return found[::-1]


def _embeddings(
    copy: Copy, *, last: bool = False
) -> tuple[str, pl.DataFrame, Values, npt.NDArray[np.bool_]]:
    """Returns the first modality (text, where there is one) or the last, its table and arrays."""
    modality = _modalities(copy)[-1 if last else 0]
    return modality, *_arrays(copy, modality)


def _arrays(copy: Copy, modality: str) -> tuple[pl.DataFrame, Values, npt.NDArray[np.bool_]]:
    """Returns the table, float32 (n_items, dim) with zeros where null, and bool (n_items,): not null."""
    frame = copy.read(f"embeddings/{modality}.parquet")
    column = frame["embedding"]
    present = column.is_not_null().to_numpy()
    values = np.zeros((frame.height, column.dtype.shape[0]), dtype=np.float32)  # type: ignore[attr-defined]
    values[present] = column.drop_nulls().to_numpy()
    return frame, values, present


def _write(
    copy: Copy, modality: str, frame: pl.DataFrame, values: Values, present: npt.NDArray[np.bool_]
) -> None:
    new = pl.Series("embedding", values, dtype=frame.schema["embedding"])
    kept = pl.when(pl.Series(present)).then(new).otherwise(None).alias("embedding")
    copy.write(f"embeddings/{modality}.parquet", frame.with_columns(kept))


def _changed(
    copy: Copy,
    check: str,
    change: Callable[[Values, Numbers], None],
    *,
    also: tuple[str, ...] = (),
) -> Planted:
    modality, frame, values, present = _embeddings(copy)
    chosen = copy.some(np.flatnonzero(present))
    change(values, chosen)
    _write(copy, modality, frame, values, present)
    return _planted(check, "embeddings", chosen, also)


def _planted(check: str, unit: str, found: Numbers, also: tuple[str, ...] = ()) -> Planted:
    return Planted(
        check=check, unit=unit, count=len(found), first=tuple(found[:3].tolist()), also=also
    )


FAULTS: dict[str, Callable[[Copy], Planted]] = {
    function.__name__: function
    for function in (
        nan_embeddings,
        infinite_embeddings,
        zero_embeddings,
        constant_embeddings,
        duplicate_embeddings,
        near_duplicate_embeddings,
        dead_dimensions,
        modality_ten_times_too_large,
        zeros_for_missing,
        embeddings_without_rows,
    )
}
