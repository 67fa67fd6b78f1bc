"""The card for people: Hugging Face front matter, and a datasheet filled with what was measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedprep.card import facts
from fedprep.card.licence import catalogue_licence
from fedprep.card.prose import HEADINGS, marked
from fedprep.schema import SPLITS

__all__ = ["PAGE", "Card", "readme"]

PAGE = "report.html"

SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"),
         (10**7, "1M<n<10M"), (10**8, "10M<n<100M"), (10**9, "100M<n<1B"), (10**10, "1B<n<10B"))  # fmt: skip
PICTURES = (
    "ratings, rows per client, classes per client, clients by category, norms and principal components "
    "of embeddings, rows over time, popularity, drift"
)


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a card says.

    manifest: the Dataset's.
    licence_text: the owner's words on the use of the raw data.
    command, recipe: how to build the Dataset again; the recipe file is empty where none is needed.
    prose: heading → text written by hand.
    beside_data: the card lies in the Dataset's own folder.
    has_page: the page with pictures lies beside the card.
    """

    manifest: Mapping[str, Any]
    licence_text: str
    command: str
    recipe: str
    prose: Mapping[str, str]
    beside_data: bool
    has_page: bool


def readme(card: Card) -> str:
    """Returns the text of README.md."""
    manifest = card.manifest
    description = manifest["recipe"]["description"]
    parts = [
        _front_matter(manifest),
        f"# {manifest['name']}",
        *([f"{description}."] if description else []),
        f"{facts.summary(manifest)} Id `{manifest['id']}`.",
        *_notes(card),
    ]
    for heading in HEADINGS:
        parts += [
            f"## {heading}",
            *SECTIONS[heading](card),
            marked(heading, card.prose.get(heading, "")),
        ]
    return "\n\n".join(parts) + "\n"


def _front_matter(manifest: Mapping[str, Any]) -> str:
    """Returns the YAML block that the Hugging Face Hub reads."""
    n_rows = manifest["facts"]["n_interactions"]
    size = next((name for limit, name in SIZES if n_rows < limit), "10B<n<100B")
    modalities = sorted({*manifest["encoders"]} - {"behavior"})
    source = manifest["source"]
    tags = [
        "recommendation",
        "federated-learning",
        manifest["partition"]["method"].replace("_", "-"),
    ]
    tags += [*(["synthetic"] if source["synthetic"] else [source["name"]]), *modalities]
    tags += ["multimodal"] if len(modalities) > 1 else []
    lines = [f"{key}: {json.dumps(value)}" for key, value in catalogue_licence(source).items()]
    lines += [f"pretty_name: {json.dumps(manifest['name'], ensure_ascii=False)}"]
    lines += ["size_categories:", f"- {size}", "tags:", *(f"- {tag}" for tag in tags), "configs:"]
    for name, path in _configs(manifest["tables"]):
        lines += [
            f"- config_name: {name}",
            *(["  default: true"] if name == "interactions" else []),
        ]
        # One file holds all splits: the column `split` tells them apart.
        lines += ["  data_files:", "  - split: all_rows", f"    path: {path}"]
    return "\n".join(["---", *lines, "---"])


