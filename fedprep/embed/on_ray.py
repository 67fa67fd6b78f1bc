"""Chunks encoded by Ray Data: the same function, on many workers or machines.

Every worker loads the encoder once and takes whole chunks; they come back in order, so the cache is
filled as on one machine. Ray is started here where none runs; to use a cluster, start it or set
RAY_ADDRESS first.

Reference: Moritz et al., Ray: A Distributed Framework for Emerging AI Applications, OSDI 2018.
"""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedprep.errors import EncoderError, FedprepError, MissingExtraError, install

__all__ = ["encode_on_ray"]

Values = NDArray[np.float32]
Encode = Callable[[list[str]], Values]


def encode_on_ray(
    load: Callable[[], Encode], parts: Sequence[list[str]], *, threads: int, on_gpu: bool
) -> Iterator[Values]:
    """Yields what an encoder gives for each part, float32 (n, dim), in order.

    Args:
        load: gives the encoder; it is pickled, and called once in each worker.
        parts: the texts of each chunk.
        threads: processors that one worker takes.
        on_gpu: a worker takes one GPU of the cluster.

    Raises:
        MissingExtraError: Ray is not installed.
        EncoderError: a worker fails.
    """
    try:
        ray = importlib.import_module("ray")
        data = importlib.import_module("ray.data")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ray":
            raise
        raise MissingExtraError(
            "Ray is not installed", hint=f"{install('ray')}, or --engine local"
        ) from None
    if not parts:
        return
    started_here = not ray.is_initialized()
    if started_here:
        _start_quietly(ray)
    try:
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        rows = data.from_items([{"texts": part} for part in parts], override_num_blocks=len(parts))
        there = ray.cluster_resources()
        cpus = max(1, min(threads, int(there.get("CPU", 1))))
        workers = int(there.get("GPU", 1) if on_gpu else there.get("CPU", 1) // cpus)
        made = rows.map_batches(
            _Worker,
            fn_constructor_args=(load,),
            batch_size=1,
            num_cpus=cpus,
            num_gpus=1 if on_gpu else None,
            compute=data.ActorPoolStrategy(size=max(1, min(workers, len(parts)))),
        )
        for row in made.iter_rows():
            if row["error"]:
                raise EncoderError(row["error"])
            yield np.frombuffer(row["values"], np.float32).reshape(-1, int(row["dim"]))
    except ray.exceptions.RayError as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise EncoderError(f"Ray fails to encode: {lines[-1].strip()}") from error
    finally:
        if started_here:
            ray.shutdown()


def _start_quietly(ray: Any) -> None:
    os.environ.setdefault(
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"
    )  # its coming default; warns else
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    ray.init(logging_level=logging.ERROR, log_to_driver=False)


class _Worker:
    """What Ray keeps alive in each worker: the loaded encoder, or why it cannot be had."""

    def __init__(self, load: Callable[[], Encode]) -> None:
        try:
            self.encode, self.error = load(), ""
        except FedprepError as error:
            self.error = str(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        made = np.zeros((0, 0), np.float32)
        if not self.error:
            try:
                made = self.encode(list(batch["texts"][0]))
            except FedprepError as error:
                self.error = str(error)
        return {"values": [made.tobytes()], "dim": [made.shape[1]], "error": [self.error]}
