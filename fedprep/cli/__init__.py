"""The command `fedprep`: the only place that knows click, prints, and exits.

Exit codes: 0 fine, 1 the data are not good enough, 2 it could not be done (bad input, no file, no
space), 70 a fault of the program, 130 interrupted. Results go to stdout, progress and messages to
stderr: `fedprep.terminal`.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from fedprep.cli import judge, look, make
from fedprep.terminal import Commands, run_command

__all__ = ["command", "main"]

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=Commands, context_settings=SETTINGS)
@click.version_option(package_name="fedprep")
def command() -> None:
    """Raw MovieLens, Amazon or Yelp files (or your own tables) to a federated, multimodal Dataset.

    \b
    Exit codes: 0 fine, 1 data that are not good enough, 2 bad input, 70 a fault of the
    program, 130 interrupted (143 by SIGTERM, 129 by SIGHUP).
    Completion: eval "$(_FEDPREP_COMPLETE=bash_source fedprep)", or zsh_source, fish_source.
    """


for _command in (
    make.build,
    make.fetch,
    make.partition,
    look.list_,
    look.inspect,
    look.sql,
    look.export,
    judge.validate,
    judge.diff,
    judge.card,
    judge.demo_faults,
):
    command.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits, as `fedprep.terminal` says."""
    stopped = "nothing is half-written, the same command goes on where it can"
    run_command(command, "fedprep", arguments, stopped=stopped)