def _configs(tables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "interactions", "clients/part-*.parquet"
    yield "items", "items.parquet"
    yield "users", "users.parquet"
    yield "clients", "clients/index.parquet"
    for name in tables:
        if name.startswith("embeddings/"):
            yield name.removesuffix(".parquet").replace("/", "_"), name


def _notes(card: Card) -> Iterator[str]:
    if not card.beside_data:
        yield "> This card lies apart from its data: see [how to rebuild](#how-to-rebuild) them."
    elif not card.manifest["source"]["redistribution"]:
        yield "> The terms of the raw data do not allow passing these files on."


def _motivation(card: Card) -> Iterator[str]:
    yield (
        "Made to train and to judge recommenders whose data stay with their clients, and that know items "
        "by text and picture and users by what they did."
    )
    yield f"What is learned: {facts.labels(card.manifest)}"


def _composition(card: Card) -> Iterator[str]:
    manifest = card.manifest
    measured = manifest["facts"]
    first, last = measured["time_range"]
    density = facts.percent(measured["density"])
    rows = [
        ("interactions", f"{measured['n_interactions']:,}"),
        (
            "users × items",
            f"{measured['n_users']:,} × {measured['n_items']:,}, density {density}",
        ),
        ("clients", f"{measured['n_clients']:,}"),
        ("time", f"{facts.day(first)} to {facts.day(last)}" if first is not None else "none"),
    ]
    yield _table(["", ""], rows)
    if 0 < len(measured["ratings"]) <= 20:
        yield "Ratings:"
        yield _histogram([(f"{value:g}", count) for value, count in measured["ratings"]])
    yield _histogram([(f"label {label}", count) for label, count in measured["labels"]])
    yield f"Missing: {facts.missing(manifest)}"
    yield f"People: {facts.personal(manifest)}"
    yield "### Splits"
    yield from _splits(manifest)
    yield "### Clients"
    yield facts.partition(manifest)
    yield _bullets(facts.biases(manifest))
    yield "### Files"
    yield _table(["file", ">rows", ">size", "columns"], list(_files(manifest["tables"])))
    yield "`manifest.json` and `croissant.json` carry the SHA-256 of the files."
    page = f"[{PAGE}]({PAGE})" if card.has_page else f"`{PAGE}`, the page of `fedprep validate`,"
    yield f"Pictures: {page} draws {PICTURES}."


def _splits(manifest: Mapping[str, Any]) -> Iterator[str]:
    split = manifest["split"]
    rows = []
    for part in SPLITS:
        time = split["time"][part]
        days = [facts.day(second) for second in time] if time else ["–", "–"]
        counts = (f"{split[of][part]:,}" for of in ("rows", "users", "items"))
        rows.append((part, *counts, *days))
    yield _table(["split", ">rows", ">users", ">items", "from", "to"], rows)
    ties = f" Ties: {split['tie_rule']}." if "tie_rule" in split else ""
    yield f"`{split['method']}`: {split['rule']}.{ties}"
    yield _bullets([*facts.leaks(manifest), _cold(split["cold"])])


def _cold(cold: Mapping[str, Any]) -> str:
    rows = ", ".join(f"{count:,} {part}" for part, count in cold["rows"].items())
    done = "kept" if cold["rule"] == "keep" else "dropped"
    return f"Rows whose item no train row has: {rows}; {done}."


def _files(tables: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    shards = [table for name, table in tables.items() if name.startswith("clients/part-")]
    for name, table in tables.items():
        if not name.startswith("clients/part-"):
            yield (
                f"`{name}`",
                f"{table['rows']:,}",
                _size(table["bytes"]),
                ", ".join(table["columns"]),
            )
    yield (
        f"`clients/part-*.parquet` ({len(shards):,})",
        f"{sum(table['rows'] for table in shards):,}",
        _size(sum(table["bytes"] for table in shards)),
        ", ".join(shards[0]["columns"]),
    )


def _collection(card: Card) -> Iterator[str]:
    yield facts.collection(card.manifest)
    rows = [
        (f"`{f['name']}`", f"{f['n_bytes']:,}" if f["n_bytes"] else "–", f["verified"],
         f"`{f['sha256']}`" if f["sha256"] else "–")
        for f in card.manifest["source"]["files"]
    ]  # fmt: skip
    yield _table(["raw file", ">bytes", "checksum", "SHA-256"], rows)


def _preprocessing(card: Card) -> Iterator[str]:
    manifest = card.manifest
    rows = [
        (s["stage"], s["name"], f"{s['rows_in']:,}", f"{s['dropped']:,}" if s["dropped"] else "–",
         f"{s['rows_out']:,}", s["unit"], s["why"])
        for s in manifest["steps"]
    ]  # fmt: skip
    yield _table(["stage", "step", ">in", ">dropped", ">left", "", "why"], rows)
    yield facts.labels(manifest)
    if manifest["encoders"]:
        yield "### Embeddings"
        yield from _embeddings(manifest)


def _embeddings(manifest: Mapping[str, Any]) -> Iterator[str]:
    encoders, options = manifest["encoders"], manifest["recipe"]["embed"]
    rows = [
        (modality, encoder["name"], f"{encoder['dim']:,}", encoder["normalise"],
         f"{encoder['n_present']:,}", f"{encoder['n_missing']:,}")
        for modality, encoder in encoders.items()
    ]  # fmt: skip
    yield _table(["of", "encoder", ">dim", "normalised", ">there", ">missing"], rows)
    said = []
    if "text" in encoders:
        said.append(
            f"Text is the template `{options['text']['template']}`, filled; what an item lacks is left out."
        )
    for modality, encoder in encoders.items():
        if revision := encoder.get("revision"):
            said.append(f"Weights of the {modality} encoder: `{revision}`.")
    if "behavior" in encoders:
        said.append("Behaviour features of users are computed from train rows alone.")
    # The last digits of floats follow the processor: two are the same on all.
    norms = [
        f"{modality} {_norms(encoder['statistics']['before'])} → {_norms(encoder['statistics']['after'])}"
        for modality, encoder in encoders.items()
        if "statistics" in encoder
    ]
    if norms:
        said.append(f"Norms, least · median · greatest, before → after: {'; '.join(norms)}.")
    yield _bullets(said)


def _norms(of: Mapping[str, Any]) -> str:
    keys = [key for key in ("norm_min", "norm_median", "norm_max") if key in of]
    return " · ".join(f"{of[key]:.2g}" for key in keys)


def _uses(card: Card) -> Iterator[str]:
    yield (
        "For training, validating and testing federated recommenders, and for asking how they fare on "
        "clients that are unlike each other. Mind:"
    )
    yield _bullets(facts.limitations(card.manifest))
    yield "Not for finding out who a user is, nor for judging a person."


def _distribution(card: Card) -> Iterator[str]:
    source = card.manifest["source"]
    lines = [("licence of the raw data", source["licence"] or "none stated")]
    lines += [("its words", card.licence_text)] if card.licence_text else []
    lines += [("may be passed on", "yes" if source["redistribution"] else "no")]
    lines += [("cite", source["citation"])] if source["citation"] else []
    lines += [("home", f"<{source['homepage']}>")] if source["homepage"] else []
    yield _table(["", ""], lines)
    yield "### How to rebuild"
    if card.recipe:
        yield f"Save as `{card.manifest['name']}.toml`:"
        yield f"```toml\n{card.recipe}\n```"
    yield f"```sh\n{card.command}\n```"
    if source["synthetic"]:
        yield (
            "Equal options give the same rows anywhere, without a network. The id covers the bytes of the "
            "raw files, which follow the build of zlib and the version of Pillow."
        )
    else:
        yield (
            "Raw files are looked for in `FEDPREP_MIRROR`, then downloaded where their owner allows it; "
            "`--from PATH` takes a file or folder of yours. The same raw files give the id above, on any "
            "machine."
        )


def _maintenance(card: Card) -> Iterator[str]:
    versions = card.manifest["versions"]
    yield (
        "A Dataset is never changed: a correction is a new build with a new id, and `fedprep diff` says "
        "what differs. `fedprep validate` checks its files, rows, splits and clients."
    )
    yield "Made with " + ", ".join(f"{name} {version}" for name, version in versions.items()) + "."


SECTIONS: dict[str, Callable[[Card], Iterable[str]]] = dict(
    zip(
        HEADINGS,
        (
            _motivation,
            _composition,
            _collection,
            _preprocessing,
            _uses,
            _distribution,
            _maintenance,
        ),
        strict=True,
    )
)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table; a column named ">x" is flush right."""
    rule = ["---:" if name.startswith(">") else "---" for name in header]
    lines = [[name.removeprefix(">") for name in header], rule, *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _histogram(counts: Sequence[tuple[str, int]]) -> str:
    total = sum(count for _, count in counts) or 1
    names, shares = (
        [name for name, _ in counts],
        [facts.percent(count / total) for _, count in counts],
    )
    return _table([f">{name}" for name in names], [[f"{count:,}" for _, count in counts], shares])


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _size(n_bytes: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.1f} {unit}"
    return f"{n_bytes} bytes"
