"""The command `fedeval`: the only place of its package that knows click, prints, and exits.

Exit codes: 0 fine, 1 the numbers cannot be trusted (a sanity row beats chance), 2 it could not be done
(bad input, no file), 70 a fault of the program, 130 interrupted. Results go to stdout, progress and messages
to stderr: `fedprep.terminal`.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from fedeval.cli import judge, look
from fedprep.terminal import Commands, run_command

__all__ = ["command", "main"]

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(cls=Commands, context_settings=SETTINGS)
@click.version_option(package_name="fedprep")
def command() -> None:
    """How good recommendations are, of any system: one ruler, with its protocol and its uncertainty.

    \b
    Exit codes: 0 fine, 1 numbers that cannot be trusted, 2 bad input, 70 a fault of the
    program, 130 interrupted (143 by SIGTERM, 129 by SIGHUP).
    Completion: eval "$(_FEDEVAL_COMPLETE=bash_source fedeval)", or zsh_source, fish_source.
    """


for _command in (judge.report, judge.score, judge.compare, judge.baselines, look.metrics):
    command.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits, as `fedprep.terminal` says."""
    run_command(command, "fedeval", arguments, stopped="nothing is half-written, run it again")
