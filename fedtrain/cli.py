"""The command `fedtrain`: the only place of its package that knows click, prints, and exits."""

from __future__ import annotations

import click

__all__ = ["main"]


@click.group()
@click.version_option(package_name="fedprep")
def main() -> None:
    """Train federated recommenders. No command is there yet: see the CHANGELOG."""
