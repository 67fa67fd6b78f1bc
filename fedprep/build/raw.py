"""From a recipe to raw tables: official files fetched or made up, read by the source's reader."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from fedprep import fetch as fetching
from fedprep.build.log import SYNTHETIC, Hands, Log
from fedprep.build.tables import Coded, encode
from fedprep.errors import FetchError, OutputError, RecipeError, SourceError
from fedprep.fetch import Fetched
from fedprep.files import cache_folder, sha256_of
from fedprep.recipe import ItemsTable, Recipe, parse_recipe
from fedprep.schema import Candidate, RawFile, RawTables
from fedprep.sources import SOURCES, Terms, join_items

__all__ = ["fetch_raw", "read_raw", "terms_of_manifest", "terms_shown_first_time"]

FAMILIES = ("movielens", "amazon", "yelp")
NAMED = ("items", "pictures")
"""Roles of files that the recipe names itself."""


def read_raw(
    recipe: Recipe, hands: Hands, work: Path, log: Log
) -> tuple[RawTables, Coded, Path | None]:
    """Returns the raw tables, the interactions with codes for ids, and the store of pictures if any.

    Raises:
        FetchError: a raw file cannot be had. SourceError: it does not hold what its format promises.
        RecipeError: the recipe names files or an edition that do not exist.
    """
    source = SOURCES[recipe.source.name]
    with log.stage("fetch"):
        fetched = fetch_raw(recipe, hands)
        named = _named_files(recipe, hands)
    files = fetched | named
    with log.stage("read"):
        paths = {role: file.path for role, file in fetched.items()}
        options = recipe.source
        if hands.synthetic and options.synthetic.faults:
            # Bad lines that were asked for stop nothing.
            options = msgspec.structs.replace(options, max_bad_share=1.0)
        raw = source.read(paths, options, work, hands.progress)
        if recipe.source.items is not None:
            extra = recipe.source.items
            raw = (
                join_items(raw, named["items"].path, extra, markup=recipe.source.markup)
                if "items" in named
                else _bare(raw, extra)
            )
        coded = encode(raw)
    log.steps += raw.steps
    log.entries["source"] = _provenance(recipe, hands, files, raw)
    _compare_with_facts(recipe, raw, coded, log.entries["source"])
    return raw, coded, _picture_store(recipe, files)


def fetch_raw(recipe: Recipe, hands: Hands) -> dict[str, Fetched]:
    """Returns the raw files of a recipe by role: fetched, taken from the hands, or made up.

    Raises:
        FetchError: a file cannot be had. RecipeError: there is no such edition or category.
    """
    pictured = recipe.embed.image.encoder != "none"
    if hands.synthetic or recipe.source.name == SYNTHETIC:
        made_up = _write_synthetic(recipe, hands)
        return {role: file for role, file in made_up.items() if pictured or role != "pictures"}
    wanted = SOURCES[recipe.source.name].files(recipe.source)
    return fetching.fetch(
        [file for file in wanted if pictured or file.role != "pictures"],
        by_hand=hands.path,
        allow_unverified=hands.allow_unverified,
        progress=hands.progress,
    )


def terms_shown_first_time(recipe: Recipe) -> Terms | None:
    """Returns the terms of the recipe's source the first time that this user asks, then None.

    Raises:
        OutputError: the cache, which remembers that they were shown, cannot be written.
    """
    terms = SOURCES[recipe.source.name].terms(recipe.source)
    if not terms.licence:
        return None
    key = hashlib.sha256(repr(terms).encode()).hexdigest()[:16]
    shown = cache_folder() / "terms-shown" / key
    if shown.exists():
        return None
    try:
        shown.parent.mkdir(parents=True, exist_ok=True)
        shown.touch()
    except OSError as error:
        raise OutputError(
            f"the cache cannot be written to: {error.strerror}",
            where=str(shown.parent),
            hint="name another folder with FEDPREP_CACHE",
        ) from None
    return terms


def terms_of_manifest(manifest: Mapping[str, Any]) -> str:
    """Returns the owner's words on the use of the raw data of a Dataset."""
    recipe = parse_recipe(manifest["recipe"])
    return _terms(recipe, made_up=manifest["source"]["synthetic"]).licence_text


def _terms(recipe: Recipe, *, made_up: bool) -> Terms:
    return SOURCES[SYNTHETIC if made_up else recipe.source.name].terms(recipe.source)


def _provenance(
    recipe: Recipe, hands: Hands, files: Mapping[str, Fetched], raw: RawTables
) -> dict[str, Any]:
    made_up = hands.synthetic or recipe.source.name == SYNTHETIC
    terms = _terms(recipe, made_up=made_up)
    return {
        "name": recipe.source.name,
        "synthetic": made_up,
        "licence": terms.licence,
        "redistribution": terms.redistribution,
        "citation": terms.citation,
        "homepage": terms.homepage,
        "retrieved": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "files": [
            {key: value for key, value in asdict(file).items() if key != "path"}
            for _, file in sorted(files.items())
        ],
        "facts": raw.facts,
    }


