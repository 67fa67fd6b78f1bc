"""The rounds of a Run: each is done, measured, logged and saved before the next begins."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from msgspec import Meta, Struct

from fedprep.dataset import Dataset
from fedprep.decoding import typed
from fedprep.errors import TrainingError
from fedprep.files import whole_file
from fedtrain import own_best, stragglers
from fedtrain.engine import Work
from fedtrain.explain import explain, suspect
from fedtrain.extension import forget_before
from fedtrain.figures import figures_of, n_without_clients
from fedtrain.idle import idle_settings
from fedtrain.loggers import open_loggers
from fedtrain.measures import Truth, lists_of_all, ranking, standstill, task_measures
from fedtrain.memory import is_out_of_memory, no_memory
from fedtrain.privacy import epsilon, uncounted
from fedtrain.rounds import Outcome
from fedtrain.run import BEST, CURVES, RECOMMENDATIONS, Run, Saved, load, save
from fedtrain.run.checkpoint import AGAIN
from fedtrain.samplers import SAMPLERS, SamplerOptions, held_out, load_trace
from fedtrain.schedules import factor
from fedtrain.setup import begin
from fedtrain.state import refuse_unfit, restored, tensors_of, write_model
from fedtrain.stopping import best_round, history_of, require_metric, should_stop
from fedtrain.summary import STOOD_STILL, seldom_fell
from fedtrain.unseen import unseen_measures

__all__ = ["DoRound", "Report", "Trainer", "silent"]

log = logging.getLogger(__name__)

Ints = npt.NDArray[np.int64]

NOBODY = "no client"
"""The event of a round that moved nothing, as nobody's answer could be counted."""

CURVES_EVERY = 15.0
"""Seconds between two drawings of the learning curves while training goes on."""

MOST_ROLLBACKS = 10
"""Times in a row that a round is done again with smaller steps, before the run stops."""

DIVERGED = 100.0
"""A train loss of so many times that of the first round is no training any more."""

Status = Literal["running", "finished", "stopped", "failed"]

DoRound = Callable[..., Outcome]
"""A function that does a round as `rounds.do_round` does, with its arguments."""

Report = Callable[[int, Mapping[str, float]], None]
"""Told the round and its measures once they are on disk."""


def silent(round_number: int, values: Mapping[str, float]) -> None:
    """Does nothing."""


class _State(Struct, forbid_unknown_fields=True):
    """What a checkpoint holds beside tensors: the factor that rollbacks left, and how many came in a row."""

    lr_scale: Annotated[float, Meta(gt=0.0)] = 1.0
    rollbacks: Annotated[int, Meta(ge=0)] = 0


