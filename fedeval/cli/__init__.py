"""The command `fedeval`: the only place of its package that knows click, prints, and exits.

Exit codes: 0 fine, 1 the numbers cannot be trusted (a sanity row beats chance), 2 it could not be done
(bad input, no file), 130 interrupted. Results go to stdout, progress and messages to stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from fedeval.cli import judge, look
from fedeval.cli.console import say, warnings_to_stderr
from fedprep.errors import FedprepError

__all__ = ["command", "main"]

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=SETTINGS)
@click.version_option(package_name="fedprep")
def command() -> None:
    """How good recommendations are, of any system: one ruler, with its protocol and its uncertainty.

    \b
    Exit codes: 0 fine, 1 numbers that cannot be trusted, 2 bad input, 130 interrupted.
    Completion: eval "$(_FEDEVAL_COMPLETE=bash_source fedeval)", or zsh_source, fish_source.
    """


for _command in (judge.report, judge.score, judge.compare, judge.baselines, look.metrics):
    command.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; a `FedprepError` becomes its message and exit code 2."""
    try:
        with warnings_to_stderr():
            code = command.main(args=arguments, prog_name="fedeval", standalone_mode=False)
    except FedprepError as error:
        say(f"error: {error}")
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        say("interrupted: nothing is half-written")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)
