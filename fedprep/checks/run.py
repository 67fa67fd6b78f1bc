"""Runs checks and says what they found: the one place that counts, times, and gives a status.

Rows are read once, in blocks: every check that works on blocks is asked of each block and the counts are
added up, while `Totals` counts what the other checks need. A check that cannot run is an error, never a
pass. Nothing here writes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

import polars as pl

from fedprep.checks.check import Check, NotAsked
from fedprep.checks.limits import Limits, Value, changed, limits_from, resolved
from fedprep.checks.result import Result, Status, Validation
from fedprep.checks.tables import SIZES, Tables
from fedprep.errors import FedprepError, RecipeError, nearest
from fedprep.schema import USER_ID, Progress, silent

__all__ = ["N_EXAMPLES", "run_checks"]

N_EXAMPLES = 3

UNABLE = (Exception, pl.exceptions.PanicException)
"""What a check that cannot run may raise: damaged pages can make polars panic, which is no `Exception`."""

FAULTS = (
    AssertionError, AttributeError, ImportError, NameError, NotImplementedError, SystemError,
    ZeroDivisionError,
)  # fmt: skip
"""What is a fault of the program, whatever the data: it is no verdict on them."""


def run_checks(
    tables: Tables,
    checks: Mapping[str, Check],
    limits: Mapping[str, Value] | Limits,
    *,
    kind: Literal["dataset", "tables", "recommendations"],
    only: Sequence[str] = (),
    require: Sequence[str] = (),
    strict: bool = False,
    broken: Callable[[Tables], Mapping[str, str]] = lambda tables: {},
    progress: Progress = silent,
) -> Validation:
    """Returns what the checks find in the tables, in the order of `checks`.

    Args:
        limits: those given here lie over those of the recipe in the manifest; each is a gate.
        only: names of the checks to run; empty for all.
        require: names or groups of checks that have to run, `*` for any letters: one that is skipped fails.
        broken: returns the tables that cannot be looked at, and why: their checks are skipped.

    Raises:
        RecipeError: an unknown check or limit (the nearest is named), or a limit of a wrong kind.
    """
    started = time.perf_counter()
    chosen = _chosen(checks, only)
    required = _required(chosen, require)
    given, gates = _given(limits, tables.manifest)
    session = Session(tables, resolved(given, tables.manifest), gates)
    session.ask(chosen, broken(tables), progress)
    manifest = tables.manifest or {}
    return Validation(
        kind=kind,
        subject=tables.name,
        id=manifest.get("id"),
        results=tuple(
            _held_to(result, result.name in required) for result in map(session.result, chosen)
        ),
        strict=strict,
        seconds=time.perf_counter() - started,
    )


def _chosen(checks: Mapping[str, Check], only: Sequence[str]) -> list[Check]:
    for name in only:
        if name not in checks:
            raise RecipeError(f"no check is called '{name}'", hint=nearest(name, checks))
    return [check for name, check in checks.items() if not only or name in only]


def _required(checks: Sequence[Check], patterns: Sequence[str]) -> set[str]:
    """Returns the names of the checks whose name or group a pattern says."""
    found: set[str] = set()
    for pattern in patterns:
        said = {
            check.name
            for check in checks
            if fnmatchcase(check.name, pattern) or fnmatchcase(check.group, pattern)
        }
        if not said:
            known = {check.name for check in checks} | {check.group for check in checks}
            raise RecipeError(
                f"no check or group is called '{pattern}'", hint=nearest(pattern, known)
            )
        found |= said
    return found


def _held_to(result: Result, required: bool) -> Result:
    """Returns the result; one that was skipped though it is required has failed."""
    if not required or result.status != "skipped":
        return result
    reason = f"required, and could not be asked: {result.reason}"
    return replace(result, status="fail", severity="fail", reason=reason)


def _given(
    limits: Mapping[str, Value] | Limits, manifest: Mapping[str, Any] | None
) -> tuple[Limits, frozenset[str]]:
    """Returns the limits and the names of those that somebody set."""
    if isinstance(limits, Limits):
        return limits, changed(limits)
    recipe = (manifest or {}).get("recipe", {}).get("validate", {}).get("limits", {})
    together = {**recipe, **limits}
    return limits_from(together), frozenset(together)


@dataclass
class Tally:
    """What a check has found so far."""

    count: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    skipped: str = ""
    error: str = ""

    def look(self, check: Check, tables: Tables, limits: Limits) -> None:
        """Asks the check and adds what it finds."""
        if self.skipped or self.error:
            return
        started = time.perf_counter()
        try:
            offenders = check.function(tables, limits)
            engine: Literal["in-memory", "streaming"] = "in-memory" if check.blocks else "streaming"
            # Asked twice where there is something to show, so that offenders are never held as a whole.
            n_found = int(offenders.select(pl.len()).collect(engine=engine).item())
            self.count += n_found
            room = N_EXAMPLES - len(self.examples)
            if n_found and room:
                self.examples += offenders.head(room).collect(engine=engine).to_dicts()
        except NotAsked as reason:
            self.skipped = str(reason)
        except UNABLE as error:
            # Whatever it is: a check that cannot run is an error, never a pass.
            self.error = _words(error)
        self.seconds += time.perf_counter() - started

    def restart(self) -> None:
        self.count, self.examples = 0, []


@dataclass
class Session:
    """The tallies of one validation."""

    tables: Tables
    limits: Limits
    gates: frozenset[str]
    tallies: dict[str, Tally] = field(default_factory=dict)

    def ask(self, checks: list[Check], broken: Mapping[str, str], progress: Progress) -> None:
        for check in checks:
            reasons = [broken.get(need.partition(".")[0], "") for need in check.needs]
            reasons += [self.tables.lacks(need) for need in check.needs]
            reason = next((words for words in reasons if words), "")
            self.tallies[check.name] = Tally(skipped=reason)
        asked = [check for check in checks if not self.tallies[check.name].skipped]
        in_blocks = [check for check in asked if check.blocks]
        if in_blocks:
            self._pass(in_blocks, progress)
        for number, check in enumerate(asked):
            if not check.blocks:
                progress(f"check {check.name}", number, len(asked))
                self._look(check, self.tables)

    def _pass(self, checks: list[Check], progress: Progress) -> None:
        """Reads all rows once, and those checks that need whole users a second time where it takes one."""
        totals, rows = self.tables.totals, self.tables.rows
        done = 0
        try:
            for block in rows.blocks():
                if not totals.is_whole:
                    totals.add(block)
                self._look_at_block(checks, block.frame)
                done += block.frame.height
                progress("rows checked", done, rows.n_rows)
            totals.is_whole = True
            crossing, n_crossing = totals.crossing(USER_ID)
            if len(crossing):
                again = [check for check in checks if check.blocks == "users"]
                for check in again:
                    self.tallies[check.name].restart()
                for block in rows.of_whole(USER_ID, crossing, n_crossing) if again else ():
                    self._look_at_block(again, block.frame)
        except UNABLE as error:
            totals.failure = totals.failure or _words(error)
            for check in checks:
                self.tallies[check.name].error = totals.failure

    def _look_at_block(self, checks: list[Check], frame: pl.DataFrame) -> None:
        tables = self.tables.block(frame)
        for check in checks:
            self._look(check, tables)

    def _look(self, check: Check, tables: Tables) -> None:
        self.tallies[check.name].look(check, tables, self.limits)

    def result(self, check: Check) -> Result:
        """Returns the result of a check that was asked or skipped."""
        tally = self.tallies[check.name]
        denominator = 0
        if not tally.skipped and not tally.error:
            try:
                denominator = SIZES[check.of](self.tables)
            except UNABLE as error:
                tally.error = _words(error)
        severity: Literal["fail", "warn", "note"] = check.severity
        intended = check.by_design((self.tables.manifest or {}).get("recipe") or {})
        if self.gates.intersection(check.limits):
            severity = "fail"
        elif intended:
            severity = "note"
        status: Status = severity if tally.count else "pass"
        if tally.error:
            status = "error"
        elif tally.skipped:
            status = "skipped"
        return Result(
            name=check.name,
            group=check.group,
            status=status,
            severity=severity,
            count=tally.count,
            unit=check.unit,
            denominator=denominator,
            limits={name: getattr(self.limits, name) for name in check.limits},
            means=intended if status == "note" else check.means,
            todo=check.todo,
            examples=tuple(tally.examples),
            seconds=tally.seconds,
            reason=tally.error or tally.skipped,
        )


def _words(error: BaseException) -> str:
    """Returns why a check could not run; an error that data cannot cause is raised again."""
    if isinstance(error, FedprepError):
        return str(error)
    if isinstance(error, FAULTS):
        raise error
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no words'}"