class Trainer:
    """The rounds of one Run."""

    def __init__(self, dataset: Dataset, work: Work, run: Run, do_round: DoRound) -> None:
        self.do_round = do_round
        self.dataset, self.work, self.run, self.plan = dataset, work, run, work.plan
        self.server, self.clients = begin(work)
        self.state, self.done, self.saved = _State(), 0, 0
        self.truths = {
            "valid": Truth(dataset, "valid", work.plan.eval_clients, work.seed),
            "test": Truth(dataset, "test", work.plan.test_users, work.seed),
        }
        n_rows = work.federation.train.counts
        self.valid_clients, self.test_clients = held_out(
            n_rows, work.plan.valid_clients, work.plan.test_clients, work.seed
        )
        self.may = (n_rows > 0) & ~self.valid_clients & ~self.test_clients
        trace = load_trace(work.plan.trace, work.federation.n_clients) if work.plan.trace else None
        self.options = SamplerOptions(self.may, trace)
        self.drawn = time.perf_counter()

    # --- the whole run -----------------------------------------------------------------------------

    def go(self, saved: Saved | None, report: Report, stop: Callable[[], bool]) -> None:
        """Does the rounds that are left, from what a checkpoint has saved, and ends the Run."""
        if saved is not None:
            self._restore(*saved)
        odd = suspect(self.work)
        if odd:
            log.warning("first input to look at: %s", odd)
            if saved is None:  # a Run that goes on has told it
                self.run.event(0, "odd input", what=odd)
        loose = uncounted(self.plan)
        if loose:
            log.warning("epsilon does not count: %s", "; ".join(loose))
            if saved is None:
                self.run.event(0, "not counted in epsilon", what=loose)
        idle = idle_settings(self.work)
        if idle:
            log.warning("set, and nothing reads it: %s", "; ".join(idle))
            if saved is None:
                self.run.event(0, "idle settings", settings=idle)
        logger = open_loggers(self.plan.loggers.names, self.run.path, self.plan.to_dict())
        before = float(self.run.manifest.get("seconds", 0.0))
        begun = time.perf_counter()
        status: Status = "finished"
        try:
            while self._goes_on():
                values = self._round(self.done + 1)
                self.run.log(self.done, values)
                logger.log(self.done, values)
                if self.done == self.plan.eval_every:
                    self._refuse_unmeasured()
                self._save(values)
                self.run.update(rounds_done=self.done, seconds=before + time.perf_counter() - begun)
                report(self.done, values)
                if stop():
                    status = "stopped"
                    self._save_state()
                    break
            empty = n_without_clients(self.run.rounds())
            if empty:
                log.warning("%d of %d rounds had no client that counts", empty, self.done)
                self.run.update(rounds_without_clients=empty)
            if status == "finished":
                values = self._finish()
                logger.log(self.done, values)
                report(self.done, values)
        finally:
            logger.close()
        self._draw()
        forget_before(self.run)
        self.run.update(
            status=status, rounds_done=self.done, seconds=before + time.perf_counter() - begun
        )

    def _goes_on(self) -> bool:
        """Returns whether another round is to come.

        It is asked before a round and not after one: what a kill cut off after the last one is asked again.
        """
        if self.done >= self.plan.rounds:
            return False
        reason = should_stop(history_of(self.run.rounds()), self.plan.stop)
        if reason:
            self._save_state()  # before it is told: with more patience the Run goes on from here
            self.run.event(self.done, "stopped early", reason=reason)
        return not reason

    def _finish(self) -> dict[str, float]:
        """Measures the test split with the best state, and writes model and recommendations.

        Where the last round's turn to be ranked had not come, it is ranked on valid first: after its
        checkpoint, so that a Run that goes on to more rounds has measured what a longer one would have.
        """
        begun = time.perf_counter()
        measured: dict[str, float] = {}
        if self.done % self.plan.eval_every:
            measured = self._ranked_on_valid()
            self.run.log(self.done, measured)
        if self.done < self.plan.eval_every:
            self._refuse_unmeasured()
        best = best_round(history_of(self.run.rounds()), self.plan.stop)
        if self.work.algorithm.own_best:
            federation = self.work.federation
            self.run.event(self.done, "own best", **own_best.told(self.clients, federation))
            self.clients = own_best.served(self.clients, federation)
        elif self.plan.stop.metric and best is not None:
            kept = load(self.run, BEST) if best != self.done else None
            if kept is not None:
                self._restore(*kept, keep_done=True)
            self.run.event(self.done, "best", best_round=best)
        on_test = self._ranked("test") | task_measures(self.work, self.server, self.clients, "test")
        if self.test_clients.any():
            on_test |= unseen_measures(
                self.work, self.server, self.clients, np.flatnonzero(self.test_clients), "test"
            )
        if seldom_fell(self.run.rounds()):
            still = standstill(
                self.work, begin(self.work), (self.server, self.clients), self.truths["valid"]
            )
            if still:
                self.run.event(self.done, STOOD_STILL, what=still)
        write_model(self.run, self.server, self.work.private)
        on_test["seconds/end"] = time.perf_counter() - begun
        self.run.log(self.done, on_test)
        return measured | on_test

    def _judge(self, row: Ints, loss: npt.NDArray[np.float64]) -> None:
        """Has each client judged by its own valid rows."""
        federation = self.work.federation
        client = np.searchsorted(federation.splits["valid"].offsets, row, side="right") - 1
        own_best.judge(self.clients, federation, self.done, client, loss)

    def _refuse_unmeasured(self) -> None:
        """Refuses to go on by a metric that is not among the first that were measured."""
        history = history_of(self.run.rounds())
        if self.plan.stop.metric:
            require_metric(history, self.plan.stop.metric, "train.stop.metric")
        if self.plan.schedule == "plateau":
            require_metric(history, self.plan.schedule_metric, "train.schedule_metric")

    # --- a round -----------------------------------------------------------------------------------

    def _round(self, number: int) -> dict[str, float]:
        begun, cpu = time.perf_counter(), time.process_time()
        plan = self.plan
        outcome, extra = self._trained(number)
        self.server, self.done = outcome.server, number
        trained = time.perf_counter()
        values = figures_of(outcome) | extra
        if plan.privacy.noise_multiplier:
            values["epsilon"] = self._epsilon(number)
        told = self._judge if self.work.algorithm.own_best else None
        values |= task_measures(self.work, self.server, self.clients, "valid", told)
        if number % plan.eval_every == 0:
            values |= self._ranked_on_valid()
        now = time.perf_counter()
        return values | {
            "seconds": now - begun,
            "seconds/train": trained - begun,
            "seconds/eval": now - trained,
            "cpu_seconds": time.process_time() - cpu,
        }

    def _trained(self, number: int) -> tuple[Outcome, dict[str, float]]:
        """Returns a round's outcome, done again with smaller steps while the plan asks for that."""
        plan, work = self.plan, self.work
        while True:
            cohort, lost, alone = self._cohort(number)
            scale = self.state.lr_scale * factor(number, plan, history_of(self.run.rounds()))
            share = stragglers.work(
                cohort, number, work.seed, plan.faults.stragglers, plan.faults.straggler_work
            )
            undone = plan.on_nonfinite == "rollback" or (
                plan.on_nonfinite == "skip" and work.least_clients > 1
            )
            before = self.clients.state() if undone else None
            snapshot = None if before is None else {k: v.clone() for k, v in before.items()}
            outcome = self._one_round(
                number, cohort, scale, share if plan.faults.stragglers else None
            )
            extra = {
                "lr": plan.rates["shared"] * scale,
                "clients": float(len(cohort) + alone),
                "clients/dropped": float(lost),
                "clients/skipped": float((~outcome.sound).sum() + alone),
            }
            bad = outcome.client[~outcome.sound]
            wrong = [name for name, v in outcome.server.values.items() if not v.isfinite().all()]
            if len(bad):
                told = explain(work, self.server.at(number), self.clients, int(bad[0]), scale)
            elif wrong:
                told = f"the server's {wrong[0]} is not finite after the join"
            else:
                told = self._diverged(outcome)
            if not told:
                for event, what in outcome.told.items():
                    self.run.event(number, event, what=what)
                self.state.rollbacks = 0
                self._tell_of_nobody(number, extra)
                return outcome, extra
            name = "not finite" if len(bad) or wrong else "diverges"
            self.run.event(number, name, clients=bad.tolist()[:100], n=len(bad), what=told)
            if plan.on_nonfinite == "skip" and len(bad) and not wrong:
                if outcome.sound.sum() < work.least_clients and outcome.sound.any():
                    # A sum of one is that one's update: nothing of it may stay, here or at the client.
                    assert snapshot is not None
                    self.clients.restore(snapshot)
                    outcome = self._one_round(number, cohort[:0], scale, None)
                    extra["clients/skipped"] = extra["clients"]
                for event, what in outcome.told.items():
                    self.run.event(number, event, what=what)
                self._tell_of_nobody(number, extra)
                return outcome, extra
            if plan.on_nonfinite != "rollback" or self.state.rollbacks >= MOST_ROLLBACKS:
                raise TrainingError(
                    told,
                    where=f"round {number}"
                    + (f", {len(bad):,} of {len(cohort):,} clients" if len(bad) else ""),
                    hint="lower the learning rates, set clip_norm, or on_nonfinite = 'skip' or 'rollback'",
                )
            assert snapshot is not None
            self.clients.restore(snapshot)
            self.state.rollbacks += 1
            self.state.lr_scale *= plan.rollback_factor

    def _one_round(self, number: int, cohort: Ints, scale: float, share: Any) -> Outcome:
        """Returns what `do_round` gives.

        Raises:
            TrainingError: there is not enough memory; it says how much less would fit.
        """
        server = self.server.at(number)
        try:
            return self.do_round(
                self.work,
                server,
                self.clients,
                cohort,
                lr_factor=scale,
                progress=(number - 1) / self.plan.rounds,
                share=share,
            )
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        # Only here, outside of the handler, is what the round held free again.
        raise no_memory(self.work, server, self.clients, cohort)

    def _diverged(self, outcome: Outcome) -> str:
        """Returns that the train loss has grown beyond reason, or nothing."""
        loss = figures_of(outcome).get("loss/train")
        earlier = self.run.rounds().filter(metric="loss/train").sort("round").head(1)
        if loss is None or earlier.is_empty():
            return ""
        first, number = float(earlier["value"][0]), int(earlier["round"][0])
        if loss <= DIVERGED * max(first, 1.0 / DIVERGED):
            return ""
        return f"the loss diverges: {loss:.4g}, and {first:.4g} in round {number}"

    def _tell_of_nobody(self, number: int, values: Mapping[str, float]) -> None:
        """Notes a round in which nothing of any client entered the model."""
        if values["clients"] > values["clients/skipped"]:
            return
        kinds = ("clients", "clients/dropped", "clients/skipped")
        here, dropped, skipped = (int(values[kind]) for kind in kinds)
        what = f"{here} answered, {dropped} dropped out, {skipped} left out"
        if here and self.work.least_clients > 1:
            what += ": a secure sum of one would show its update"
        self.run.event(number, NOBODY, what=what)

    def _cohort(self, number: int) -> tuple[Ints, int, int]:
        """Returns the clients that train and answer, how many were lost, and how many are too few to sum."""
        plan = self.plan
        n_rows = self.work.federation.train.counts
        drawn = SAMPLERS[plan.sampler](
            n_rows, plan.clients_per_round, number, self.work.seed, self.options
        )
        lost = stragglers.lost(drawn, number, self.work.seed, plan.faults.dropout)
        left = drawn[~lost]
        alone = len(left) if len(left) < self.work.least_clients else 0
        return (left[:0] if alone else left), int(lost.sum()), alone

    def _epsilon(self, number: int) -> float:
        privacy = self.plan.privacy
        n = int(self.may.sum())
        rate = min(1.0, (self.plan.clients_per_round or n) / n)
        return epsilon(number, rate, privacy.noise_multiplier, privacy.delta, privacy.accountant)

    def _ranked_on_valid(self) -> dict[str, float]:
        """Returns the ranking metrics of valid, and what clients that never train measure there."""
        found = self._ranked("valid")
        if self.valid_clients.any():
            held = np.flatnonzero(self.valid_clients)
            found |= unseen_measures(self.work, self.server, self.clients, held, "valid")
        return found

    def _ranked(self, split: str) -> dict[str, float]:
        """Returns the ranking metrics of a split; test writes the recommendations too.

        Where no row is held out for test there is nothing to measure, and everybody gets a list.
        """
        there = len(self.work.federation.splits[split]) > 0
        found: dict[str, float] = {}
        state = self.work, self.server, self.clients
        if split == "test" and self.plan.test_users:
            self.run.update(ranked=self._sample(there))
        if there:
            found, lists = ranking(*state, self.truths[split])
        elif split == "test":
            lists = lists_of_all(*state, self.dataset, self.plan.test_users)
        if split == "test":
            with whole_file(self.run.path / RECOMMENDATIONS) as place:
                lists.select(
                    pl.col("user_id").cast(pl.Int32),
                    pl.col("item_id").cast(pl.Int32),
                    pl.col("rank").cast(pl.Int32),
                    pl.col("score").cast(pl.Float32),
                ).write_parquet(place)
        return found

    def _sample(self, there: bool) -> dict[str, Any]:
        """Returns which users of test are ranked for, of how many, and the seed that drew them."""
        truth = self.truths["test"]
        n = len(truth.everybody) if there else int((self.work.federation.home >= 0).sum())
        return {
            "split": "test",
            "users": min(self.plan.test_users, n),
            "of": n,
            "seed": self.work.seed,
        }

    # --- what is kept ------------------------------------------------------------------------------

    def _save(self, values: Mapping[str, float]) -> None:
        plan = self.plan
        best = False
        if plan.stop.metric and plan.stop.metric in values:
            best = best_round(history_of(self.run.rounds()), plan.stop) == self.done
        due = self.done % plan.checkpoint_every == 0 or self.done == plan.rounds
        if due or best:
            self._save_state(keep_best=best)
        if time.perf_counter() - self.drawn > CURVES_EVERY:
            self._draw()

    def _save_state(self, keep_best: bool = False) -> None:
        """Writes the checkpoint of the last round, unless it is there."""
        if self.saved == self.done and not keep_best:
            return
        tensors = tensors_of(self.server, self.clients)
        state = {"lr_scale": self.state.lr_scale, "rollbacks": self.state.rollbacks}
        save(self.run, self.done, tensors, state, keep_best=keep_best)
        self.saved = self.done

    def refuse_unfit(self, saved: Saved) -> None:
        """Refuses what a checkpoint has saved where it is not the state of this work.

        Raises:
            TrainingError: it names the tensor, or the key.
        """
        refuse_unfit(saved[1], self.server, self.clients, str(self.run.path))
        self._state_of(saved)

    def _state_of(self, saved: Saved) -> _State:
        where = str(self.run.path)
        return typed(saved[2], _State, where, "the checkpoint's state", TrainingError, hint=AGAIN)

    def _restore(
        self,
        number: int,
        tensors: Mapping[str, torch.Tensor],
        state: Mapping[str, Any],
        keep_done: bool = False,
    ) -> None:
        saved = (number, dict(tensors), dict(state))
        self.refuse_unfit(saved)
        self.server = restored(number, tensors, self.clients, self.work.device)
        self.state = self._state_of(saved)
        if not keep_done:
            self.done = self.saved = number

    def _draw(self) -> None:
        from fedtrain.curves import draw_curves, has_curves

        if has_curves(self.run.rounds()):
            draw_curves([self.run.path], self.run.path / CURVES)
        self.drawn = time.perf_counter()
