"""What the first lines of a text file tell: whether one names the columns, and which format it may be.

Nothing is decided by this: a build that would lose rows is refused, and the message says what the file
looks like and which key reads it so.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence

__all__ = [
    "WEB_PAGE",
    "fields_of",
    "is_web_page",
    "likeness",
    "looks_like_data",
    "looks_like_header",
]

WEB_PAGE = ("the file looks like a web page", "fetch it again: a page was saved in its place")
SEPARATORS = {"\t": r"\t", ";": ";", ",": ",", "|": "|", "::": "::", " ": " "}
ABSENT = frozenset(("", "na", "n/a", "nan", "null", "none", "nil", "-", "?", r"\n"))
NUMBER = re.compile(r"\s*[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?\s*")
NUMBERED = re.compile(r"(\D*)(\d+)")
TIME = re.compile(r"\s*\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([T ].*)?")


def looks_like_data(rows: Sequence[Sequence[str]], wanted: Sequence[int]) -> bool:
    """Returns whether the first row is of the kind of those under it, and so names no column.

    Args:
        rows: the fields of the first lines.
        wanted: 0-based numbers of the columns that are read.
    """
    first, below = _columns(rows, wanted)
    if not below or not any(below) or _is_numbered(rows[0]):
        return False
    kinds = [_kind(values) for values in below]
    telling = [n for n, kind in enumerate(kinds) if kind is not None]
    if telling:
        return all(kinds[n] in _kinds_of(first[n]) for n in telling)
    return any(value in values for value, values in zip(first, below, strict=True) if value)


def looks_like_header(rows: Sequence[Sequence[str]], wanted: Sequence[int]) -> bool:
    """Returns whether the first row is text where those under it have numbers, times or numbered ids."""
    first, below = _columns(rows, wanted)
    if not any(below) or any(value.lower() in ABSENT for value in first):
        return False
    kinds = [_kind(values) for values in below]
    return any(kinds) and not any("digits" in _kinds_of(value) for value in first)


def likeness(
    lines: Sequence[str], separator: str, n_fields: int, *, quoted: bool = True
) -> tuple[str, str]:
    """Returns what a file that has too many bad lines looks like, and the key that may read it.

    Args:
        lines: the first lines, without their ends.
        separator: how they were taken apart.
        n_fields: the fields that a line should have.
        quoted: whether quotation marks were taken to enclose fields.
    """
    lines = [line.strip("\r") for line in lines if line.strip()]
    if not lines:
        return "", ""
    start = lines[0].lstrip("\ufeff \t")
    if is_web_page(start):
        return WEB_PAGE
    if start.startswith(("{", "[{")):
        return "the lines look like JSON", 'format = "jsonl" reads JSON'
    apart = Counter(line.count(separator) + 1 for line in lines)
    others = SEPARATORS if 2 * apart[n_fields] < len(lines) else {}
    for other, shown in others.items():
        sizes = Counter(line.count(other) for line in lines)
        count, often = sizes.most_common(1)[0]
        regular = other != separator and count >= max(1, n_fields - 1) and often > 0.9 * len(lines)
        if regular and (apart.most_common(1)[0][1] < often or apart[1] == len(lines)):
            return (
                f"the lines have {count + 1} fields between '{shown}'",
                f'separator = "{shown}" may be what is meant',
            )
    odd = sum(line.count('"') % 2 for line in lines)
    if 10 * odd > len(lines):
        return (
            f"{odd:,} of the first {len(lines):,} lines have a quotation mark that is not closed in the line",
            'quote = "none" reads quotation marks as characters'
            if quoted
            else 'quote = "auto" reads fields of several lines in quotation marks',
        )
    widths = Counter(len(line.split(separator)) for line in lines)
    if len(widths) > 3 and widths.most_common(1)[0][1] < 0.5 * len(lines):
        return (
            f"the lines have from {min(widths)} to {max(widths)} fields, like lists of items, "
            "a line a user (an adjacency list)",
            'format = "sequences" reads them',
        )
    return "", ""


def of_another_width(lines: Sequence[str], separator: str, n_fields: int) -> tuple[str, str]:
    """Returns what to say where most lines have another number of fields than the header."""
    sizes = Counter(line.count(separator) + 1 for line in lines if line.strip())
    size, often = sizes.most_common(1)[0] if sizes else (n_fields, 0)
    if size == n_fields or 2 * often <= len(lines):
        return "", ""
    return (
        f"most lines have {size} fields, and the first one {n_fields}",
        "has the header a name for each column?",
    )


def fields_of(lines: Sequence[str], separator: str, *, quotes: bool) -> list[list[str]]:
    """Returns the fields of the first lines, each line taken apart by itself."""
    if not quotes:
        return [line.split(separator) for line in lines]
    return [next(csv.reader([line], delimiter=separator), [""]) for line in lines]


def is_web_page(text: str) -> bool:
    """Returns whether a text begins as a web page or another XML document does."""
    return re.match(r"(?i)\s*<(!doctype|html|\?xml)", text) is not None


def _columns(
    rows: Sequence[Sequence[str]], wanted: Sequence[int]
) -> tuple[list[str], list[list[str]]]:
    """Returns the wanted fields of the first row, and those of each column under it."""
    if not rows or any(number >= len(rows[0]) for number in wanted):
        return [], []
    first = [rows[0][number].strip() for number in wanted]
    full = [row for row in rows[1:] if len(row) == len(rows[0])]
    return first, [[row[n].strip() for row in full if row[n].strip()] for n in wanted]


def _is_numbered(names: Sequence[str]) -> bool:
    """Returns whether names are numbers in a row, as tools give them: 0, 1, 2 or V1, V2, V3 or _c0, _c1."""
    found = [NUMBERED.fullmatch(name.strip()) for name in names]
    if len(names) < 2 or not all(found):
        return False
    numbers = [int(match[2]) for match in found if match]
    prefixes = {match[1] for match in found if match}
    return len(prefixes) == 1 and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _kinds_of(value: str) -> set[str]:
    kinds = set()
    if NUMBER.fullmatch(value):
        kinds.add("number")
    if TIME.fullmatch(value):
        kinds.add("time")
    if any(letter.isdigit() for letter in value):
        kinds.add("digits")
    return kinds


def _kind(values: Sequence[str]) -> str | None:
    """Returns what all values of a column are: number, time, or text with digits; None for other text."""
    shared = set.intersection(*map(_kinds_of, values)) if values else set()
    return next((kind for kind in ("number", "time", "digits") if kind in shared), None)
