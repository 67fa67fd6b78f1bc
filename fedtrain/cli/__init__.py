"""The command `fedtrain`: the only place of its package that knows click, prints, and exits.

Exit codes: 0 fine, 1 the run is not good enough (it measured nothing, or is below what its recipe expects),
2 it could not be done (bad input, numbers that went wrong), 70 a fault of the program, 130 interrupted.
Results go to stdout, progress and messages to stderr: `fedprep.terminal`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

from fedprep.terminal import Commands, run_command
from fedtrain.cli import look, make, rank

__all__ = ["command", "main"]

# Threads of torch that wait without spinning: beside other work on the same cores a round is else ten times
# slower. It has to be said before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=Commands, context_settings=SETTINGS)
@click.version_option(package_name="fedprep")
def command() -> None:
    """Train federated recommenders on the Datasets of fedprep: every round measured, nothing lost.

    \b
    Exit codes: 0 fine, 1 a run that is not good enough, 2 bad input, 70 a fault of the
    program, 130 interrupted (143 by SIGTERM, 129 by SIGHUP).
    Completion: eval "$(_FEDTRAIN_COMPLETE=bash_source fedtrain)", or zsh_source, fish_source.
    """


for _command in (make.run, make.sweep, look.compare, look.predict, rank.rank, look.list_):
    command.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits, as `fedprep.terminal` says."""
    stopped = "the same command with --resume goes on from the last checkpoint"
    run_command(command, "fedtrain", arguments, stopped=stopped)
