"""Hand-written prose: sections under the card's own headings, kept when the card is made again.

In a card the prose of a heading stands between two marks:

    <!-- prose: Motivation -->
    Written by hand.
    <!-- end of prose -->

What stands there may be edited in the card itself. A prose file is plain Markdown with the same
headings (`## Motivation`), or another card.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from fedprep.errors import OutputError, RecipeError, nearest

__all__ = ["HEADINGS", "kept_prose", "marked", "read_prose"]

HEADINGS = (
    "Motivation",
    "Composition",
    "Collection process",
    "Preprocessing/cleaning/labeling",
    "Uses",
    "Distribution",
    "Maintenance",
)
"""The sections of a datasheet.

Reference: T. Gebru, J. Morgenstern, B. Vecchione, J. Wortman Vaughan, H. Wallach, H. Daumé III, K. Crawford,
Datasheets for Datasets, Communications of the ACM 64 (12), 2021.
"""

END = "<!-- end of prose -->"
_BEGIN = re.compile(r"<!-- prose: (.+?) -->")
_HEADING = re.compile(r"##?\s+(.+?)\s*#*\s*")
_FENCE = re.compile(r"\s*(```|~~~)")


def marked(heading: str, text: str) -> str:
    """Returns the prose of a heading between its marks; empty prose leaves the marks alone."""
    return "\n".join([f"<!-- prose: {heading} -->", *([text] if text else []), END])


def kept_prose(readme: Path) -> dict[str, str]:
    """Returns the prose of the card that is there: heading → text; empty where there is no card.

    Raises:
        OutputError: the file is no card of ours, so it is not replaced.
    """
    if not readme.is_file():
        return {}
    text = readme.read_text(encoding="utf-8")
    if END not in text:
        raise OutputError(
            f"{readme} is no card made by fedprep: it is not replaced",
            hint=f"move it away; `--prose FILE` merges its sections ({', '.join(HEADINGS)})",
        )
    return _between_marks(text, str(readme))


def read_prose(path: Path) -> dict[str, str]:
    """Returns the sections of a prose file: heading → text, without those that are empty.

    Raises:
        RecipeError: there is no such file, a heading that a card does not have, text under no heading.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"the prose cannot be read: {error}", where=str(path)) from None
    found = _between_marks(text, str(path)) if END in text else _by_heading(text, str(path))
    return {heading: words for heading, words in found.items() if words}


def _between_marks(text: str, where: str) -> dict[str, str]:
    sections: dict[str, list[str]] = {}
    here: list[str] | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        if begin := _BEGIN.fullmatch(line.strip()):
            here = sections.setdefault(_known(begin[1], f"{where}, line {number}"), [])
        elif line.strip() == END:
            here = None
        elif here is not None:
            here.append(line)
    if here is not None:
        raise RecipeError(f"a mark of prose is not closed by {END}", where=where)
    return _joined(sections)


def _by_heading(text: str, where: str) -> dict[str, str]:
    sections: dict[str, list[str]] = {}
    here: list[str] | None = None
    fenced = False
    for number, line in enumerate(text.splitlines(), start=1):
        fenced ^= bool(_FENCE.match(line))
        heading = None if fenced else _HEADING.fullmatch(line)
        if heading and not (here is None and line.startswith("# ")):  # a title is no section
            here = sections.setdefault(_known(heading[1], f"{where}, line {number}"), [])
        elif here is not None:
            here.append(line)
        elif line.strip() and not heading:
            raise RecipeError(
                "prose stands above the first heading",
                where=f"{where}, line {number}",
                expected="## " + ", ## ".join(HEADINGS),
            )
    return _joined(sections)


def _known(heading: str, where: str) -> str:
    for known in HEADINGS:
        if heading.strip().lower().replace("labelling", "labeling") == known.lower():
            return known
    raise RecipeError(
        f"a card has no section '{heading}'", where=where, hint=nearest(heading, HEADINGS)
    )


def _joined(sections: Mapping[str, list[str]]) -> dict[str, str]:
    return {heading: "\n".join(lines).strip() for heading, lines in sections.items()}
