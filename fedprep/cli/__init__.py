"""The command `fedprep`: the only place that knows click, prints, and exits.

Exit codes: 0 fine, 1 the data are not good enough, 2 it could not be done (bad input, no file, no
space), 130 interrupted. Results go to stdout, progress and messages to stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from fedprep.cli import judge, look, make
from fedprep.cli.console import say
from fedprep.errors import FedprepError

__all__ = ["command", "main"]

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=SETTINGS)
@click.version_option(package_name="fedprep")
def command() -> None:
    """Raw MovieLens, Amazon or Yelp files (or your own tables) to a federated, multimodal Dataset.

    \b
    Exit codes: 0 fine, 1 data that are not good enough, 2 bad input, 130 interrupted.
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
    """Runs the command line; a `FedprepError` becomes its message and exit code 2."""
    try:
        code = command.main(args=arguments, prog_name="fedprep", standalone_mode=False)
    except FedprepError as error:
        say(f"error: {error}")
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        say("interrupted: nothing is half-written, the same command goes on where it can")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)
