"""What a build may use, and what it notes down for the manifest."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fedprep.schema import Progress, Step, silent

__all__ = ["SYNTHETIC", "Hands", "Log"]

SYNTHETIC = "synthetic"


@dataclass(frozen=True, kw_only=True)
class Hands:
    """How a build reaches for files and processors; nothing here changes what it makes.

    given: a file or folder with the raw data (`--from PATH`), or "synthetic" to make them up.
    allow_unverified: take raw files whose checksum is not the official one.
    device: of the encoders: auto, cpu, cuda, cuda:1, mps.
    threads: of the encoders; None leaves it to torch.
    engine: "local", or "ray" to embed texts on the workers of a Ray cluster (extra `ray`).
    """

    given: Path | str | None = None
    allow_unverified: bool = False
    device: str = "auto"
    threads: int | None = None
    engine: Literal["local", "ray"] = "local"
    progress: Progress = silent

    @property
    def synthetic(self) -> bool:
        return self.given == SYNTHETIC

    @property
    def path(self) -> Path | None:
        return None if self.given is None or self.synthetic else Path(self.given)


@dataclass(kw_only=True)
class Log:
    """What the manifest will say, gathered stage by stage."""

    steps: list[Step] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    entries: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a stage; a stage that comes twice is added up."""
        start = time.perf_counter()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 3)
