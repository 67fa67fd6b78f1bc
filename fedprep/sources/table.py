"""Your own interactions: CSV, Parquet or JSON lines, with a map from our columns to yours.

The recipe's `[source]` says where they are and how they are written (`docs/tables.md`).
"""

from __future__ import annotations

import datetime as dt
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from fedprep import recipe
from fedprep.errors import OutputError, RecipeError, SourceError, nearest
from fedprep.frames import scan_parquet
from fedprep.schema import Candidate, Lines, Progress, RawFile, RawTables, Step, silent
from fedprep.sources.columns import WHOLE, in_type, integer_texts, plain_integers, shared_type
from fedprep.sources.delimited import Dialect, first_rows
from fedprep.sources.first_lines import looks_like_data, looks_like_header
from fedprep.sources.kind import SourceKind, Terms
from fedprep.sources.tabular import file_format, stage_tabular
from fedprep.sources.tidy import BLANKS, refuse_bad_lines, tidy_id
from fedprep.sources.times import likely_unit, seconds, seconds_of_text

__all__ = ["TABLE", "read_table"]

log = logging.getLogger(__name__)

ROLE = "interactions"
IDS = ("user", "item")
COLUMNS = (*IDS, "rating", "timestamp")
ABOUT_ITEMS = {"title": pl.String(), "categories": pl.List(pl.String()), "image": pl.String()}
EMPTY = {"rating": pl.Float32(), "timestamp": pl.Int64()}
WILD = frozenset("*?[")
COMMA = r"[+-]?\d*,\d+"
OLDEST = dt.datetime(1990, 1, 1, tzinfo=dt.UTC).timestamp()  # before it, a unit is probably wrong


def read_table(
    paths: Mapping[str, Path], options: recipe.Source, work: Path, progress: Progress = silent
) -> RawTables:
    """Returns the interactions of files with a column map. Such a source knows nothing of items or users.

    Ids are Int64 where every user and every item is a plain integer (no leading zero), else String. Rows
    without a user or an item, whose rating is no finite number, or whose time cannot be read are dropped
    and counted. A rating or a time that is not given is null. Several files are taken in the order of
    their paths, and their lines numbered on from one to the next.

    Args:
        paths: `"interactions"` → a file, or a folder in which `options.file` is looked for.
        options: `[source]` of the recipe.
        work: a folder to stage in.
        progress: told the bytes read.

    Raises:
        RecipeError: a wrong column map or setting.
        SourceError: no such file or column, a file that cannot be read, or no usable row.
        OutputError: `work` cannot be written.
    """
    _check(options.columns)
    parts = _parts(_files(paths[ROLE], options.file), options, work, progress)
    rows = _with_tidy_ids(pl.concat([part.frame for part in parts]))
    rows, unit_facts = _with_seconds(rows, options)
    judged = _written(
        rows.select(*COLUMNS, "line", *TIDIED, fault=_fault()), work / "judged.parquet"
    )
    steps = [_read_step(parts), *_fault_steps(judged, parts)]
    _refuse_many_faults(steps, parts, options)
    good = judged.filter(pl.col("fault") == 0)
    steps += _tidied_ids(good)
    good, more = _one_spelling(good)
    steps += more
    id_type = pl.Int64() if plain_integers(good, IDS) else pl.String()
    facts = {
        "files": [part.path.name for part in parts],
        "ids": "integers" if id_type.is_integer() else "text",
        **unit_facts,
    }
    if unit_facts:
        _warn_of_early_times(good, unit_facts["time_unit"])
    return RawTables(
        interactions=good.with_columns(pl.col(IDS).cast(id_type)).select(*COLUMNS, "line"),
        items=pl.LazyFrame(schema={"item": id_type, **ABOUT_ITEMS}),
        users=pl.LazyFrame(schema={"user": id_type}),
        steps=steps,
        facts=facts,
    )


