"""From systems to one dict that every report is made from: `assess`.

All systems are measured against the same truth by the same protocol, beside the same baselines and
sanity rows. The dict is ready for JSON (format 1); `fedeval.report` and `fedeval.show` only tell it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from fedeval.assessment import parts
from fedeval.assessment.few import few_units
from fedeval.assessment.measured import Measured
from fedeval.assessment.notices import facts_of, in_order, leak_of, notices_of
from fedeval.assessment.rivals import baseline_names, gathered, length_of
from fedeval.assessment.ruled import of_sample, protocol_of
from fedeval.assessment.sane import draws_of, pool_of, sanity_lines, sanity_systems
from fedeval.assessment.scored import (
    Scored,
    curve_asks,
    described,
    score_system,
    wanted_metrics,
)
from fedeval.assessment.sliced import refuse_no_column, slices_of
from fedeval.definitions import entry
from fedeval.metrics import Ask, asked
from fedeval.plain import plain
from fedeval.protocol import Protocol
from fedeval.setting import Setting
from fedeval.statistics import Inference
from fedeval.systems import System, columns_by_system, read_system
from fedprep.errors import EvaluationError, nearest
from fedprep.schema import Progress, silent

__all__ = ["FORMAT", "assess", "score"]

FORMAT = 1
"""Version of the dict."""

COVERAGE = "coverage"
"""The metric that accuracy is drawn against."""

CORRECTION_NAMES = {
    "holm": "Holm",
    "benjamini_hochberg": "Benjamini–Hochberg",
    "none": "nobody: as they are",
}


def assess(
    systems: Mapping[str, Any],
    setting: Setting,
    *,
    metrics: Sequence[str] | None = None,
    k: Sequence[int] | None = None,
    baselines: Sequence[str] | None = (),
    alone: bool = False,
    against: str | None = None,
    by: Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
    columns_of: Mapping[str, Mapping[str, str]] | None = None,
    ids: str = "dataset",
    negative_pool: str = "unknown",
    over: str = "users",
    inference: Inference | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Returns the assessment of systems beside baselines, as a dict ready for JSON.

    Args:
        systems: name → a Run's folder, a table's path, or a frame.
        setting: what they are measured against.
        metrics, k: as for `evaluate`; None: the Dataset's recipe, else ndcg, hr, recall, mrr at 5, 10, 20.
        baselines: names in `BASELINES`, or short ones, or `all`; they need a Dataset. None: those of
            the Dataset's recipe.
        alone: the systems are to be compared with each other alone: that baselines are missing is not said.
        against: the reference that every other system is compared with; None: the first system, or
            popularity where there are baselines alone.
        by: columns of users or items of the Dataset to slice by, beside activity and popularity.
        columns: our name to the tables' own, of every table.
        columns_of: the same of some systems, by name; it goes before `columns`.
        ids: of the tables: the `dataset`'s, or those of its `source`.
        negative_pool: what training negatives leave out (`train`, `none` or `all` rows), where a Run does
            not say so; known, it brings the memoriser as a sanity row.
        over: intervals and tests draw `users`, or whole `clients`.
        inference: how intervals and tests are made.
        progress: called with what is being done.

    Raises:
        EvaluationError: something that is asked for cannot be had.
    """
    begun = time.perf_counter()
    how = inference or Inference()
    setting, sample = of_sample(systems, setting)
    asks = wanted_metrics(setting, metrics, k)
    headline = _headline(asks)
    clients = _clients(setting, over)
    _refuse_unknown(systems, setting, baselines, against, by)
    every, skipped = gathered(
        systems, setting, asks, baselines, columns_by_system(systems, columns, columns_of), ids,
        negative_pool, how.seed, progress,
    )  # fmt: skip
    pool = pool_of(every)
    protocol = protocol_of(setting, asks, pool)
    curve = curve_asks(headline, asks, every, setting.policy)
    draws = draws_of(every, setting, pool)
    every += sanity_systems(setting, pool, draws, length_of(asks), how.seed)
    coverage = asked(COVERAGE, headline.k) if setting.dataset is not None else []
    scored = []
    for place, system in enumerate(every):
        progress("metrics", place, len(every))
        scored.append(score_system(system, setting, [*asks, *coverage], _own(protocol, system)))
    rivals = [one for one in scored if one.system.kind != "sanity"]
    measured = Measured(
        rivals=rivals, setting=setting, headline=headline, clients=clients, inference=how
    )
    of_users = [ask for ask in asks if ask.text in scored[0].found.per_user.columns]
    compared = [ask for ask in of_users if ask.metric.kind != "rows"]
    reference = _reference(rivals, against)

    sanity = sanity_lines(setting, headline, pool, draws, how.seed, rivals)
    protocol = _kept(protocol, rivals)
    result = _result(scored, setting, asks, headline, protocol, sanity, skipped, alone=alone)
    for place, one in enumerate(scored):
        progress("intervals", place, len(scored))
        found = parts.intervals_of(measured, one, [ask.text for ask in of_users])
        for name, interval in found.items():
            result["systems"][place]["values"][name] |= interval
    progress("paired tests", 0, None)
    result |= {
        "against": reference,
        "inference": _told(how, over),
        "comparisons": parts.comparisons_of(measured, compared, reference),
        "curves": parts.curves_of(measured, curve),
        "coverage": parts.coverage_of(measured, coverage),
        "clients": parts.over_clients(measured),
    }
    few = [{"level": "warn", "text": text} for text in few_units(measured, result["comparisons"])]
    result["notices"] = in_order([*result["notices"], *sample, *few])
    progress("slices", 0, None)
    result["slices"] = slices_of(measured, by)
    result["learning"] = {one.name: list(one.system.rounds) for one in scored if one.system.rounds}
    result["seconds"] = time.perf_counter() - begun
    return dict(plain(result))


