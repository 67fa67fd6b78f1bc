"""What a reader must know before the numbers: leaks, warnings, what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedeval.assessment.scored import VALID
from fedeval.setting import Setting

__all__ = ["facts_of", "in_order", "leak_of", "notices_of"]

WORST_FIRST = ("red", "warn", "note")

NO_BASELINES = (
    "No baseline stands beside these numbers: whether they are good cannot be told. {how}."
)

HOW = "--baselines popularity,itemknn,ease measures some by the same protocol"
WITHOUT_DATASET = "Baselines learn from a Dataset: give it with --data"


def notices_of(
    setting: Setting,
    systems: Sequence[Mapping[str, Any]],
    protocol: Mapping[str, Any],
    sanity: Sequence[Mapping[str, Any]],
    others: Sequence[str] = (),
    *,
    alone: bool = False,
) -> list[dict[str, str]]:
    """Returns level (`red`, `warn`, `note`) and text of each notice, the worst first.

    Args:
        setting: what the systems were measured against.
        systems: their entries.
        protocol: `id`, `warning`.
        sanity: `beats_chance`, `leaks`, `text` of each sanity row.
        others: further warnings.
        alone: the numbers are not meant to stand beside baselines.
    """
    missing = not alone and not any(system["kind"] == "baseline" for system in systems)
    lacking = NO_BASELINES.format(how=HOW if setting.dataset else WITHOUT_DATASET)
    found = [
        *({"level": "red", "text": text} for text in _beating(sanity, leaks=True)),
        *([{"level": "warn", "text": lacking}] if missing else []),
        *({"level": "warn", "text": text} for text in _warnings(systems, protocol)),
        *({"level": "warn", "text": text} for text in others),
        *({"level": "warn", "text": text} for text in setting.warnings),
        *({"level": "warn", "text": text} for text in _no_candidates(setting)),
    ]
    found += ({"level": "note", "text": text} for text in _beating(sanity, leaks=False))
    leak = leak_of(setting)
    if leak:
        found.append({"level": "note", "text": leak["text"]})
    return found


def in_order(notices: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Returns notices, the worst first."""
    return sorted(notices, key=lambda notice: WORST_FIRST.index(notice["level"]))


def _beating(sanity: Sequence[Mapping[str, Any]], *, leaks: bool) -> list[str]:
    """Returns a sentence for each scorer that beats chance and leaks, or does not, whichever way ties go."""
    found: dict[str, str] = {}
    for line in sanity:
        if line["beats_chance"] and line["leaks"] == leaks:
            found.setdefault(line["scorer"], line["text"])
    return list(found.values())


def _warnings(systems: Sequence[Mapping[str, Any]], protocol: Mapping[str, Any]) -> Iterator[str]:
    if protocol["warning"]:
        yield protocol["warning"]
    rivals = [s for s in systems if s["kind"] != "sanity"]
    others = {s["protocol"] for s in rivals} - {protocol["id"]}
    if others:
        named = ", ".join(
            f"{s['name']} ({s['protocol']})" for s in rivals if s["protocol"] in others
        )
        yield (
            f"Not all numbers are of one protocol, and numbers of different protocols cannot be compared: "
            f"{named}; the others {protocol['id']}."
        )
    for system in systems:
        if system["kind"] == "sanity":
            continue
        held = system["counts"].get(VALID) or 0
        if held:
            yield (
                f"{system['name']}: {held:,} places are taken by items that the user has in valid; baselines "
                "leave these out."
            )
        for text in system["warnings"]:
            yield f"{system['name']}: {text}."


def _no_candidates(setting: Setting) -> Iterator[str]:
    """Yields how many users have a relevant item that is not ranked for them at all."""
    missing, users = setting.no_candidates
    if missing:
        yield (
            f"For {missing:,} of {users:,} users ({missing / users:.0%}) a relevant item is no candidate: it"
            " can only be missed, and values are lower than the systems are. "
            + "The candidates are of another truth"
            + (
                ": without --data the file's own relevant items are the truth."
                if setting.split
                else "."
            )
        ).replace("%", " %")


def leak_of(setting: Setting) -> dict[str, Any] | None:
    """Returns how much of the future leave-last-out shows to training, as the Dataset measured it."""
    split = setting.manifest.get("split") or {}
    leak = split.get("leak") or {}
    if split.get("method") != "leave_last_out" or not leak or not setting.split:
        return None
    shares = {key: leak[key] for key in leak if isinstance(leak[key], int | float)}
    words = {
        "train_rows_after_first_test_row": "{:.1%} of the train rows are later than the first test row",
        "pairs_out_of_order": "of pairs of a train and a test row {:.1%} are in the wrong order of time",
    }
    told = [text.format(shares[key]) for key, text in words.items() if key in shares]
    text = (
        "Leave-last-out shows the future to training: "
        + "; ".join(told)
        + ". Values are higher than a system in use would reach (Ji, Sun, Zhang, Li, TOIS 2023)."
    ).replace("%", " %")
    return {**shares, "text": text}


def facts_of(setting: Setting, baselines: Sequence[str]) -> dict[str, str]:
    """Returns what the numbers were measured on, a line each."""
    facts: dict[str, str] = {}
    manifest = setting.manifest
    if manifest:
        n, partition = manifest["facts"], manifest["partition"]
        facts["data"] = (
            f"{manifest['name']} {manifest['id'][:12]}: {n['n_interactions']:,} rows of "
            f"{n['n_users']:,} users and {n['n_items']:,} items, "
            f"{partition['n_clients']:,} clients ({partition['method']})"
        )
    users = setting.truth["user_id"].n_unique()
    rows = f"{setting.truth.height:,} rows of {users:,} users"
    which = {"all": "all rows", "liked": "rows whose label is above 0"}[setting.relevant]
    if setting.split and "split" in manifest:
        facts["truth"] = f"{setting.split} split, {which}: {rows}"
        facts["split"] = f"{manifest['split']['method']}: {manifest['split']['rule']}"
    else:
        facts["truth"] = f"{setting.name}: {rows}"
    if baselines:
        facts["baselines"] = (
            f"{', '.join(baselines)}: fitted on train; a user's train"
            + (" and valid" if setting.split == "test" else "")
            + " items are never recommended"
        )
    return facts