def _check(columns: Mapping[str, str | int]) -> None:
    for ours in columns:
        if ours not in COLUMNS:
            raise RecipeError(
                f"interactions have no column '{ours}'",
                where="source.columns",
                expected=" | ".join(COLUMNS),
                hint=nearest(ours, COLUMNS) + " What is said of items goes into [source.items]",
            )
    missing = [name for name in IDS if name not in columns]
    if missing:
        raise RecipeError(
            f"source.columns does not say which column is the {' and the '.join(missing)}",
            expected='[source.columns] with user = "…" and item = "…"',
        )


def _files(path: Path, pattern: str) -> list[Path]:
    """Returns the files that a recipe's `file` means: the one given, or those in a folder, sorted.

    Each may be gzip with `.gz` behind its name; where it lies there twice, the plain one is taken.
    """
    if path.is_file():
        return [path]
    plain = pattern.removesuffix(".gz")
    inside = [p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")]
    for wanted in (plain, Path(plain).name):  # an archive may hold it without the folder before it
        called = Path(wanted).parts  # a file that is called so goes before a pattern
        names = (called, (*called[:-1], f"{called[-1]}.gz"))
        found = {p for p in inside if p.parts[-len(called) :] in names}
        found = found or {p for p in inside if p.match(wanted) or p.match(f"{wanted}.gz")}
        if found:
            return sorted(p for p in found if p.suffix != ".gz" or p.with_suffix("") not in found)
    raise SourceError(
        f"no file is called '{pattern}'",
        where=str(path),
        expected="a file, or a pattern such as ratings-*.csv",
    )


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One file: `COLUMNS` in types that all files share, and `line`, which counts on from `lines_before`."""

    path: Path
    staged: pl.LazyFrame  # its columns as they are written
    frame: pl.LazyFrame
    step: Step
    lines_before: int


def _parts(
    files: Sequence[Path], options: recipe.Source, work: Path, progress: Progress
) -> list[_Part]:
    dialect = Dialect(
        separator=options.separator,
        header=options.header,
        encoding=options.encoding,
        quote=options.quote,
    )
    told = _headers(files, options, dialect)
    staged = [
        stage_tabular(
            path,
            columns,
            work / f"part-{number}",
            name=path.name,
            form=options.format,
            dialect=own,
            max_bad_share=options.max_bad_share,
            progress=progress,
        )
        for number, (path, (own, columns)) in enumerate(zip(files, told, strict=True))
    ]
    schemas = [frame.collect_schema() for frame, _ in staged]
    types = {
        name: shared_type(name, [schema[name] for schema in schemas], files)
        for name in options.columns
    }
    parts: list[_Part] = []
    n_lines = 0
    for path, (frame, step), schema in zip(files, staged, schemas, strict=True):
        mapped = {n: in_type(n, schema[n], types[n], options.decimal) for n in options.columns}
        absent = {n: pl.lit(None, EMPTY[n]) for n in COLUMNS if n not in mapped}
        line = (pl.col("line").cast(pl.Int64) + n_lines).cast(pl.UInt32)
        shared = frame.select(**mapped, **absent, line=line).select(*COLUMNS, "line")
        parts.append(_Part(path=path, staged=frame, frame=shared, step=step, lines_before=n_lines))
        n_lines += frame.select(pl.col("line").max()).collect(engine="streaming").item() or 0
    return parts


Map = Mapping[str, str | int]


def _headers(
    files: Sequence[Path], options: recipe.Source, dialect: Dialect
) -> Sequence[tuple[Dialect, Map]]:
    """Returns the dialect and the columns of each file, where some have a header and others have none.

    Where that is so of files that were cut from one, those that are not as the recipe says are read as
    they are, and told.
    """
    as_said: list[tuple[Dialect, Map]] = [(dialect, options.columns)] * len(files)
    text = [
        options.format == "csv"
        or (options.format == "auto" and file_format(path, name=path.name) == "csv")
        for path in files
    ]
    if len(files) < 2 or not all(text):
        return as_said
    rows = [first_rows(path, dialect, name=path.name) for path in files]
    heads = [[field.strip(BLANKS) for field in lines[0]] if lines else [] for lines in rows]
    columns = options.columns
    names = next(
        (h for h in heads if all(isinstance(t, int) or t in h for t in columns.values())), []
    )
    if not names:
        return as_said
    numbers = {o: names.index(t) if isinstance(t, str) else t for o, t in columns.items()}
    wanted = [*numbers.values()]
    other = (
        [looks_like_data(lines, wanted) for lines in rows]
        if dialect.header
        else [looks_like_header(lines, wanted) for lines in rows]
    )
    if all(other) or not any(other):
        return as_said
    odd = [path.name for path, is_other in zip(files, other, strict=True) if is_other]
    log.warning(
        "%d of %d files have %s, unlike the others, and are read so: %s",
        len(odd),
        len(files),
        "no header" if dialect.header else "a header",
        ", ".join(odd[:3]),
    )
    unlike: tuple[Dialect, Map] = (replace(dialect, header=not dialect.header), numbers)
    return [unlike if is_other else said for said, is_other in zip(as_said, other, strict=True)]


def _with_seconds(
    rows: pl.LazyFrame, options: recipe.Source
) -> tuple[pl.LazyFrame, dict[str, str]]:
    """Returns the rows with `timestamp` in seconds and `timeless`, and the time unit that was found."""
    if "timestamp" not in options.columns:
        return rows.with_columns(timeless=pl.lit(False)), {}
    if rows.collect_schema()["timestamp"] == pl.Int64():
        unit, said_by = "typed", "the column's type"
        return rows.with_columns(timeless=pl.lit(False)), {
            "time_unit": unit,
            "time_unit_from": said_by,
        }
    unit, said_by = str(options.time_unit), "the recipe"
    if unit == "auto":
        unit, said_by = likely_unit(rows, "timestamp"), "most of the values"
    rows = rows.with_columns(given=pl.col("timestamp").is_not_null())
    rows = rows.with_columns(seconds(rows, "timestamp", unit).alias("timestamp"))
    rows = rows.with_columns(timeless=pl.col("given") & pl.col("timestamp").is_null())
    return rows.drop("given"), {"time_unit": unit, "time_unit_from": said_by}


FAULTS = {
    "rows without a user": pl.col("user").is_null(),
    "rows without an item": pl.col("item").is_null(),
    "rows whose rating is no finite number": ~pl.col("rating").is_finite().fill_null(True),
    "rows whose time cannot be read": pl.col("timeless"),
}
"""Why a row cannot be used; it is counted under the first that holds."""


TIDIED = ("cut", "composed")
"""Whether an id of a row had blanks at its ends, or letters that were not composed."""


def _with_tidy_ids(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Returns the rows with ids as every table has them (`tidy_ids`), and with `TIDIED`."""
    text = [name for name in IDS if rows.collect_schema()[name] == pl.String()]
    if not _any_untidy(rows, text):
        return rows.with_columns(pl.lit(False).alias(mark) for mark in TIDIED)
    rows = rows.with_columns(tidy_id(pl.col(name)).alias(f"tidy {name}") for name in text)
    cut = [pl.col(name).str.strip_chars(BLANKS) for name in text]
    rows = rows.with_columns(
        cut=pl.any_horizontal(c != pl.col(n) for c, n in zip(cut, text, strict=True)),
        composed=pl.any_horizontal(
            c != pl.col(f"tidy {n}") for c, n in zip(cut, text, strict=True)
        ),
    )
    return rows.with_columns(pl.col(f"tidy {name}").alias(name) for name in text)


def _any_untidy(rows: pl.LazyFrame, text: Sequence[str]) -> bool:
    """Returns whether an id has blanks at its ends, or letters beyond ASCII: most tables have neither."""
    signs = [
        sign
        for name in text
        for sign in (
            (pl.col(name).str.strip_chars(BLANKS) != pl.col(name)).any(),
            (pl.col(name).str.len_bytes().sum() != pl.col(name).str.len_chars().sum()),
        )
    ]
    found = rows.select(pl.any_horizontal(signs)).collect(engine="streaming") if signs else None
    return found is not None and bool(found.item())


def _tidied_ids(rows: pl.LazyFrame) -> list[Step]:
    """Returns a step that tells how many rows had an id tidied; none where none had."""
    counts = rows.select(pl.len(), pl.col(TIDIED).sum()).collect(engine="streaming")
    n_rows, cut, composed = counts.row(0)
    why = [f"{cut:,} with blanks at the ends of an id: cut"] if cut else []
    why += [f"{composed:,} with letters and accents apart in an id: composed"] if composed else []
    if not why:
        return []
    return [
        Step(stage="read", name="ids tidied", rows_in=n_rows, rows_out=n_rows, why="; ".join(why))
    ]


def _one_spelling(rows: pl.LazyFrame) -> tuple[pl.LazyFrame, list[Step]]:
    """Returns the rows with `7.0` as `7` in columns of ids that hold whole numbers only, and a step."""
    if plain_integers(rows, IDS):
        return rows, []
    found, twice = integer_texts(rows, IDS)
    for name, count in twice.items():
        log.warning(
            "%d %ss occur as 7 and as 7.0, and are taken for two: not all are numbers", count, name
        )
    if not found:
        return rows, []
    n_rows = rows.select(pl.len()).collect(engine="streaming").item()
    why = (
        " and ".join(f"{count:,} {name}s" for name, count in found.items())
        + " such as 7.0, read as 7"
    )
    log.warning("ids are whole numbers: %s", why)
    rows = rows.with_columns(pl.col(name).str.replace(WHOLE, "$1") for name in found)
    step = Step(stage="read", name="ids in one spelling", rows_in=n_rows, rows_out=n_rows, why=why)
    return rows, [step]


def _refuse_many_faults(
    steps: Sequence[Step], parts: Sequence[_Part], options: recipe.Source
) -> None:
    """Stops where too many rows cannot be used, or any for a decimal comma.

    Raises:
        SourceError: with what the values look like.
    """
    faults = [step for step in steps[1:] if step.dropped]
    if not faults:
        return
    where = ", ".join(part.path.name for part in parts[:3])
    samples = _unread(parts, options)
    commas = [name for name, value in samples.items() if re.fullmatch(COMMA, value)]
    if commas and options.decimal == ".":
        raise SourceError(
            f"{commas[0]}s have a decimal comma, such as {samples[commas[0]]}",
            where=where,
            expected="a decimal point",
            hint='decimal = "," reads them',
        )
    reasons = [f"{step.dropped:,} {step.name}" for step in steps if step.dropped]
    reasons += [f"{name} such as {value!r}" for name, value in samples.items()]
    hint = "are the columns the right ones, and the time unit?"
    if steps[-1].rows_out == 0:
        raise SourceError(
            f"none of the {steps[0].rows_in:,} rows can be used: {', '.join(reasons)}",
            where=where,
            hint=hint,
        )
    refuse_bad_lines(
        sum(step.dropped for step in steps),
        steps[0].rows_in,
        options.max_bad_share,
        name=where,
        why="; ".join(reasons),
        where=", ".join(example for step in steps for example in step.examples[:3]),
        like=("", hint),
    )


def _unread(parts: Sequence[_Part], options: recipe.Source) -> dict[str, str]:
    """Returns for ratings and times the first value, as it is written, that is no number (or no time)."""
    samples: dict[str, str] = {}
    for part in parts:
        schema = part.staged.collect_schema()
        for name in ("rating", "timestamp"):
            if name in samples or name not in options.columns or schema[name] != pl.String():
                continue
            text = pl.col(name).str.strip_chars(BLANKS)
            unread = text.cast(pl.Float64, strict=False).is_null() & (text != "")
            if name == "timestamp":
                unread &= seconds_of_text(text).is_null()
            found = part.staged.filter(unread).select(text).head(1).collect(engine="streaming")
            if found.height:
                samples[name] = found.item()[:40]
    return samples


def _fault() -> pl.Expr:
    """Returns 0 for a good row, else 1 + the position of its fault."""
    fault = pl.lit(0, pl.UInt8())
    for number, holds in reversed(list(enumerate(FAULTS.values(), start=1))):
        fault = pl.when(holds).then(pl.lit(number, pl.UInt8())).otherwise(fault)
    return fault


def _written(rows: pl.LazyFrame, path: Path) -> pl.LazyFrame:
    """Returns the rows from a file of their own, so that they are worked out once."""
    try:
        rows.sink_parquet(path, compression="lz4")
    except OSError as error:
        raise OutputError(f"cannot write staged rows: {error}", where=str(path)) from None
    except pl.exceptions.PolarsError as error:
        raise SourceError(f"the interactions cannot be read: {error}") from None
    return scan_parquet(path)


def _read_step(parts: Sequence[_Part]) -> Step:
    steps = [part.step for part in parts]
    if len(steps) == 1:
        return steps[0]
    examples = [f"{part.path.name} {line}" for part in parts for line in part.step.examples]
    return Step(
        stage="read",
        name=f"bad lines in {len(parts)} files",
        rows_in=sum(step.rows_in for step in steps),
        rows_out=sum(step.rows_out for step in steps),
        why="; ".join(f"{part.path.name}: {part.step.why}" for part in parts if part.step.why),
        examples=tuple(examples[:3]),
        lines=sum((step.lines for step in steps if step.lines), Lines())
        if any(step.lines for step in steps)
        else None,
    )


def _fault_steps(judged: pl.LazyFrame, parts: Sequence[_Part]) -> list[Step]:
    """Returns a step for each fault that occurs; the rows of the last are those that can be used."""
    first = pl.col("line").bottom_k(3).sort().alias("first")
    faulty = judged.filter(pl.col("fault") > 0).group_by("fault").agg(pl.len(), first).sort("fault")
    n_rows, found = pl.collect_all([judged.select(pl.len()), faulty], engine="streaming")
    left = n_rows.item()
    steps = []
    for fault, count, lines in found.iter_rows():
        steps.append(
            Step(
                stage="read",
                name=list(FAULTS)[fault - 1],
                rows_in=left,
                rows_out=left - count,
                examples=tuple(_place(line, parts) for line in lines),
            )
        )
        left -= count
    return steps


def _place(line: int, parts: Sequence[_Part]) -> str:
    part = next(part for part in reversed(parts) if part.lines_before < line)
    place = f"line {line - part.lines_before}"
    return place if len(parts) == 1 else f"{part.path.name} {place}"


def _warn_of_early_times(rows: pl.LazyFrame, unit: str) -> None:
    first = rows.select(pl.col("timestamp").min()).collect(engine="streaming").item()
    if first is not None and first < OLDEST:
        date = dt.datetime(1970, 1, 1) + dt.timedelta(seconds=max(first, -(10**10)))
        log.warning(
            "the earliest interaction is of %s (time unit: %s): is source.time_unit right?",
            date.date(),
            unit,
        )


def _raw_files(options: recipe.Source) -> tuple[RawFile, ...]:
    if not options.file:
        raise RecipeError(
            "the recipe does not say which table to read",
            where="source.file",
            expected='a file or a pattern, such as file = "ratings.csv"',
        )
    _check(options.columns)
    # Plain or gzip; also as members of an archive, or of the folder that a pattern means.
    plain = options.file.removesuffix(".gz")
    members = (plain, f"{plain}.gz") if WILD & set(plain) else (Path(plain).name,)
    return (RawFile(role=ROLE, candidates=(Candidate(name=options.file),), members=members),)


def _terms(options: recipe.Source) -> Terms:
    """Returns empty terms: what may be done with a user's own table is theirs to know."""
    return Terms(licence="", licence_text="", citation="", homepage="", redistribution=False)


TABLE = SourceKind(
    summary="your own CSV, Parquet or JSON lines, with a map of columns",
    files=_raw_files,
    read=read_table,
    terms=_terms,
    expected=lambda options: {},
)