def score(
    systems: Mapping[str, Any],
    setting: Setting,
    *,
    metrics: Sequence[str] | None = None,
    k: Sequence[int] | None = None,
    columns: Mapping[str, str] | None = None,
    columns_of: Mapping[str, Mapping[str, str]] | None = None,
    ids: str = "dataset",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Returns the numbers of systems alone: an assessment without intervals, tests and baselines.

    Raises:
        EvaluationError: something that is asked for cannot be had.
    """
    begun = time.perf_counter()
    setting, sample = of_sample(systems, setting)
    asks = wanted_metrics(setting, metrics, k)
    protocol = protocol_of(setting, asks)
    names = columns_by_system(systems, columns, columns_of)
    scored = []
    for place, (name, source) in enumerate(systems.items()):
        progress("metrics", place, len(systems))
        system = read_system(name, source, setting, names[name], ids=ids)
        scored.append(score_system(system, setting, asks, protocol))
    protocol = _kept(protocol, scored)
    result = _result(scored, setting, asks, _headline(asks), protocol, (), (), alone=True)
    result["notices"] = in_order([*result["notices"], *sample])
    result |= {"comparisons": [], "seconds": time.perf_counter() - begun}
    return dict(plain(result))


def _own(protocol: Protocol, system: System) -> Protocol:
    """Returns the protocol of a system: the shared one, but for a Run that says other of its negatives."""
    if system.kind != "system" or system.negative_pool == "unknown":
        return protocol
    return replace(protocol, negative_pool=system.negative_pool)  # type: ignore[arg-type]


def _kept(protocol: Protocol, rivals: Sequence[Scored]) -> Protocol:
    """Returns the shared protocol with what was found in the lists of the first system."""
    first = rivals[0].found.protocol
    return replace(protocol, seen=first.seen, policy=first.policy)


def _headline(asks: Sequence[Ask]) -> Ask:
    """Returns the metric that pictures and slices show: the first one of accuracy, at 10 if that is there."""
    first = next((ask for ask in asks if ask.metric.kind == "accuracy"), asks[0])
    family = [ask for ask in asks if (ask.name, ask.parameter) == (first.name, first.parameter)]
    return next((ask for ask in family if ask.k == 10), first)


def _refuse_unknown(
    systems: Mapping[str, Any],
    setting: Setting,
    baselines: Sequence[str] | None,
    against: str | None,
    by: Sequence[str],
) -> None:
    """Refuses names that cannot be, before anything is fitted."""
    known = [*systems, *baseline_names(baselines, setting)]
    if against is not None and against not in known:
        raise EvaluationError(f"no system is called '{against}'", hint=nearest(against, known))
    for column in by:
        refuse_no_column(column, setting)


def _clients(setting: Setting, over: str) -> Any:
    if over == "users":
        return None
    if setting.clients is None:
        raise EvaluationError(
            "clients cannot be drawn: nothing says which client a user is at",
            hint="give a Dataset whose clients hold whole users, or --over users",
        )
    return setting.clients


def _reference(rivals: Sequence[Scored], against: str | None) -> str:
    names = [one.name for one in rivals]
    if against is not None and against not in names:  # a baseline that had to be left out
        raise EvaluationError(f"{against} could not be measured", hint=nearest(against, names))
    usual = (
        "popularity" if rivals[0].system.kind == "baseline" and "popularity" in names else names[0]
    )
    return against or usual


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "." * bool(text)


def _told(how: Inference, over: str) -> dict[str, Any]:
    return {**asdict(how), "unit": over, "correction_name": CORRECTION_NAMES[how.correction]}


def _result(
    scored: Sequence[Scored],
    setting: Setting,
    asks: Sequence[Ask],
    headline: Ask,
    protocol: Protocol,
    sanity: Sequence[Mapping[str, Any]],
    skipped: Sequence[str],
    *,
    alone: bool,
) -> dict[str, Any]:
    """Returns what an assessment and a score have in common; `alone`: to be read without baselines."""
    systems = [described(one, asks) for one in scored]
    told = {
        "id": protocol.id,
        "text": protocol.describe(),
        "warning": _sentence(protocol.warning()),
    }
    baselines = [s["name"] for s in systems if s["kind"] == "baseline"]
    return {
        "format": FORMAT,
        "subject": {
            "name": setting.name,
            "id": setting.dataset.id if setting.dataset else None,
            "split": setting.split,
        },
        "protocol": {**told, "leak": leak_of(setting), "fields": protocol.to_dict()},
        "facts": facts_of(setting, baselines),
        "headline": headline.text,
        "metrics": [entry(ask) for ask in asks],
        "systems": systems,
        "sanity": list(sanity),
        "notices": notices_of(setting, systems, told, sanity, skipped, alone=alone),
    }
