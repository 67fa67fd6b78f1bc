"""Facts as tables and lines for a terminal: rich renderables, printed by the command line alone."""

from __future__ import annotations

from fedprep.show.dataset import show_built, show_client, show_dataset, show_steps
from fedprep.show.diff import show_diff
from fedprep.show.faults import show_faults
from fedprep.show.lists import show_files, show_frame, show_list, show_terms
from fedprep.show.validation import show_validation

__all__ = [
    "show_built",
    "show_client",
    "show_dataset",
    "show_diff",
    "show_faults",
    "show_files",
    "show_frame",
    "show_list",
    "show_steps",
    "show_terms",
    "show_validation",
]
