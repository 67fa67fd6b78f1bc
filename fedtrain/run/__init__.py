"""The Run directory: what a training leaves on disk, while it goes on and after."""

from fedtrain.run.checkpoint import (
    BEST,
    Saved,
    load,
    read_tensors,
    refuse_other,
    resume,
    save,
    saved_round,
    write_tensors,
)
from fedtrain.run.directory import CURVES, MODEL, RECOMMENDATIONS, REPORT, Run

__all__ = [
    "BEST",
    "CURVES",
    "MODEL",
    "RECOMMENDATIONS",
    "REPORT",
    "Run",
    "Saved",
    "load",
    "read_tensors",
    "refuse_other",
    "resume",
    "save",
    "saved_round",
    "write_tensors",
]
