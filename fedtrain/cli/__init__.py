"""The command `fedtrain`: the only place of its package that knows click, prints, and exits.

Exit codes: 0 fine, 1 the run is not good enough (it measured nothing, or is below what its recipe expects),
2 it could not be done (bad input, numbers that went wrong), 130 interrupted. Results go to stdout, progress
and messages to stderr.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from fedprep.errors import FedprepError
from fedtrain.cli import look, make, rank
from fedtrain.cli.console import say, warnings_to_stderr

__all__ = ["command", "main"]

# Threads of torch that wait without spinning: beside other work on the same cores a round is else ten times
# slower. It has to be said before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=SETTINGS)
@click.version_option(package_name="fedprep")
def command() -> None:
    """Train federated recommenders on the Datasets of fedprep: every round measured, nothing lost.

    \b
    Exit codes: 0 fine, 1 a run that is not good enough, 2 bad input, 130 interrupted.
    Completion: eval "$(_FEDTRAIN_COMPLETE=bash_source fedtrain)", or zsh_source, fish_source.
    """


for _command in (make.run, make.sweep, look.compare, look.predict, rank.rank, look.list_):
    command.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; a `FedprepError` becomes its message and exit code 2."""
    try:
        with warnings_to_stderr():
            code = command.main(args=arguments, prog_name="fedtrain", standalone_mode=False)
    except FedprepError as error:
        say(f"error: {error}")
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        say("interrupted: the same command with --resume goes on from the last checkpoint")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)
