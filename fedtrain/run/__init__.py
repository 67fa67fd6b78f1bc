"""The Run directory: what a training leaves on disk, while it goes on and after."""

from fedtrain.run.checkpoint import load, read_tensors, refuse_other, resume, save, write_tensors
from fedtrain.run.directory import CURVES, MODEL, RECOMMENDATIONS, REPORT, Run

__all__ = [
    "CURVES",
    "MODEL",
    "RECOMMENDATIONS",
    "REPORT",
    "Run",
    "load",
    "read_tensors",
    "refuse_other",
    "resume",
    "save",
    "write_tensors",
]
