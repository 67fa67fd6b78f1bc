"""The command `fedeval`: the only place of its package that knows click, prints, and exits."""

from __future__ import annotations

import click

__all__ = ["main"]


@click.group()
@click.version_option(package_name="fedprep")
def main() -> None:
    """Score recommendations of any system. No command is there yet: see the CHANGELOG."""