def _write_synthetic(recipe: Recipe, hands: Hands) -> dict[str, Fetched]:
    """Returns the raw files of the recipe's family, written into the cache in their official format."""
    from fedprep.sources.synthetic import write_raw

    options = recipe.source
    family = options.synthetic.family if options.name == SYNTHETIC else options.name
    if family not in FAMILIES:
        raise RecipeError(
            f"the source '{family}' cannot be made up",
            where="--from synthetic",
            expected=" | ".join(FAMILIES),
            hint="--from PATH takes your own files",
        )
    made_from = repr((family, options.edition, options.category, options.synthetic, recipe.seed))
    key = hashlib.sha256(made_from.encode()).hexdigest()[:16]
    paths = write_raw(
        cache_folder() / "synthetic" / key,
        family=family,
        edition=options.edition,
        category=options.category,
        size=options.synthetic,
        seed=recipe.seed,
        progress=hands.progress,
    )
    return {role: _unlisted(role, path, how="synthetic") for role, path in paths.items()}


def _named_files(recipe: Recipe, hands: Hands) -> dict[str, Fetched]:
    """Returns the files that the recipe names itself: the extra table of items, the pictures.

    Of made-up raw files none: those files are of the real items.
    """
    if hands.synthetic:
        return {}
    wanted = {}
    if recipe.source.items is not None:
        wanted["items"] = ("source.items.file", recipe.source.items.file)
    image = recipe.embed.image
    if image.encoder != "none" and image.images not in ("", "urls"):
        wanted["pictures"] = ("embed.image.images", image.images)
    folders = [Path.cwd(), *([hands.path] if hands.path is not None else [])]
    if hands.path is not None and hands.path.is_file():
        folders.append(hands.path.absolute().parent)  # beside the file that was given
    found = {}
    for role, (key, name) in wanted.items():
        path = fetching.find_file(name, folders=folders)
        within = _within_given(role, name, hands) if path is None and role == "items" else None
        if within is not None:
            found[role] = within
        elif path is not None:
            found[role] = _unlisted(role, path, how="by hand")
        else:
            given = f", nor in --from {hands.path}" if hands.path is not None else ""
            raise RecipeError(
                f"the file '{name}' that the recipe names is not there{given}",
                where=key,
                hint="give its path, or put it into a folder that FEDPREP_MIRROR names",
            )
    return found


def _bare(raw: RawTables, table: ItemsTable) -> RawTables:
    """Returns made-up tables with the columns of an extra table of items that nobody made up: null."""
    there = raw.items.collect_schema()
    columns = {name: pl.lit(None, pl.String) for name in table.columns if name not in there}
    facts = {**raw.facts, "not_made_up": sorted(columns)}
    return replace(raw, items=raw.items.with_columns(**columns), facts=facts)


def _within_given(role: str, name: str, hands: Hands) -> Fetched | None:
    """Returns a file at any depth of the folder or archive that was given by hand; None: it is not there."""
    if hands.path is None:
        return None
    member = Path(name).name
    for wanted in (member, f"{member}.gz"):
        file = RawFile(role=role, candidates=(Candidate(name=wanted),), members=(wanted,))
        try:
            found = fetching.fetch([file], by_hand=hands.path, mirrors=(), progress=hands.progress)
        except FetchError:
            continue
        path = found[role].path
        if path.is_dir():
            inside = (path / wanted, *sorted(path.rglob(wanted)))
            path = next(p for p in inside if p.is_file())
        return replace(found[role], path=path)
    return None


def _unlisted(role: str, path: Path, *, how: str) -> Fetched:
    """Returns the record of a file that no official list knows; a folder has no hash of its own."""
    file = path.is_file()
    return Fetched(
        role=role,
        path=path,
        name=path.name,
        url="",
        how=how,
        n_bytes=path.stat().st_size if file else 0,
        sha256=sha256_of(path) if file else "",
        verified="no official checksum",
    )


def _picture_store(recipe: Recipe, files: Mapping[str, Fetched]) -> Path | None:
    image = recipe.embed.image
    if image.encoder == "none" or image.images == "urls":
        return None
    if "pictures" not in files:
        raise RecipeError(
            f"pictures are to be embedded with '{image.encoder}', but none are named",
            where="embed.image.images",
            expected='a folder, a zip file, or "urls" to load them from the addresses in the metadata',
        )
    return files["pictures"].path


def _compare_with_facts(
    recipe: Recipe, raw: RawTables, coded: Coded, provenance: Mapping[str, Any]
) -> None:
    """Refuses official files that were read to other counts than they are known to hold."""
    expected = SOURCES[recipe.source.name].expected(recipe.source)
    own = [f for f in provenance["files"] if f["role"] not in NAMED]
    official = all(f["verified"] == "official" for f in own)
    if not expected or provenance["synthetic"] or not official:
        return
    read = {
        "interactions": coded.interactions.height,
        "users": len(coded.users),
        "items": raw.items.select(pl.len()).collect().item(),
    }
    wrong = [f"{k}: {read[k]:,} in place of {n:,}" for k, n in expected.items() if read[k] != n]
    if wrong:
        raise SourceError(
            "official files were read to other counts than they hold: " + ", ".join(wrong),
            hint="this is a fault of fedprep: please report it",
        )
